"""Answer reads from committed truth, on a thread of their own."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import msgspec

from casparian.db import reads
from casparian.db.rows import scalar
from casparian.domain.jobs import JobState
from casparian.errors import Conflict, UsageError
from casparian.paths import Home, first_party_parsers
from casparian.protocol import control
from casparian.scout.selection import selects_parser, why_not_selected
from casparian.sentinel import events as ev
from casparian.sentinel.effects import LoadJob, ReadRows
from casparian.sentinel.planner import failure_of
from casparian.sentinel.state import JobSpec
from casparian.tape.chain import TapeEntry, first_break
from casparian.trust.library import ParserLibrary

if TYPE_CHECKING:
    import duckdb

_LOG = logging.getLogger(__name__)


class Reading:
    """Belongs to one thread."""

    def __init__(self, home: Home, reader: duckdb.DuckDBPyConnection) -> None:
        self._home = home
        self._reader = reader

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
                    reply = self._doctor()
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

    def _doctor(self) -> control.Rows:
        checks: list[tuple[str, str, str]] = []
        checks.append(self._tape_check())
        _, live, _ = reads.read(self._reader, "outputs", {"live": True}, None)
        missing = [row[2] for row in live if not os.path.exists(row[2])]
        checks.append(
            (
                "outputs",
                "fail",
                f"{len(missing)} of {len(live)} committed files are missing, first: {missing[0]}",
            )
            if missing
            else ("outputs", "ok", f"{len(live)} committed files are there")
        )
        count = scalar(
            self._reader,
            "SELECT count(*) FROM cf_commit_intents i ANTI JOIN "
            "(SELECT job_id FROM cf_processing_queue WHERE state = 'committing') q USING (job_id)",
        )
        checks.append(
            (
                "intents",
                "fail" if count else "ok",
                f"{count} commit intents without a committing job",
            )
        )
        return control.Rows(columns=("check", "status", "message"), rows=tuple(checks))

    def _tape_check(self) -> tuple[str, str, str]:
        rows = self._reader.execute(
            "SELECT seq, prev_hash, hash, entry FROM cf_tape ORDER BY seq"
        ).fetchall()
        entries = (
            TapeEntry(seq=seq, prev_hash=prev, hash=own, entry=text)
            for seq, prev, own, text in rows
        )
        broken = first_break(entries)
        if broken is None:
            return ("tape", "ok", f"{len(rows)} entries follow from each other")
        return ("tape", "fail", f"entry {broken} does not follow from the one before")
