"""Events shaped as Windows shapes them.

A manifest provider's record is an instance of an outer `Event` template whose last value is BinXML
(type 0x21) holding the instance of the payload's own template. A forwarded event has no template:
all of it is literal text, with the rendered message behind it. A classic provider stores its
strings as one array. Slots and dependency ids are laid out as in real logs.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, wraps
from typing import Final, ParamSpec, TypeAlias, cast

from casparian.demo.evtx_writer.tree import (
    Attribute,
    Element,
    Event,
    Fragment,
    Instance,
    Node,
    Slot,
    Template,
    Text,
    element,
)
from casparian.demo.evtx_writer.values import (
    FILETIME_EPOCH,
    Value,
    ValueType,
    array,
    binary,
    filetime,
    guid,
    hex64,
    null,
    sid,
    uint8,
    uint16,
    uint32,
    uint64,
)

EVENT_NAMESPACE: Final = "http://schemas.microsoft.com/win/2004/08/events/event"
KEYWORDS_CLASSIC: Final = 0x0080000000000000
KEYWORDS_AUDIT_SUCCESS: Final = 0x8020000000000000
KEYWORDS_AUDIT_FAILURE: Final = 0x8010000000000000
_GUIDS: Final = uuid.UUID("6b1f2b0e-5f0c-4a55-9a0e-3f6f0a2f7d10")  # made up; roots our own GUIDs
_MEMORY_TEMPLATES_MAX: Final = 4096

_P = ParamSpec("_P")

Field: TypeAlias = tuple[str | None, Value]
"""One `<Data>`: its `Name`, or none, and its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The `System` part of an event. `time_created` is a FILETIME, in 100 ns ticks since 1601."""

    provider: str
    provider_guid: uuid.UUID | None = None
    event_source_name: str | None = None
    event_id: int
    qualifiers: int | None = None
    version: int = 0
    level: int = 4
    task: int = 0
    opcode: int = 0
    keywords: int = 0x8000000000000000
    time_created: int
    event_record_id: int
    activity_id: uuid.UUID | None = None
    related_activity_id: uuid.UUID | None = None
    process_id: int = 4
    thread_id: int = 8
    channel: str
    computer: str
    user_sid: str | None = None


def _made_once(make: Callable[_P, Template]) -> Callable[_P, Template]:
    """Remember the templates. One thread at a time: two that made the same one would hold two, and identity is what counts."""
    remembered = cast("Callable[_P, Template]", lru_cache(maxsize=_MEMORY_TEMPLATES_MAX)(make))
    making = threading.Lock()

    @wraps(make)
    def made(*args: _P.args, **kwargs: _P.kwargs) -> Template:
        with making:
            return remembered(*args, **kwargs)

    return made


def made_up_guid(*parts: object) -> uuid.UUID:
    """A GUID that depends on nothing but `parts`."""
    return uuid.uuid5(_GUIDS, "\0".join(map(str, parts)))


def windows_event(
    system: System,
    payload: Instance | Element | None = None,
    *,
    record_id: int | None = None,
    written: int | None = None,
) -> Event:
    """A record as a manifest provider writes it.

    Args:
        system: the `System` part.
        payload: what `event_data`, `user_data` or another function below made; `None` leaves the
            payload's slot null, so that the event has none.
        record_id: the header's id, when it differs from `EventRecordID`.
        written: the header's FILETIME, when it differs from `TimeCreated`; 0 means unset.
    """
    template = _outer_template(
        system.provider,
        system.provider_guid,
        system.event_source_name,
        system.channel,
        system.computer,
    )
    values: tuple[Value | Fragment, ...] = (
        uint8(system.level),
        uint8(system.opcode),
        uint16(system.task),
        uint16(system.event_id),
        null() if system.qualifiers is None else uint16(system.qualifiers),
        hex64(system.keywords),
        filetime(system.time_created),
        null() if system.activity_id is None else guid(system.activity_id),
        uint32(system.process_id),
        uint32(system.thread_id),
        uint64(system.event_record_id),
        uint8(system.version),
        null() if system.user_sid is None else sid(system.user_sid),
        null() if system.related_activity_id is None else guid(system.related_activity_id),
        null() if payload is None else Fragment(payload),
    )
    return Event(
        record_id=system.event_record_id if record_id is None else record_id,
        written=system.time_created if written is None else written,
        body=Instance(template, values),
    )


def event_data(*fields: Field) -> Instance:
    """`EventData` of a manifest provider; an unnamed field is a bare `<Data>`."""
    return _instance("EventData", fields, ("Data",) * len(fields))


def user_data(wrapper: str, *fields: tuple[str, Value], namespace: str = "") -> Instance:
    """`UserData`: one wrapping element, with its own namespace, and a child element per field."""
    template = _user_data_template(
        wrapper, namespace, tuple((name, value.type_code) for name, value in fields)
    )
    return Instance(template, tuple(value for _, value in fields))


def classic_data(strings: Iterable[str], data: bytes | None = None) -> Instance:
    """`EventData` of a classic provider: an array of strings in one `<Data>`, and a `<Binary>`."""
    values = (array(ValueType.STRING, strings), null() if data is None else binary(data))
    return Instance(_CLASSIC, values)


def processing_error(error_code: int, item: str, payload: bytes) -> Element:
    """`ProcessingErrorData`: written when a provider's data does not fit its manifest."""
    return element(
        "ProcessingErrorData",
        element("ErrorCode", str(error_code)),
        element("DataItemName", item),
        element("EventPayload", payload.hex().upper()),
    )


def forwarded_event(
    system: System,
    fields: Sequence[tuple[str | None, str]],
    *,
    message: str | None = None,
    record_id: int | None = None,
    written: int | None = None,
) -> Event:
    """A record as a collector writes it: no template, all text, `RenderingInfo` when rendered."""
    parts: list[Node] = [
        _literal_system(system),
        element(
            "EventData",
            *(
                element("Data", *_texts(text))
                if name is None
                else element("Data", *_texts(text), Name=name)
                for name, text in fields
            ),
        ),
    ]
    if message is not None:
        parts.append(
            element(
                "RenderingInfo",
                element("Message", *_texts(message)),
                element("Level", "Information"),
                element("Channel", system.channel),
                Culture="en-US",
            )
        )
    return Event(
        record_id=system.event_record_id if record_id is None else record_id,
        written=system.time_created if written is None else written,
        body=element("Event", *parts, xmlns=EVENT_NAMESPACE),
    )


def iso_filetime(ticks: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS.fffffff00Z` of a FILETIME up to the year 9999, in nine digits."""
    seconds, fraction = divmod(ticks, 10_000_000)
    moment = FILETIME_EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:07}00Z"


@_made_once
def _outer_template(
    provider: str,
    provider_guid: uuid.UUID | None,
    event_source_name: str | None,
    channel: str,
    computer: str,
) -> Template:
    """`Event` with provider, channel and computer as text and everything else as slots."""
    source = {"Name": provider}
    if provider_guid is not None:
        source["Guid"] = f"{{{str(provider_guid).upper()}}}"
    if event_source_name is not None:
        source["EventSourceName"] = event_source_name
    system = element(
        "System",
        element("Provider", **source),
        Element(
            "EventID",
            (Attribute("Qualifiers", (Slot(4, ValueType.UINT16, optional=True),)),),
            (Slot(3, ValueType.UINT16, optional=True),),
            dependency=3,
        ),
        _slot_element("Version", 11, ValueType.UINT8),
        _slot_element("Level", 0, ValueType.UINT8),
        _slot_element("Task", 2, ValueType.UINT16),
        _slot_element("Opcode", 1, ValueType.UINT8),
        _slot_element("Keywords", 5, ValueType.HEX_INT64),
        element("TimeCreated", SystemTime=Slot(6, ValueType.FILETIME, optional=True)),
        _slot_element("EventRecordID", 10, ValueType.UINT64),
        element(
            "Correlation",
            ActivityID=Slot(7, ValueType.GUID, optional=True),
            RelatedActivityID=Slot(13, ValueType.GUID, optional=True),
        ),
        element(
            "Execution",
            ProcessID=Slot(8, ValueType.UINT32, optional=True),
            ThreadID=Slot(9, ValueType.UINT32, optional=True),
        ),
        element("Channel", channel),
        element("Computer", computer),
        element("Security", UserID=Slot(12, ValueType.SID, optional=True)),
    )
    payload = Slot(14, ValueType.BINXML, optional=True)
    key = ("outer", provider, provider_guid, event_source_name, channel, computer)
    return Template(made_up_guid(*key), element("Event", system, payload, xmlns=EVENT_NAMESPACE))


def _slot_element(name: str, index: int, kind: ValueType) -> Element:
    return Element(name, (), (Slot(index, kind, optional=True),), dependency=index)


def _instance(kind: str, fields: Sequence[Field], tags: tuple[str, ...]) -> Instance:
    shape = tuple((name, value.type_code or ValueType.STRING) for name, value in fields)
    return Instance(_data_template(kind, tags, shape), tuple(value for _, value in fields))


@_made_once
def _data_template(
    kind: str, tags: tuple[str, ...], shape: tuple[tuple[str | None, int], ...]
) -> Template:
    rows = [
        Element(
            tag,
            () if name is None else (Attribute("Name", (Text(name),)),),
            (Slot(index, type_code),),
        )
        for index, (tag, (name, type_code)) in enumerate(zip(tags, shape, strict=True))
    ]
    return Template(made_up_guid(kind, tags, shape), element(kind, *rows))


@_made_once
def _user_data_template(
    wrapper: str, namespace: str, shape: tuple[tuple[str, int], ...]
) -> Template:
    rows = [
        element(name, Slot(index, type_code or ValueType.STRING))
        for index, (name, type_code) in enumerate(shape)
    ]
    inner = element(wrapper, *rows, **({"xmlns": namespace} if namespace else {}))
    return Template(made_up_guid("UserData", wrapper, namespace, shape), element("UserData", inner))


_CLASSIC: Final = Template(
    made_up_guid("classic"),
    element(
        "EventData",
        Element("Data", (), (Slot(0, 0x80 | ValueType.STRING, optional=True),), dependency=0),
        Element("Binary", (), (Slot(1, ValueType.BINARY, optional=True),), dependency=1),
    ),
)


def _literal_system(system: System) -> Element:
    """`System` with nothing but text, braces around GUIDs, as collectors write it."""
    source = {"Name": system.provider}
    if system.provider_guid is not None:
        source["Guid"] = _braced(system.provider_guid)
    if system.event_source_name is not None:
        source["EventSourceName"] = system.event_source_name
    qualifiers = {} if system.qualifiers is None else {"Qualifiers": str(system.qualifiers)}
    correlation = {
        name: _braced(value)
        for name, value in (
            ("ActivityID", system.activity_id),
            ("RelatedActivityID", system.related_activity_id),
        )
        if value is not None
    }
    security = {} if system.user_sid is None else {"UserID": system.user_sid}
    return element(
        "System",
        element("Provider", **source),
        element("EventID", str(system.event_id), **qualifiers),
        element("Version", str(system.version)),
        element("Level", str(system.level)),
        element("Task", str(system.task)),
        element("Opcode", str(system.opcode)),
        element("Keywords", f"0x{system.keywords:x}"),
        element("TimeCreated", SystemTime=iso_filetime(system.time_created)),
        element("EventRecordID", str(system.event_record_id)),
        element("Correlation", **correlation),
        element("Execution", ProcessID=str(system.process_id), ThreadID=str(system.thread_id)),
        element("Channel", system.channel),
        element("Computer", system.computer),
        element("Security", **security),
    )


def _texts(text: str) -> tuple[str, ...]:
    """No token at all for an empty text: Windows writes an empty element then."""
    return (text,) if text else ()


def _braced(item: uuid.UUID) -> str:
    return f"{{{str(item).upper()}}}"
