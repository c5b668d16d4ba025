"""Drain the sentinel of a home: its jobs finish, none is begun, then it is gone.

    drain(home, say)      wait for that; what still runs is said now and then
    resume(home)          take a drain back
    paused(home, say)     a block in which no sentinel runs on the home, and none can start
    locked(home)          the same where none runs now; one that runs is left alone

A drain that was asked for stays in force when its asker leaves or loses patience: `StillRunningError` names what runs, and the
caller decides whether to wait again, to take it back, or to stop at once (`autostart.stop`: what runs goes back to the queue).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from collections.abc import Callable, Iterator
from typing import Final

from casparian import clock
from casparian.control.client import Client
from casparian.display import show
from casparian.errors import CasparianError, Conflict, SentinelUnreachable
from casparian.paths import Home
from casparian.protocol import control

_SAID_SECONDS: Final = 10  # between two sentences about the same jobs
_NAMED_MAX: Final = 3

Say = Callable[[str], None]
OnDraining = Callable[[control.Draining], None]


class StillRunningError(Conflict):
    """Jobs had not finished when the time for a drain was up."""

    code = "sentinel.still_running"


class _OutOfPatienceError(Exception):
    """The time is up; raised between two frames."""


def drain(
    home: Home,
    say: Say | None = None,
    *,
    timeout_seconds: float | None = None,
    on_event: OnDraining | None = None,
) -> control.SentinelStatus | None:
    """Let the sentinel's jobs finish, start none, and wait until its process is gone.

    Args:
        home: whose sentinel.
        say: told in a sentence what is waited for, at first and when it changes, at most every ten seconds.
        timeout_seconds: how long to wait; `None`: as long as it takes.
        on_event: told every time the sentinel reports what still runs, several times a second.

    Returns:
        Who was drained; `None` when no sentinel runs.

    Raises:
        StillRunningError: the time is up; the drain stays in force.
        Conflict: `sentinel.resumed`, somebody took the drain back.
        SentinelUnreachable: `sentinel.version`, it is of another version.
    """
    try:
        client = Client.connect(home)
    except SentinelUnreachable as error:
        if error.code == "sentinel.version":
            raise
        return None
    waiting = _Waiting(say, on_event, timeout_seconds)
    with client:
        status = client.hello()
        watched = _watch(status.pid)
        try:
            done = client.ask(
                control.Drain(), control.Done, on_event=waiting.heard, on_tick=waiting.check
            )
            if say is not None and done.fields.get("left"):
                say(done.message)
            waiting.gone(watched)
        except SentinelUnreachable as error:
            if error.code != "sentinel.lost":  # it may hang up as its last act
                raise
            waiting.gone(watched)
        except _OutOfPatienceError:
            raise waiting.too_long(home) from None
        finally:
            if watched is not None:
                os.close(watched)
    return status


def resume(home: Home) -> bool:
    """Take a drain back; whether there was one.

    Raises:
        SentinelUnreachable: none runs, or it has begun to stop.
    """
    with Client.connect(home) as client:
        return bool(client.ask(control.Drain(take_back=True), control.Done).count)


@contextlib.contextmanager
def paused(
    home: Home, say: Say | None = None, *, timeout_seconds: float | None = None
) -> Iterator[control.SentinelStatus | None]:
    """Drain, and keep the home's lock: no sentinel starts meanwhile, and commands that want one wait for the end of the block.

    Programs that take the lock themselves (a backup without a sentinel, a restore) cannot run inside. A drain that fails is
    taken back. Gives who was drained, or `None`.
    """
    try:
        status = drain(home, say, timeout_seconds=timeout_seconds)
    except BaseException:
        with contextlib.suppress(CasparianError):
            resume(home)
        raise
    with _holding(_take_lock(home)):
        yield status


@contextlib.contextmanager
def locked(home: Home) -> Iterator[bool]:
    """Keep the home's lock, so that no sentinel starts.

    Gives whether it is ours: not so where a sentinel holds it already, on another user's home, or where none was ever used.
    """
    try:
        descriptor = _take_lock(home)
    except (Conflict, PermissionError):
        descriptor = None
    with _holding(descriptor):
        yield descriptor is not None


@contextlib.contextmanager
def _holding(descriptor: int | None) -> Iterator[None]:
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take_lock(home: Home) -> int | None:
    """The lock that the one sentinel of a home holds; `None` for a home that no sentinel has ever used."""
    try:
        descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Conflict(
            f"a new sentinel started on `{home.root}` meanwhile",
            code="sentinel.running",
            hint="end other `casparian` commands of this home, then try again",
        ) from None
    return descriptor


class _Waiting:
    """What was heard while one drain is waited for."""

    def __init__(
        self, say: Say | None, on_event: OnDraining | None, timeout_seconds: float | None
    ) -> None:
        self._say = say
        self._on_event = on_event
        self._timeout_seconds = timeout_seconds
        self._deadline_ns = (
            None if timeout_seconds is None else clock.monotonic_ns() + int(timeout_seconds * 1e9)
        )
        self._said = ""
        self._said_ns = 0
        self._last: control.Draining | None = None

    def heard(self, event: control.Event) -> None:
        """The sentinel says what still runs."""
        if not isinstance(event, control.Draining):
            return
        self._last = event
        if self._on_event is not None:
            self._on_event(event)
        sentence, now = describe(event), clock.monotonic_ns()
        if (
            self._say is not None
            and sentence
            and sentence != self._said
            and (not self._said or now - self._said_ns > _SAID_SECONDS * 1_000_000_000)
        ):
            self._said, self._said_ns = sentence, now
            self._say(f"waiting for {sentence}")

    def check(self) -> None:
        """Time passes."""
        if self._left_seconds() == 0:
            raise _OutOfPatienceError

    def gone(self, watched: int | None) -> None:
        """Wait until the process has ended; it has said that nothing runs any more."""
        if watched is not None and not select.select([watched], [], [], self._left_seconds())[0]:
            raise _OutOfPatienceError

    def too_long(self, home: Home) -> StillRunningError:
        """What to tell the person who asked."""
        running = describe(self._last) if self._last is not None else ""
        return StillRunningError(
            f"after {self._timeout_seconds:g} s there still runs: {running or 'what the sentinel ends with'}",
            hint="`casparian sentinel drain` waits again; `casparian sentinel resume` takes it back; "
            "`casparian sentinel stop` ends it now, and what runs is done again later",
            home=str(home.root),
        )

    def _left_seconds(self) -> float | None:
        if self._deadline_ns is None:
            return None
        return max(0.0, (self._deadline_ns - clock.monotonic_ns()) / 1e9)


def describe(event: control.Draining) -> str:
    """What still runs, as part of a sentence; empty when nothing does."""
    parts = []
    if event.jobs:
        named = ", ".join(_job(job) for job in event.running[:_NAMED_MAX])
        more = ", …" if event.jobs > _NAMED_MAX else ""
        parts.append(f"{_count(event.jobs, 'job')} ({named}{more})")
    parts += [
        _count(number, what)
        for number, what in (
            (event.plans, "plan"),
            (event.decisions, "decision"),
            (event.environments, "environment"),
        )
        if number
    ]
    if event.publishing and not parts:
        parts.append("the catalog")
    return ", ".join(parts)


def _job(job: control.RunningJob) -> str:
    percent = f", {job.bytes_done * 100 // job.size_bytes} %" if job.size_bytes else ""
    return f"{job.job_id} {show(job.parser)} {job.state}{percent}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _watch(pid: int) -> int | None:
    """Descriptor that becomes readable when the process ends; `None` when it is gone already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
