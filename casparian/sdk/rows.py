"""Rows before they are Arrow: what a parser appends or yields, kept as plain Python until a batch is full.

A builder holds at most `rows_max` rows or `bytes_max` bytes of text before it seals a block.
Nothing is lost when the author forgets to yield a sealed block at once: `flush` gives all that is
left, and too many sealed blocks are an error, not a leak.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

ROWS_PER_BLOCK: Final = 8_192
BYTES_PER_BLOCK: Final = 4 * 1024 * 1024
_SEALED_BLOCKS_MAX: Final = 16

OFFSET: Final = "@offset"
LENGTH: Final = "@length"
FLAGS: Final = "@flags"


class OutputError(Exception):
    """The parser made an output that its contract does not have: a mistake of the parser, not of the evidence."""


class Row(NamedTuple):
    """One row and the span of evidence (bytes from the start, length in bytes) it was read from."""

    offset: int
    length: int
    values: Mapping[str, Any]
    flags: int = 0


class RowBlock:
    """Rows of one output, column-wise for the span and row-wise for the values."""

    __slots__ = ("flags", "lengths", "offsets", "values")

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.lengths: list[int] = []
        self.flags: list[int] = []
        self.values: list[Mapping[str, Any]] = []

    def __len__(self) -> int:
        return len(self.values)

    def append(self, offset: int, length: int, flags: int, values: Mapping[str, Any]) -> None:
        """Add one row; nothing is checked yet."""
        self.offsets.append(offset)
        self.lengths.append(length)
        self.flags.append(flags)
        self.values.append(values)


Emission = tuple[str, RowBlock]


class RowBuilder:
    """Collects rows of one output and hands them out in blocks.

    Args:
        output: table name, as the contract has it.
        rows_max: rows of one block.
        bytes_max: bytes of text and binary values of one block.
    """

    def __init__(
        self, output: str, *, rows_max: int = ROWS_PER_BLOCK, bytes_max: int = BYTES_PER_BLOCK
    ) -> None:
        self.output = output
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._block = RowBlock()
        self._bytes = 0
        self._sealed: list[RowBlock] = []

    def __len__(self) -> int:
        return len(self._block) + sum(map(len, self._sealed))

    def append(
        self, offset: int, length: int, flags: int = 0, /, **values: Any
    ) -> Iterable[Emission]:
        """Add one row; use as `yield from rows.append(…)`.

        Args:
            offset: where the row's bytes begin, from the start of the source.
            length: how many bytes the row was read from.
            flags: bits as in `casparian.sdk` (`LOSSY_TEXT`, …).
            values: by column; a column that is left out is null.

        Returns:
            The blocks that became full: usually none.
        """
        block = self._block
        block.offsets.append(offset)
        block.lengths.append(length)
        block.flags.append(flags)
        block.values.append(values)
        size = 0
        for value in values.values():
            kind = type(value)
            if kind is str or kind is bytes:
                size += len(value)
        self._bytes += size
        if len(block.values) < self._rows_max and self._bytes < self._bytes_max:
            return ()
        self._seal()
        return self._drain()

    def flush(self) -> Iterator[Emission]:
        """All rows that were not handed out yet; use as `yield from rows.flush()`."""
        if len(self._block):
            self._seal()
        return self._drain()

    def _seal(self) -> None:
        if len(self._sealed) >= _SEALED_BLOCKS_MAX:
            raise OutputError(
                f"{len(self)} rows of `{self.output}` were appended and never yielded: "
                "write `yield from rows.append(…)`"
            )
        self._sealed.append(self._block)
        self._block = RowBlock()
        self._bytes = 0

    def _drain(self) -> Iterator[Emission]:
        while self._sealed:
            yield self.output, self._sealed.pop(0)


def block_of(data: object) -> RowBlock:
    """Rows that were yielded as `Row`, dict, or a sequence of these.

    Raises:
        OutputError: something else, or a row without a span.
    """
    block = RowBlock()
    rows: Iterable[object] = (data,) if isinstance(data, Row | Mapping) else _sequence(data)
    for row in rows:
        if isinstance(row, Row):
            block.append(*_span(row.offset, row.length, row.flags), row.values)
        elif isinstance(row, Mapping):
            if OFFSET not in row or LENGTH not in row:
                raise OutputError(
                    f"a row has no `{OFFSET}` and `{LENGTH}`: every row names its bytes"
                )
            values = {
                key: value for key, value in row.items() if key not in (OFFSET, LENGTH, FLAGS)
            }
            block.append(*_span(row[OFFSET], row[LENGTH], row.get(FLAGS, 0)), values)
        else:
            raise OutputError(f"a row is a `{type(row).__name__}`, expected a Row or a dict")
    return block


def _sequence(data: object) -> Iterable[object]:
    if isinstance(data, list | tuple):
        return data
    raise OutputError(
        f"data of type `{type(data).__name__}`: expected rows, a pyarrow RecordBatch or a pyarrow Table"
    )


def _span(offset: object, length: object, flags: object) -> tuple[int, int, int]:
    if type(offset) is int and type(length) is int and type(flags) is int:
        return offset, length, flags
    raise OutputError(f"a row's span must be integers, not ({offset!r}, {length!r}, {flags!r})")
