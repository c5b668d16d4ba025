"""Hypothesis strategies: values of every type, payloads of every kind, events, logs, damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from casparian.demo import damage
from casparian.demo.evtx_writer import (
    BuiltLog,
    Event,
    EventLog,
    Instance,
    System,
    Value,
    ValueType,
    array,
    classic_data,
    event_data,
    forwarded_event,
    user_data,
    windows_event,
)
from casparian.demo.evtx_writer import values as make

EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
SYSTEMTIMES = st.datetimes(datetime(1601, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))
FILETIMES = st.integers(0, (datetime(9998, 12, 31, tzinfo=UTC) - EPOCH) // timedelta(seconds=1))
TICKS = st.builds(lambda seconds, part: seconds * 10_000_000 + part, FILETIMES,
                  st.integers(0, 9_999_999))  # fmt: skip
RECENT_TICKS = st.integers(125_000_000_000_000_000, 140_000_000_000_000_000)  # 1997 to 2044
GUIDS = st.uuids()
SIDS = st.builds(
    lambda authority, rest: "-".join(map(str, ("S", 1, authority, *rest))),
    st.integers(0, 2**32 - 1),  # [MS-DTYP] 2.4.2.1 writes greater ones in hexadecimal
    st.lists(st.integers(0, 2**32 - 1), max_size=15),
)
PLAIN_TEXT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"),
    max_size=40,
)
"""Any text that XML can hold."""

HOSTILE_TEXT = st.text(st.characters(blacklist_characters="\0"), max_size=40)
"""Any UTF-16, lone surrogates and control characters too; NUL would end it."""

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ", min_size=1, max_size=12)

_BITS = {
    ValueType.INT8: (-(2**7), 2**7 - 1), ValueType.UINT8: (0, 2**8 - 1),
    ValueType.INT16: (-(2**15), 2**15 - 1), ValueType.UINT16: (0, 2**16 - 1),
    ValueType.INT32: (-(2**31), 2**31 - 1), ValueType.UINT32: (0, 2**32 - 1),
    ValueType.INT64: (-(2**63), 2**63 - 1), ValueType.UINT64: (0, 2**64 - 1),
    ValueType.BOOL: (0, 2**31 - 1), ValueType.SIZE_T: (0, 2**64 - 1),
    ValueType.HEX_INT32: (0, 2**32 - 1), ValueType.HEX_INT64: (0, 2**64 - 1),
}  # fmt: skip
FLOATS = {ValueType.REAL32: st.floats(width=32), ValueType.REAL64: st.floats()}
CP1252 = st.text("abc é€ŸÀ~", max_size=12)


def items(kind: ValueType, text: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    """Plain items of a type, as `array` takes them."""
    if kind in _BITS:
        return st.integers(*_BITS[kind])
    if kind in FLOATS:
        return FLOATS[kind]
    return {
        ValueType.STRING: text,
        ValueType.ANSI_STRING: CP1252,
        ValueType.GUID: GUIDS,
        ValueType.FILETIME: TICKS,
        ValueType.SYSTEMTIME: SYSTEMTIMES,
        ValueType.SID: SIDS,
    }[kind]


ARRAY_TYPES = (
    *_BITS, *FLOATS, ValueType.STRING, ValueType.ANSI_STRING, ValueType.GUID,
    ValueType.FILETIME, ValueType.SYSTEMTIME, ValueType.SID,
)  # fmt: skip
WHEEL_ARRAY_TYPES = tuple(
    kind for kind in ARRAY_TYPES if kind not in {ValueType.ANSI_STRING, ValueType.SIZE_T}
)
"""The independent reader knows no array of these two."""


def scalars(text: st.SearchStrategy[str] = HOSTILE_TEXT) -> st.SearchStrategy[Value]:
    """One value of any scalar type whose rendering is laid down."""
    numbers = [
        st.builds(make.number, st.just(kind), items(kind, text))
        for kind in (*_BITS, *FLOATS)
    ]  # fmt: skip
    return st.one_of(
        *numbers,
        st.builds(make.null, st.binary(max_size=9)),
        st.builds(make.string, text, terminated=st.booleans()),
        st.builds(make.ansi, CP1252, terminated=st.booleans()),
        st.builds(make.binary, st.binary(max_size=40)),
        st.builds(make.guid, GUIDS),
        st.builds(make.size_t, st.integers(0, 2**32 - 1), width_bytes=st.sampled_from((4, 8))),
        st.builds(make.filetime, TICKS),
        st.builds(make.systemtime, SYSTEMTIMES),
        st.builds(make.sid, SIDS),
    )


def arrays(
    text: st.SearchStrategy[str] = HOSTILE_TEXT, kinds: tuple[ValueType, ...] = ARRAY_TYPES
) -> st.SearchStrategy[Value]:
    """One array of any type, empty ones too."""
    return st.sampled_from(kinds).flatmap(
        lambda kind: st.builds(array, st.just(kind), st.lists(items(kind, text), max_size=5))
    )


def systems() -> st.SearchStrategy[System]:
    """A `System` part; what is optional is sometimes absent."""
    return st.builds(
        System,
        provider=NAMES.map("Provider-".__add__),
        provider_guid=st.none() | GUIDS,
        event_source_name=st.none() | NAMES,
        event_id=st.integers(0, 65535),
        qualifiers=st.none() | st.integers(0, 65535),
        version=st.integers(0, 255),
        level=st.integers(0, 255),
        task=st.integers(0, 65535),
        opcode=st.integers(0, 255),
        keywords=st.integers(0, 2**64 - 1),
        time_created=RECENT_TICKS,
        event_record_id=st.integers(0, 2**64 - 1),
        activity_id=st.none() | GUIDS,
        related_activity_id=st.none() | GUIDS,
        process_id=st.integers(0, 2**32 - 1),
        thread_id=st.integers(0, 2**32 - 1),
        channel=st.sampled_from(("Security", "System", "Kanal/Größe \U0001f4d3")),
        computer=st.sampled_from(("ws.example.org", "ws-ü")),
        user_sid=st.none() | SIDS,
    )


@dataclass(frozen=True, slots=True)
class Expected:
    """What a correct reader makes of an event: `System`, and the payload's values in order."""

    event: Event = field(repr=False)
    system: System
    kind: str | None
    names: tuple[str | None, ...]
    values: tuple[Value, ...]


def _text_value(text: str) -> Value:
    return make.string(text)


def expected_events(
    text: st.SearchStrategy[str] = HOSTILE_TEXT,
    array_kinds: tuple[ValueType, ...] = ARRAY_TYPES,
) -> st.SearchStrategy[Expected]:
    """An event of any shape that Windows writes, with what it says."""
    scalar = scalars(text)
    value = scalar | scalar | arrays(text, array_kinds)
    fields = st.lists(st.tuples(st.none() | NAMES, value), min_size=1, max_size=8)
    rows = st.lists(st.tuples(NAMES, scalar), min_size=1, max_size=5)
    strings = st.lists(text, min_size=2, max_size=4)
    literals = st.lists(st.tuples(st.none() | NAMES, text.filter(bool)), max_size=6)
    payloads: st.SearchStrategy[_Payload] = st.one_of(
        st.just(_Payload(None, None, (), ())),
        st.builds(_event_data, fields),
        st.builds(_user_data, NAMES, rows),
        st.builds(_classic_data, strings, st.binary(min_size=1, max_size=30)),
        st.builds(_forwarded, literals),
    )
    return st.builds(
        _expected,
        systems(),
        payloads,
        st.none() | st.integers(1, 2**63),
        st.just(0) | RECENT_TICKS,
    )


@dataclass(frozen=True, slots=True)
class _Payload:
    """A payload and what it says; a list of texts stands for a forwarded event."""

    body: Instance | list[tuple[str | None, str]] | None
    kind: str | None
    names: tuple[str | None, ...]
    values: tuple[Value, ...]


def _event_data(fields: list[tuple[str | None, Value]]) -> _Payload:
    names, values = zip(*fields, strict=True)
    return _Payload(event_data(*fields), "EventData", names, values)


def _user_data(wrapper: str, rows: list[tuple[str, Value]]) -> _Payload:
    names = tuple(f"{wrapper}/{name}" for name, _ in rows)
    body = user_data(wrapper, *rows, namespace="urn:example")
    return _Payload(body, "UserData", names, tuple(value for _, value in rows))


def _classic_data(strings: list[str], data: bytes) -> _Payload:
    values = (array(ValueType.STRING, strings), make.binary(data))
    return _Payload(classic_data(strings, data), "EventData", (None, "Binary"), values)


def _forwarded(texts: list[tuple[str | None, str]]) -> _Payload:
    values = tuple(make.string(text) for _, text in texts)
    return _Payload(texts, "EventData", tuple(name for name, _ in texts), values)


def _expected(system: System, payload: _Payload, record_id: int | None, written: int) -> Expected:
    body = payload.body
    if isinstance(body, list):
        event = forwarded_event(system, body, record_id=record_id, written=written)
    else:
        event = windows_event(system, body, record_id=record_id, written=written)
    return Expected(event, system, payload.kind, payload.names, payload.values)


class Sample:
    """A log and what each of its records says; shown in short when a test fails."""

    def __init__(self, expected: list[Expected], records_per_chunk: int) -> None:
        self.expected = expected
        self.records_per_chunk = records_per_chunk
        log = EventLog(tuple(item.event for item in expected))
        self.built: BuiltLog = log.build(records_per_chunk=records_per_chunk)

    def __repr__(self) -> str:
        payloads = "; ".join(
            f"{item.kind} {list(zip(item.names, item.values, strict=True))}"
            for item in self.expected
        )
        return f"<{self.records_per_chunk} records a chunk: {payloads}>"


def logs(
    events: st.SearchStrategy[Expected], *, max_size: int = 12, unique_ids: bool = False
) -> st.SearchStrategy[Sample]:
    """Logs of up to `max_size` records, a few to a chunk so that chunks are many.

    `unique_ids` keeps ids of headers apart: the wheel ends a chunk at the first record that has the
    id which the chunk's header gives for its last.
    """
    key = (lambda item: item.event.record_id) if unique_ids else None
    lists = st.lists(events, min_size=1, max_size=max_size, unique_by=key)
    return st.tuples(lists, st.integers(1, 5)).map(lambda parts: Sample(*parts))


def damaged(log: bytes) -> st.SearchStrategy[bytes]:
    """The log after one to three of the accidents in `casparian.demo.damage`."""
    chunk = st.integers(0, max(damage.chunk_count(log) - 1, 0))
    steps: st.SearchStrategy[Callable[[bytes], bytes]] = st.one_of(
        st.just(damage.flip_file_header_checksum),
        st.just(damage.break_file_magic),
        _step(damage.flip_chunk_header_checksum, chunk),
        _step(damage.flip_chunk_data_checksum, chunk),
        _step(damage.flip_both_chunk_checksums, chunk),
        _step(damage.break_chunk_magic, chunk),
        _step(damage.zero_sectors, chunk, st.integers(0, 12), count=st.integers(1, 3),
              reseal=st.booleans()),
        _step(damage.duplicate_chunk, chunk, before=st.none() | chunk),
        _step(damage.break_record_size, chunk, st.just(0), size=st.sampled_from((0, 27, 2**32 - 1)),
              reseal=st.booleans()),
        st.just(damage.insert_blank_chunk),
        st.integers(1, 65535).map(_cut),
    )  # fmt: skip

    def apply(functions: list[Callable[[bytes], bytes]]) -> bytes:
        broken = log
        for function in functions:
            try:
                broken = function(broken)
            except IndexError:  # an earlier accident took the record that this one wants
                continue
        return broken

    return st.lists(steps, min_size=1, max_size=3).map(apply)


def _cut(keep: int) -> Callable[[bytes], bytes]:
    return lambda log: damage.cut(log, keep_bytes_of_last_chunk=keep)


def _step(
    function: Callable[..., bytes],
    *arguments: st.SearchStrategy[object],
    **named: st.SearchStrategy[object],
) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    return st.builds(
        lambda places, names: lambda log: function(log, *places, **names),
        st.tuples(*arguments),
        st.fixed_dictionaries(named),
    )
