"""A small world for worker tests: a parser artifact, sources, and the dispatch that names them."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import blake3
import pyarrow as pa
import pyarrow.parquet as pq

from casparian.domain.contracts import Action, Column, OutputContract
from casparian.domain.isolation import IsolationLevel
from casparian.domain.outputs import Sink, SinkKind
from casparian.domain.parsers import Limits, ParserKind
from casparian.paths import Home
from casparian.protocol import identity
from casparian.protocol.worker import (
    CompanionTask,
    Dispatch,
    OutputTask,
    ParserTask,
    Receipt,
    SourceProgress,
    SourceTask,
)
from casparian.trust.artifact import hash_artifact, read_artifact
from casparian.worker.cancel import Cancellation
from casparian.worker.executor import Services, execute
from tests.support.allow import anything

LINES = OutputContract(
    table="lines",
    main=True,
    columns=(
        Column(name="number", type="int64", nullable=False),
        Column(name="text", type="utf8"),
    ),
)

LINE_PARSER = """
    def parse(ctx):
        from casparian.sdk import RowBuilder
        rows = RowBuilder("lines")
        offset = 0
        for number, line in enumerate(ctx.source.pread(ctx.source.size, 0).splitlines(True)):
            if line.startswith(b"bad"):
                ctx.quarantine(offset, len(line), "test.bad", "it says so itself")
            elif line.strip():
                yield from rows.append(offset, len(line), 0, number=number, text=line.decode().strip())
            offset += len(line)
        yield from rows.flush()
"""


class World:
    """Builds dispatches below one directory and runs them in this process, with real guests."""

    def __init__(self, directory: Path, services: Services) -> None:
        self.directory = directory
        self.services = services
        services.judge = anything  # nobody signs what a test writes
        self.sources: list[SourceTask] = []
        self.limits = Limits(memory_mb=1024, cpu_seconds=60, idle_seconds=60)
        self.outputs: tuple[OutputContract, ...] = (LINES,)
        self.min_isolation = IsolationLevel.FULL
        self.progress: list[SourceProgress] = []
        self.parser(LINE_PARSER)

    def parser(self, code: str, **files: str) -> None:
        """Write the artifact: `parser.py` and, by name, other modules."""
        folder = self.directory / "parser"
        folder.mkdir(exist_ok=True)
        (folder / "parser.toml").write_text('name = "test.lines"\n')
        (folder / "parser.py").write_text(textwrap.dedent(code))
        for name, text in files.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        self.rehash()

    def rehash(self) -> None:
        """The artifact is what its folder holds now."""
        folder = self.directory / "parser"
        self.artifact_hash = hash_artifact(read_artifact(str(folder)))

    def source(
        self, content: bytes, name: str | None = None, *, companions: dict[str, bytes] | None = None
    ) -> Path:
        """Add a source, with what belongs to it by role: `NAME.ROLE` beside it."""
        index = len(self.sources)
        path = self.directory / (name or f"source-{index}.log")
        path.write_bytes(content)
        digest = blake3.blake3(content).hexdigest()
        task = SourceTask(
            index=index,
            source_id=identity.source_id(digest),
            source_hash=digest,
            sha256="0" * 64,
            size_bytes=len(content),
            path=os.fsencode(path),
            display_path=path.name,
            companions=tuple(
                self._companion(path, role, beside) for role, beside in (companions or {}).items()
            ),
        )
        self.sources.append(task)
        return path

    def _companion(self, path: Path, role: str, content: bytes) -> CompanionTask:
        beside = path.with_name(f"{path.name}.{role}")
        beside.write_bytes(content)
        return CompanionTask(
            role=role,
            source_hash=blake3.blake3(content).hexdigest(),
            size_bytes=len(content),
            path=os.fsencode(beside),
        )

    def dispatch(self, **changes: Any) -> Dispatch:
        """The dispatch of all sources so far."""
        sink = Sink(kind=SinkKind.PARQUET, location=str(self.directory / "out"))
        stage = str(self.directory / "out" / ".casparian-stage" / "home" / "7.3")
        aside = str(self.directory / "aside" / ".casparian-stage" / "home" / "7.3")
        fields: dict[str, Any] = {
            "epoch": 3,
            "job_id": 7,
            "home_id": "home",
            "parser": ParserTask(
                name="test.lines",
                version="1.0",
                kind=ParserKind.PYTHON,
                entry="parser.py:parse",
                directory=str(self.directory / "parser"),
                artifact_hash=self.artifact_hash,
                account="lines",
                unit="line",
                config={},
                limits=self.limits,
            ),
            "sources": tuple(self.sources),
            "outputs": tuple(
                OutputTask(
                    contract=output,
                    contract_hash=identity.contract_hash(output),
                    sink=sink,
                    stage=stage,
                )
                for output in self.outputs
            ),
            "quarantine": Sink(kind=SinkKind.PARQUET, location=str(self.directory / "aside")),
            "quarantine_stage": aside,
            "processed_at_ns": 1_700_000_000_000_000_000,
            "lineage_version": 1,
            "min_isolation": self.min_isolation,
        }
        return Dispatch(**{**fields, **changes})

    def run(self, cancellation: Cancellation | None = None, **changes: Any) -> Receipt:
        """Execute; the stage stays for the test to look at."""
        own = cancellation or Cancellation()
        try:
            return execute(self.dispatch(**changes), self.services, self.progress.append, own)
        finally:
            own.close()

    def staged(self) -> list[Path]:
        """Every file under both sinks."""
        return [
            path
            for folder in ("out", "aside")
            for path in sorted((self.directory / folder).rglob("*"))
            if path.is_file()
        ]


def rows(receipt: Receipt, table: str) -> list[dict[str, Any]]:
    """Rows of all staged files of a table, by source and ordinal."""
    found: list[dict[str, Any]] = []
    for file in receipt.files:
        if file.table == table:
            found += _plain(pq.read_table(file.path)).to_pylist()
    return sorted(found, key=lambda row: (row["_cf_source_path"], row["_cf_ordinal"]))


def _plain(table: pa.Table) -> pa.Table:
    """Times as integers: Python's own have no nanoseconds."""
    fields = [
        field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def home_at(directory: Path) -> Home:
    """A home that exists."""
    home = Home.at(directory / "home")
    home.root.mkdir()
    return home


def strict(output: OutputContract) -> OutputContract:
    """The same contract, whose first column may not be above 1, or the source fails."""
    first = output.columns[0]
    tightened = Column(
        name=first.name, type=first.type, nullable=False, maximum=1, action=Action.FAIL
    )
    return OutputContract(
        table=output.table, main=output.main, columns=(tightened, *output.columns[1:])
    )
