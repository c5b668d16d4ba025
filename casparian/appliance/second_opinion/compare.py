"""Compare what two readers found in one source: as multisets, because damaged evidence holds the same thing twice.

An item has an identity (an event's number, a key's path) and details (its time, its type). Pairs are taken in this order,
and each item is in one pair at most:
  1. equal identity and details: both found it.
  2. equal identity, and details that are equal where both know them: both found it.
  3. what they still have and we set aside (quarantined): read by them, kept by us with its reason.
  4. what they still have and we recovered from outside the live part: found by both, judged otherwise.
  5. equal identity, other details: they differ.
What is left is only ours or only theirs. What they say they recovered is compared with what is left of ours, apart from the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

EXAMPLES_MAX: Final = 100  # disagreements that a report lists for one source


class Item(NamedTuple):
    """One thing that a reader found; `None` in the details is unknown."""

    identity: tuple[Hashable, ...]
    details: tuple[Any, ...]


class Ours(msgspec.Struct, frozen=True, kw_only=True):
    """What we have of a source. `aside` are identities of quarantined units, as far as their bytes say one."""

    live: tuple[Item, ...] = ()
    extra: tuple[Item, ...] = ()  # recovered, slack, carved
    aside: tuple[tuple[Hashable, ...], ...] = ()
    by_logs: frozenset[tuple[Hashable, ...]] = frozenset()  # what transaction logs changed


class Theirs(msgspec.Struct, frozen=True, kw_only=True):
    """What the other reader gave."""

    live: tuple[Item, ...] = ()
    recovered: tuple[Item, ...] = ()


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """One item on which the two do not agree."""

    what: str  # `only_ours`, `only_theirs`, `differing`
    identity: tuple[Any, ...]
    ours: tuple[Any, ...] | None = None
    theirs: tuple[Any, ...] | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Two sums that hold.

    `theirs = both + differing + only_theirs + set_aside + as_recovered + by_logs_theirs`
    `ours = both + differing + only_ours + their_recovered + by_logs_ours`
    """

    ours: int = 0  # live rows
    theirs: int = 0
    both: int = 0
    differing: int = 0
    only_ours: int = 0
    only_theirs: int = 0
    set_aside: int = 0  # they read it; we quarantined it
    as_recovered: int = 0  # they read it in its place; we recovered it from elsewhere
    their_recovered: int = 0  # we read it in its place; they recovered it from elsewhere
    by_logs_ours: int = 0  # ours, but from a transaction log that they do not read
    by_logs_theirs: int = 0  # theirs, but a transaction log takes it away
    recovered_ours: int = 0
    recovered_theirs: int = 0
    recovered_both: int = 0
    recovered_set_aside: int = 0  # they recovered it; we quarantined it
    recovered_only_theirs: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Sum, field by field."""
        names = self.__struct_fields__
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def lacking(self) -> int:
        """What the other reader has and we have nowhere."""
        return self.only_theirs


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, and the first disagreements of each kind."""

    counts: Counts
    disagreements: tuple[Disagreement, ...]


def compare(ours: Ours, theirs: Theirs) -> Comparison:
    """Pair everything that can be paired, and count."""
    mine, yours = Counter(ours.live), Counter(theirs.live)
    extra, recovered = Counter(ours.extra), Counter(theirs.recovered)
    both = _take(mine, yours) + _take_compatible(mine, yours)
    aside = Counter(ours.aside)
    set_aside = _take_aside(aside, yours)
    as_recovered = _take(extra, yours) + _take_compatible(extra, yours)
    recovered_both = _take(extra, recovered) + _take_compatible(extra, recovered)
    their_recovered = _take(mine, recovered) + _take_compatible(mine, recovered)
    recovered_set_aside = _take_aside(aside, recovered)
    by_logs_ours = _drop(mine, ours.by_logs)
    by_logs_theirs = _drop(yours, ours.by_logs)
    differing = _differing(mine, yours)
    found = [
        *differing,
        *(
            Disagreement(what="only_theirs", identity=i.identity, theirs=i.details)
            for i in _each(yours)
        ),
        *(Disagreement(what="only_ours", identity=i.identity, ours=i.details) for i in _each(mine)),
    ]
    listed: dict[str, list[Disagreement]] = defaultdict(list)
    for one in found:
        if len(listed[one.what]) < EXAMPLES_MAX:
            listed[one.what].append(one)
    counts = Counts(
        ours=len(ours.live),
        theirs=len(theirs.live),
        both=both,
        differing=len(differing),
        only_ours=mine.total(),
        only_theirs=yours.total(),
        set_aside=set_aside,
        as_recovered=as_recovered,
        their_recovered=their_recovered,
        by_logs_ours=by_logs_ours,
        by_logs_theirs=by_logs_theirs,
        recovered_ours=len(ours.extra),
        recovered_theirs=len(theirs.recovered),
        recovered_both=recovered_both,
        recovered_set_aside=recovered_set_aside,
        recovered_only_theirs=recovered.total(),
    )
    order = ("only_theirs", "differing", "only_ours")
    return Comparison(counts=counts, disagreements=tuple(d for what in order for d in listed[what]))


def _take(mine: Counter[Item], yours: Counter[Item]) -> int:
    """Remove equal items from both; how many pairs."""
    pairs = mine & yours
    mine -= pairs
    yours -= pairs
    return pairs.total()


def _take_compatible(mine: Counter[Item], yours: Counter[Item]) -> int:
    """Remove pairs of equal identity whose details are equal where both know them."""
    return sum(1 for _ in _pairs(mine, yours, _compatible))


def _differing(mine: Counter[Item], yours: Counter[Item]) -> list[Disagreement]:
    return [
        Disagreement(what="differing", identity=a.identity, ours=a.details, theirs=b.details)
        for a, b in _pairs(mine, yours, lambda _a, _b: True)
    ]


def _pairs(
    mine: Counter[Item], yours: Counter[Item], fits: Callable[[Item, Item], bool]
) -> Iterable[tuple[Item, Item]]:
    """Take pairs of equal identity out of both, as long as one fits."""
    by_identity: dict[tuple[Hashable, ...], list[Item]] = defaultdict(list)
    for item in _each(mine):
        by_identity[item.identity].append(item)
    for other in list(_each(yours)):
        candidates = by_identity.get(other.identity, [])
        for item in candidates:
            if fits(item, other):
                candidates.remove(item)
                _remove(mine, item)
                _remove(yours, other)
                yield item, other
                break


def _compatible(one: Item, other: Item) -> bool:
    pairs = zip(one.details, other.details, strict=True)
    return all(a is None or b is None or a == b for a, b in pairs)


def _take_aside(aside: Counter[tuple[Hashable, ...]], yours: Counter[Item]) -> int:
    taken = 0
    for item in list(_each(yours)):
        if aside[item.identity]:
            aside[item.identity] -= 1
            _remove(yours, item)
            taken += 1
    return taken


def _drop(items: Counter[Item], identities: frozenset[tuple[Hashable, ...]]) -> int:
    gone = [item for item in _each(items) if item.identity in identities]
    for item in gone:
        _remove(items, item)
    return len(gone)


def _remove(items: Counter[Item], item: Item) -> None:
    items[item] -= 1
    if not items[item]:
        del items[item]


def _each(items: Counter[Item]) -> Iterable[Item]:
    """Every item as often as it is there, in a stable order."""
    return sorted(items.elements(), key=lambda item: (repr(item.identity), repr(item.details)))
