"""Try a parser without a sentinel, a worker or a guest: for its author's own tests.

Example:
    collected = collect(parse, b"some bytes", outputs=contract.outputs)
    assert collected.tables["my_events"].num_rows == 3
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack

import pyarrow as pa

from casparian.domain.contracts import OutputContract
from casparian.domain.parsers import ConfigValue
from casparian.protocol.arrow import bridge_schema
from casparian.sdk.run import Entry, run_parser
from casparian.sdk.source import Source


class Collected:
    """All that a parser gave for one source: bridge-shaped tables by name, and the quarantined rows."""

    def __init__(self, outputs: tuple[OutputContract, ...]) -> None:
        self._schemas = {output.table: bridge_schema(output) for output in outputs}
        self._batches: dict[str, list[pa.RecordBatch]] = {name: [] for name in self._schemas}
        self._rejected: list[pa.RecordBatch] = []

    def rows(self, table: str, batch: pa.RecordBatch) -> None:
        """Take rows of one output."""
        self._batches[table].append(batch)

    def rejected(self, table: str | None, batch: pa.RecordBatch) -> None:
        """Take quarantined rows."""
        del table
        self._rejected.append(batch)

    @property
    def tables(self) -> dict[str, pa.Table]:
        """Rows by table, with `@offset`, `@length`, `@flags` first."""
        return {
            name: pa.Table.from_batches(batches, self._schemas[name])
            for name, batches in self._batches.items()
        }

    @property
    def quarantine(self) -> pa.Table:
        """Quarantined rows: span, reason, field, message, raw."""
        return pa.Table.from_batches(self._rejected, bridge_schema(None))


def collect(
    entry: Entry,
    data: bytes,
    *,
    outputs: tuple[OutputContract, ...],
    config: Mapping[str, ConfigValue] | None = None,
    display_path: str = "sample",
    companions: Mapping[str, bytes] | None = None,
) -> Collected:
    """Run `parse` over bytes, with the bytes of companions by role, and keep everything it gives."""
    collected = Collected(outputs)
    with ExitStack() as files:

        def source(content: bytes, beside: Mapping[str, Source] | None = None) -> Source:
            file = files.enter_context(tempfile.TemporaryFile())
            file.write(content)
            file.flush()
            return Source(file.fileno(), len(content), beside)

        beside = {role: source(content) for role, content in (companions or {}).items()}
        run_parser(
            entry,
            source(data, beside),
            display_path=display_path,
            config=config or {},
            outputs=outputs,
            receiver=collected,
        )
    return collected
