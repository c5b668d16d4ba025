"""An independent reader of event logs, the `evtx` wheel, as the tests ask it.

It renders to XML; `facts` reads that XML back into names and texts. Known to differ from Casparian
and therefore levelled out by `as_wheel`: times have six digits, each item of an array has its own
element, empty text and null look the same.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import evtx

from casparian.demo.evtx_writer import ValueType
from casparian.demo.evtx_writer.values import ARRAY_BIT
from tests.factories.evtx_events import Expected
from tests.factories.rendering import render, same_text

NAMESPACE = "{http://schemas.microsoft.com/win/2004/08/events/event}"


@dataclass(frozen=True, slots=True)
class Facts:
    """One record as the wheel sees it. `payload` is (name, text) of each leaf, in order."""

    header_record_id: int
    event_record_id: str
    event_id: str
    provider: str
    payload: tuple[tuple[str | None, str], ...]


def texts(log: bytes, *, validate: bool = True) -> list[tuple[int, str]]:
    """Header record id and XML of each record."""
    parser = evtx.PyEvtxParser(io.BytesIO(log), 1, validate_checksums=validate)
    return [(record["event_record_id"], record["data"]) for record in parser.records() if record]


def readable_count(log: bytes) -> int:
    """How many records the wheel gives when told to go on after errors."""
    parser = evtx.PyEvtxParser(io.BytesIO(log), 1, skip_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(1 for _ in parser.records())


def facts(log: bytes, *, validate: bool = True) -> list[Facts]:
    """Every record; raises when the wheel cannot read one."""
    return [_facts(number, xml) for number, xml in texts(log, validate=validate)]


def agrees(fact: Facts, expected: Expected) -> bool:
    """Whether the wheel's payload is the one that went into the event, name by name."""
    leaves = as_wheel(expected)
    return len(leaves) == len(fact.payload) and all(
        name == found_name and _same(kind, found, text)
        for (name, kind, text), (found_name, found) in zip(leaves, fact.payload, strict=True)
    )


def as_wheel(expected: Expected) -> list[tuple[str | None, int, str]]:
    """Name, type and text of each leaf that the wheel should give for an event."""
    leaves: list[tuple[str | None, int, str]] = []
    for name, value in zip(expected.names, expected.values, strict=True):
        text = render(value.type_code, value.data)
        kind = value.type_code & ~ARRAY_BIT
        parts = text if isinstance(text, list) and text else [text if isinstance(text, str) else ""]
        if kind == ValueType.BOOL and not {"true", "false"}.issuperset(parts):
            # one odd item makes the wheel show a whole array of booleans as numbers
            parts = [{"true": "1", "false": "0"}.get(part, part) for part in parts]
        leaves += [(name, kind, _level(kind, part)) for part in parts]
    return leaves


def _same(kind: int, found: str, wanted: str) -> bool:
    if kind in {ValueType.REAL32, ValueType.REAL64} and wanted and found:
        return same_text(kind, found, wanted)
    return found == wanted


def _level(kind: int, text: str) -> str:
    if not text.strip("\n "):
        return ""
    match kind:
        case ValueType.FILETIME:
            return text[:-2] + "Z"
        case ValueType.SYSTEMTIME:
            return text[:-1] + "000Z"
        case _:
            return text


def _facts(number: int, xml: str) -> Facts:
    root = ET.fromstring(xml.encode())
    system, provider = root.find(f"{NAMESPACE}System"), root.find(f".//{NAMESPACE}Provider")
    assert system is not None
    assert provider is not None
    return Facts(
        header_record_id=number,
        event_record_id=system.findtext(f"{NAMESPACE}EventRecordID", ""),
        event_id=system.findtext(f"{NAMESPACE}EventID", ""),
        provider=provider.attrib["Name"],
        payload=tuple(leaf for child in root if child is not system for leaf in _leaves(child, ())),
    )


def _leaves(node: ET.Element, path: tuple[str, ...]) -> list[tuple[str | None, str]]:
    tag = node.tag.rpartition("}")[2]
    if len(node):
        inner = (*path, tag) if path or tag not in {"EventData", "UserData"} else path
        return [leaf for child in node for leaf in _leaves(child, inner)]
    text = node.text or ""
    text = "" if not text.strip("\n ") else text
    if tag == "Data":
        return [(node.attrib.get("Name"), text)]
    if tag in {"EventData", "UserData"}:
        return []
    return [("/".join((*path, tag)), text)]
