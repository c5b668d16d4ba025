"""What a parser's program must be, from its first bytes."""

from __future__ import annotations

import platform
import struct

from hypothesis import given
from hypothesis import strategies as st

from casparian.contracts import elf

LOAD, INTERP = 1, 3
X86_64, AARCH64, I386 = 62, 183, 3


def program(*segments: int, machine: int = X86_64, kind: int = 3) -> bytes:
    """An ELF file with these segments."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, kind, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
    )
    return header + b"".join(struct.pack("<IIQQQQQQ", one, 5, 0, 0, 0, 0, 0, 0) for one in segments)


def test_a_static_program_is_one() -> None:
    assert elf.problem_of(program(LOAD)) == ""
    assert elf.problem_of(program(LOAD, kind=2)) == ""


def test_everything_else_is_named() -> None:
    assert "dynamically" in elf.problem_of(program(LOAD, INTERP))
    assert "nothing to load" in elf.problem_of(program(5))
    assert "x86_64 or aarch64" in elf.problem_of(program(LOAD, machine=I386))
    assert "x86_64 or aarch64" in elf.problem_of(program(LOAD, kind=1))  # an object file
    assert "damaged" in elf.problem_of(program(LOAD)[:-1])
    assert "damaged" in elf.problem_of(program())
    assert "64-bit" in elf.problem_of(b"#!/bin/sh\nexit 0\n" * 8)
    assert "64-bit" in elf.problem_of(b"")


def test_the_processor_is_this_ones_or_not() -> None:
    machines = {"x86_64": X86_64, "aarch64": AARCH64}
    for name, machine in machines.items():
        fits = elf.is_for_this_machine(program(LOAD, machine=machine))
        assert fits == (platform.machine() == name)


@given(st.binary(max_size=300), st.integers(0, 63), st.integers(0, 255))
def test_any_bytes_have_an_answer(tail: bytes, place: int, value: int) -> None:
    assert elf.problem_of(tail)
    changed = bytearray(program(LOAD) + tail)
    changed[place] = value
    assert isinstance(elf.problem_of(bytes(changed)), str)
