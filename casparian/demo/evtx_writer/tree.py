"""The shape of an event before it is bytes: elements, slots, templates and their instances.

These are descriptions only. `binxml` turns them into tokens; a description may be reused in any
number of records, chunks and logs.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from casparian.demo.evtx_writer.values import Value


@dataclass(frozen=True, slots=True)
class Text:
    """Literal characters. An empty one writes nothing that a reader could see."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that the instance's value `index` fills; only template definitions hold slots.

    `optional`: a null or empty value leaves out the attribute or element that holds the slot.
    """

    index: int
    type_code: int
    optional: bool = False


@dataclass(frozen=True, slots=True)
class CharacterReference:
    """`&#N;`, written as a token of its own."""

    code_point: int


@dataclass(frozen=True, slots=True)
class EntityReference:
    """`&name;` of one of XML's five entities: lt, gt, amp, quot, apos."""

    name: str


@dataclass(frozen=True, slots=True)
class CData:
    """A CDATA section."""

    text: str


@dataclass(frozen=True, slots=True)
class ProcessingInstruction:
    """`<?target data?>`: no data of the event, a reader passes over it."""

    target: str
    data: str


CharacterData: TypeAlias = Text | Slot | CharacterReference | EntityReference | CData


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute and what its value is made of."""

    name: str
    content: tuple[CharacterData, ...]


@dataclass(frozen=True, slots=True)
class Element:
    """An element; without children it is written as an empty one.

    `dependency` names the slot whose null value removes the whole element ([MS-EVEN6] 2.2.12
    DependencyID); it exists only inside template definitions.
    """

    name: str
    attributes: tuple[Attribute, ...] = ()
    children: tuple[Element | CharacterData | ProcessingInstruction, ...] = ()
    dependency: int | None = None


Node: TypeAlias = Element | CharacterData | ProcessingInstruction


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A definition that instances refer to.

    Compared by identity on purpose: two templates with one GUID and different trees may meet in a
    chunk, and a reader that caches by GUID alone mixes them up.
    """

    guid: uuid.UUID
    root: Element


@dataclass(frozen=True, slots=True)
class Instance:
    """A template with the values of its slots, in order."""

    template: Template
    values: tuple[Value | Fragment, ...]


@dataclass(frozen=True, slots=True)
class Fragment:
    """BinXML as a value (type 0x21): how Windows puts the payload into the `Event` around it."""

    body: Instance | Element


@dataclass(frozen=True, slots=True)
class Event:
    """One record.

    Attributes:
        record_id: the id in the record's header; the `EventRecordID` inside the body may differ,
            as it does in every exported log.
        written: FILETIME of the record's header, 100 ns ticks since 1601; 0 means unset.
        body: the instance of a template or, for a forwarded event, the element itself.
        padding: bytes between the end of the BinXML and the closing size. Windows pads to a
            multiple of 8 with whatever lay there; `None` pads with zeros.
    """

    record_id: int
    written: int
    body: Instance | Element
    padding: bytes | None = None


def element(name: str, /, *children: Node | str, **attributes: str | CharacterData) -> Element:
    """Shorthand: strings become literal text, keyword arguments become attributes."""
    return Element(
        name,
        tuple(Attribute(key, (_as_text(value),)) for key, value in attributes.items()),
        tuple(Text(child) if isinstance(child, str) else child for child in children),
    )


def slots_of(root: Element) -> Sequence[Slot]:
    """Every slot of a tree, in document order."""
    found: list[Slot] = []
    for attribute in root.attributes:
        found.extend(part for part in attribute.content if isinstance(part, Slot))
    for child in root.children:
        if isinstance(child, Element):
            found.extend(slots_of(child))
        elif isinstance(child, Slot):
            found.append(child)
    return found


def _as_text(value: str | CharacterData) -> CharacterData:
    return Text(value) if isinstance(value, str) else value
