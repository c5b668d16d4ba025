"""Try a parser on files with no sentinel: same worker, same confined guest, twice, no commit.

Both passes must give the same rows: a parser that reads a clock or an unordered set would make rows
that nobody can prove. Tables are compared by BLAKE3 over their Arrow IPC stream; where it differs, the
first row and column that do are named. What is staged lies in a directory of its own that is removed
at the end.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import blake3
import msgspec
from msgspec import structs

from casparian import clock, ids, processes
from casparian.contracts.dataset import canonical, read_dataset
from casparian.contracts.settings import effective_config
from casparian.contracts.wide import wide_numbers
from casparian.display import path_text
from casparian.domain import datasets
from casparian.domain.contracts import Contract
from casparian.domain.isolation import IsolationLevel
from casparian.domain.lineage import LINEAGE_VERSION
from casparian.domain.outputs import Sink, SinkKind
from casparian.domain.parsers import ConfigValue, ParserArtifact, ParserKind
from casparian.domain.trust import TrustOrigin, TrustRecord, TrustVerdict
from casparian.errors import CasparianError, ExitCode, Refused, SourceFault, UsageError
from casparian.paths import Home
from casparian.protocol import identity, worker
from casparian.scout import companions
from casparian.sinks.staging import stage_directory
from casparian.sinks.uri import default_settings
from casparian.trust import verdict

_READ_BYTES: Final = 1 << 20
_SETTING_BYTES_MAX: Final = 4 << 20
_STDERR_CHARACTERS: Final = 4_000
NONDETERMINISTIC: Final = "parser.nondeterministic"
_ROWS_COMPARED: Final = 4096
_SAMPLES: Final = "samples"
# Nobody asks for a signature on what is only tried: no row of it is kept.
_IN_DEVELOPMENT: Final = TrustRecord(
    verdict=TrustVerdict.UNSIGNED, origin=TrustOrigin.PATH, notes=("being tested",)
)
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


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What the second pass did otherwise: the first place in one table, or what became of one file.

    `row` counts from 0 in the table's own order; a value that only one pass has is null in the other.
    """

    code: str = NONDETERMINISTIC
    table: str | None = None
    row: int | None = None
    column: str | None = None
    path: str | None = None
    first: Any = None
    second: Any = None
    message: str


class TestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What two passes of a parser over the same files gave."""

    parser: str
    artifact_hash: str
    sources: tuple[SourceOutcome, ...]
    tables: tuple[TableRows, ...]
    quarantine: tuple[dict[str, Any], ...]
    deterministic: bool
    different_tables: tuple[str, ...]
    findings: tuple[Difference, ...]
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
    min_isolation: IsolationLevel = IsolationLevel.FULL,
    home: Home | None = None,
) -> TestReport:
    """Run a parser over files twice and compare.

    Args:
        artifact: the parser.
        files: what to run it on.
        settings: of the parser, that differ from its defaults.
        rows_shown: of each table.
        min_isolation: as for a job.
        home: whose settings and environments serve the test, and whose trust a program needs; nothing else of it is touched.

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
    artifact, settings = under_contract(artifact, settings)
    trust = _IN_DEVELOPMENT
    if artifact.manifest.kind is ParserKind.EXECUTABLE:
        trust = _signed(artifact, home)
    config = effective_config(artifact.manifest, settings)
    sources = _sources(artifact, files)
    with tempfile.TemporaryDirectory(prefix="casparian-parser-test-") as folder:
        tried = _home_for(home, os.path.join(folder, "home"))
        dispatch = _dispatch(
            artifact, config, sources, os.path.join(folder, "first"), min_isolation, trust
        )
        again = _dispatch(
            artifact,
            config,
            sources,
            os.path.join(folder, "second"),
            min_isolation,
            trust,
            like=dispatch,
        )
        receipt = _execute(tried, dispatch)
        second = _execute(tried, again)
        findings = (
            *different_sources(
                [task.display_path for task in sources], receipt.sources, second.sources
            ),
            *_different_tables(receipt, second),
        )
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
                for table in _tables(artifact, receipt)
            ),
            quarantine=_sample(receipt, "quarantine", rows_shown),
            deterministic=not findings,
            different_tables=tuple(found.table for found in findings if found.table is not None),
            findings=findings,
            log=receipt.guest_log,
            isolation=receipt.isolation,
        )


def under_contract(
    artifact: ParserArtifact, settings: Mapping[str, ConfigValue]
) -> tuple[ParserArtifact, Mapping[str, ConfigValue]]:
    """A parser whose table comes from a contract, with that table; the contract in its canonical form.

    Raises:
        UsageError: `parser.setting`: no contract is given, or it is one of another parser.
        ContractError: it cannot be read.
    """
    manifest = artifact.manifest
    if datasets.SETTING not in manifest.config:
        return artifact, settings
    document = str(settings.get(datasets.SETTING, ""))
    if not document:
        raise UsageError(
            f"the parser `{manifest.name}` reads what a contract says, and none is given",
            hint="`--set dataset=@FILE`; `casparian contract infer` proposes a contract for files",
            code="parser.setting",
            setting=datasets.SETTING,
        )
    dataset = read_dataset(document, file=datasets.SETTING)
    if dataset.parser != manifest.name:
        raise UsageError(
            f"the contract is one of `{dataset.parser}`, and the parser is `{manifest.name}`",
            hint=f"casparian parser test {dataset.parser} …",
            code="parser.setting",
            setting=datasets.SETTING,
        )
    changed = {**settings, datasets.SETTING: canonical(dataset)}
    return structs.replace(artifact, contract=Contract(outputs=(dataset.output,))), changed


def settings_from_files(typed: Sequence[str]) -> tuple[list[str], dict[str, ConfigValue]]:
    """Settings as they were typed: those that are there, and of `KEY=@FILE` the key with the file's text.

    Raises:
        SourceFault: a file cannot be read, is too large or is not UTF-8.
    """
    rest: list[str] = []
    texts: dict[str, ConfigValue] = {}
    for text in typed:
        key, is_file, path = text.partition("=@")
        if is_file and "=" not in key:
            texts[key] = _text_of(path)
        else:
            rest.append(text)
    return rest, texts


def _text_of(path: str) -> str:
    shown = path_text(os.fsencode(path))
    try:
        with open(path, "rb") as file:
            raw = file.read(_SETTING_BYTES_MAX + 1)
        if len(raw) > _SETTING_BYTES_MAX:
            raise SourceFault(
                f"`{shown}` is larger than the {_SETTING_BYTES_MAX} bytes of a setting", path=shown
            )
        return raw.decode()
    except OSError as error:
        raise SourceFault(f"`{shown}` cannot be read: {error.strerror}", path=shown) from error
    except UnicodeDecodeError as error:
        raise SourceFault(f"`{shown}` is not UTF-8 at byte {error.start}", path=shown) from error


def _signed(artifact: ParserArtifact, home: Home | None) -> TrustRecord:
    """A program is not even tried when nobody has signed it: unsigned programs never run."""
    if home is None:
        raise ParserTestError(
            f"the program of `{artifact.label}` can be tried only where its signature can be verified"
        )
    found = verdict.verify(artifact, home)
    if found.is_unsigned:
        raise Refused(
            f"the program of `{artifact.label}` is unsigned",
            code="trust.unsigned",
            hint="`casparian parser sign DIR --key FILE`; `casparian trust init --solo NAME` makes a key to develop with",
            parser=artifact.manifest.name,
        )
    return found


def _home_for(home: Home | None, directory: str) -> Home:
    """A home for one test, with the settings and the environments of the real one."""
    made = Home.at(directory)
    os.makedirs(made.run)
    if home is not None:
        os.makedirs(home.environments, exist_ok=True)
        os.symlink(home.environments, made.environments)
        if home.config_file.exists():
            os.symlink(home.config_file, made.config_file)
    return made


def _tables(artifact: ParserArtifact, receipt: worker.Receipt) -> list[str]:
    """The parser's own outputs, and those that have rows besides."""
    own = [output.table for output in artifact.contract.outputs]
    found = {table for source in receipt.sources for table in source.rows}
    return [*own, *sorted(found.difference(own))]


def _sources(artifact: ParserArtifact, files: Sequence[str]) -> tuple[worker.SourceTask, ...]:
    """The files with what lies beside them and belongs to them; a file that belongs to another one is no source."""
    suffixes = [suffix.encode() for suffix in artifact.manifest.companions]
    found = {}
    for path in files:
        directory, name = os.path.split(os.path.abspath(os.fsencode(path)))
        beside = companions.names_beside(name, suffixes, os.listdir(directory)) if suffixes else {}
        found[path] = {role: os.path.join(directory, other) for role, other in beside.items()}
    theirs = {path for beside in found.values() for path in beside.values()}
    own = [path for path in files if os.path.abspath(os.fsencode(path)) not in theirs]
    return tuple(_source(index, path, found[path]) for index, path in enumerate(own))


def _source(index: int, path: str, beside: Mapping[str, bytes]) -> worker.SourceTask:
    """Hash one file and its companions as discovery would."""
    main = _hashed(path)
    hashed = {role: _hashed(os.fsdecode(other)) for role, other in sorted(beside.items())}
    ids = [identity.companion_id(role, other.source_hash) for role, other in hashed.items()]
    return msgspec.structs.replace(
        main,
        index=index,
        source_id=identity.source_id(main.source_hash, ids),
        companions=tuple(
            worker.CompanionTask(
                role=role,
                source_hash=other.source_hash,
                size_bytes=other.size_bytes,
                path=other.path,
            )
            for role, other in hashed.items()
        ),
    )


def _hashed(path: str) -> worker.SourceTask:
    """One file, by both hashes."""
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
        index=0,
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
    min_isolation: IsolationLevel,
    trust: TrustRecord,
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
        parser=worker.parser_task(artifact, config, trust),
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
        min_isolation=min_isolation,
        sparse=worker.SparseTask(place=worker.SparsePlace(sink=sink, stage=stage))
        if wide_numbers(artifact.manifest.kind, artifact.manifest.entry, config)
        else None,
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


def different_sources(
    paths: Sequence[str],
    first: Sequence[worker.SourceReceipt],
    second: Sequence[worker.SourceReceipt],
) -> Iterator[Difference]:
    """Files of which the second pass made something else: excluded or not, counts, ledger.

    Args:
        paths: by the sources' indexes.
        first: receipts of the first pass, in order.
        second: those of the second.
    """
    for one, other in zip(first, second, strict=True):
        before, after = (_said(receipt) for receipt in (one, other))
        if before != after:
            path = paths[one.index]
            yield Difference(
                path=path,
                first=before,
                second=after,
                message=f"`{path}` came to {_outcome_text(one)} and then to {_outcome_text(other)}",
            )


def _said(source: worker.SourceReceipt) -> dict[str, Any]:
    return {
        "code": source.code,
        "rows": source.rows,
        "quarantined": source.quarantined,
        "ledger": msgspec.to_builtins(source.ledger),
    }


def _outcome_text(source: worker.SourceReceipt) -> str:
    if source.code is not None:
        return f"`{source.code}`"
    return f"{sum(source.rows.values())} rows and {source.quarantined} quarantined"


def _different_tables(first: worker.Receipt, second: worker.Receipt) -> Iterator[Difference]:
    """The first difference of each table; equal files need not be read."""
    for table in sorted({file.table for file in (*first.files, *second.files)}):
        hashes = [
            [file.blake3 for file in receipt.files if file.table == table]
            for receipt in (first, second)
        ]
        if hashes[0] == hashes[1]:
            continue
        one, other = _read(first, table), _read(second, table)
        if one is not None and other is not None and _stream_hash(one) == _stream_hash(other):
            continue  # the same rows, in files that are laid out otherwise
        found = first_difference(table, one, other)
        if found is not None:
            yield found


class _Hashing(io.RawIOBase):
    """A file that keeps the hash of what was written to it."""

    def __init__(self) -> None:
        self.hasher = blake3.blake3()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Hash the bytes."""
        self.hasher.update(data)
        return len(data)


def _stream_hash(rows: Any) -> str:
    """BLAKE3 over the Arrow IPC stream of a table."""
    import pyarrow as pa

    sink = _Hashing()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), rows.schema) as stream:
        stream.write_table(rows)
    return sink.hasher.hexdigest()


def first_difference(table: str, first: Any, second: Any) -> Difference | None:
    """Where two passes part: the first row that differs, and in it the first column.

    Args:
        table: name, for the message.
        first: rows of the first pass as one Arrow table; `None` when it gave no file.
        second: rows of the second pass, with the same columns.
    """
    if first is None or second is None:
        which = "first" if second is None else "second"
        message = f"only the {which} pass gave rows in `{table}`"
        return Difference(table=table, row=0, message=message)
    rows = min(first.num_rows, second.num_rows)
    best: tuple[int, str, Any, Any] | None = None
    for name in first.column_names:
        limit = rows if best is None else best[0]
        found = _first_unequal(first[name].slice(0, limit), second[name].slice(0, limit))
        if found is not None:
            row, one, other = found
            best = (row, name, one, other)
    if best is None:
        if first.num_rows == second.num_rows:
            return None
        message = f"the passes gave {first.num_rows} and {second.num_rows} rows in `{table}`"
        return Difference(
            table=table, row=rows, first=first.num_rows, second=second.num_rows, message=message
        )
    row, name, one, other = best
    return Difference(
        table=table,
        row=row,
        column=name,
        first=one,
        second=other,
        message=f"row {row} of `{table}` has another `{name}` the second time",
    )


def _first_unequal(one: Any, other: Any) -> tuple[int, Any, Any] | None:
    """Position and values of the first difference of two columns of equal length."""
    for start in range(0, len(one), _ROWS_COMPARED):
        before, after = (column.slice(start, _ROWS_COMPARED) for column in (one, other))
        if before.equals(after):
            continue
        # NaN equals nothing in Arrow: only the values decide.
        pairs = zip(_values(before), _values(after), strict=True)
        for position, (value, again) in enumerate(pairs, start=start):
            if value != again:
                return position, value, again
    return None


def _values(column: Any) -> list[Any]:
    from casparian.query.values import json_values

    return [value for chunk in column.chunks for value in json_values(chunk)]


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
