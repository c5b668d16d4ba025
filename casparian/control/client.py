"""Speak the Control API: connect, ask, hear events, get one reply.

Rules:
  * A `Failure` is raised again as the error class of its exit code.
  * A connection that is lost under a request is made again, and the very same message is sent
    again. That is safe: reads change nothing, and a mutation carries a `request_id` under which the
    sentinel acts once. `Shutdown` and `Drain` are never repeated. `on_reconnect` is told, so that people are.
  * A sentinel of another version is told apart from none: the message says how to stop it.
  * While waiting, `on_tick` is called several times a second, so that a caller can act on ctrl-C
    without breaking a frame in two.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeVar

import casparian
from casparian.errors import (
    CasparianError,
    Conflict,
    ContractError,
    ExitCode,
    IntegrityError,
    ProtocolError,
    QuarantineLimit,
    Refused,
    SentinelUnreachable,
    UsageError,
)
from casparian.paths import Home
from casparian.protocol import control, frame

_RECONNECTS_MAX: Final = 3
_STOPPING_WAITS_MAX: Final = 100
_STOPPING_WAIT_SECONDS: Final = 0.1
_TICK_SECONDS: Final = 0.2
_RECEIVE_BYTES: Final = 1 << 18

Dial = Callable[[], socket.socket]
OnEvent = Callable[[control.Event], None]
OnTick = Callable[[], None]
T = TypeVar("T", bound=control.Reply)


class SentinelFaultError(CasparianError):
    """The sentinel met a fault of its own while it carried out a request."""

    code = "sentinel.fault"
    exit_code = ExitCode.BUG


_ERROR_CLASSES: Final[dict[int, type[CasparianError]]] = {
    ExitCode.USAGE: UsageError,
    ExitCode.SENTINEL: SentinelUnreachable,
    ExitCode.REFUSED: Refused,
    ExitCode.CONTRACT: ContractError,
    ExitCode.QUARANTINE: QuarantineLimit,
    ExitCode.INTEGRITY: IntegrityError,
    ExitCode.CONFLICT: Conflict,
    ExitCode.BUG: SentinelFaultError,
}


class _ConnectionLostError(Exception):
    """The peer went away before it answered."""


def open_socket(home: Home) -> socket.socket:
    """Connect to the sentinel of a home.

    The socket is reached through a descriptor of its directory: a home may lie deeper than the
    108 bytes that a socket's address holds.

    Raises:
        SentinelUnreachable: there is no socket, or nothing listens behind it (a dead sentinel's
            leftover).
    """
    try:
        folder = os.open(home.socket.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreachable(home) from error
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.connect(f"/proc/self/fd/{folder}/{home.socket.name}")
    except OSError as error:
        channel.close()
        raise _unreachable(home) from error
    finally:
        os.close(folder)
    return channel


class Client:
    """One connection to a sentinel, made again when it is lost.

    Args:
        dial: opens a connected socket; it may start a sentinel to do so.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._channel: socket.socket | None = None
        self._decoder = frame.FrameDecoder(frame.REPLIES)
        self._number = 0
        self.on_reconnect: Callable[[str], None] | None = None  # told when a request is sent again

    @classmethod
    def connect(cls, home: Home) -> Client:
        """Client of the sentinel that runs on this home now.

        Raises:
            SentinelUnreachable: none answers, or it is of another version.
        """
        return cls.over(lambda: open_socket(home))

    @classmethod
    def over(cls, dial: Dial) -> Client:
        """Client over any way to open a connection, greeted and checked."""
        client = cls(dial)
        try:
            client.hello()
        except BaseException:
            client.close()
            raise
        return client

    def hello(self) -> control.SentinelStatus:
        """Who answers.

        Raises:
            SentinelUnreachable: it is of another version.
        """
        try:
            status = self.ask(control.Hello(), control.SentinelStatus)
        except ProtocolError as error:
            raise SentinelUnreachable(
                f"the sentinel does not speak this version's protocol: {error.message}",
                code="sentinel.version",
                hint="restart the sentinel: stop it with the version that started it, then try again",
            ) from error
        if (status.protocol, status.version) != (frame.VERSION, casparian.__version__):
            raise SentinelUnreachable(
                f"the running sentinel is version {status.version},"
                f" this is {casparian.__version__}",
                code="sentinel.version",
                hint=f"stop it with `kill {status.pid}` once its jobs are done, then try again",
                pid=status.pid,
            )
        return status

    def ask(
        self,
        message: control.Request,
        kind: type[T],
        *,
        on_event: OnEvent | None = None,
        on_tick: OnTick | None = None,
    ) -> T:
        """Request whose reply must be of one kind; see `request`."""
        reply = self.request(message, on_event, on_tick=on_tick)
        if not isinstance(reply, kind):
            raise ProtocolError(
                f"the sentinel answered {type(reply).__name__} where {kind.__name__} was expected",
                code="protocol.reply",
            )
        return reply

    def request(
        self,
        message: control.Request,
        on_event: OnEvent | None = None,
        *,
        on_tick: OnTick | None = None,
    ) -> control.Reply:
        """Send one request and wait for its reply.

        Args:
            message: what to ask.
            on_event: called with each event, in order.
            on_tick: called at least five times a second while waiting.

        Raises:
            CasparianError: of the class that the failure's exit code names.
            SentinelUnreachable: the connection was lost and could not be made again.
        """
        for attempt in range(_RECONNECTS_MAX + 1):
            try:
                reply = self._past_a_stopping_one(message, on_event, on_tick)
            except _ConnectionLostError as error:
                self.close()
                ends_it = isinstance(message, control.Shutdown | control.Drain)
                if attempt == _RECONNECTS_MAX or ends_it:
                    raise SentinelUnreachable(
                        "the sentinel went away before it answered",
                        code="sentinel.lost",
                        hint="`casparian doctor` looks for the reason; what was committed is kept",
                    ) from error
                if self.on_reconnect is not None:
                    self.on_reconnect(
                        "the sentinel went away; the same request is sent again"
                        f" ({attempt + 1} of {_RECONNECTS_MAX})"
                    )
            else:
                if isinstance(reply, control.Failure):
                    raise failure(reply)
                return reply
        raise AssertionError("unreachable")

    def _past_a_stopping_one(
        self, message: control.Request, on_event: OnEvent | None, on_tick: OnTick | None
    ) -> control.Reply:
        """Exchange, again with the next sentinel as long as the one that answers is stopping."""
        for _ in range(_STOPPING_WAITS_MAX):
            reply = self._exchange(message, on_event, on_tick)
            if not isinstance(reply, control.Failure) or reply.code != "sentinel.stopping":
                return reply
            self._wait_for_hang_up()
            self.close()
        return reply

    def _wait_for_hang_up(self) -> None:
        """Wait until the sentinel at the other end is gone, or for a moment: it may have others to answer first."""
        channel = self._connected()
        while select.select([channel], [], [], _STOPPING_WAIT_SECONDS)[0]:
            try:
                if not channel.recv(_RECEIVE_BYTES):
                    return
            except OSError:
                return

    def dial_with(self, dial: Dial) -> None:
        """Open lost connections another way from now on."""
        self._dial = dial

    def close(self) -> None:
        """Hang up; the next request connects again."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _exchange(
        self, message: control.Request, on_event: OnEvent | None, on_tick: OnTick | None
    ) -> control.Reply:
        channel = self._connected()
        self._number += 1
        request = frame.encode(
            control.opcode_of(message), control.encode(message), number=self._number
        )
        try:
            with contextlib.suppress(OSError):  # who hung up may have said why: that is read first
                channel.sendall(request)
            while True:
                readable, _, _ = select.select([channel], [], [], _TICK_SECONDS)
                if on_tick is not None:
                    on_tick()
                if not readable:
                    continue
                data = channel.recv(_RECEIVE_BYTES)
                if not data:
                    raise _ConnectionLostError
                for item in self._decoder.feed(data):
                    if not item.number and item.opcode is frame.Opcode.CONTROL_REPLY:
                        self.close()  # about the connection itself, which ends with it
                        return control.decode_reply(item.payload)
                    if item.number != self._number:
                        continue  # the tail of a request that was given up
                    if item.opcode is frame.Opcode.CONTROL_REPLY:
                        return control.decode_reply(item.payload)
                    if item.opcode is frame.Opcode.CONTROL_EVENT and on_event is not None:
                        on_event(control.decode_event(item.payload))
        except OSError as error:
            raise _ConnectionLostError from error

    def _connected(self) -> socket.socket:
        if self._channel is None:
            self._channel = self._dial()
            self._decoder = frame.FrameDecoder(frame.REPLIES)
        return self._channel


def post(home: Home, message: control.Request) -> None:
    """Give a request to the sentinel that runs now and wait for nothing, not even for a sentinel that is held up.

    Raises:
        SentinelUnreachable: none listens.
    """
    with open_socket(home) as channel:
        try:
            channel.sendall(
                frame.encode(control.opcode_of(message), control.encode(message), number=1)
            )
        except OSError as error:
            raise _unreachable(home) from error


def failure(reply: control.Failure) -> CasparianError:
    """The error that a `Failure` stands for."""
    kind = _ERROR_CLASSES.get(reply.exit_code, CasparianError)
    return kind(reply.message, code=reply.code, hint=reply.hint)


def is_answering(home: Home) -> bool:
    """Whether anything accepts connections on this home's socket now."""
    with contextlib.suppress(SentinelUnreachable):
        open_socket(home).close()
        return True
    return False


def _unreachable(home: Home) -> SentinelUnreachable:
    return SentinelUnreachable(
        f"no sentinel answers on `{home.root}`",
        hint=f"start one with `casparian --home {home.root} sentinel start`",
        home=str(home.root),
    )
