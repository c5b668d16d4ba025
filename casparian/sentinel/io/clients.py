"""The Control API's sockets: one AF_UNIX listener, mode 0600, and its clients.

The kernel vouches for the peer's user; another user is cut off before a byte is read. Reading is incremental and bounded by the
frame cap, writing never blocks the loop: a client that does not read loses events first, and its connection at last.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import socket
import struct
from collections import deque
from typing import Final

from casparian.errors import ExitCode, ProtocolError
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol.frame import Frame, FrameDecoder, Opcode, encode
from casparian.sentinel.events import ClientAsked, ClientConnected, ClientGone, Event

_READ_BYTES: Final = 64 * 1024
_EVENT_BACKLOG_MAX: Final = 64
_BACKLOG_BYTES_MAX: Final = 256 * 1024 * 1024
_CLIENTS_MAX: Final = 64
_CREDENTIALS: Final = struct.Struct("3i")


class _Client:
    def __init__(self, client_id: int, connection: socket.socket) -> None:
        self.client_id = client_id
        self.connection = connection
        self.decoder = FrameDecoder()
        self.outgoing: deque[memoryview] = deque()
        self.outgoing_bytes = 0


class Clients:
    """Accepts, reads, writes; everything it learns is an event."""

    def __init__(self, home: Home, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._path = home.socket
        self._clients: dict[int, _Client] = {}
        self._next_id = 1
        self._listener = _listen(home)
        selector.register(self._listener, selectors.EVENT_READ, self.accept)

    def accept(self, _mask: int) -> list[Event]:
        """Take new connections."""
        events: list[Event] = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return events
            actor = _actor(connection)
            if actor is None or len(self._clients) >= _CLIENTS_MAX:
                connection.close()
                continue
            connection.setblocking(False)
            client = _Client(self._next_id, connection)
            self._next_id += 1
            self._clients[client.client_id] = client
            self._selector.register(
                connection,
                selectors.EVENT_READ,
                lambda mask, client=client: self._ready(client, mask),
            )
            events.append(ClientConnected(client_id=client.client_id, actor=actor))

    def reply(self, client_id: int, number: int, reply: control.Reply) -> None:
        """Queue the one reply to a request."""
        self._queue(client_id, _reply_frame(number, reply))

    def event(self, client_id: int, number: int, event: control.Event) -> None:
        """Queue an event, unless the client is too far behind."""
        client = self._clients.get(client_id)
        if client is not None and len(client.outgoing) < _EVENT_BACKLOG_MAX:
            self._queue(
                client_id, encode(Opcode.CONTROL_EVENT, control.encode(event), number=number)
            )

    def flush(self) -> None:
        """Try to send what is queued, before the process ends."""
        for client in list(self._clients.values()):
            client.connection.setblocking(True)
            client.connection.settimeout(2.0)
            with contextlib.suppress(OSError):
                for part in client.outgoing:
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
        if mask & selectors.EVENT_READ:
            events = self._read(client)
        if mask & selectors.EVENT_WRITE and client.client_id in self._clients:
            events += self._write(client)
        return events

    def _read(self, client: _Client) -> list[Event]:
        try:
            data = client.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return self._gone(client)
        events: list[Event] = []
        try:
            for frame in client.decoder.feed(data):
                events += self._take(client, frame)
        except ProtocolError as error:
            failure = control.Failure(
                code=error.code, message=error.message, exit_code=int(ExitCode.SENTINEL)
            )
            client.connection.setblocking(False)
            with contextlib.suppress(OSError):
                client.connection.send(_reply_frame(0, failure))
            return events + self._gone(client)
        return events

    def _take(self, client: _Client, frame: Frame) -> list[Event]:
        if frame.opcode is not Opcode.CONTROL_REQUEST:
            raise ProtocolError(f"{frame.opcode.name} is no request", code="protocol.opcode")
        try:
            request = control.decode_request(frame.payload)
        except ProtocolError as error:  # the frame was whole: the next one can still be good
            failure = control.Failure(
                code=error.code, message=error.message, exit_code=int(ExitCode.SENTINEL)
            )
            self._queue(client.client_id, _reply_frame(frame.number, failure))
            return []
        return [ClientAsked(client_id=client.client_id, number=frame.number, request=request)]

    def _queue(self, client_id: int, data: bytes) -> None:
        client = self._clients.get(client_id)
        if client is None:
            return
        client.outgoing.append(memoryview(data))
        client.outgoing_bytes += len(data)
        self._selector.modify(
            client.connection,
            selectors.EVENT_READ | selectors.EVENT_WRITE,
            lambda mask, client=client: self._ready(client, mask),
        )

    def _write(self, client: _Client) -> list[Event]:
        try:
            while client.outgoing:
                sent = client.connection.send(client.outgoing[0])
                client.outgoing_bytes -= sent
                if sent == len(client.outgoing[0]):
                    client.outgoing.popleft()
                else:
                    client.outgoing[0] = client.outgoing[0][sent:]
        except BlockingIOError:
            if client.outgoing_bytes > _BACKLOG_BYTES_MAX:
                return self._gone(client)
            return []
        except OSError:
            return self._gone(client)
        self._selector.modify(
            client.connection,
            selectors.EVENT_READ,
            lambda mask, client=client: self._ready(client, mask),
        )
        return []

    def _gone(self, client: _Client) -> list[Event]:
        if client.client_id not in self._clients:
            return []
        self._drop(client)
        return [ClientGone(client_id=client.client_id)]

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.client_id, None)
        self._selector.unregister(client.connection)
        client.connection.close()


def _reply_frame(number: int, reply: control.Reply) -> bytes:
    payload = control.encode(reply)
    while isinstance(reply, control.Rows):
        try:
            return encode(Opcode.CONTROL_REPLY, payload, number=number)
        except ProtocolError:  # too many rows for one frame: say so instead of failing
            half = reply.rows[: len(reply.rows) // 2]
            reply = control.Rows(columns=reply.columns, rows=half, truncated=True)
            payload = control.encode(reply)
    return encode(Opcode.CONTROL_REPLY, payload, number=number)


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
    listener.listen(16)
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
