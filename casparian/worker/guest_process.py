"""Processes of the execution plane, from the worker's side: the zygote and the guests it forks.

The zygote is started from a thread that lives as long as the worker: the kernel's death signal is
tied to that thread. A guest is killed by its pidfd, from any thread, and never by SIGTERM: there is
nothing in it to clean up. A zygote that died, or has forked often enough, is replaced.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import threading
from typing import NamedTuple

import msgspec

from casparian import processes
from casparian.guest import descriptors, messages
from casparian.guest.messages import (
    ForkFailed,
    ForkGuest,
    FromZygote,
    GuestExited,
    GuestForked,
    ZygoteFailed,
    ZygoteReady,
)
from casparian.paths import Home
from casparian.worker import faults, guest_user
from casparian.worker.bridge import socket_pair
from casparian.worker.cancel import Cancellation
from casparian.worker.faults import Exit, JobFault
from casparian.worker.guest_log import GuestLog

_START_SECONDS = 120.0
_FORK_SECONDS = 60.0
_FORKS_MAX = 1_000  # all forks of one zygote share its address layout
_ZYGOTE_LOG_BYTES_MAX = 16 * 1024
_ZYGOTES_MAX = 4
_PROGRAM_MODE = (
    0o111  # may be executed and not read: then the kernel lets nobody look into the process
)


class Needs(NamedTuple):
    """What a zygote has loaded: guests that need the same share one.

    Args:
        modules: beyond the usual ones.
        environment: folder of the packages that some of them are in.
        lean: as little as possible: its guests run no parser in Python.
    """

    modules: tuple[str, ...] = ()
    environment: str = ""
    lean: bool = False


_LEAN = Needs(lean=True)


class Program(NamedTuple):
    """Which filters a guest has that is more than `sealed` lets it be.

    Args:
        content: the verified bytes that it becomes; `None` for a guest that stays what it is.
    """

    content: bytes | None


class GuestProcess:
    """One guest: its process, its end of the bridge, its log."""

    def __init__(
        self,
        zygote: _Zygote,
        pid: int,
        pidfd: int,
        channel: socket.socket,
        log: GuestLog,
        isolation: dict[str, str],
    ) -> None:
        self.pid = pid
        self.isolation = isolation  # of one that became a program: the record of its lockdown
        self.channel = channel
        self.zygote = zygote
        self._lock = threading.RLock()  # a signal handler may interrupt the thread that holds it
        self._pidfd = pidfd
        self._log = log
        self._killed = False
        self._memory_kills = faults.memory_kills()
        self.end: Exit | None = None  # how it ended, once it was reaped

    def limit_log(self, bytes_max: int) -> None:
        """End it when it prints more than so many bytes from here on; see `flooded`."""
        self._log.limit(bytes_max, self.kill)

    @property
    def flooded(self) -> bool:
        """Whether it was ended for what it printed."""
        return self._log.flooded

    @property
    def open(self) -> bool:
        """Whether it was not closed yet: it may live."""
        return self._pidfd >= 0

    def kill(self) -> None:
        """SIGKILL; from any thread, any number of times, also when the guest is dead."""
        with self._lock:
            if self._pidfd < 0:
                return
            if not self._dead(0):
                self._killed = True
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                return

    def wait(self, seconds: float) -> Exit | None:
        """Wait until the guest is dead and reaped; `None` when it lives after so many seconds."""
        if not self._dead(seconds):
            return None
        if self.end is None:
            self.end = self._ended(self.zygote.exit_of(self.pid))
        return self.end

    def _ended(self, exited: GuestExited | None) -> Exit:
        if exited is None:
            return Exit(status=None, killed=self._killed)
        return Exit(
            status=exited.status,
            cpu_seconds=exited.cpu_seconds,
            memory_peak_bytes=exited.memory_peak_bytes,
            memory_kills=faults.memory_kills() - self._memory_kills,
            killed=self._killed,
        )

    def _dead(self, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def close(self) -> str:
        """Kill it if it lives, reap it, give everything back; returns its log."""
        self.kill()
        self.channel.close()
        if self._pidfd >= 0:
            self._dead(None)  # no limit: a killed process ends when the kernel lets it
            if self.end is None:
                self.end = self._ended(self.zygote.exit_of(self.pid))
            with self._lock:
                pidfd, self._pidfd = self._pidfd, -1
                os.close(pidfd)
        return self._log.text()


class _Zygote:
    """One zygote process and the conversation with it."""

    def __init__(self, home: Home, needs: Needs) -> None:
        options = guest_user.options(home)
        if needs.lean:
            options += ["--lean"]
        for module in needs.modules:
            options += ["--preload", module]
        if needs.environment:
            options += ["--environment", needs.environment]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log_read, log_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                processes.command("guest", home, "--channel-fd", str(theirs.fileno()), *options),
                pass_fds=[theirs.fileno()],
                env=processes.guest_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                cwd="/",
                start_new_session=True,  # a terminal's ctrl-C does not reach it
            )
        finally:
            theirs.close()
            os.close(log_write)
        self._channel = ours
        self._log = GuestLog(log_read, _ZYGOTE_LOG_BYTES_MAX)
        self._exits: dict[int, GuestExited] = {}
        self._requests = 0
        self._ready = False
        self.alive = True

    def await_ready(self) -> None:
        """Wait until it has loaded everything.

        Raises:
            JobFault: it could not; it is closed.
        """
        if self._ready:
            return
        ready, _ = self._answer(_START_SECONDS)
        if isinstance(ready, ZygoteFailed):
            self.close()
            raise JobFault(ready.code, ready.message)
        if not isinstance(ready, ZygoteReady):
            raise JobFault("guest.zygote", f"the zygote did not start: {self.close()}")
        self._ready = True

    @property
    def forks(self) -> int:
        """How many guests were asked for."""
        return self._requests

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fork(
        self,
        memory_bytes: int,
        cpu_seconds: int,
        log_bytes_max: int,
        program: Program | None = None,
    ) -> GuestProcess:
        """A new guest under these limits.

        Raises:
            JobFault: `guest.fork` (transient): the zygote died or refused; it is not used again.
        """
        self._requests += 1
        request = ForkGuest(
            request=self._requests,
            memory_bytes=memory_bytes,
            cpu_seconds=cpu_seconds,
            program=program is not None,
        )
        sealed = [] if program is None or program.content is None else [_sealed(program.content)]
        ours, theirs = socket_pair()
        log_read, log_write = os.pipe()
        log = GuestLog(log_read, log_bytes_max)
        try:
            given = [theirs.fileno(), log_write, *sealed]
            socket.send_fds(self._channel, [messages.encode(request)], given)
        except OSError as error:
            self.alive = False
            ours.close()
            raise JobFault("guest.fork", f"the zygote is gone: {error}", transient=True) from error
        finally:
            theirs.close()
            descriptors.close_all((log_write, *sealed))
        forked, pidfd = self._answer(_FORK_SECONDS)
        if isinstance(forked, GuestForked) and pidfd is not None:
            return GuestProcess(self, forked.pid, pidfd, ours, log, forked.isolation)
        ours.close()
        self.alive = False
        why = forked.message if isinstance(forked, ForkFailed) else "it does not answer"
        raise JobFault("guest.fork", f"no guest from the zygote: {why}", transient=True)

    def exit_of(self, pid: int) -> GuestExited | None:
        """How a dead guest ended; `None` when the zygote died before it could say."""
        while pid not in self._exits:
            message, _ = self._receive(_FORK_SECONDS)
            if message is None:
                return None
        return self._exits.pop(pid)

    def _answer(self, seconds: float) -> tuple[FromZygote | None, int | None]:
        """Next message that is not about a guest's end."""
        while True:
            message, descriptor = self._receive(seconds)
            if not isinstance(message, GuestExited):
                return message, descriptor

    def _receive(self, seconds: float) -> tuple[FromZygote | None, int | None]:
        """Next message and its descriptor; `None` when the zygote is dead or silent.

        Ends of guests are put aside for `exit_of`, and returned as well.
        """
        received: list[int] = []
        message = None
        if self.alive and self._readable(seconds):
            try:
                packet, received = descriptors.receive(self._channel, messages.PACKET_BYTES_MAX, 1)
                message = messages.decode_from_zygote(packet) if packet else None
            except (OSError, msgspec.DecodeError):
                message = None
        if message is None:
            self.alive = False
        if isinstance(message, GuestExited):
            self._exits[message.pid] = message
        return message, received[0] if received else None

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> str:
        """End it and its guests; returns what it printed."""
        self.alive = False
        self._channel.close()
        self._process.kill()
        self._process.wait()
        return self._log.text()


def _sealed(program: bytes) -> int:
    """A program as a file without a name that nobody can change any more, not even we."""
    descriptor = os.memfd_create("parser", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(program)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, _PROGRAM_MODE)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except OSError as error:
        os.close(descriptor)
        raise JobFault(
            "guest.fork", f"the program could not be sealed: {error}", transient=True
        ) from error
    return descriptor


class Guests:
    """Where guests come from: zygotes that are started when they are needed and replaced when they must be.

    One zygote for each set of modules that parsers preload; parsers that ask for nothing share one. Another one, which has
    little loaded and forks the sooner, is for guests that run no parser.
    Not for use by several threads at once; only `GuestProcess.kill` is.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._zygotes: dict[Needs, _Zygote] = {}  # the last used one is the last
        self._forked: list[GuestProcess] = []

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the zygote of parsers that preload nothing, if it runs."""
        zygote = self._zygotes.get(Needs())
        return zygote.pid if zygote is not None else None

    @property
    def zygote_pids(self) -> tuple[int, ...]:
        """Process ids of all zygotes that run."""
        return tuple(zygote.pid for zygote in self._zygotes.values())

    def start(self, preload: tuple[str, ...] = ()) -> None:
        """Have a zygote ready before the first job.

        Raises:
            JobFault: `parser.preload` (a module cannot be loaded), `guest.confinement` (this machine lacks an essential
                wall), `config.guest_user`, or `guest.zygote`.
        """
        self._zygote(_LEAN)  # it loads meanwhile
        self._ready(_needs(Needs(preload)))

    def fork(
        self,
        *,
        memory_bytes: int,
        cpu_seconds: int,
        log_bytes_max: int,
        cancellation: Cancellation,
        needs: Needs = Needs(),  # noqa: B008 - a frozen value
        program: Program | None = None,
    ) -> GuestProcess:
        """A fresh guest, which dies when the job is cancelled.

        Args:
            memory_bytes: its limit.
            cpu_seconds: its limit.
            log_bytes_max: kept of what it prints.
            cancellation: kills it.
            needs: what it has loaded; with `lean` it has no Arrow, and few modules.
            program: what it becomes; then it needs nothing.

        Raises:
            JobFault: no zygote could be started, or it could not fork.
        """
        needs = _needs(needs)
        try:
            guest = self._ready(needs).fork(memory_bytes, cpu_seconds, log_bytes_max, program)
        except JobFault as fault:
            if not fault.transient:
                raise
            # It died since it was last used: once more, with a new one.
            guest = self._ready(needs).fork(memory_bytes, cpu_seconds, log_bytes_max, program)
        self._forked.append(guest)
        cancellation.watch(guest.kill)
        return guest

    def _ready(self, needs: Needs) -> _Zygote:
        """The zygote of these modules, ready to fork."""
        zygote = self._zygote(needs)
        zygote.await_ready()
        return zygote

    def _zygote(self, key: Needs) -> _Zygote:
        """The zygote of these modules, started if it is not there."""
        self._forked = [guest for guest in self._forked if guest.open]
        zygote = self._zygotes.pop(key, None)
        if zygote is not None and (
            not zygote.alive or (zygote.forks >= _FORKS_MAX and self._idle(zygote))
        ):
            zygote.close()
            zygote = None
        if zygote is None:
            self._make_room()
            zygote = _Zygote(self._home, key)
        self._zygotes[key] = zygote
        return zygote

    def _make_room(self) -> None:
        """Each zygote holds tens of megabytes: those used longest ago go, unless a guest of theirs lives."""
        for key, zygote in list(self._zygotes.items()):
            if len(self._zygotes) < _ZYGOTES_MAX:
                return
            if self._idle(zygote):
                self._zygotes.pop(key).close()

    def _idle(self, zygote: _Zygote) -> bool:
        return not any(guest.open and guest.zygote is zygote for guest in self._forked)

    def close(self) -> None:
        """End the zygotes; guests that live die with them."""
        for zygote in self._zygotes.values():
            zygote.close()
        self._zygotes.clear()


def _needs(needs: Needs) -> Needs:
    """The same needs, written the same way."""
    return _LEAN if needs.lean else needs._replace(modules=tuple(sorted(set(needs.modules))))
