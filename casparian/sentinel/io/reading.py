"""Answer reads from committed truth, on a thread of their own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from casparian.db import reads
from casparian.db.audit import audit
from casparian.domain.jobs import JobState
from casparian.errors import Conflict, UsageError
from casparian.paths import Home
from casparian.protocol import control
from casparian.scout.selection import selects_parser, why_not_selected
from casparian.sentinel import events as ev
from casparian.sentinel.effects import FindEnd, LoadJob, LoadJobs, ReadRows
from casparian.sentinel.io.trust_audit import audit_trust
from casparian.sentinel.planner import failure_of
from casparian.sentinel.state import JobSpec
from casparian.trust.library import ParserLibrary, Standing

if TYPE_CHECKING:
    import duckdb

_LOG = logging.getLogger(__name__)


class Reading:
    """Belongs to one thread."""

    def __init__(self, home: Home, reader: duckdb.DuckDBPyConnection, schema_number: int) -> None:
        self._home = home
        self._reader = reader
        self._schema_number = schema_number

    def read(self, effect: ReadRows) -> ev.RowsRead:
        """Carry out one read; a fault is the client's answer."""
        reply: control.Reply
        try:
            match effect.request:
                case control.Read():
                    reply = self._rows(effect.request, effect.aborting)
                case control.Select():
                    reply = self._select(effect.request)
                case control.Doctor():
                    reply = self._doctor(effect)
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            _LOG.warning("a read failed", exc_info=error)
            reply = failure_of(error)
        return ev.RowsRead(client_id=effect.client_id, number=effect.number, reply=reply)

    def load_job(self, effect: LoadJob) -> ev.JobLoaded | ev.RowsRead:
        """Fetch an ended job for a retry."""
        request = effect.request
        try:
            (job,) = self._retryable([request.job_id])
            return ev.JobLoaded(
                client_id=effect.client_id,
                number=effect.number,
                request_id=request.request_id,
                job_id=job.job_id,
                state=job.state,
                epoch=job.epoch,
                spec=job.spec,
                has_rows=job.has_rows,
            )
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            return ev.RowsRead(
                client_id=effect.client_id, number=effect.number, reply=failure_of(error)
            )

    def load_jobs(self, effect: LoadJobs) -> ev.JobsLoaded | ev.RowsRead:
        """Fetch many: those that are named, or the dead letters that the filters leave."""
        request = effect.request
        try:
            wanted = list(dict.fromkeys(request.job_ids))
            if not wanted:
                filters = {
                    name: value
                    for name in ("parser", "code", "run_id")
                    if (value := getattr(request, name)) is not None
                }
                columns, rows, _ = reads.read(self._reader, "dead_jobs", filters, None)
                wanted = [row[columns.index("job_id")] for row in rows]
            return ev.JobsLoaded(
                client_id=effect.client_id,
                number=effect.number,
                request_id=request.request_id,
                jobs=self._retryable(wanted),
                dry_run=request.dry_run,
            )
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            return ev.RowsRead(
                client_id=effect.client_id, number=effect.number, reply=failure_of(error)
            )

    def _retryable(self, job_ids: list[int]) -> tuple[ev.LoadedJob, ...]:
        """Ended jobs that may be tried again.

        Raises:
            UsageError: there is no such job.
            Conflict: a job is in another state than failed or aborted.
        """
        found = reads.jobs_for_retry(self._reader, job_ids)
        loaded = []
        for job_id in job_ids:
            if job_id not in found:
                raise UsageError(f"there is no job {job_id}", code="job.unknown", job=job_id)
            state, epoch, spec, has_rows = found[job_id]
            if state not in (JobState.FAILED, JobState.ABORTED):
                raise Conflict(
                    f"job {job_id} is {state}: only failed and aborted jobs are retried",
                    code="job.not_retryable",
                    job=job_id,
                )
            loaded.append(
                ev.LoadedJob(
                    job_id=job_id,
                    state=JobState(state),
                    epoch=epoch,
                    spec=msgspec.msgpack.decode(spec, type=JobSpec),
                    has_rows=has_rows,
                )
            )
        return tuple(loaded)

    def find_end(self, effect: FindEnd) -> ev.RowsRead:
        """What a client is told who cancels a job that is over; cancelling a cancelled one again is no error."""
        reply: control.Reply
        try:
            reply = _after_the_end(effect.job_id, reads.job_end(self._reader, effect.job_id))
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            reply = failure_of(error)
        return ev.RowsRead(client_id=effect.client_id, number=effect.number, reply=reply)

    def _rows(self, request: control.Read, aborting: tuple[int, ...]) -> control.Rows:
        columns, rows, cut = reads.read(self._reader, request.view, request.filters, request.limit)
        if request.view == "jobs" and aborting:
            job_id, flag = columns.index("job_id"), columns.index("aborting")
            rows = [(*row[:flag], row[job_id] in aborting, *row[flag + 1 :]) for row in rows]
        return control.Rows(columns=columns, rows=tuple(tuple(row) for row in rows), truncated=cut)

    def _select(self, request: control.Select) -> control.Rows:
        filters: dict[str, str | int | bool | None] = {"root": request.root} if request.root else {}
        columns, rows, _ = reads.read(self._reader, "files", filters, None)
        at = {name: position for position, name in enumerate(columns)}
        parsers = [
            entry.artifact
            for entry in ParserLibrary.of(self._home).list()
            if entry.artifact is not None and entry.standing is Standing.CURRENT
        ]
        selection = request.selection
        found: list[tuple[Any, ...]] = []
        for row in rows:
            tags, path = row[at["tags"]], row[at["display_path"]]
            why = why_not_selected(
                selection, display_path=path, tags=tags, mtime_ns=row[at["mtime_ns"]]
            )
            if why is not None or row[at["status"]] != "catalogued":
                continue
            takers = [
                artifact.label
                for artifact in parsers
                if selects_parser(
                    selection,
                    name=artifact.manifest.name,
                    version=artifact.manifest.version,
                    directory=artifact.directory,
                )
                and not set(artifact.manifest.tags).isdisjoint(tags)
            ]
            if takers or not selection.parsers:
                found.append(
                    (
                        row[at["root"]],
                        path,
                        row[at["size_bytes"]],
                        tags,
                        takers,
                        row[at["source_hash"]],
                    )
                )
        return control.Rows(
            columns=("root", "display_path", "size_bytes", "tags", "parsers", "source_hash"),
            rows=tuple(found),
        )

    def _doctor(self, effect: ReadRows) -> control.Rows:
        found = audit(
            self._reader,
            schema=self._schema_number,
            live=frozenset(effect.live),
            at_rest=effect.at_rest,
        )
        found += audit_trust(self._reader, self._home)
        columns = ("check", "status", "message", "hint", "details")
        return control.Rows(
            columns=columns,
            rows=tuple((f.check, f.status, f.message, f.hint, f.details) for f in found),
        )


def _after_the_end(job_id: int, found: tuple[str, int, int] | None) -> control.Done:
    if found is None:
        raise UsageError(
            f"there is no job {job_id}",
            code="job.unknown",
            hint="`casparian jobs` lists them",
            job=job_id,
        )
    state, rows, quarantined = found
    if state == JobState.ABORTED:
        return control.Done(message=f"job {job_id} is cancelled already")
    if state == JobState.COMPLETED:
        raise Conflict(
            f"job {job_id} is completed: too late to cancel; its {rows} rows and {quarantined} quarantined ones are kept",
            code="job.too_late",
            job=job_id,
        )
    raise Conflict(
        f"job {job_id} is {state}: there is nothing to cancel", code="job.not_live", job=job_id
    )
