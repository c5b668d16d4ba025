"""What was checked, in order, with a mark and a reason: the same for a screen, for JSON and for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from casparian.errors import CasparianError


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a checklist."""

    check: str
    passed: bool
    message: str
    code: str | None = None
    hint: str | None = None


class Checklist:
    """Items as they are found.

    Args:
        tell: called with each of them at once.
    """

    def __init__(self, tell: Callable[[Item], None] = lambda _item: None) -> None:
        self.items: list[Item] = []
        self._tell = tell

    @contextmanager
    def step(self, check: str) -> Iterator[Callable[[str], None]]:
        """One check: what it says at its end; an error is its failure, and goes on to the caller."""
        said = [""]

        def say(message: str) -> None:
            said[0] = message

        try:
            yield say
        except CasparianError as error:
            self.failed(check, error)
            raise
        self.add(Item(check=check, passed=True, message=said[0]))

    def passed(self, check: str, message: str) -> None:
        """A check that held."""
        self.add(Item(check=check, passed=True, message=message))

    def failed(self, check: str, error: CasparianError) -> None:
        """A check that did not hold."""
        self.add(
            Item(check=check, passed=False, message=error.message, code=error.code, hint=error.hint)
        )

    def add(self, item: Item) -> None:
        """Keep an item and tell it."""
        self.items.append(item)
        self._tell(item)

    @property
    def good(self) -> bool:
        """Whether nothing failed."""
        return all(item.passed for item in self.items)

    def document(self) -> list[dict[str, Any]]:
        """The items as plain values."""
        return [msgspec.to_builtins(item) for item in self.items]
