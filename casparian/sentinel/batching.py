"""Cut files into jobs: one parser artifact over a batch of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import msgspec

from casparian import ids
from casparian.display import path_text
from casparian.domain.files import CataloguedFile
from casparian.protocol.worker import SourceTask
from casparian.sentinel.candidates import Candidate
from casparian.sentinel.events import PlannedJob

BATCH_FILES_MAX: Final = 256
BATCH_BYTES_MAX: Final = 64 * 1024 * 1024
_BATCH_BYTES_MIN: Final = 1024 * 1024


def cut_into_jobs(
    found: Sequence[Candidate],
    chosen: dict[int, list[CataloguedFile]],
    root: bytes,
    *,
    workers: int,
    files_max: int | None = None,
) -> list[PlannedJob]:
    """Cut each parser's files into jobs: at most 256 files or 64 MiB, and enough jobs to keep every worker busy."""
    files_max = files_max or BATCH_FILES_MAX
    total = sum(file.size_bytes for files in chosen.values() for file in files)
    per_worker = total // (2 * max(workers, 1))
    bytes_max = min(max(per_worker, _BATCH_BYTES_MIN), BATCH_BYTES_MAX)
    base = os.path.dirname(root) if not os.path.isdir(root) else root
    jobs: list[PlannedJob] = []
    for index, candidate in enumerate(found):
        batch: list[CataloguedFile] = []
        size = 0
        for file in chosen[index]:
            if batch and (len(batch) == files_max or size + file.size_bytes > bytes_max):
                jobs.append(_job(candidate, batch, base, root))
                batch, size = [], 0
            batch.append(file)
            size += file.size_bytes
        if batch:
            jobs.append(_job(candidate, batch, base, root))
    return jobs


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
            )
        )
    spec = msgspec.structs.replace(candidate.spec, root=path_text(root), sources=tuple(sources))
    keys = tuple(spec.key_parts(spec.main, s.source_id).materialization_key() for s in sources)
    return PlannedJob(job_id=ids.new_job_id(), spec=spec, keys=keys)
