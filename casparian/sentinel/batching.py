"""Cut files into jobs: one parser artifact over a batch of files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from casparian import ids
from casparian.display import path_text
from casparian.domain.files import CataloguedFile
from casparian.domain.parsers import companion_role
from casparian.protocol.worker import CompanionTask, SourceTask
from casparian.sentinel.candidates import Candidate
from casparian.sentinel.events import PlannedJob

BATCH_FILES_MAX: Final = 512
BATCH_BYTES_MAX: Final = 64 * 1024 * 1024
_BATCH_BYTES_MIN: Final = 1024 * 1024
_FILE_WEIGHT_BYTES: Final = 64 * 1024  # what a file costs beside its bytes, in bytes


def cut_into_jobs(
    found: Sequence[Candidate],
    chosen: dict[int, list[CataloguedFile]],
    root: bytes,
    *,
    workers: int,
    files_max: int | None = None,
) -> list[PlannedJob]:
    """Cut each parser's files into jobs: at most 512 files or 64 MiB, and enough jobs to keep every worker busy.

    A job costs about as much as a hundred small files (its guests, its fsyncs, its commit), so there are no more than that
    takes, and they are about equally heavy.
    """
    files_max = files_max or BATCH_FILES_MAX
    base = os.path.dirname(root) if not os.path.isdir(root) else root
    jobs: list[PlannedJob] = []
    for index, candidate in enumerate(found):
        for batch in _cut(chosen[index], max(workers, 1), files_max):
            jobs.append(_job(candidate, batch, base, root))
    return jobs


def _cut(
    files: Sequence[CataloguedFile], workers: int, files_max: int
) -> Iterator[list[CataloguedFile]]:
    """The files in order, in as many parts as it takes."""
    total_bytes = sum(file.size_bytes for file in files)
    # Beyond one job each, two: the worker that is done first takes what is left.
    shares = workers if total_bytes <= workers * BATCH_BYTES_MAX else 2 * workers
    parts = max(
        min(shares, total_bytes // _BATCH_BYTES_MIN),
        -(-total_bytes // BATCH_BYTES_MAX),
        -(-len(files) // files_max),
        1,
    )
    share = -(-(total_bytes + len(files) * _FILE_WEIGHT_BYTES) // parts)
    batch: list[CataloguedFile] = []
    size = weight = done = 0
    for file in files:
        is_full = len(batch) == files_max or size + file.size_bytes > BATCH_BYTES_MAX
        if batch and (is_full or weight >= (done + 1) * share):
            yield batch
            batch, size, done = [], 0, done + 1
        batch.append(file)
        size += file.size_bytes
        weight += file.size_bytes + _FILE_WEIGHT_BYTES
    if batch:
        yield batch


def _companions(
    candidate: Candidate, file: CataloguedFile, path: bytes
) -> tuple[CompanionTask, ...]:
    """The companions of a file that the parser asks for."""
    if not file.companions:
        return ()
    roles = {companion_role(suffix) for suffix in candidate.artifact.manifest.companions}
    return tuple(
        CompanionTask(
            role=companion.role,
            source_hash=companion.source_hash,
            size_bytes=companion.size_bytes,
            path=os.path.join(os.path.dirname(path), companion.name),
        )
        for companion in file.companions
        if companion.role in roles
    )


def _job(
    candidate: Candidate, files: Sequence[CataloguedFile], base: bytes, root: bytes
) -> PlannedJob:
    sources = []
    for index, file in enumerate(files):
        assert file.source_id is not None
        assert file.source_hash is not None
        assert file.sha256 is not None
        sources.append(
            SourceTask(
                index=index,
                source_id=file.source_id,
                source_hash=file.source_hash,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                path=os.path.join(base, file.path),
                display_path=file.display_path,
                companions=_companions(candidate, file, os.path.join(base, file.path)),
            )
        )
    spec = msgspec.structs.replace(candidate.spec, root=path_text(root), sources=tuple(sources))
    keys = tuple(spec.key_parts(spec.main, s.source_id).materialization_key() for s in sources)
    return PlannedJob(job_id=ids.new_job_id(), spec=spec, keys=keys)
