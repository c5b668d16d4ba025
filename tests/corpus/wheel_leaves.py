"""Events as the `evtx` wheel renders them, as a flat list of names and texts.

The wheel gives indented XML. Read back here without loss: carriage returns survive, and characters that XML
cannot hold are moved out of the way, on both sides of a comparison (`portable`).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import evtx

_MOVED = {
    code: 0xE000 + code for code in (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0xFFFE, 0xFFFF)
}
_MOVED[0xFFFE], _MOVED[0xFFFF] = 0xF0FE, 0xF0FF
_SECTIONS = ("EventData", "UserData")


@dataclass(frozen=True, slots=True)
class WheelRecord:
    """One record.

    Attributes:
        header_record_id: from the record's header.
        written: the header's time, as the wheel prints it.
        system: text of each value below `System`, by path: `EventID`, `Execution/@ProcessID`.
        payload: (name, text) of each value in order, named as the `data_names` column does it.
    """

    header_record_id: int
    written: str
    system: dict[str, str]
    payload: list[tuple[str | None, str]]


def portable(text: str) -> str:
    """Text with the characters that XML cannot hold moved into the private use area."""
    return text.translate(_MOVED)


def records(log: bytes) -> Iterator[WheelRecord]:
    """Every record that the wheel can read; it goes on behind those that it cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(evtx.PyEvtxParser(io.BytesIO(log), 1, skip_errors=True).records())
    for record in found:
        if not isinstance(record, dict):
            continue
        system, payload = leaves(portable(record["data"]).replace("\r", "&#13;"))
        yield WheelRecord(record["event_record_id"], record["timestamp"], system, payload)


def leaves(text: str) -> tuple[dict[str, str], list[tuple[str | None, str]]]:
    """Values of `System` by path, and (name, text) of each other value, of one event as XML."""
    system: dict[str, str] = {}
    payload: list[tuple[str | None, str]] = []
    for child in ET.fromstring(text.encode()):
        tag = _tag(child)
        if tag == "System":
            system.update(
                (name, value)
                for part in child
                for name, value in _leaves(part, (), named=False)
                if name
            )
        else:
            path = () if tag in _SECTIONS else (tag,)
            payload += _section(child, path)
    return system, payload


def _section(node: ET.Element, path: tuple[str, ...]) -> Iterator[tuple[str | None, str]]:
    """Values below `EventData`, `UserData` or a section of another name."""
    for name, value in node.attrib.items():
        yield "/".join((*path, f"@{_local(name)}")), value
    for child in node:
        yield from _leaves(child, path, named=True)
    if not len(node) and _text(node):
        yield "/".join(path) or None, _text(node)


def _leaves(
    node: ET.Element, path: tuple[str, ...], *, named: bool
) -> Iterator[tuple[str | None, str]]:
    """Attributes of an element, then its text or its children."""
    tag = _tag(node)
    here = (*path, tag)
    is_data = named and tag == "Data" and not path
    for name, value in node.attrib.items():
        if not (is_data and name == "Name"):
            yield "/".join((*here, f"@{_local(name)}")), value
    for child in node:
        yield from _leaves(child, here, named=named)
    if not len(node) and (is_data or _text(node) or not node.attrib):
        yield node.attrib.get("Name") if is_data else "/".join(here), _text(node)


def _text(node: ET.Element) -> str:
    """An element without content is printed with a line break and the indentation of its end tag."""
    text = node.text or ""
    return "" if text.startswith("\n") and not text.strip("\n ") else text


def _tag(node: ET.Element) -> str:
    return _local(node.tag)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
