"""The Control API against clients that break it: each is cut off or refused, all others are served as before."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from casparian.control.client import Client
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import SentinelUnreachable
from casparian.protocol import control, frame
from casparian.protocol.frame import PAYLOAD_BYTES_MAX, Opcode
from casparian.sentinel.io.clients import (
    CLIENTS_MAX,
    REQUEST_BYTES_MAX,
)
from casparian.sinks.uri import default_settings
from tests.factories.messages import values_of
from tests.support.sentinel import Peer, Sentinel, drip
from tests.support.world import World, wait_until

MEBIBYTE = 1024 * 1024
HELLO = control.encode(control.Hello())


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinel]:
    """One sentinel takes every abuse of this module, one after another."""
    world = World(tmp_path_factory.mktemp("control"))
    world.file("a.log", b"Jan  1 00:00:00 host app: hello\n")
    started = Sentinel(world, "--frame-seconds", "1")
    run = control.Run(request_id="first", evidence=os.fsencode(world.evidence), dry_run=True)
    started.ask(run, control.RunResult)  # what it loads once is loaded
    started.ask(control.Doctor(), control.Rows)
    yield started
    assert started.works()
    assert started.stop() == 0


@pytest.fixture(autouse=True)
def _unharmed(sentinel: Sentinel) -> Iterator[None]:
    """After each abuse a good client is answered, and nothing is left of the bad one."""
    assert sentinel.works()
    before, memory = sentinel.descriptors(), sentinel.memory_bytes()
    yield
    for peer in sentinel.peers:
        peer.close()
    sentinel.peers.clear()
    assert sentinel.process.poll() is None
    assert sentinel.works()
    sentinel.settle(before)
    assert sentinel.memory_bytes() < memory + 48 * MEBIBYTE


def header(opcode: int, length: int, *, version: int = 1, flags: int = 0, number: int = 7) -> bytes:
    return frame._HEADER.pack(version, opcode, flags, number, length)


def request(payload: bytes, number: int = 7) -> bytes:
    return frame.encode(Opcode.CONTROL_REQUEST, payload, number=number)


CUT = {
    "another version": (header(32, 0, version=2), "protocol.version"),
    "text": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "protocol.version"),
    "random bytes": (b"\x01" + b"\xff" * 40, "protocol.oversized"),
    "an unknown opcode": (header(99, 0), "protocol.opcode"),
    "an opcode of the worker channel": (header(Opcode.IDENTIFY, 0), "protocol.opcode"),
    "a forged receipt": (header(Opcode.CONCLUDE, 0), "protocol.opcode"),
    "an opcode of the bridge": (header(Opcode.BRIDGE_BATCH, 8), "protocol.opcode"),
    "a reply": (header(Opcode.CONTROL_REPLY, 0), "protocol.opcode"),
    "flags": (header(Opcode.CONTROL_REQUEST, len(HELLO), flags=1) + HELLO, "protocol.flags"),
    "a length above the cap": (
        header(Opcode.CONTROL_REQUEST, REQUEST_BYTES_MAX + 1),
        "protocol.oversized",
    ),
    "a length above every cap": (
        header(Opcode.CONTROL_REQUEST, PAYLOAD_BYTES_MAX + 1),
        "protocol.oversized",
    ),
    "the longest length": (header(Opcode.CONTROL_REQUEST, 2**32 - 1), "protocol.oversized"),
}


@pytest.mark.parametrize("what", CUT)
def test_a_bad_header_is_answered_and_ends_the_connection(sentinel: Sentinel, what: str) -> None:
    raw, code = CUT[what]
    peer = sentinel.peer()
    peer.send(raw)
    answer = peer.frame()
    assert answer is not None
    assert answer.number == 0
    failure = control.decode_reply(answer.payload)
    assert isinstance(failure, control.Failure)
    assert failure.code == code
    assert peer.frame() is None


def test_the_answer_to_another_version_names_both(sentinel: Sentinel) -> None:
    peer = sentinel.peer()
    peer.send(header(32, 0, version=9))
    failure = peer.reply()
    assert isinstance(failure, control.Failure)
    assert "version 9, this is 1" in failure.message


MALFORMED = {
    "no payload": b"",
    "no MessagePack": b"\xc1",
    "an unknown tag": msgspec.msgpack.encode({"type": "become_root"}),
    "no tag": b"\x80",
    "a wrong type": msgspec.msgpack.encode({"type": "retry_job", "request_id": "r", "job_id": "7"}),
    "a missing field": msgspec.msgpack.encode({"type": "retry_job"}),
    "text that is not UTF-8": msgspec.msgpack.encode(
        {"type": "add_rule", "request_id": "r", "pattern": "WXYZ", "tag": "t"}
    ).replace(b"WXYZ", b"\xff\xff\xfe\xfe"),
    "a request id without a letter": msgspec.msgpack.encode(
        {"type": "run", "request_id": "", "evidence": b"/dev/null", "dry_run": True}
    ),
    "a request id without an end": msgspec.msgpack.encode(
        {"type": "retry_job", "request_id": "r" * 1000, "job_id": 1}
    ),
    "a limit below zero": msgspec.msgpack.encode({"type": "read", "view": "jobs", "limit": -5}),
    "an integer beyond 64 bits": msgspec.msgpack.encode(
        {"type": "retry_job", "request_id": "r", "job_id": 2**64 - 1}
    ),
    "a limit that is NaN": msgspec.msgpack.encode(
        {"type": "run", "request_id": "r", "evidence": b"/", "quarantine_percent_max": float("nan")}
    ),
    "arrays that are deep": b"\x91" * 500_000,
    "an unknown field that is deep": b"\x82\xa4type\xa5hello\xa1x" + b"\x91" * 500_000,
    "an array of four billion": b"\xdd\xff\xff\xff\xff",
    "a map of four billion": b"\xdf\xff\xff\xff\xff",
    "bytes of four billion": b"\x81\xa8evidence\xc6\xff\xff\xff\xff",
    "a message and a half": HELLO + b"\x81",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_answered_and_the_next_is_served(
    sentinel: Sentinel, what: str
) -> None:
    peer = sentinel.peer()
    peer.send(request(MALFORMED[what], number=5))
    answer = peer.frame()
    assert answer is not None
    assert answer.number == 5
    failure = control.decode_reply(answer.payload)
    assert isinstance(failure, control.Failure)
    assert failure.code == "protocol.payload"
    peer.ask(control.Hello())
    assert isinstance(peer.reply(), control.SentinelStatus)


def test_a_request_that_comes_byte_by_byte_is_served(sentinel: Sentinel) -> None:
    peer = sentinel.peer()
    for byte in request(HELLO):
        peer.send(bytes([byte]))
    assert isinstance(peer.reply(), control.SentinelStatus)


def test_many_requests_in_one_write_are_served_in_order(sentinel: Sentinel) -> None:
    peer = sentinel.peer()
    peer.send(b"".join(request(HELLO, number) for number in range(1, 301)))
    heard = [peer.frame() for _ in range(300)]
    assert [item.number for item in heard if item] == list(range(1, 301))


@pytest.mark.parametrize("sent", [0, 1, 15, 16, 17])
def test_a_peer_that_goes_in_the_middle_is_forgotten(sentinel: Sentinel, sent: int) -> None:
    peer = sentinel.peer()
    peer.send(request(HELLO)[:sent])
    peer.close()


def test_a_peer_that_goes_before_its_answer_is_forgotten(sentinel: Sentinel) -> None:
    for _ in range(20):
        peer = sentinel.peer()
        for number in range(1, 20):
            peer.ask(control.Read(view="jobs"), number)
        peer.close()


def test_descriptors_that_a_client_sends_do_not_reach_the_sentinel(sentinel: Sentinel) -> None:
    before = sentinel.descriptors()
    peer = sentinel.peer()
    read_end, write_end = os.pipe()
    for number in range(1, 20):
        socket.send_fds(peer.channel, [request(HELLO, number)], [write_end] * 50)
        assert isinstance(peer.reply(), control.SentinelStatus)
    os.close(write_end)
    assert os.read(read_end, 1) == b""  # nobody holds the other end
    os.close(read_end)
    assert sentinel.descriptors() <= before + 1


def test_a_frame_that_never_ends_is_cut_off_however_many_bytes_come(sentinel: Sentinel) -> None:
    slow, idle = sentinel.peer(), sentinel.peer()
    sent = drip(slow.channel, request(bytes(10_000)), 0.05)
    assert sent < 10_000
    assert slow.failure() == "protocol.slow"
    assert slow.reply() is None
    idle.ask(control.Hello())  # it said nothing for as long, which is no frame
    assert isinstance(idle.reply(), control.SentinelStatus)


def test_half_a_frame_and_silence_is_cut_off(sentinel: Sentinel) -> None:
    peer = sentinel.peer()
    peer.send(request(HELLO)[:9])
    assert peer.failure() == "protocol.slow"
    assert peer.reply() is None


def test_a_sentinel_with_nothing_to_do_still_cuts_a_slow_frame_off(sentinel: Sentinel) -> None:
    """Its loop waits without a limit when nothing is under way: the deadline wakes it."""
    peer = sentinel.peer()
    peer.send(b"\x01")
    assert peer.failure() == "protocol.slow"


def test_the_client_after_the_last_is_told_so(sentinel: Sentinel) -> None:
    held = [sentinel.peer() for _ in range(CLIENTS_MAX)]
    for peer in held:  # all of them are in
        peer.ask(control.Hello())
        assert isinstance(peer.reply(), control.SentinelStatus)
    assert sentinel.peer().failure() == "sentinel.busy"
    with pytest.raises(SentinelUnreachable) as caught:
        Client.connect(sentinel.home)
    assert caught.value.code == "sentinel.busy"
    assert caught.value.hint
    held.pop().close()
    wait_until(lambda: _served(sentinel))


def _served(sentinel: Sentinel) -> bool:
    try:
        return sentinel.works()
    except SentinelUnreachable:
        return False


def test_a_flood_of_requests_does_not_starve_others(sentinel: Sentinel) -> None:
    """One client asks without end and without reading; another one's answers keep coming."""
    flood = sentinel.peer()
    flood.channel.setblocking(False)
    block = b"".join(request(HELLO, number) for number in range(1, 2000))

    def pour() -> int:
        try:
            return flood.channel.send(block)
        except BlockingIOError:
            return 0

    poured = 0
    for _ in range(200):
        poured += pour()
        assert sentinel.works()
    assert poured  # and what it could pour is bounded: the sentinel stopped to listen
    assert poured < 16 * MEBIBYTE


def test_a_flood_of_malformed_requests_is_bounded(sentinel: Sentinel) -> None:
    flood = sentinel.peer()
    flood.channel.setblocking(False)
    block = request(b"\xc1") * 4000
    poured = 0
    for _ in range(300):
        try:
            poured += flood.channel.send(block)
        except BlockingIOError:
            time.sleep(0.005)
    assert poured < 32 * MEBIBYTE
    assert sentinel.works()


def test_clients_that_never_read_do_not_keep_others_waiting(sentinel: Sentinel) -> None:
    peers = [sentinel.peer() for _ in range(8)]
    read = control.encode(control.Read(view="files"))
    for peer in peers:
        peer.channel.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for number in range(1, 400):
                peer.channel.send(request(read, number))
    for _ in range(20):
        assert sentinel.works()


def test_a_paused_client_is_served_to_the_end_once_it_reads(sentinel: Sentinel) -> None:
    peer = sentinel.peer()
    count = 5000
    data = memoryview(b"".join(request(HELLO, number) for number in range(1, count + 1)))
    peer.channel.setblocking(False)
    heard: list[int] = []
    for _ in range(200_000):
        if data:
            with contextlib.suppress(BlockingIOError):
                data = data[peer.channel.send(data) :]
        try:
            received = peer.channel.recv(1 << 16)
        except BlockingIOError:
            if len(heard) == count:
                break
            time.sleep(0.001)
            continue
        heard += [item.number for item in peer._decoder.feed(received)]
        if len(heard) == count:
            break
    assert heard == list(range(1, count + 1))


def test_requests_of_every_kind_with_absurd_values_are_answered(sentinel: Sentinel) -> None:
    nothing = "\x00\x1b[2J\u202e"
    huge = 2**63 - 1
    odd: list[control.Request] = [
        control.Read(view="nothing like this"),
        control.Read(view="jobs", filters={"'; DROP TABLE cf_tape; --": 1}),
        control.Read(view="jobs", filters={"state": nothing}),
        control.Read(view="jobs", filters={"job_id": "no number"}),
        control.Read(view="jobs", limit=huge),
        control.RetryJob(request_id="a", job_id=huge),
        control.RetryJob(request_id="b", job_id=-huge - 1),
        control.CancelJob(request_id="c", job_id=huge),
        control.CancelJob(request_id="d"),
        control.CancelJob(request_id="e", run_id=nothing),
        control.RemoveRule(request_id="f", rule_id=huge),
        control.RemoveRule(request_id="g", rule_id=-1),
        control.AddRule(request_id="h", pattern=nothing, tag=nothing),
        control.AddRule(request_id="i", pattern="", tag=""),
        control.AddRule(request_id="j", pattern="[" * 1000, tag="t"),
        control.AddRule(request_id="k", pattern="*" * 10_000, tag="t"),
        control.TagFiles(request_id="l", pattern="(((", tag="t"),
        control.TagFiles(request_id="m", pattern="**/" * 2_000, tag="t"),
        control.TagFiles(request_id="n", pattern="[z-a]", tag=nothing, remove=True),
        control.Select(selection=control.Selection(tags=(nothing,), include=("[",), since_ns=huge)),
        control.Select(selection=control.Selection(parsers=(nothing, "/" * 5000))),
        control.Scan(request_id="o", evidence=b""),
        control.Scan(request_id="p", evidence=b"\x00"),
        control.Scan(request_id="q", evidence=b"relative"),
        control.Scan(request_id="r", evidence=b"/" + b"\xff" * 5000),
        control.Scan(request_id="s", evidence=b"/dev/null", dry_run=True),
        control.Run(request_id="u", evidence=b"\x00"),
        control.Run(request_id="v", evidence=b"/nowhere", parser_config={nothing: {nothing: 1}}),
        control.Doctor(),
        control.Shutdown(if_idle=True),
    ]
    with Client.connect(sentinel.home):  # somebody else is there: the sentinel is not idle
        peer = sentinel.peer()
        for number, message in enumerate(odd, 1):
            peer.ask(message, number)
            answer = peer.reply()
            assert isinstance(answer, control.Reply), message
            assert getattr(answer, "code", "") != "internal", (message, answer)
            assert sentinel.process.poll() is None, message


@given(data=st.data())
@examples(max_examples=150, deadline=None)
def test_any_well_formed_request_is_answered(sentinel: Sentinel, data: st.DataObject) -> None:
    """Made from the types, so that a new request is tried as well."""
    message = data.draw(
        values_of(control.Request).filter(
            lambda m: not isinstance(m, control.Shutdown | control.Drain)
        )
    )
    if isinstance(message, control.Scan | control.Run):  # not a walk over the whole machine
        message = msgspec.structs.replace(message, evidence=b"/dev/null", dry_run=True)
    peer = Peer(sentinel.home)
    peer.ask(message)
    assert isinstance(peer.reply(), control.Reply), message
    peer.close()
    assert sentinel.process.poll() is None, message


BAD_SINKS = {
    "a relative path": "out",
    "no path": "",
    "a NUL": "/tmp/\0out",
    "a path that goes back": "/tmp/../out",
}


@pytest.mark.parametrize("kind", SinkKind)
@pytest.mark.parametrize("what", BAD_SINKS)
def test_a_sink_that_cannot_be_is_refused(
    sentinel: Sentinel, kind: SinkKind, what: str, tmp_path: Path
) -> None:
    (tmp_path / "a.log").write_bytes(b"Jan  1 00:00:00 host app: hello\n")
    sink = Sink(kind=kind, location=BAD_SINKS[what], settings=default_settings(kind))
    peer = sentinel.peer()
    run = control.Run(request_id=f"{kind} {what}", evidence=bytes(tmp_path), sinks={"": sink})
    peer.ask(run)
    answer = peer.reply()
    assert isinstance(answer, control.Failure), answer
    assert answer.code != "internal"


def test_settings_that_no_sink_has_are_refused(sentinel: Sentinel, tmp_path: Path) -> None:
    every: list[dict[str, str | int | bool]] = [
        {},
        {"level": 99},
        {"compression": "zstd&level=1"},
        {"nothing": True},
    ]
    for settings in every:
        sink = Sink(kind=SinkKind.PARQUET, location=str(tmp_path / "out"), settings=settings)
        peer = sentinel.peer()
        peer.ask(control.Run(request_id=repr(settings), evidence=bytes(tmp_path), sinks={"": sink}))
        assert peer.failure().startswith("usage.sink")


def test_a_run_that_failed_to_plan_can_be_asked_for_again(sentinel: Sentinel) -> None:
    for _ in range(3):
        peer = sentinel.peer()
        peer.ask(control.Run(request_id="again", evidence=b"/dev/null", dry_run=True))
        assert peer.failure() == "evidence.kind"


STRANGER = """
import os, socket, sys
os.chdir(sys.argv[1])                  # as root: the directory is the owner's alone
os.setgroups([]); os.setgid(65534); os.setuid(65534)
channel = socket.socket(socket.AF_UNIX)
try:
    channel.connect(sys.argv[2])
except PermissionError:
    sys.exit(13)
try:
    channel.sendall(bytes.fromhex(sys.argv[3]))
except OSError:
    pass
data = b""
while True:
    try:
        more = channel.recv(65536)
    except OSError:
        break
    if not more:
        break
    data += more
sys.stdout.buffer.write(data)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_before_a_byte_is_read(sentinel: Sentinel) -> None:
    socket_path = sentinel.home.socket

    def visit() -> subprocess.CompletedProcess[bytes]:
        arguments = [str(socket_path.parent), socket_path.name, request(HELLO).hex()]
        return subprocess.run(
            [sys.executable, "-I", "-c", STRANGER, *arguments], capture_output=True, check=False
        )

    assert visit().returncode == 13  # first wall: the socket's mode
    mode = socket_path.stat().st_mode & 0o7777
    assert mode == 0o600
    socket_path.chmod(0o666)
    try:
        done = visit()  # second wall: the kernel's word on who it is
    finally:
        socket_path.chmod(mode)
    heard = list(frame.FrameDecoder().feed(done.stdout))
    assert [item.number for item in heard] == [0], done.stderr
    failure = control.decode_reply(heard[0].payload)
    assert isinstance(failure, control.Failure)
    assert failure.code == "sentinel.other_user"
