"""How entries of the tape hang together: each hash covers the one before it.

Pure: the sentinel stores entries in the same transaction as the change they describe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from casparian.protocol.identity import canonical, derive

GENESIS: Final = "0" * 64


class TapeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One link."""

    seq: int
    prev_hash: str
    hash: str
    entry: str  # canonical JSON


def link(seq: int, prev_hash: str, at_ns: int, kind: str, fields: dict[str, Any]) -> TapeEntry:
    """Make the entry that follows `prev_hash`."""
    text = canonical({"at_ns": at_ns, "kind": kind, **fields}).decode()
    return TapeEntry(
        seq=seq,
        prev_hash=prev_hash,
        hash=derive("casparian.tape.v1", str(seq), prev_hash, text),
        entry=text,
    )


def first_break(entries: Iterable[TapeEntry]) -> int | None:
    """Sequence number of the first entry that does not follow from the one before, or `None` when all do."""
    previous = GENESIS
    expected_seq = 1
    for entry in entries:
        recomputed = derive("casparian.tape.v1", str(entry.seq), entry.prev_hash, entry.entry)
        if entry.seq != expected_seq or entry.prev_hash != previous or entry.hash != recomputed:
            return entry.seq
        previous = entry.hash
        expected_seq += 1
    return None
