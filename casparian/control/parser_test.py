"""Try a parser on files with no sentinel: same worker, same confined guest, twice, no commit.

Both passes must give the same rows: a parser that reads a clock or an unordered set would make rows
that nobody can prove. What is staged lies in a directory of its own that is removed at the end.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

import blake3
import msgspec

from casparian import clock, ids, processes
from casparian.contracts.settings import effective_config
from casparian.display import path_text
from casparian.domain.lineage import LINEAGE_VERSION
from casparian.domain.outputs import Sink, SinkKind
from casparian.domain.parsers import ConfigValue, ParserArtifact
from casparian.errors import CasparianError, ExitCode, SourceFault, UsageError
from casparian.paths import Home
from casparian.protocol import identity, worker
from casparian.sinks.staging import stage_directory
from casparian.sinks.uri import default_settings

_READ_BYTES: Final = 1 << 20
_STDERR_CHARACTERS: Final = 4_000
_SAMPLES: Final = "samples"
_SPAN: Final = ("_cf_offset", "_cf_length", "_cf_flags")  # the only lineage that a test shows


class ParserTestError(CasparianError):
    """A parser gave other rows the second time, or could not be run at all."""

    code = "parser.test"
    exit_code = ExitCode.FAILED


class TableRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one table, and the first of them as values."""

    table: str
    rows: int
    sample: tuple[dict[str, Any], ...]


class SourceOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file."""

    path: str
    code: str | None
    message: str
    rows: dict[str, int]
    quarantined: int
    ledger: dict[str, Any] | None


class TestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What two passes of a parser over the same files gave."""

    parser: str
    artifact_hash: str
    sources: tuple[SourceOutcome, ...]
    tables: tuple[TableRows, ...]
    quarantine: tuple[dict[str, Any], ...]
    deterministic: bool
    different_tables: tuple[str, ...]
    log: str
    isolation: dict[str, str]

    @property
    def passed(self) -> bool:
        """No file failed, every ledger balances, and the second pass gave the same."""
        return self.deterministic and all(
            source.code is None and (source.ledger is None or source.ledger["balanced"])
            for source in self.sources
        )


def sample_files(artifact: ParserArtifact) -> list[str]:
    """The files below a parser's own `samples` folder."""
    return [
        os.path.join(artifact.directory, path)
        for path in artifact.files
        if path.startswith(f"{_SAMPLES}/")
    ]


def run_test(
    artifact: ParserArtifact,
    files: Sequence[str],
    settings: Mapping[str, ConfigValue],
    *,
    rows_shown: int = 5,
) -> TestReport:
    """Run a parser over files twice and compare.

    Raises:
        UsageError: no files, or a setting that the parser does not have.
        SourceFault: a file cannot be read.
        ParserTestError: the worker could not run it.
    """
    if not files:
        raise UsageError(
            f"the parser `{artifact.manifest.name}` has no samples",
            code="parser.no_samples",
            hint="name files to try it on: `casparian parser test PARSER FILE…`",
        )
    config = effective_config(artifact.manifest, settings)
    sources = tuple(_source(index, path) for index, path in enumerate(files))
    with tempfile.TemporaryDirectory(prefix="casparian-parser-test-") as folder:
        home = Home.at(os.path.join(folder, "home"))
        os.makedirs(home.run)
        dispatch = _dispatch(artifact, config, sources, os.path.join(folder, "first"))
        again = _dispatch(artifact, config, sources, os.path.join(folder, "second"), like=dispatch)
        receipt = _execute(home, dispatch)
        second = _execute(home, again)
        different = _different_tables(receipt, second)
        return TestReport(
            parser=artifact.label,
            artifact_hash=artifact.artifact_hash,
            sources=tuple(_outcome(dispatch, source) for source in receipt.sources),
            tables=tuple(
                TableRows(
                    table=table,
                    rows=_rows(receipt, table),
                    sample=_sample(receipt, table, rows_shown),
                )
                for table in (output.table for output in artifact.contract.outputs)
            ),
            quarantine=_sample(receipt, "quarantine", rows_shown),
            deterministic=not different,
            different_tables=different,
            log=receipt.guest_log,
            isolation=receipt.isolation,
        )


def _source(index: int, path: str) -> worker.SourceTask:
    """Hash one file, by both hashes, as discovery would."""
    raw = os.path.abspath(os.fsencode(path))
    first, second, size = blake3.blake3(), hashlib.sha256(), 0
    try:
        with open(raw, "rb") as file:
            while data := file.read(_READ_BYTES):
                first.update(data)
                second.update(data)
                size += len(data)
    except OSError as error:
        raise SourceFault(
            f"`{path_text(raw)}` cannot be read: {error.strerror}", path=path_text(raw)
        ) from error
    source_hash = first.hexdigest()
    return worker.SourceTask(
        index=index,
        source_id=identity.source_id(source_hash),
        source_hash=source_hash,
        sha256=second.hexdigest(),
        size_bytes=size,
        path=raw,
        display_path=path_text(os.path.basename(raw)),
    )


def _dispatch(
    artifact: ParserArtifact,
    config: Mapping[str, ConfigValue],
    sources: tuple[worker.SourceTask, ...],
    folder: str,
    *,
    like: worker.Dispatch | None = None,
) -> worker.Dispatch:
    """One pass; the second one has the first one's job and time, so that its rows can be equal."""
    job_id = ids.new_job_id() if like is None else like.job_id
    home_id = ids.new_home_id() if like is None else like.home_id
    sink = Sink(kind=SinkKind.PARQUET, location=folder, settings=default_settings(SinkKind.PARQUET))
    stage = stage_directory(sink, home_id, job_id, 1)
    return worker.Dispatch(
        epoch=1,
        job_id=job_id,
        home_id=home_id,
        parser=worker.parser_task(artifact, config),
        sources=sources,
        outputs=tuple(
            worker.OutputTask(
                contract=output,
                contract_hash=identity.contract_hash(output),
                sink=sink,
                stage=stage,
            )
            for output in artifact.contract.outputs
        ),
        quarantine=sink,
        quarantine_stage=stage,
        processed_at_ns=clock.now_ns() if like is None else like.processed_at_ns,
        lineage_version=LINEAGE_VERSION,
    )


def _execute(home: Home, dispatch: worker.Dispatch) -> worker.Receipt:
    done = subprocess.run(
        processes.command("worker", home, "--once"),
        input=worker.encode(dispatch),
        capture_output=True,
        check=False,
        env=processes.host_environment(),
    )
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode("utf-8", "backslashreplace").strip()[-_STDERR_CHARACTERS:]
        raise ParserTestError(
            f"the worker ended with code {done.returncode}" + (f":\n{said}" if said else ""),
            hint="`casparian doctor` checks whether guests start on this machine",
        )
    receipt = worker.decode(done.stdout, worker.Conclude).receipt
    if receipt.code is not None and not receipt.sources:
        raise ParserTestError(receipt.message or receipt.code, code=receipt.code)
    return receipt


def _outcome(dispatch: worker.Dispatch, source: worker.SourceReceipt) -> SourceOutcome:
    task = dispatch.sources[source.index]
    ledger: dict[str, Any] | None = None
    if source.ledger is not None:
        ledger = msgspec.to_builtins(source.ledger)
    return SourceOutcome(
        path=task.display_path,
        code=source.code,
        message=source.message,
        rows=source.rows,
        quarantined=source.quarantined,
        ledger=ledger,
    )


def _different_tables(first: worker.Receipt, second: worker.Receipt) -> tuple[str, ...]:
    """Tables whose rows differ between two passes; equal files need not be read."""
    tables = sorted({file.table for file in (*first.files, *second.files)})
    return tuple(
        table
        for table in tables
        if [f.blake3 for f in first.files if f.table == table]
        != [f.blake3 for f in second.files if f.table == table]
        and not _same_rows(first, second, table)
    )


def _same_rows(first: worker.Receipt, second: worker.Receipt, table: str) -> bool:
    """Whether two passes gave equal rows in files that are laid out differently."""
    one, other = _read(first, table), _read(second, table)
    if one is None or other is None:
        return one is other
    return bool(one.equals(other))


def _read(receipt: worker.Receipt, table: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [pq.read_table(file.path) for file in receipt.files if file.table == table]
    return pa.concat_tables(parts).combine_chunks() if parts else None


def _rows(receipt: worker.Receipt, table: str) -> int:
    return sum(source.rows.get(table, 0) for source in receipt.sources if source.code is None)


def _sample(receipt: worker.Receipt, table: str, rows: int) -> tuple[dict[str, Any], ...]:
    """The first rows of a table as JSON values, without the lineage columns."""
    from casparian.query.values import json_rows

    found = _read(receipt, table)
    if found is None:
        return ()
    own = [name for name in found.column_names if not name.startswith("_cf_") or name in _SPAN]
    batches = found.select(own).slice(0, rows).to_batches()
    return tuple(dict(zip(own, row, strict=True)) for batch in batches for row in json_rows(batch))
