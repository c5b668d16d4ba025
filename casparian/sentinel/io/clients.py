"""The Control API's sockets: one AF_UNIX listener, mode 0600, and its clients.

What a client can do to the loop, and what bounds it:
  * Another user is refused before a byte is read: the kernel vouches for the peer's user.
  * The 65th client is told that there are too many, and cut off.
  * A header that does not belong here, or claims more than `REQUEST_BYTES_MAX`, ends the connection with an answer of number 0.
    A payload that is no request is answered, and the next one can still be good.
  * A frame must be whole `FRAME_NS` after its first byte, however many bytes come in between.
  * While a client has `OPEN_REQUESTS_MAX` unanswered requests, or does not read its answers, nothing more is read from it.
  * A client that does not read loses events first, and its connection at last.
Nothing that a client sends may raise out of here: a fault in handling it costs that client its connection, and is logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from casparian import clock
from casparian.errors import CasparianError, ProtocolError, Refused, SentinelUnreachable
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol.frame import REQUESTS, Frame, FrameDecoder, Opcode, encode
from casparian.sentinel.events import ClientAsked, ClientConnected, ClientGone, Event
from casparian.sentinel.io.replies import reply_frame
from casparian.sentinel.planner import failure_of

CLIENTS_MAX: Final = 64
REQUEST_BYTES_MAX: Final = 1024 * 1024
FRAME_NS: Final = 30 * 1_000_000_000
OPEN_REQUESTS_MAX: Final = 64
BACKLOG_BYTES_MAX: Final = 256 * 1024 * 1024  # answers that one client has not read
BACKLOGS_BYTES_MAX: Final = 512 * 1024 * 1024  # and all of them together
_PAUSE_BYTES: Final = 1024 * 1024  # answers left unread, above which no request is read
_EVENT_BACKLOG_MAX: Final = 64
_READ_BYTES: Final = 4096  # at a time, so that one client's flood is many turns of the loop
_READ_BYTES_MAX: Final = 256 * 1024  # at a time, of one big frame
_FLUSH_SECONDS: Final = 2.0
_LISTEN_BACKLOG: Final = 128
_CREDENTIALS: Final = struct.Struct("3i")
_LOG = logging.getLogger(__name__)


class _Client:
    def __init__(self, client_id: int, connection: socket.socket) -> None:
        self.client_id = client_id
        self.connection = connection
        self.decoder = FrameDecoder(REQUESTS, payload_bytes_max=REQUEST_BYTES_MAX)
        self.outgoing: deque[memoryview] = deque()
        self.outgoing_bytes = 0
        self.open_requests: set[int] = set()
        self.frame_began_ns = 0  # monotonic: when the frame that is not whole began; 0 when none is
        self.interest = 0  # what the selector watches
        self.cut = False  # its end is decided; the selector will tell

    @property
    def heard(self) -> bool:
        """Whether requests are read now."""
        return self.cut or (
            len(self.open_requests) < OPEN_REQUESTS_MAX and self.outgoing_bytes <= _PAUSE_BYTES
        )


class Clients:
    """Accepts, reads, writes; everything it learns is an event."""

    def __init__(self, home: Home, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._path = home.socket
        self._clients: dict[int, _Client] = {}
        self._backlog_bytes = 0
        self._next_id = 1
        self._listener = _listen(home)
        selector.register(self._listener, selectors.EVENT_READ, self.accept)

    def accept(self, _mask: int) -> list[Event]:
        """Take new connections."""
        events: list[Event] = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # none is left, it went away again, or there are no descriptors
                return events
            connection.setblocking(False)
            actor = _actor(connection)
            if actor is None:
                _refuse(
                    connection,
                    Refused("the sentinel belongs to another user", code="sentinel.other_user"),
                )
            elif len(self._clients) >= CLIENTS_MAX:
                _refuse(connection, _too_many())
            else:
                events.append(self._welcome(connection, actor))

    def _welcome(self, connection: socket.socket, actor: str) -> Event:
        client = _Client(self._next_id, connection)
        self._next_id += 1
        self._clients[client.client_id] = client
        self._watch(client)
        return ClientConnected(client_id=client.client_id, actor=actor)

    def patience(self, timeout_seconds: float | None) -> float | None:
        """How long the loop may wait: not beyond the deadline of an unfinished frame."""
        began = [client.frame_began_ns for client in self._unfinished()]
        if not began:
            return timeout_seconds
        left = max(0.0, (min(began) + FRAME_NS - clock.monotonic_ns()) / 1e9) + 0.001
        return left if timeout_seconds is None else min(left, timeout_seconds)

    def _unfinished(self) -> list[_Client]:
        """Clients that we listen to and whose frame is not whole."""
        return [c for c in self._clients.values() if c.frame_began_ns and c.heard]

    def expire(self) -> list[Event]:
        """Cut off clients whose frame should be whole by now."""
        unfinished = self._unfinished()
        if not unfinished:
            return []
        now, events = clock.monotonic_ns(), []
        for client in unfinished:
            if now - client.frame_began_ns > FRAME_NS:
                seconds = FRAME_NS // 1_000_000_000
                error = ProtocolError(
                    f"a request was not whole after {seconds} seconds", code="protocol.slow"
                )
                events += self._end(client, error)
        return events

    def reply(self, client_id: int, number: int, reply: control.Reply) -> None:
        """Queue the one reply to a request."""
        client = self._clients.get(client_id)
        if client is not None:
            client.open_requests.discard(number)
            self._queue(client, reply_frame(number, reply))

    def event(self, client_id: int, number: int, event: control.Event) -> None:
        """Queue an event, unless the client is too far behind."""
        client = self._clients.get(client_id)
        if client is not None and len(client.outgoing) < _EVENT_BACKLOG_MAX:
            self._queue(client, encode(Opcode.CONTROL_EVENT, control.encode(event), number=number))

    def flush(self) -> None:
        """Try to send what is queued, before the process ends; clients that do not read do not hold it up for long."""
        deadline = clock.monotonic_ns() + int(_FLUSH_SECONDS * 1e9)
        for client in list(self._clients.values()):
            with contextlib.suppress(OSError):
                for part in client.outgoing:
                    left = (deadline - clock.monotonic_ns()) / 1e9
                    client.connection.settimeout(max(0.01, left))
                    client.connection.sendall(part)

    def close(self) -> None:
        """Stop listening, remove the socket, drop clients."""
        self._selector.unregister(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for client in list(self._clients.values()):
            self._drop(client)

    def _ready(self, client: _Client, mask: int) -> list[Event]:
        events: list[Event] = []
        try:
            if mask & selectors.EVENT_READ:
                events = self._read(client)
            if mask & selectors.EVENT_WRITE and client.client_id in self._clients:
                events += self._write(client)
        except Exception:  # noqa: BLE001 - it costs one client its connection, never the loop
            _LOG.exception("a client could not be served")
            events += self._gone(client)
        return events

    def _read(self, client: _Client) -> list[Event]:
        if client.cut:
            return self._gone(client)
        wanted = min(max(_READ_BYTES, client.decoder.missing_bytes), _READ_BYTES_MAX)
        try:
            data = client.connection.recv(wanted)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return self._gone(client)
        events: list[Event] = []
        try:
            for frame in client.decoder.feed(data):
                client.frame_began_ns = 0
                events += self._take(client, frame)
        except ProtocolError as error:
            return events + self._end(client, error)
        if not client.decoder.pending_bytes:
            client.frame_began_ns = 0
        elif not client.frame_began_ns:
            client.frame_began_ns = clock.monotonic_ns()
        self._watch(client)
        return events

    def _take(self, client: _Client, frame: Frame) -> list[Event]:
        try:
            request = control.decode_request(frame.payload)
            if isinstance(request, control.Deploy) != (frame.opcode is Opcode.DEPLOY):
                raise ProtocolError(
                    f"{type(request).__name__} is not sent as {frame.opcode.name}",
                    code="protocol.opcode",
                )
        except ProtocolError as error:  # the frame was whole: the next one can still be good
            self._queue(client, reply_frame(frame.number, failure_of(error)))
            return []
        client.open_requests.add(frame.number)
        return [ClientAsked(client_id=client.client_id, number=frame.number, request=request)]

    def _queue(self, client: _Client, data: bytes) -> None:
        if client.cut:
            return
        client.outgoing.append(memoryview(data))
        self._count(client, len(data))
        if client.outgoing_bytes > BACKLOG_BYTES_MAX:
            self._cut(client)
        elif self._backlog_bytes > BACKLOGS_BYTES_MAX:
            self._cut(max(self._clients.values(), key=lambda c: c.outgoing_bytes))
        self._watch(client)

    def _write(self, client: _Client) -> list[Event]:
        try:
            while client.outgoing:
                sent = client.connection.send(client.outgoing[0])
                self._count(client, -sent)
                if sent == len(client.outgoing[0]):
                    client.outgoing.popleft()
                else:
                    client.outgoing[0] = client.outgoing[0][sent:]
        except BlockingIOError:
            return []
        except OSError:
            return self._gone(client)
        finally:
            if client.client_id in self._clients:
                self._watch(client)
        return []

    def _count(self, client: _Client, change: int) -> None:
        client.outgoing_bytes += change
        self._backlog_bytes += change

    def _watch(self, client: _Client) -> None:
        """Have the selector look at what matters now."""
        interest = selectors.EVENT_READ if client.heard else 0
        if client.outgoing:
            interest |= selectors.EVENT_WRITE
        if interest == client.interest:
            return
        if interest & ~client.interest & selectors.EVENT_READ and client.frame_began_ns:
            client.frame_began_ns = clock.monotonic_ns()  # we did not listen: no time passed for it
        if not interest:
            self._selector.unregister(client.connection)
        elif client.interest:
            self._selector.modify(client.connection, interest, self._handler(client))
        else:
            self._selector.register(client.connection, interest, self._handler(client))
        client.interest = interest

    def _handler(self, client: _Client) -> Callable[[int], list[Event]]:
        return lambda mask: self._ready(client, mask)

    def _cut(self, client: _Client) -> None:
        """It does not read: forget what it was to be told; the selector will report its end."""
        _LOG.warning("a client left %d bytes unread and is cut off", client.outgoing_bytes)
        client.cut = True
        client.outgoing.clear()
        self._count(client, -client.outgoing_bytes)
        with contextlib.suppress(OSError):
            client.connection.shutdown(socket.SHUT_RDWR)
        self._watch(client)

    def _end(self, client: _Client, error: CasparianError) -> list[Event]:
        """Say why, and hang up."""
        with contextlib.suppress(OSError):
            client.connection.send(reply_frame(0, failure_of(error)))
        return self._gone(client)

    def _gone(self, client: _Client) -> list[Event]:
        if client.client_id not in self._clients:
            return []
        self._drop(client)
        return [ClientGone(client_id=client.client_id)]

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.client_id, None)
        self._count(client, -client.outgoing_bytes)
        if client.interest:
            self._selector.unregister(client.connection)
            client.interest = 0
        client.connection.close()


def _too_many() -> SentinelUnreachable:
    return SentinelUnreachable(
        f"the sentinel serves {CLIENTS_MAX} clients already",
        code="sentinel.busy",
        hint="end other `casparian` commands of this home, then try again",
    )


def _refuse(connection: socket.socket, error: CasparianError) -> None:
    """One frame that says why, and the end of the connection."""
    with connection, contextlib.suppress(OSError):
        connection.send(reply_frame(0, failure_of(error)))


def _listen(home: Home) -> socket.socket:
    """Bind the home's socket, however long its path is, replacing a dead sentinel's."""
    home.run.mkdir(parents=True, exist_ok=True)
    home.socket.unlink(missing_ok=True)  # we hold the home's lock, so nobody listens there
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    directory = os.open(home.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mask = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{home.socket.name}")
    finally:
        os.umask(mask)
        os.close(directory)
    listener.listen(_LISTEN_BACKLOG)
    listener.setblocking(False)
    return listener


def _actor(connection: socket.socket) -> str | None:
    """`name(uid)` of the peer, or `None` when it is another user (root may always)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    if uid not in (0, os.getuid()):
        return None
    try:
        return f"{pwd.getpwuid(uid).pw_name}({uid})"
    except KeyError:
        return f"uid {uid}"
