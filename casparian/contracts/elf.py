"""What a parser's program must be: one static ELF file, which needs no other file to begin.

A guest can open nothing, so a dynamic loader would find no library. The check is for the author, who learns at once what
is wrong; no wall stands on it. Layout: System V ABI, chapter 4 and 5; machine numbers as in its processor supplements.
"""

from __future__ import annotations

import platform
import struct
from typing import Final

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_IDENT: Final = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_EXECUTABLE: Final = (2, 3)  # ET_EXEC; ET_DYN, when it is position-independent
_LOAD: Final = 1  # PT_LOAD
_INTERP: Final = 3  # PT_INTERP: names the dynamic loader
_MACHINES: Final = {"x86_64": 62, "aarch64": 183}
_SEGMENTS_MAX: Final = 64


def problem_of(program: bytes) -> str:
    """Why these bytes are no program that a guest could become, as the rest of a sentence; empty when they are."""
    if len(program) < _HEADER.size or not program.startswith(_IDENT):
        return "is not a 64-bit ELF file"
    _, kind, machine, _, _, table, _, _, _, size, count, *_ = _HEADER.unpack_from(program)
    if kind not in _EXECUTABLE or machine not in _MACHINES.values():
        return "is not an executable for x86_64 or aarch64"
    end = table + size * count
    if size != _SEGMENT.size or not 1 <= count <= _SEGMENTS_MAX or end > len(program):
        return "has a damaged program header"
    kinds = [_SEGMENT.unpack_from(program, table + size * number)[0] for number in range(count)]
    if _LOAD not in kinds:
        return "has nothing to load"
    if _INTERP in kinds:
        return "is linked dynamically; link it statically, since a guest can open no library"
    return ""


def is_for_this_machine(program: bytes) -> bool:
    """Whether the processor is the right one; for bytes without a problem."""
    machine: int = _HEADER.unpack_from(program)[2]
    return machine == _MACHINES.get(platform.machine())
