"""Make a source's rows again: the same parser, settings and contracts, in a worker of its own.

The worker is the one that jobs run in, with the same confinement; its files go to a directory below
`HOME/run` and are removed afterwards. Nothing is recorded and no sink is touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from casparian import clock
from casparian.appliance import worker_once
from casparian.config import load
from casparian.contracts.wide import wide_numbers
from casparian.display import show
from casparian.domain.contracts import OutputContract
from casparian.domain.isolation import IsolationLevel
from casparian.domain.limits import with_raised_text
from casparian.domain.lineage import LINEAGE_VERSION
from casparian.domain.outputs import Sink, SinkKind
from casparian.domain.parsers import ConfigValue, Limits, ParserArtifact
from casparian.domain.trust import TrustRecord
from casparian.paths import Home
from casparian.protocol.identity import contract_hash
from casparian.protocol.worker import (
    Dispatch,
    OutputTask,
    Receipt,
    SourceTask,
    SparsePlace,
    SparseTask,
    parser_task,
)
from casparian.query import scratch
from casparian.query.values import json_rows
from casparian.sinks.uri import default_settings


class Rederived:
    """The rows of one source, made again. A context manager: leaving it removes the files.

    Args:
        home: whose worker runs, and where the files lie meanwhile.
        source: the evidence as it is now, hash and size included.
        parser: the artifact to run; the caller has verified it.
        trust: what the caller found about it; the worker verifies it itself when it is not given.
        config: the parser's effective settings.
        outputs: the contract of every output, in the parser's own order; sparse ones may stand among them.
        job_id: put into the rows.
        raised: what the job's receipt says of raised limits; it gets as much again.
        min_isolation: of the guest; the home's setting when it is not given.

    Raises:
        CasparianError: `rederive.failed`: the worker could not run, or the source failed in it.
    """

    def __init__(
        self,
        home: Home,
        *,
        source: SourceTask,
        parser: ParserArtifact,
        config: Mapping[str, ConfigValue],
        outputs: Sequence[OutputContract],
        job_id: int,
        raised: str = "",
        min_isolation: IsolationLevel | None = None,
        trust: TrustRecord | None = None,
    ) -> None:
        if min_isolation is None:
            min_isolation = IsolationLevel(load(home).settings.min_isolation)
        self._directory = scratch.make(home, "rederive")
        try:
            limits = with_raised_text(parser.manifest.limits, raised)
            dispatch = _dispatch(
                str(self._directory),
                source,
                parser,
                dict(config),
                outputs,
                job_id,
                limits,
                min_isolation,
                trust,
            )
            self.receipt = _run(home, dispatch)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the files."""
        scratch.remove(self._directory)

    def row(self, table: str, column: str, value: int) -> dict[str, Any] | None:
        """The row of a table whose `_cf_ordinal` or `_cf_offset` has a value, as JSON values."""
        for file in self.receipt.files:
            if file.table != table:
                continue
            found: pa.Table = pq.read_table(file.path, filters=[(column, "=", value)])
            for batch in found.to_batches():
                for row in json_rows(batch):
                    return dict(zip(found.column_names, row, strict=True))
        return None


def _dispatch(
    directory: str,
    source: SourceTask,
    parser: ParserArtifact,
    config: dict[str, ConfigValue],
    outputs: Sequence[OutputContract],
    job_id: int,
    limits: Limits,
    min_isolation: IsolationLevel,
    trust: TrustRecord | None,
) -> Dispatch:
    manifest = parser.manifest
    has_sparse = bool(wide_numbers(manifest.kind, manifest.entry, config))
    sparse = {output.table for output in outputs} if has_sparse else set()
    sparse -= {output.table for output in parser.contract.outputs}
    sink = Sink(
        kind=SinkKind.PARQUET, location=directory, settings=default_settings(SinkKind.PARQUET)
    )
    return Dispatch(
        epoch=1,
        job_id=job_id,
        home_id="rederive",
        parser=msgspec.structs.replace(parser_task(parser, config, trust), limits=limits),
        sources=(source,),
        outputs=tuple(
            OutputTask(
                contract=output,
                contract_hash=contract_hash(output),
                sink=sink,
                stage=os.path.join(directory, "stage"),
            )
            for output in outputs
            if output.table not in sparse
        ),
        quarantine=sink,
        quarantine_stage=os.path.join(directory, "quarantine"),
        processed_at_ns=clock.now_ns(),
        lineage_version=LINEAGE_VERSION,
        min_isolation=min_isolation,
        sparse=SparseTask(
            place=SparsePlace(sink=sink, stage=os.path.join(directory, "stage")),
            tightened={output.table: output for output in outputs if output.table in sparse},
        )
        if has_sparse
        else None,
    )


def _run(home: Home, dispatch: Dispatch) -> Receipt:
    receipt = worker_once.run(home, dispatch)
    for source in receipt.sources:
        if source.code is not None:
            raise worker_once.failed(f"{source.code}: {show(source.message)}")
    return receipt
