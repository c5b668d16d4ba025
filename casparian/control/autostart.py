"""Find the sentinel of a home, or start one.

Two commands may do this at the same moment: the sentinel's own lock lets one of the two started
processes live, the other ends at once, and its command connects to the winner. A socket whose
sentinel died is as good as none: the new sentinel replaces it. A sentinel that ends before it
answers is an error that shows the last lines it wrote.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from casparian import clock, config, processes
from casparian.control.client import Client, open_socket
from casparian.display import show
from casparian.errors import CasparianError, Conflict, SentinelUnreachable
from casparian.paths import Home
from casparian.protocol import control

if TYPE_CHECKING:
    import subprocess

_POLL_SECONDS_FIRST: Final = 0.01
_POLL_SECONDS_MAX: Final = 0.25
_START_SECONDS_MAX: Final = 300  # recovery after a crash hashes what was being committed
_NOTICE_SECONDS: Final = 2
_LOG_LINES: Final = 12
_FREE_BYTES_MIN: Final = 1 << 20  # with less, neither database nor log can be written
_OUTPUT_NAME: Final = "sentinel.out"
_REASON: Final = re.compile(r"(?P<code>(db|home|backup)\.[a-z_]+): (?P<message>.+)")
_HINT: Final = re.compile(r"hint: (?P<hint>.+)")

Notice = Callable[[str], None]


def connect(home: Home, *, workers: int = 0, notice: Notice | None = None) -> Client:
    """Client of this home's sentinel; one is started on demand when none answers.

    Args:
        home: created if it does not exist.
        workers: worker processes of a sentinel that has to be started; 0 is one for each core.
        notice: told in a sentence when starting takes long.

    Raises:
        SentinelUnreachable: it could not be started, with the end of its log.
    """

    def dial() -> socket.socket:
        try:
            return open_socket(home)
        except SentinelUnreachable:
            return start(home, on_demand=True, workers=workers, notice=notice)

    return Client.over(dial)


def release(client: Client, home: Home) -> None:
    """Stop the sentinel that was started on demand, unless others need it, and wait until it is gone.

    One that is gone already, because it was stopped or drained meanwhile, is not started again for this.
    """
    client.dial_with(lambda: open_socket(home))
    try:
        status = client.hello()
        if not status.on_demand:
            return
        watched = _watch(status.pid)
        try:
            done = client.ask(control.Shutdown(if_idle=True), control.Done)
            if done.count and watched is not None:
                client.close()
                select.select([watched], [], [])
        finally:
            if watched is not None:
                os.close(watched)
    except SentinelUnreachable:
        return  # it is gone already


def start(
    home: Home, *, on_demand: bool, workers: int = 0, notice: Notice | None = None
) -> socket.socket:
    """Start a sentinel in a session of its own and return a connection to it.

    Started twice if need be: the first one may have met the lock of a sentinel that was just
    ending.
    """
    _make_home(home)
    arguments = ["--on-demand"] if on_demand else []
    if workers:
        arguments += ["--workers", str(workers)]
    try:
        return _launch(home, arguments, notice)
    except _EndedEarlyError:
        try:
            return _launch(home, arguments, notice)
        except _EndedEarlyError as error:
            raise error.as_unreachable(home) from error


def serve(home: Home, *, workers: int = 0) -> NoReturn:
    """Become the sentinel of a home, until it is told to stop: for service managers. Does not return.

    One that was started on demand makes way, after what it commits; one that runs until it is stopped does not.

    Raises:
        Conflict: `sentinel.running`.
    """
    _make_home(home)
    try:
        with Client.connect(home) as client:
            status = client.hello()
    except SentinelUnreachable as error:
        if error.code == "sentinel.version":
            raise
    else:
        if not status.on_demand:
            raise Conflict(
                f"a sentinel (process {status.pid}) runs on `{home.root}` already",
                code="sentinel.running",
                hint="`casparian sentinel stop`, or leave it",
            )
        stop(home)
    arguments = ["--workers", str(workers)] if workers else []
    environment = processes.host_environment() | _settings_environment()
    if "NOTIFY_SOCKET" in os.environ:  # the sentinel says when it is ready
        environment["NOTIFY_SOCKET"] = os.environ["NOTIFY_SOCKET"]
    command = processes.command("sentinel", home, *arguments)
    os.chdir("/")
    os.execve(command[0], command, environment)  # noqa: S606 - our own program


def stop(home: Home, notice: Notice | None = None) -> control.SentinelStatus | None:
    """Ask the sentinel to finish and wait until its process is gone; `None` when none runs.

    `notice` is told of commits that it has to leave to the next one, because their sink cannot be written.
    """
    try:
        client = Client.connect(home)
    except SentinelUnreachable as error:
        if error.code == "sentinel.version":
            raise
        return None
    with client:
        status = client.hello()
        watched = _watch(status.pid)
        try:
            done = client.ask(control.Shutdown(), control.Done)
            if notice is not None and done.fields.get("left"):
                notice(done.message)
        except SentinelUnreachable as error:
            if error.code != "sentinel.lost":  # it may hang up as its last act
                raise
        if watched is not None:
            try:
                select.select([watched], [], [])
            finally:
                os.close(watched)
    return status


def output_tail(home: Home, *, since: int = 0) -> str:
    """Last lines a sentinel wrote to its own output, safe to print; empty when there are none."""
    try:
        with open(home.logs / _OUTPUT_NAME, "rb") as log:
            log.seek(max(since, os.fstat(log.fileno()).st_size - 16_384))
            text = log.read().decode("utf-8", "backslashreplace")
    except OSError:
        return ""
    return "\n".join(show(line) for line in text.splitlines()[-_LOG_LINES:])


class _EndedEarlyError(Exception):
    """A started sentinel ended before it answered, and no other one lives."""

    def __init__(self, exit_code: int, tail: str) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
        self.tail = tail

    def as_unreachable(self, home: Home) -> SentinelUnreachable:
        """The error for the user: the sentinel's own reason when it gave one about its home."""
        lines = self.tail.splitlines()
        for number, line in enumerate(lines):
            if reason := _REASON.match(line):
                hint = next((_HINT.match(text) for text in lines[number + 1 :]), None)
                return SentinelUnreachable(
                    f"no sentinel can start: {reason['message']}",
                    code=reason["code"],
                    hint=hint["hint"] if hint else f"its log is in `{home.logs}`",
                )
        disk = os.statvfs(home.root)
        free_bytes = disk.f_bavail * disk.f_frsize
        if free_bytes < _FREE_BYTES_MIN:  # its own last words had no space either
            return SentinelUnreachable(
                f"the sentinel could not start: no space left for the home `{home.root}`",
                code="home.no_space",
                hint="free space there, or choose another home with `--home DIR`",
                free_bytes=free_bytes,
            )
        said = f"; it said:\n{self.tail}" if self.tail else ""
        return SentinelUnreachable(
            f"the sentinel ended with code {self.exit_code} before it answered{said}",
            code="sentinel.start_failed",
            hint=f"its log is in `{home.logs}`; `casparian doctor` checks this machine",
        )


def _launch(home: Home, arguments: list[str], notice: Notice | None) -> socket.socket:
    import subprocess  # lazily: most commands find a sentinel that runs

    with open(home.logs / _OUTPUT_NAME, "ab") as log:
        written_before = log.tell()
        process = subprocess.Popen(
            processes.command("sentinel", home, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=processes.host_environment() | _settings_environment(),
        )
    try:
        return _wait_for_socket(home, process, written_before, notice)
    finally:
        # It outlives us on purpose: without this, Python would warn of a process left running.
        if process.returncode is None:
            process.returncode = 0


def _wait_for_socket(
    home: Home, process: subprocess.Popen[bytes], written_before: int, notice: Notice | None
) -> socket.socket:
    pause_seconds = _POLL_SECONDS_FIRST
    started_ns = clock.monotonic_ns()
    told = False
    while True:
        ended = process.poll()
        try:
            return open_socket(home)
        except SentinelUnreachable as error:
            waited_seconds = (clock.monotonic_ns() - started_ns) / 1e9
            if ended is not None and not _lock_is_held(home):
                raise _EndedEarlyError(ended, output_tail(home, since=written_before)) from error
            if waited_seconds > _START_SECONDS_MAX:
                raise SentinelUnreachable(
                    f"the sentinel of `{home.root}` does not answer after {_START_SECONDS_MAX} s",
                    code="sentinel.start_slow",
                    hint=f"look at `{home.logs}`",
                ) from error
            if notice is not None and waited_seconds > _NOTICE_SECONDS and not told:
                notice(
                    "waiting for the sentinel, which starts and puts right what a sudden end may have left"
                )
                told = True
        # Nothing tells when another process begins to listen on a socket that is not there yet: ask, at growing intervals.
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.6, _POLL_SECONDS_MAX)


def _lock_is_held(home: Home) -> bool:
    """Whether another sentinel lives on this home (it may not listen yet).

    Read from the kernel's list: taking the lock to see whether it is free could make a starting
    sentinel fail.
    """
    try:
        inode = os.stat(home.lock_file).st_ino
        with open("/proc/locks", encoding="ascii") as locks:
            return any(
                fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode)
                for fields in map(str.split, locks)
                if len(fields) > 5
            )
    except OSError:
        return False


def _make_home(home: Home) -> None:
    try:
        os.makedirs(home.root, mode=0o700, exist_ok=True)
        os.makedirs(home.logs, exist_ok=True)
        open(home.logs / _OUTPUT_NAME, "ab").close()
    except OSError as error:
        raise CasparianError(
            f"the home `{home.root}` cannot be written: {error.strerror}",
            code="home.unwritable",
            hint="choose another with `--home DIR`",
            path=str(home.root),
        ) from error


def _settings_environment() -> dict[str, str]:
    """Settings given as variables reach the sentinel too; nothing else of ours does."""
    return {
        f"{config.PREFIX}{name.upper()}": os.environ[f"{config.PREFIX}{name.upper()}"]
        for name in config.SCALARS
        if f"{config.PREFIX}{name.upper()}" in os.environ
    }


def _watch(pid: int) -> int | None:
    """Descriptor that becomes readable when the process ends; `None` when it is gone already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
