"""BinXML tokens, written straight into the chunk that will hold them.

Offsets in BinXML count from the start of the chunk: a name or a template is defined where it is
first used, and later uses point back at that place. So the encoder owns the chunk's growing bytes
and both of its tables, and `mark` / `roll_back` undo a record that turned out not to fit.

Sources: [MS-EVEN6] 2.2.12 for the grammar; the libyal EVTX specification for the chunk's tables.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from casparian.demo.evtx_writer.tree import (
    Attribute,
    CData,
    CharacterData,
    CharacterReference,
    Element,
    EntityReference,
    Fragment,
    Instance,
    Node,
    ProcessingInstruction,
    Slot,
    Template,
    Text,
)
from casparian.demo.evtx_writer.values import VALUE_BYTES_MAX, ValueType, utf16

STRING_BUCKETS: Final = 64
TEMPLATE_BUCKETS: Final = 32
NO_DEPENDENCY: Final = 0xFFFF
_FRAGMENT_HEADER: Final = b"\x0f\x01\x01\x00"  # token, version 1.1, no flags
_MORE: Final = 0x40  # the token says that its list goes on


class Token:
    """Token bytes of [MS-EVEN6] 2.2.12."""

    END: Final = 0x00
    OPEN_START: Final = 0x01
    CLOSE_START: Final = 0x02
    CLOSE_EMPTY: Final = 0x03
    CLOSE_ELEMENT: Final = 0x04
    VALUE: Final = 0x05
    ATTRIBUTE: Final = 0x06
    CDATA: Final = 0x07
    CHARACTER_REFERENCE: Final = 0x08
    ENTITY_REFERENCE: Final = 0x09
    INSTRUCTION_TARGET: Final = 0x0A
    INSTRUCTION_DATA: Final = 0x0B
    TEMPLATE_INSTANCE: Final = 0x0C
    SUBSTITUTION: Final = 0x0D
    OPTIONAL_SUBSTITUTION: Final = 0x0E


@dataclass(frozen=True, slots=True)
class Mark:
    """A point that the encoder can return to."""

    length: int
    string_heads: tuple[int, ...]
    template_heads: tuple[int, ...]


def name_hash(text: str) -> int:
    """Hash stored beside a name: base 65599 over the UTF-16 units, its low 16 bits."""
    return _unit_hash(utf16(text)) & 0xFFFF


class Encoder:
    """Writes fragments into one chunk.

    Attributes:
        data: the chunk so far; its length is the offset of the next byte.
        string_heads: per bucket, the offset of the newest name, or 0.
        template_heads: per bucket, the offset of the newest definition, or 0.
    """

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self.string_heads = [0] * STRING_BUCKETS
        self.template_heads = [0] * TEMPLATE_BUCKETS
        self._names: dict[str, int] = {}
        self._templates: dict[Template, int] = {}

    def mark(self) -> Mark:
        """Remember where we are."""
        return Mark(len(self.data), tuple(self.string_heads), tuple(self.template_heads))

    def roll_back(self, mark: Mark) -> None:
        """Forget all that was written, named and defined since `mark`."""
        del self.data[mark.length :]
        self.string_heads[:] = mark.string_heads
        self.template_heads[:] = mark.template_heads
        self._names = {key: at for key, at in self._names.items() if at < mark.length}
        self._templates = {key: at for key, at in self._templates.items() if at < mark.length}

    def fragment(self, body: Instance | Element) -> None:
        """Write a whole fragment: header, instance or bare element, end token."""
        self.data += _FRAGMENT_HEADER
        match body:
            case Instance():
                self._instance(body)
            case Element():
                self._element(body, in_template=False)
        self.data.append(Token.END)

    def _instance(self, instance: Instance) -> None:
        template = instance.template
        self.data += struct.pack("<BB4s", Token.TEMPLATE_INSTANCE, 1, template.guid.bytes_le[:4])
        known = self._templates.get(template)
        self.data += struct.pack("<I", len(self.data) + 4 if known is None else known)
        if known is None:
            self._definition(template)
        self.data += struct.pack("<I", len(instance.values))
        descriptors = len(self.data)
        self.data += bytes(4 * len(instance.values))
        for index, value in enumerate(instance.values):
            start = len(self.data)
            if isinstance(value, Fragment):
                self.fragment(value.body)
                type_code: int = ValueType.BINXML
            else:
                self.data += value.data
                type_code = value.type_code
            size = len(self.data) - start
            if size > VALUE_BYTES_MAX:
                raise ValueError(f"a value holds at most {VALUE_BYTES_MAX} bytes, not {size}")
            struct.pack_into("<HBB", self.data, descriptors + 4 * index, size, type_code, 0)

    def _definition(self, template: Template) -> None:
        """Next in bucket, GUID, size of what follows, then a fragment with dependency ids."""
        at = len(self.data)
        self._templates[template] = at
        # Both tables hash by 16-bit units; for the GUID this is what most real logs show.
        bucket = _unit_hash(template.guid.bytes_le) % TEMPLATE_BUCKETS
        self.data += struct.pack("<I16sI", self.template_heads[bucket], template.guid.bytes_le, 0)
        self.template_heads[bucket] = at
        start = len(self.data)
        self.data += _FRAGMENT_HEADER
        self._element(template.root, in_template=True)
        self.data.append(Token.END)
        struct.pack_into("<I", self.data, start - 4, len(self.data) - start)

    def _element(self, element: Element, *, in_template: bool) -> None:
        more = _MORE if element.attributes else 0
        self.data.append(Token.OPEN_START | more)
        if in_template:
            dependency = NO_DEPENDENCY if element.dependency is None else element.dependency
            self.data += struct.pack("<H", dependency)
        elif element.dependency is not None:
            raise ValueError(f"<{element.name}> has a dependency outside a template")
        start = self._open_size()
        self._name(element.name)
        if element.attributes:
            attributes_start = self._open_size()
            for position, attribute in enumerate(element.attributes, start=1):
                self._attribute(attribute, last=position == len(element.attributes))
            self._close_size(attributes_start)
        if element.children:
            self.data.append(Token.CLOSE_START)
            self._children(element.children, in_template=in_template)
            self.data.append(Token.CLOSE_ELEMENT)
        else:
            self.data.append(Token.CLOSE_EMPTY)
        self._close_size(start)

    def _attribute(self, attribute: Attribute, *, last: bool) -> None:
        self.data.append(Token.ATTRIBUTE | (0 if last else _MORE))
        self._name(attribute.name)
        for position, part in enumerate(attribute.content, start=1):
            self._characters(part, more=position < len(attribute.content))

    def _children(self, children: tuple[Node, ...], *, in_template: bool) -> None:
        for position, child in enumerate(children, start=1):
            match child:
                case Element():
                    self._element(child, in_template=in_template)
                case ProcessingInstruction():
                    self.data.append(Token.INSTRUCTION_TARGET)
                    self._name(child.target)
                    self.data.append(Token.INSTRUCTION_DATA)
                    self._counted(child.data)
                case _:
                    after = children[position] if position < len(children) else None
                    more = after is not None and not isinstance(
                        after, Element | ProcessingInstruction
                    )
                    self._characters(child, more=more)

    def _characters(self, part: CharacterData, *, more: bool) -> None:
        bit = _MORE if more else 0
        match part:
            case Text(text):
                self.data += bytes((Token.VALUE | bit, ValueType.STRING))
                self._counted(text)
            case Slot(index, type_code, optional):
                token = Token.OPTIONAL_SUBSTITUTION if optional else Token.SUBSTITUTION
                self.data += struct.pack("<BHB", token, index, type_code)
            case CharacterReference(code_point):
                self.data += struct.pack("<BH", Token.CHARACTER_REFERENCE | bit, code_point)
            case EntityReference(name):
                self.data.append(Token.ENTITY_REFERENCE | bit)
                self._name(name)
            case CData(text):
                self.data.append(Token.CDATA | bit)
                self._counted(text)

    def _counted(self, text: str) -> None:
        units = utf16(text)
        self.data += struct.pack("<H", len(units) // 2) + units

    def _name(self, text: str) -> None:
        """Offset of a name and, at its first use in the chunk, the name itself."""
        known = self._names.get(text)
        if known is not None:
            self.data += struct.pack("<I", known)
            return
        at = len(self.data) + 4
        units, hashed = utf16(text), name_hash(text)
        bucket = hashed % STRING_BUCKETS
        self.data += struct.pack("<IIHH", at, self.string_heads[bucket], hashed, len(units) // 2)
        self.data += units + b"\0\0"
        self.string_heads[bucket] = at
        self._names[text] = at

    def _open_size(self) -> int:
        self.data += bytes(4)
        return len(self.data)

    def _close_size(self, start: int) -> None:
        struct.pack_into("<I", self.data, start - 4, len(self.data) - start)


def _unit_hash(units: bytes) -> int:
    value = 0
    for (unit,) in struct.iter_unpack("<H", units):
        value = (value * 65599 + unit) & 0xFFFFFFFF
    return value
