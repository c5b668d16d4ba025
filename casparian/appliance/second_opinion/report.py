"""What a second opinion says: by reader, by source, and in total."""

from __future__ import annotations

from functools import reduce

import msgspec

from casparian.appliance.second_opinion.compare import Counts, Disagreement


class SourceOpinion(msgspec.Struct, frozen=True, kw_only=True):
    """One source read by one other reader.

    `kinds` has the counts of each kind of thing (`events`; `keys`, `values`). `problems` are what that reader could not read.
    """

    path: str
    root: str
    source_hash: str
    sha256: str
    kinds: dict[str, Counts]
    disagreements: dict[str, tuple[Disagreement, ...]]
    problems: int = 0
    first_problems: tuple[str, ...] = ()

    @property
    def lacking(self) -> int:
        """What the other reader has and we have nowhere."""
        return sum(counts.lacking for counts in self.kinds.values())

    @property
    def agrees(self) -> bool:
        """Whether nothing is different or only on one side, recovered things apart."""
        return not any(c.differing or c.only_ours or c.only_theirs for c in self.kinds.values())


class NotCompared(msgspec.Struct, frozen=True, kw_only=True):
    """A source of which there is no second opinion, and why: the evidence is gone, or the reader failed on it."""

    path: str
    code: str
    message: str


class ReaderOpinion(msgspec.Struct, frozen=True, kw_only=True):
    """All that one other reader said."""

    reader: str  # name and version
    note: str
    sources: tuple[SourceOpinion, ...]
    not_compared: tuple[NotCompared, ...]

    @property
    def totals(self) -> dict[str, Counts]:
        """Sums over the sources, by kind."""
        kinds = sorted({kind for source in self.sources for kind in source.kinds})
        return {
            kind: reduce(Counts.__add__, (s.kinds[kind] for s in self.sources if kind in s.kinds))
            for kind in kinds
        }

    @property
    def lacking(self) -> int:
        """What this reader has and we have nowhere."""
        return sum(source.lacking for source in self.sources)


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A reader that is not installed here."""

    reader: str
    module: str
    distribution: str


class SecondOpinion(msgspec.Struct, frozen=True, kw_only=True):
    """What all readers said."""

    readers: tuple[ReaderOpinion, ...]
    missing: tuple[Missing, ...]

    @property
    def lacking(self) -> int:
        """What any of them has and we have nowhere."""
        return sum(reader.lacking for reader in self.readers)

    @property
    def agrees(self) -> bool:
        """Whether everything that was compared agrees."""
        return all(source.agrees for reader in self.readers for source in reader.sources)

    def to_builtins(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {
            "agrees": self.agrees,
            "lacking": self.lacking,
            "readers": [
                {
                    "reader": reader.reader,
                    "note": reader.note,
                    "totals": msgspec.to_builtins(reader.totals),
                    "sources": [
                        {**msgspec.to_builtins(source), "agrees": source.agrees}
                        for source in reader.sources
                    ],
                    "not_compared": msgspec.to_builtins(reader.not_compared),
                }
                for reader in self.readers
            ],
            "missing": msgspec.to_builtins(self.missing),
        }
