"""A fake guest over a socket pair: whatever it sends, the host refuses cleanly or goes on."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from casparian.guest.bridge import Bridge
from casparian.protocol import frame
from casparian.protocol.frame import PAYLOAD_BYTES_MAX, Opcode
from casparian.protocol.guest import SourceEnd
from casparian.worker.bridge import CONTROL_BYTES_MAX, GuestClosed, HostBridge, socket_pair
from casparian.worker.cancel import Cancellation, Cancelled
from casparian.worker.faults import GuestFault

EPOCH = 5
PATIENCE = 60.0


class Pair:
    """Host's bridge and the raw guest's end."""

    def __init__(self) -> None:
        self.host_socket, self.guest = socket_pair()
        self.cancellation = Cancellation()
        self.host = HostBridge(self.host_socket, EPOCH, self.cancellation)

    def close(self) -> None:
        self.host_socket.close()
        self.guest.close()
        self.cancellation.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def header(opcode: int, length: int, *, version: int = 1, number: int = EPOCH) -> bytes:
    return frame._HEADER.pack(version, opcode, 0, number, length)


def test_frame_arrives_in_any_pieces(pair: Pair) -> None:
    end = SourceEnd(index=1, rows={1: 2})
    payload = msgspec.msgpack.encode(end)
    data = frame.encode(Opcode.BRIDGE_END, payload, number=EPOCH, flags=9)

    def dribble() -> None:
        for byte in data:
            pair.guest.send(bytes([byte]))

    thread = threading.Thread(target=dribble)
    thread.start()
    received = pair.host.receive(PATIENCE)
    thread.join()
    assert received.opcode is Opcode.BRIDGE_END
    assert received.flags == 9
    assert received.payload.to_pybytes() == payload
    assert pair.host.received_bytes == len(data)


BAD = {
    "another version": header(Opcode.BRIDGE_END, 0, version=9),
    "an unknown opcode": header(99, 0),
    "an old epoch": header(Opcode.BRIDGE_END, 0, number=EPOCH - 1),
    "a length above the cap": header(Opcode.BRIDGE_BATCH, PAYLOAD_BYTES_MAX + 1),
    "the longest length": header(Opcode.BRIDGE_BATCH, 2**32 - 1),
    "a huge control frame": header(Opcode.BRIDGE_END, CONTROL_BYTES_MAX + 1),
    "random bytes": bytes(range(200, 216)),
    "text": b"GET / HTTP/1.0\r\n\r\n",
}


@pytest.mark.parametrize("what", BAD)
def test_bad_frame_is_refused_before_its_payload_is_read(pair: Pair, what: str) -> None:
    pair.guest.send(BAD[what])
    with pytest.raises(GuestFault) as caught:
        pair.host.receive(PATIENCE)
    assert caught.value.code == "bridge.protocol"


@pytest.mark.parametrize(
    "sent", [b"", header(Opcode.BRIDGE_END, 5)[:7], header(Opcode.BRIDGE_END, 5) + b"ab"]
)
def test_end_of_stream_is_a_truncated_bridge(pair: Pair, sent: bytes) -> None:
    pair.guest.send(sent)
    pair.guest.close()
    with pytest.raises(GuestClosed) as caught:
        pair.host.receive(PATIENCE)
    assert caught.value.code == "bridge.truncated"


def test_silent_guest_is_given_up(pair: Pair) -> None:
    with pytest.raises(GuestFault) as caught:
        pair.host.receive(0.01)
    assert caught.value.code == "limit.idle"


def test_half_a_frame_then_silence_is_given_up(pair: Pair) -> None:
    pair.guest.send(header(Opcode.BRIDGE_BATCH, 1000) + b"x" * 10)
    with pytest.raises(GuestFault) as caught:
        pair.host.receive(0.01)
    assert caught.value.code == "limit.idle"


def test_guest_that_does_not_read_is_given_up(pair: Pair) -> None:
    big = SourceEnd(index=1, rows=dict.fromkeys(range(1_000_000), 1))
    with pytest.raises(GuestFault) as caught:
        pair.host.send(Opcode.BRIDGE_SOURCE, big, idle_seconds=0.05)
    assert caught.value.code == "limit.idle"


def test_sending_to_a_dead_guest_is_a_truncated_bridge(pair: Pair) -> None:
    pair.guest.close()
    with pytest.raises(GuestClosed):
        pair.host.send(Opcode.BRIDGE_FINISH, idle_seconds=PATIENCE)


def test_cancellation_wakes_a_waiting_host(pair: Pair) -> None:
    woken = threading.Timer(0.05, pair.cancellation.set)
    woken.start()
    with pytest.raises(Cancelled):
        pair.host.receive(PATIENCE)
    woken.join()
    with pytest.raises(Cancelled):
        pair.host.send(Opcode.BRIDGE_FINISH, idle_seconds=PATIENCE)


def test_descriptors_that_a_guest_sends_do_not_reach_the_host(pair: Pair) -> None:
    before = set(os.listdir("/proc/self/fd"))
    read_end, write_end = os.pipe()
    data = frame.encode(Opcode.BRIDGE_FAILED, b"x", number=EPOCH)
    socket.send_fds(pair.guest, [data], [write_end])
    os.close(write_end)
    assert pair.host.receive(PATIENCE).opcode is Opcode.BRIDGE_FAILED
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    assert poll.poll(0)  # hung up: nobody holds the other end
    os.close(read_end)
    assert set(os.listdir("/proc/self/fd")) == before


def test_both_ends_speak_to_each_other_with_a_descriptor(pair: Pair) -> None:
    guest = Bridge(pair.guest)
    read_end, write_end = os.pipe()
    end = SourceEnd(index=3, rows={})
    pair.host.send(Opcode.BRIDGE_SOURCE, end, idle_seconds=PATIENCE, descriptors=[write_end])
    os.close(write_end)
    opcode, payload, descriptors = guest.receive()
    assert opcode is Opcode.BRIDGE_SOURCE
    assert msgspec.msgpack.decode(payload, type=SourceEnd) == end
    os.write(descriptors[0], b"lent")
    assert os.read(read_end, 10) == b"lent"
    assert not os.get_inheritable(descriptors[0])
    os.close(descriptors[0])
    os.close(read_end)
    guest.send(Opcode.BRIDGE_END, end)
    assert pair.host.receive(PATIENCE).opcode is Opcode.BRIDGE_END


def test_big_frame_crosses_with_a_full_socket_buffer(pair: Pair) -> None:
    guest = Bridge(pair.guest)
    pair.guest.settimeout(None)
    payload = os.urandom(8 * 1024 * 1024)
    guest._epoch = EPOCH
    thread = threading.Thread(target=guest.send, args=(Opcode.BRIDGE_ACCOUNT, payload))
    thread.start()
    assert pair.host.receive(PATIENCE).payload.to_pybytes() == payload
    thread.join()


def test_data_after_the_end_of_a_source_is_refused(pair: Pair) -> None:
    pair.host.check_quiet()
    pair.guest.send(b"x")
    with pytest.raises(GuestFault) as caught:
        pair.host.check_quiet()
    assert caught.value.code == "bridge.protocol"


def test_a_closed_end_is_no_data(pair: Pair) -> None:
    pair.guest.close()
    pair.host.check_quiet()
