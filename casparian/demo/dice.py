"""Pseudo-random choices that are the same for a seed on every machine and Python version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

_T = TypeVar("_T")
_MASK: Final = (1 << 64) - 1


class Dice:
    """SplitMix64 (Steele, Lea, Flood 2014). For made-up data only: nothing here is secret."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def below(self, limit: int) -> int:
        """An integer from 0 to `limit` - 1; the bias of the remainder does not matter here."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
        return (mixed ^ mixed >> 31) % limit

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def choice(self, items: Sequence[_T]) -> _T:
        """One of `items`."""
        return items[self.below(len(items))]

    def chance(self, one_in: int) -> bool:
        """True once in `one_in` times."""
        return self.below(one_in) == 0

    def data(self, size: int) -> bytes:
        """`size` bytes."""
        return bytes(self.below(256) for _ in range(size))
