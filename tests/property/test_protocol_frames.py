"""The frame decoder: any chunking gives the same frames, in bounded memory, and a bad header stops it for good."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.errors import ProtocolError
from casparian.protocol import frame
from casparian.protocol.frame import HEADER_BYTES, PAYLOAD_BYTES_MAX, Frame, FrameDecoder, Opcode

FRAMES = st.lists(
    st.builds(
        Frame,
        opcode=st.sampled_from(Opcode),
        flags=st.just(0),
        number=st.integers(0, 2**64 - 1),
        payload=st.binary(max_size=60),
    ),
    max_size=6,
)


def wire(frames: list[Frame]) -> bytes:
    return b"".join(frame.encode(f.opcode, f.payload, number=f.number) for f in frames)


def header(opcode: int, length: int, *, version: int = 1, flags: int = 0) -> bytes:
    return frame._HEADER.pack(version, opcode, flags, 7, length)


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 500), max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_chunking_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    data = wire(frames)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = FrameDecoder()
    heard: list[Frame] = []
    for start, end in itertools.pairwise(edges):
        heard += decoder.feed(data[start:end])
        largest = max((len(f.payload) for f in frames), default=0) + HEADER_BYTES
        assert decoder.pending_bytes <= largest
    assert heard == frames
    assert decoder.pending_bytes == 0


@given(frames=FRAMES)
@settings(max_examples=50, deadline=None)
def test_frames_split_at_every_byte_are_heard_at_their_last(frames: list[Frame]) -> None:
    decoder, heard = FrameDecoder(), []
    for byte in wire(frames):
        missing = decoder.missing_bytes
        found = list(decoder.feed(bytes([byte])))
        assert not found or missing == 1
        heard += found
    assert heard == frames


@given(frames=FRAMES, cut=st.integers(1, 500))
@settings(max_examples=100, deadline=None)
def test_a_cut_stream_gives_its_whole_frames_and_no_other(frames: list[Frame], cut: int) -> None:
    data = wire(frames)[:-cut]
    heard = list(FrameDecoder().feed(data))
    assert heard == frames[: len(heard)]
    assert len(wire(heard)) <= len(data)
    assert len(heard) < len(frames) or not frames


@given(data=st.binary(max_size=300), chunk=st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_frames_or_a_protocol_error(data: bytes, chunk: int) -> None:
    decoder = FrameDecoder()
    with contextlib.suppress(ProtocolError):
        for start in range(0, len(data), chunk):
            list(decoder.feed(data[start : start + chunk]))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_byte_never_raises_anything_else(data: st.DataObject) -> None:
    frames = data.draw(FRAMES.filter(bool))
    raw = bytearray(wire(frames))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolError):
        list(FrameDecoder(frame.TO_SENTINEL).feed(bytes(raw)))


BAD = {
    "another version": (header(1, 0, version=2), "protocol.version"),
    "version zero": (header(1, 0, version=0), "protocol.version"),
    "an unknown opcode": (header(7, 0), "protocol.opcode"),
    "an opcode of the other channel": (header(Opcode.CONTROL_REQUEST, 0), "protocol.opcode"),
    "an opcode of the other direction": (header(Opcode.DISPATCH, 0), "protocol.opcode"),
    "an opcode of the bridge": (header(Opcode.BRIDGE_BATCH, 0), "protocol.opcode"),
    "flags": (header(Opcode.HEARTBEAT, 0, flags=1), "protocol.flags"),
    "a length above the cap": (header(Opcode.HEARTBEAT, 1001), "protocol.oversized"),
    "a length above every cap": (
        header(Opcode.HEARTBEAT, PAYLOAD_BYTES_MAX + 1),
        "protocol.oversized",
    ),
    "the longest length": (header(Opcode.HEARTBEAT, 2**32 - 1), "protocol.oversized"),
    "text": (b"GET / HTTP/1.0\r\n\r\n", "protocol.version"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_header_is_refused_before_its_payload_and_for_good(what: str) -> None:
    raw, code = BAD[what]
    decoder = FrameDecoder(frame.TO_SENTINEL, payload_bytes_max=1000)
    assert list(decoder.feed(raw[: HEADER_BYTES - 1])) == []
    for data in (raw[HEADER_BYTES - 1 :], b"", frame.encode(Opcode.HEARTBEAT, b"good")):
        with pytest.raises(ProtocolError) as caught:
            list(decoder.feed(data))
        assert caught.value.code == code
        assert decoder.pending_bytes == 0


def test_frames_before_a_bad_header_are_heard() -> None:
    stream = FrameDecoder().feed(frame.encode(Opcode.ERR, b"x") + b"\xff" * 16)
    assert next(stream).payload == b"x"
    with pytest.raises(ProtocolError):
        next(stream)


def test_both_versions_are_named() -> None:
    with pytest.raises(ProtocolError, match="version 9, this is 1"):
        list(FrameDecoder().feed(header(1, 0, version=9)))


def test_a_claimed_length_allocates_nothing() -> None:
    decoder = FrameDecoder()
    tracemalloc.start()
    list(decoder.feed(header(Opcode.CONCLUDE, PAYLOAD_BYTES_MAX)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024
    assert decoder.missing_bytes == PAYLOAD_BYTES_MAX


def test_a_payload_over_the_cap_cannot_be_said() -> None:
    for say in (
        lambda: frame.encode(Opcode.CONCLUDE, bytes(PAYLOAD_BYTES_MAX + 1)),
        lambda: frame.encode_header(Opcode.CONCLUDE, PAYLOAD_BYTES_MAX + 1),
    ):
        with pytest.raises(ProtocolError) as caught:
            say()
        assert caught.value.code == "protocol.oversized"
