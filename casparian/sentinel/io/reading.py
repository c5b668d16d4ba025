"""Answer reads from committed truth, on a thread of their own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from casparian.db import reads
from casparian.db.audit import audit
from casparian.domain.jobs import JobState
from casparian.errors import Conflict, UsageError
from casparian.paths import Home, first_party_parsers
from casparian.protocol import control
from casparian.scout.selection import selects_parser, why_not_selected
from casparian.sentinel import events as ev
from casparian.sentinel.effects import LoadJob, ReadRows
from casparian.sentinel.planner import failure_of
from casparian.sentinel.state import JobSpec
from casparian.trust.library import ParserLibrary

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
            found = reads.job_for_retry(self._reader, request.job_id)
            if found is None:
                raise UsageError(
                    f"there is no job {request.job_id}", code="job.unknown", job=request.job_id
                )
            state, epoch, spec = found
            if state not in (JobState.FAILED, JobState.ABORTED):
                raise Conflict(
                    f"job {request.job_id} is {state}: only failed and aborted jobs are retried",
                    code="job.not_retryable",
                    job=request.job_id,
                )
            return ev.JobLoaded(
                client_id=effect.client_id,
                number=effect.number,
                request_id=request.request_id,
                job_id=request.job_id,
                state=JobState(state),
                epoch=epoch,
                spec=msgspec.msgpack.decode(spec, type=JobSpec),
            )
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            return ev.RowsRead(
                client_id=effect.client_id, number=effect.number, reply=failure_of(error)
            )

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
            for entry in ParserLibrary(first_party_parsers(), self._home.parsers).list()
            if entry.artifact is not None
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
                    selection, name=artifact.manifest.name, directory=artifact.directory
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
        columns = ("check", "status", "message", "hint", "details")
        return control.Rows(
            columns=columns,
            rows=tuple((f.check, f.status, f.message, f.hint, f.details) for f in found),
        )
