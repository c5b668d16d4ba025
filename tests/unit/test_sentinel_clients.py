"""The Control API's sockets without a sentinel: what is queued, paused, cut off and forgotten."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from casparian import clock
from casparian.control.client import open_socket
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol.frame import FrameDecoder, Opcode, encode
from casparian.sentinel.events import ClientAsked, ClientConnected, ClientGone, Event
from casparian.sentinel.io import clients as module
from casparian.sentinel.io.clients import Clients
from casparian.sentinel.io.replies import reply_frame

HELLO = encode(Opcode.CONTROL_REQUEST, control.encode(control.Hello()), number=1)


class Loop:
    """A selector, the clients, and a turn at a time."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.selector = selectors.DefaultSelector()
        self.clients = Clients(home, self.selector)
        self.sockets: list[socket.socket] = []

    def turn(self) -> list[Event]:
        """What is ready now."""
        events: list[Event] = []
        for key, mask in self.selector.select(0):
            events += key.data(mask)
        return events + self.clients.expire()

    def connect(self) -> tuple[socket.socket, int]:
        """A client, and its id."""
        self.sockets.append(open_socket(self.home))
        self.sockets[-1].setblocking(False)
        (connected,) = self.turn()
        assert isinstance(connected, ClientConnected)
        return self.sockets[-1], connected.client_id

    def close(self) -> None:
        """Give everything back."""
        self.clients.close()
        self.selector.close()
        for channel in self.sockets:
            channel.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(Home.at(tmp_path / "home"))
    yield loop
    loop.close()


def test_a_client_that_leaves_too_much_unread_is_cut_off_and_others_are_not(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_BYTES_MAX", 1_000_000)
    deaf, deaf_id = loop.connect()
    good, good_id = loop.connect()
    big = control.Rows(columns=("x",), rows=(("x" * 300_000,),))
    for number in range(10):
        loop.clients.reply(deaf_id, number, big)
    assert loop.turn() == [ClientGone(client_id=deaf_id)]
    loop.clients.reply(good_id, 1, control.Done(message="ok"))
    assert loop.turn() == []
    assert [item.number for item in FrameDecoder().feed(good.recv(1000))] == [1]
    loop.clients.reply(deaf_id, 1, big)  # it is gone: nothing is kept for it
    assert loop.clients._backlog_bytes == 0
    deaf.close()


def test_the_one_that_holds_most_is_cut_off_when_all_together_hold_too_much(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOGS_BYTES_MAX", 1_000_000)
    _, first = loop.connect()
    _, second = loop.connect()
    loop.clients.reply(first, 1, control.Rows(columns=("x",), rows=(("x" * 800_000,),)))
    loop.clients.reply(second, 1, control.Rows(columns=("x",), rows=(("x" * 300_000,),)))
    assert loop.turn() == [ClientGone(client_id=first)]


def test_a_client_with_many_open_requests_is_not_read_until_one_is_answered(loop: Loop) -> None:
    channel, client_id = loop.connect()
    frames = [
        encode(Opcode.CONTROL_REQUEST, control.encode(control.Hello()), number=number)
        for number in range(1, 1001)
    ]
    channel.send(b"".join(frames))
    asked = [event for _ in range(50) for event in loop.turn()]
    assert module.OPEN_REQUESTS_MAX <= len(asked) < 300
    assert loop.turn() == []
    answered = 0
    for _ in range(2000):
        for event in asked[answered:]:
            assert isinstance(event, ClientAsked)
            loop.clients.reply(client_id, event.number, control.Done(message="ok"))
            answered += 1
        asked += loop.turn()
        try:
            channel.recv(1 << 20)
        except BlockingIOError:
            if len(asked) == 1000 == answered:
                break
    assert [event.number for event in asked if isinstance(event, ClientAsked)] == list(
        range(1, 1001)
    )


def test_an_unfinished_frame_shortens_the_wait_and_then_ends(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.monotonic_ns()
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now)
    assert loop.clients.patience(None) is None
    slow, slow_id = loop.connect()
    loop.connect()
    slow.send(HELLO[:10])
    assert loop.turn() == []
    assert loop.clients.patience(None) == pytest.approx(module.FRAME_NS / 1e9, abs=0.01)
    assert loop.clients.patience(0.25) == 0.25
    slow.send(HELLO[10:12])  # one more byte does not buy more time
    now += module.FRAME_NS + 1
    assert loop.turn() == [ClientGone(client_id=slow_id)]
    assert loop.clients.patience(None) is None
    (item,) = FrameDecoder().feed(slow.recv(1000))
    failure = control.decode_reply(item.payload)
    assert isinstance(failure, control.Failure)
    assert failure.code == "protocol.slow"


def test_a_frame_that_ends_in_time_starts_the_next_one_afresh(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.monotonic_ns()
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now)
    channel, client_id = loop.connect()
    channel.send(HELLO[:10])
    loop.turn()
    now += module.FRAME_NS - 1
    channel.send(HELLO[10:] + HELLO[:3])
    (asked,) = loop.turn()
    assert isinstance(asked, ClientAsked)
    now += module.FRAME_NS - 1
    assert loop.turn() == []
    loop.clients.reply(client_id, 1, control.Done(message="ok"))
    now += 2
    assert loop.turn() == [ClientGone(client_id=client_id)]


def test_a_fault_in_serving_one_client_costs_only_that_client(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, bad_id = loop.connect()
    good, good_id = loop.connect()
    decode = control.decode_request

    def broken(payload: bytes) -> control.Request:
        monkeypatch.setattr(control, "decode_request", decode)
        raise KeyError("a bug of ours")

    monkeypatch.setattr(control, "decode_request", broken)
    bad.send(HELLO)
    assert loop.turn() == [ClientGone(client_id=bad_id)]
    good.send(HELLO)
    (asked,) = loop.turn()
    assert isinstance(asked, ClientAsked)
    assert asked.client_id == good_id


def test_flushing_reaches_the_last_client_past_those_that_do_not_read(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patience is for all of them together: once it is used up, each gets only what its buffer takes."""
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 0.0)
    for _ in range(20):
        _, client_id = loop.connect()
        loop.clients.reply(client_id, 1, control.Rows(columns=("x",), rows=(("x" * 4_000_000,),)))
    good, good_id = loop.connect()
    loop.clients.reply(good_id, 1, control.Done(message="stopped"))
    loop.clients.flush()
    assert [item.number for item in FrameDecoder().feed(good.recv(1000))] == [1]


UNENCODABLE = {
    "text that is no Unicode": control.Done(message="\ud800"),
    "a number beyond 64 bits": control.Rows(columns=("x",), rows=((2**70,),)),
    "an object": control.Rows(columns=("x",), rows=((object(),),)),
}


@pytest.mark.parametrize("what", UNENCODABLE)
def test_a_reply_that_cannot_be_encoded_is_a_failure_that_says_so(what: str) -> None:
    (item,) = FrameDecoder().feed(reply_frame(7, UNENCODABLE[what]))
    failure = control.decode_reply(item.payload)
    assert isinstance(failure, control.Failure)
    assert (item.number, failure.code) == (7, "sentinel.reply")


def test_a_reply_that_fits_no_frame_gives_what_fits_or_says_so() -> None:
    cell = "x" * (20 * 1024 * 1024)
    (item,) = FrameDecoder().feed(reply_frame(1, control.Rows(columns=("x",), rows=((cell,),) * 4)))
    rows = control.decode_reply(item.payload)
    assert isinstance(rows, control.Rows)
    assert (len(rows.rows), rows.truncated) == (2, True)
    (item,) = FrameDecoder().feed(reply_frame(1, control.Rows(columns=("x",), rows=((cell * 4,),))))
    failure = control.decode_reply(item.payload)
    assert isinstance(failure, control.Failure)
    assert failure.code == "protocol.oversized"


DEPLOYMENT = control.Deploy(request_id="r", path=b"/package", artifact_hash="0" * 64)


def test_a_deployment_comes_under_its_own_opcode_and_nothing_else_does(loop: Loop) -> None:
    assert control.opcode_of(DEPLOYMENT) is Opcode.DEPLOY
    assert control.opcode_of(control.Hello()) is Opcode.CONTROL_REQUEST
    channel, client_id = loop.connect()
    for number, (opcode, message) in enumerate(
        [
            (Opcode.DEPLOY, DEPLOYMENT),
            (Opcode.CONTROL_REQUEST, DEPLOYMENT),
            (Opcode.DEPLOY, control.Hello()),
        ]
    ):
        channel.sendall(encode(opcode, control.encode(message), number=number))
        asked = loop.turn()
        if number == 0:
            assert asked == [ClientAsked(client_id=client_id, number=0, request=DEPLOYMENT)]
            continue
        assert asked == []
        loop.turn()  # the answer is written
        (frame,) = FrameDecoder(frozenset({Opcode.CONTROL_REPLY})).feed(channel.recv(65536))
        reply = control.decode_reply(frame.payload)
        assert isinstance(reply, control.Failure)
        assert (frame.number, reply.code) == (number, "protocol.opcode")
