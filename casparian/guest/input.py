"""What a guest was given to read: a source, its companions, and the descriptors that came with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from casparian.protocol.guest import GuestSource


class Input(NamedTuple):
    """One source with its open descriptors, which whoever received them closes."""

    source: GuestSource
    descriptor: int
    companions: tuple[int, ...] = ()  # in the order of `source.companions`

    @classmethod
    def of(cls, source: GuestSource, descriptors: Sequence[int]) -> Input:
        """Put message and descriptors together.

        Raises:
            RuntimeError: there are more or fewer than the message names.
        """
        expected = 1 + len(source.companions)
        if len(descriptors) != expected:
            raise RuntimeError(f"expected {expected} descriptors, got {len(descriptors)}")
        return cls(source, descriptors[0], tuple(descriptors[1:]))

    @property
    def logs(self) -> list[tuple[str, int, int]]:
        """Companions as (role, descriptor, size in bytes), as the native module takes them."""
        return [
            (companion.role, descriptor, companion.size_bytes)
            for companion, descriptor in zip(self.source.companions, self.companions, strict=True)
        ]
