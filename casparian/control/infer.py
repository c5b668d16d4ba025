"""Infer the contract of unknown files: the evidence is read in a confined guest, by the worker that jobs run in.

One guest reads all files in the order of their names into one state; what comes back is a JSON document of readings, facts and
evidence. No sentinel is asked and nothing is recorded. What the guest says is a proposal that a person decides about, never
more: the contract made from it is checked like one that was written by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from casparian import _native, clock, ids, processes
from casparian.display import path_text, show
from casparian.domain.datasets import DELIMITED
from casparian.domain.isolation import IsolationLevel
from casparian.domain.lineage import LINEAGE_VERSION
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import CasparianError, ExitCode, SourceFault, UsageError
from casparian.paths import Home
from casparian.protocol import identity, worker
from casparian.protocol.guest import INFER_ENTRY, INFERRED
from casparian.sinks.staging import stage_directory
from casparian.sinks.uri import default_settings
from casparian.trust.library import ParserLibrary

_CARRIER: Final = DELIMITED  # a native parser of the release: its guest holds every decoder
_ACCOUNT: Final = "evtx"  # its walk finds no chunk of a log, and so costs next to nothing; nobody asks what it found
_STDERR_CHARACTERS: Final = 2_000
_FILES_MAX: Final = 100_000


ReportBytes = Callable[[int, int], None]


class InferenceFailed(CasparianError):
    """The files could not be read to their ends."""

    code = "infer.failed"
    exit_code = ExitCode.FAILED


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one kind: how many there are, and the names of the first ones."""

    kind: str  # as the guest says: `text`, `jsonl`, `json`, `binary`, `evtx`, …
    files: int
    names: tuple[str, ...]


class Inferred(msgspec.Struct, frozen=True, kw_only=True):
    """What the guest found. `found` is `None` while the dialect is a question.

    Args:
        files: as they are named in evidence, in order.
        kinds: of the files, in the order of the first one of each.
    """

    files: tuple[str, ...]
    dialect: dict[str, Any]
    found: dict[str, Any] | None
    kinds: tuple[Kind, ...] = ()


def files_below(paths: Sequence[str]) -> list[str]:
    """Every regular file of these paths that is not empty, folders with all that is in them, sorted and each once.

    Raises:
        UsageError: there is none, or there are too many.
        SourceFault: a path cannot be looked at.
    """
    found: set[str] = set()
    for path in paths:
        if not os.path.lexists(path):
            raise SourceFault(f"`{path_text(os.fsencode(path))}` is not there", path=path)
        if os.path.isdir(path):
            for folder, _, names in os.walk(path):
                found.update(os.path.join(folder, name) for name in names)
        else:
            found.add(path)
    regular = (path for path in found if os.path.isfile(path) and not os.path.islink(path))
    files = sorted(path for path in regular if os.path.getsize(path))  # an empty file says nothing
    if not 1 <= len(files) <= _FILES_MAX:
        raise UsageError(
            f"there are {len(files)} files to infer from, expected 1 to {_FILES_MAX}",
            code="infer.files",
        )
    return files


def run_inference(
    files: Sequence[str],
    wanted: Mapping[str, Any],
    *,
    threads: int | None = None,
    min_isolation: IsolationLevel = IsolationLevel.FULL,
    report: ReportBytes | None = None,
) -> Inferred:
    """Read the files in one guest; in another one again when only all files together said how they are cut.

    Args:
        files: in the order of their names.
        wanted: what is known already: `delimiter`, `quote` (empty: none), `escape`, `encoding`, `header`, `skip_lines`,
            `comment` (empty: none).
        report: called with the bytes read to their ends and all there are, again and again.
        threads: of the guest; the cores of this machine when it is not given.
        min_isolation: a guest that is confined less gets no evidence.

    Raises:
        SourceFault: a file cannot be read.
        InferenceFailed: the worker could not run, or a file could not be read to its end.
    """
    cores = threads or len(os.sched_getaffinity(0))
    sources = tuple(_source(index, path) for index, path in enumerate(files))
    answer = _read(sources, wanted, cores, min_isolation, report)
    layout = answer["dialect"].get("layout")
    if answer["found"] is None and layout is not None and "contradiction" not in answer["dialect"]:
        settled = {key: value for key, value in layout.items() if value is not None}
        settled["quote"] = layout["quote"] or ""
        settled["comment"] = layout["comment"] or ""
        decided = _read(sources, settled, cores, min_isolation, report)
        answer["found"] = decided["found"]
    return Inferred(
        files=tuple(task.display_path for task in sources),
        dialect=answer["dialect"],
        found=answer["found"],
        kinds=tuple(
            Kind(
                kind=kind,
                files=said["files"],
                names=tuple(sources[index].display_path for index in said["sources"]),
            )
            for kind, said in answer["kinds"].items()
        ),
    )


def _read(
    sources: Sequence[worker.SourceTask],
    wanted: Mapping[str, Any],
    cores: int,
    min_isolation: IsolationLevel,
    report: ReportBytes | None,
) -> dict[str, Any]:
    """One job over all files; what its guest said to the last one."""
    with tempfile.TemporaryDirectory(prefix="casparian-infer-") as folder:
        home = Home.at(os.path.join(folder, "home"))
        os.makedirs(home.run)
        out = os.path.join(folder, "out")
        dispatch = _dispatch(home, sources, wanted, out, cores, min_isolation)
        receipt = _execute(home, dispatch, report)
        for source in receipt.sources:
            if source.code is not None:
                name = show(dispatch.sources[source.index].display_path)
                raise InferenceFailed(f"`{name}`: {source.code}: {show(source.message)}")
        return _last(receipt, len(sources))


def _dispatch(
    home: Home,
    sources: Sequence[worker.SourceTask],
    wanted: Mapping[str, Any],
    folder: str,
    threads: int,
    min_isolation: IsolationLevel,
) -> worker.Dispatch:
    artifact = ParserLibrary.of(home).find(_CARRIER)
    manifest = msgspec.structs.replace(artifact.manifest, entry=INFER_ENTRY, account=_ACCOUNT)
    artifact = msgspec.structs.replace(artifact, manifest=manifest)
    job_id, home_id = ids.new_job_id(), ids.new_home_id()
    sink = Sink(kind=SinkKind.PARQUET, location=folder, settings=default_settings(SinkKind.PARQUET))
    stage = stage_directory(sink, home_id, job_id, 1)
    return worker.Dispatch(
        epoch=1,
        job_id=job_id,
        home_id=home_id,
        parser=worker.parser_task(artifact, {"infer": json.dumps(dict(wanted))}),
        sources=tuple(sources),
        outputs=(
            worker.OutputTask(
                contract=INFERRED,
                contract_hash=identity.contract_hash(INFERRED),
                sink=sink,
                stage=stage,
            ),
        ),
        quarantine=sink,
        quarantine_stage=stage,
        processed_at_ns=clock.now_ns(),
        lineage_version=LINEAGE_VERSION,
        min_isolation=min_isolation,
        threads=threads,
    )


def _source(index: int, path: str) -> worker.SourceTask:
    """One file with its hashes; each file is a source of its own, also where two have the same bytes."""
    raw = os.path.abspath(os.fsencode(path))
    try:
        descriptor = os.open(raw, os.O_RDONLY | os.O_CLOEXEC)
        try:
            digest = _native.digest_fd(descriptor, sha256=True)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SourceFault(
            f"`{path_text(raw)}` cannot be read: {error.strerror}", path=path_text(raw)
        ) from error
    if digest.blake3 is None or digest.sha256 is None:
        raise SourceFault(f"`{path_text(raw)}` cannot be read", path=path_text(raw))
    return worker.SourceTask(
        index=index,
        source_id=identity.source_id(digest.blake3),
        source_hash=digest.blake3,
        sha256=digest.sha256,
        size_bytes=size,
        path=raw,
        display_path=path_text(os.fsencode(path)),
    )


def _execute(home: Home, dispatch: worker.Dispatch, report: ReportBytes | None) -> worker.Receipt:
    total = sum(source.size_bytes for source in dispatch.sources)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(worker.encode(dispatch))
        given.seek(0)
        read_fd, write_fd = os.pipe()
        process = subprocess.Popen(
            [*processes.command("worker", home, "--once"), "--progress-fd", str(write_fd)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=said,
            env=processes.host_environment(),
            pass_fds=(write_fd,),
        )
        os.close(write_fd)
        with open(read_fd, encoding="ascii") as progress, process:
            for line in progress:  # ends with the worker
                if report is not None:
                    report(int(line), total)
            assert process.stdout is not None
            answer = process.stdout.read()
        said.seek(0)
        errors = said.read().decode("utf-8", "backslashreplace").strip()[-_STDERR_CHARACTERS:]
    if process.returncode != 0 or not answer:
        raise InferenceFailed(
            f"the worker ended with code {process.returncode}: {show(errors)}",
            hint="`casparian doctor` checks whether guests start on this machine",
        )
    receipt = worker.decode(answer, worker.Conclude).receipt
    if receipt.code is not None:
        raise InferenceFailed(show(receipt.message) or receipt.code)
    return receipt


def _last(receipt: worker.Receipt, files: int) -> dict[str, Any]:
    """The answer that covers every file: the one to the last source, of a guest that lived as long as the job."""
    import pyarrow.parquet as pq

    answers: dict[int, str] = {}
    for file in receipt.files:
        if file.table == INFERRED.table:
            rows = pq.read_table(file.path, columns=["source", "found"]).to_pydict()
            answers |= dict(zip(rows["source"], rows["found"], strict=True))
    answer: dict[str, Any] = json.loads(answers.get(files - 1, "null")) or {}
    found = answer.get("found")
    if "dialect" not in answer or (found is not None and found["files"] > files):
        raise InferenceFailed("the guest gave no answer about the last file")
    return answer
