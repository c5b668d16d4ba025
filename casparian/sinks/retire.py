"""Which files a retirement touches: pure arithmetic over (job, source) pairs.

The unit of life is the pair, never the file. A Parquet file leaves the disk only when all of its
pairs are retired; until then views leave its retired rows out. A CSV file that keeps some pairs is
rewritten without the others.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from casparian.domain.outputs import SinkKind

Pair = tuple[int, str]  # job_id, source_id


class OutputFile(msgspec.Struct, frozen=True, kw_only=True):
    """A committed file and the pairs whose rows it holds."""

    path: str
    kind: SinkKind
    pairs: frozenset[Pair]


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    """A CSV file to write again without some pairs."""

    path: str
    drop: frozenset[Pair]


class RetirePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the files. A file in neither list stays as it is."""

    delete: tuple[str, ...] = ()
    rewrite: tuple[Rewrite, ...] = ()


def plan(files: Iterable[OutputFile], retired: Iterable[Pair]) -> RetirePlan:
    """Decide for each file, given *all* pairs that are retired (not only the newest ones)."""
    gone = frozenset(retired)
    delete: list[str] = []
    rewrite: list[Rewrite] = []
    for file in files:
        dropped = file.pairs & gone
        if not dropped:
            continue
        if dropped == file.pairs:
            delete.append(file.path)
        elif file.kind is SinkKind.CSV:
            rewrite.append(Rewrite(path=file.path, drop=dropped))
    return RetirePlan(delete=tuple(delete), rewrite=tuple(rewrite))
