"""Every message of the three protocols: what is said is what is heard, and no bytes do more than be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.domain.numbers import INTEGER_MAX
from casparian.errors import ProtocolError
from casparian.protocol import control, worker
from casparian.protocol.payload import decode
from tests.factories.messages import MESSAGES, values_of

BOMBS = {
    "no bytes": b"",
    "the code that MessagePack never uses": b"\xc1",
    "an array of four billion": b"\xdd\xff\xff\xff\xff",
    "a map of four billion": b"\xdf\xff\xff\xff\xff",
    "bytes of four billion": b"\xc6\xff\xff\xff\xff",
    "text of four billion": b"\xdb\xff\xff\xff\xff",
    "arrays a million deep": b"\x91" * 1_000_000,
    "maps a million deep": b"\x81\xa1x" * 1_000_000,
    "an unknown field a million deep": b"\x81\xa1x" + b"\x91" * 1_000_000,
    "a field that is not UTF-8": b"\x81\xa4type\xa5hel\xff\xfe",
    "a key that is not UTF-8": b"\x81\xa4\xff\xff\xff\xff\xc0",
    "an unknown tag": msgspec.msgpack.encode({"type": "become_root"}),
    "two messages": msgspec.msgpack.encode({"type": "hello"}) * 2,
}

DECODERS: dict[str, Callable[[bytes], Any]] = {
    kind.__name__: (lambda payload, kind=kind: worker.decode(payload, kind)) for kind in MESSAGES
} | {
    "any request": control.decode_request,
    "any reply": control.decode_reply,
    "any event": control.decode_event,
}


def heard(decoder: Callable[[bytes], Any], payload: bytes) -> None:
    """Either refused as malformed, or a value that can be said and heard again."""
    try:
        message = decoder(payload)
    except ProtocolError:
        return
    said = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.encode(decoder(said)) == said


def test_all_three_protocols_are_covered() -> None:
    names = {kind.__name__ for kind in MESSAGES}
    assert {
        "Run",
        "RunResult",
        "Progress",
        "Dispatch",
        "Conclude",
        "GuestJob",
        "SourceEnd",
    } <= names


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_message_is_heard_as_it_was_said(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(values_of(kind))
    payload = msgspec.msgpack.encode(message)
    assert worker.decode(payload, kind) == message
    for union, decoder in (
        (control.Request, control.decode_request),
        (control.Reply, control.decode_reply),
        (control.Event, control.decode_event),
    ):
        if isinstance(message, union):
            assert decoder(payload) == message


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_damaged_message_is_refused_or_another_message(
    kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    payload = bytearray(msgspec.msgpack.encode(data.draw(values_of(kind))))
    at = data.draw(st.integers(0, len(payload) - 1))
    if data.draw(st.booleans()):
        payload[at] = data.draw(st.integers(0, 255))
    else:
        del payload[at:]
    for decoder in (DECODERS[kind.__name__], *list(DECODERS.values())[-3:]):
        heard(decoder, bytes(payload))


@given(payload=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused_or_a_message(payload: bytes) -> None:
    for decoder in DECODERS.values():
        heard(decoder, payload)


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused(what: str) -> None:
    for decoder in DECODERS.values():
        heard(decoder, BOMBS[what])
    with pytest.raises(ProtocolError):
        control.decode_request(BOMBS[what])


@pytest.mark.parametrize("number", [INTEGER_MAX + 1, 2**64 - 1, -1])
def test_a_count_that_no_column_holds_is_refused(number: int) -> None:
    beat = {"epoch": 1, "job_id": 1, "progress": {"rows": number}}
    with pytest.raises(ProtocolError):
        worker.decode(msgspec.msgpack.encode(beat), worker.Heartbeat)


@pytest.mark.parametrize("number", [INTEGER_MAX + 1, 2**64 - 1])
def test_a_number_that_no_column_holds_is_refused_in_a_request(number: int) -> None:
    for request in (
        control.RetryJob(request_id="r", job_id=number),
        control.Read(view="jobs", filters={"job_id": number}),
        control.Run(request_id="r", evidence=b"/", parser_config={"p": {"n": number}}),
    ):
        with pytest.raises(ProtocolError, match="out of range"):
            control.decode_request(control.encode(request))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_float_that_is_no_number_is_refused_in_a_request(number: float) -> None:
    """A limit that is NaN is never crossed: the policy would be off, and nobody would know."""
    run = control.Run(request_id="r", evidence=b"/", quarantine_percent_max=number)
    with pytest.raises(ProtocolError, match="out of range"):
        control.decode_request(control.encode(run))


def test_memory_that_is_not_there_is_a_refusal() -> None:
    class Exhausted:
        def decode(self, _payload: bytes) -> None:
            raise MemoryError

    with pytest.raises(ProtocolError):
        decode(Exhausted(), b"", "message")
