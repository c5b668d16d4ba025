"""A sentinel that speaks the real protocol over a real socket and says what a test tells it to."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import casparian
from casparian.paths import Home
from casparian.protocol import control, frame

Answer = Iterable[control.Event | control.Reply | None]
Handler = Callable[[control.Request], Answer]

STATUS = control.SentinelStatus(
    version=casparian.__version__,
    protocol=frame.VERSION,
    pid=os.getpid(),
    home_id="3c7b6d0e-0000-4000-8000-000000000000",
    home="/home/of/tests",
    started_at_ns=1_700_000_000_000_000_000,
    on_demand=False,
    workers=2,
    jobs={"queued": 0, "running": 1},
    engine_hash="e" * 64,
)


class FakeSentinel:
    """Answers each request with what `handler` gives: events, then one reply. `None` hangs up instead."""

    def __init__(
        self, home: Home, handler: Handler, status: control.SentinelStatus = STATUS
    ) -> None:
        self.requests: list[control.Request] = []
        self.connections = 0
        self._channels: list[socket.socket] = []
        self._handler = handler
        self._status = status
        home.run.mkdir(parents=True, exist_ok=True)
        home.control_database.touch()
        folder = os.open(home.run, os.O_RDONLY | os.O_DIRECTORY)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"/proc/self/fd/{folder}/{home.socket.name}")
        os.close(folder)
        self._listener.listen(8)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop listening and hang up."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for channel in self._channels:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._channels.append(channel)
            thread = threading.Thread(target=self._serve, args=(channel,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, channel: socket.socket) -> None:
        decoder = frame.FrameDecoder()
        with channel:
            while data := _received(channel):
                for item in decoder.feed(data):
                    request = control.decode_request(item.payload)
                    if isinstance(request, control.Hello):
                        answers: Answer = [self._status]
                    else:
                        self.requests.append(request)
                        answers = self._handler(request)
                    for answer in answers:
                        if answer is None:
                            return
                        is_event = isinstance(answer, control.Event)
                        opcode = (
                            frame.Opcode.CONTROL_EVENT if is_event else frame.Opcode.CONTROL_REPLY
                        )
                        channel.sendall(
                            frame.encode(opcode, control.encode(answer), number=item.number)
                        )


def _received(channel: socket.socket) -> bytes:
    try:
        return channel.recv(1 << 16)
    except OSError:
        return b""


@contextmanager
def fake_sentinel(
    home: Home, handler: Handler, status: control.SentinelStatus = STATUS
) -> Iterator[FakeSentinel]:
    """A running fake; the socket stays behind when it ends, as a dead sentinel's does."""
    sentinel = FakeSentinel(home, handler, status)
    try:
        yield sentinel
    finally:
        sentinel.close()


def rows(columns: str, *values: tuple[object, ...]) -> control.Rows:
    """A `Rows` reply from a list of column names."""
    return control.Rows(columns=tuple(columns.split()), rows=values)
