"""The tape's links."""

from __future__ import annotations

import msgspec
import pytest

from casparian.tape.chain import GENESIS, TapeEntry, first_break, link


def _tape(length: int) -> list[TapeEntry]:
    entries: list[TapeEntry] = []
    previous = GENESIS
    for seq in range(1, length + 1):
        entry = link(seq, previous, seq * 1000, "test", {"n": seq})
        entries.append(entry)
        previous = entry.hash
    return entries


def test_an_unbroken_tape_has_no_break() -> None:
    assert first_break(_tape(10)) is None
    assert first_break([]) is None


@pytest.mark.parametrize(
    ("field", "value"), [("entry", "{}"), ("hash", "0" * 64), ("prev_hash", "1" * 64), ("seq", 99)]
)
def test_a_changed_entry_breaks_the_chain_where_it_stands(field: str, value: str | int) -> None:
    tape = _tape(10)
    tape[4] = msgspec.structs.replace(tape[4], **{field: value})
    assert first_break(tape) == tape[4].seq


def test_a_missing_entry_breaks_the_chain() -> None:
    tape = _tape(10)
    del tape[3]
    assert first_break(tape) == 5


def test_a_tape_whose_beginning_was_cut_off_is_broken() -> None:
    assert first_break(_tape(10)[2:]) == 3


def test_a_rewritten_entry_with_a_fitting_hash_still_breaks_the_next_one() -> None:
    tape = _tape(10)
    tape[4] = link(5, tape[3].hash, 1, "forged", {})
    assert first_break(tape) == 6
