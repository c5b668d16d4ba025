"""What `make appliance-test` says: a line for each thing that held, and figures for the page."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured thing."""

    name: str
    value: str


class Log:
    """Lines as things hold; figures as they are measured."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.held = 0

    def title(self, text: str) -> None:
        """Begin a part."""
        self._write(f"\n== {text}")

    def note(self, text: str) -> None:
        """Say something that is no check."""
        self._write(f"  {text}")

    def figure(self, name: str, value: str) -> None:
        """Keep a figure, and show it."""
        self.figures.append(Figure(name, value))
        self._write(f"  · {name}: {value}")

    @contextlib.contextmanager
    def check(self, what: str) -> Iterator[None]:
        """`what` holds when the block ends without an exception; its time is shown."""
        started = time.monotonic()
        try:
            yield
        except BaseException as error:
            self._write(f"✗ {what}: {error}")
            raise
        self.held += 1
        self._write(f"✓ {what}  ({time.monotonic() - started:.1f} s)")

    def _write(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
