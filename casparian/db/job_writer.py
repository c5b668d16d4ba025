"""How jobs, commits and breakers are written: steps by compare-and-swap, T1, T2, and the tape beside each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import structs

from casparian.db import operations as op
from casparian.db.buffer import Buffer, Swap
from casparian.db.records import Pair
from casparian.db.rows import first_row, scalar
from casparian.domain.jobs import JobState
from casparian.domain.outputs import QUARANTINE_TABLE, SinkMode

if TYPE_CHECKING:
    import duckdb

Alive = tuple[str, int, str, str]  # dataset, job, source, materialization key

_CLAIMS: Final = {"dataset_id": "VARCHAR", "source_id": "VARCHAR"}
_ALIVE_OF_SOURCES: Final = (
    "SELECT m.dataset_id, m.job_id, m.source_id, m.materialization_key FROM cf_materializations m "
    "SEMI JOIN {given} c ON m.source_id = c.source_id WHERE m.retired_by IS NULL ORDER BY m.sequence"
)
_ALIVE: Final = (
    "SELECT m.dataset_id, m.job_id, m.source_id, m.materialization_key FROM cf_materializations m "
    "SEMI JOIN {given} c ON m.dataset_id = c.dataset_id AND m.source_id = c.source_id "
    "WHERE m.retired_by IS NULL ORDER BY m.sequence"
)


class JobWriter:
    """The part of the single writer that concerns jobs; belongs to its thread and its transaction."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        buffer: Buffer,
        tape: Callable[..., None],
    ) -> None:
        self._connection = connection
        self._buffer = buffer
        self._tape = tape
        self.forget()
        self.handlers: dict[type[Any], Callable[[Any], Any]] = {
            op.InsertJobs: self._insert_jobs,
            op.StepJob: self._step_job,
            op.NoteJob: self._note_job,
            op.BeginCommit: self._begin_commit,
            op.FinishCommit: self._finish_commit,
            op.RemoveOutput: self._remove_output,
            op.SaveBreaker: self._save_breaker,
        }

    def forget(self) -> None:
        """Read again what is kept in memory: a transaction was rolled back, or none was made yet."""
        self._sequence = scalar(
            self._connection, "SELECT coalesce(max(sequence), 0) FROM cf_materializations"
        )
        self._documents: set[str] = {
            row[0] for row in self._connection.execute("SELECT hash FROM cf_documents").fetchall()
        }
        # Jobs of which something is recorded that a new end, or a new beginning of a commit, replaces: few, so that the many
        # others need no deletion.
        live = "SELECT job_id FROM cf_processing_queue WHERE state IN ('queued', 'dispatched', 'running', 'committing')"
        rows = self._connection.execute(
            f"SELECT DISTINCT job_id FROM cf_dispositions WHERE job_id IN ({live}) "
            "UNION SELECT job_id FROM cf_commit_intents"
        ).fetchall()
        self._before: set[int] = {row[0] for row in rows}
        documents = self._connection.execute(
            "SELECT job_id, document FROM cf_commit_intents SEMI JOIN (SELECT job_id, epoch FROM cf_processing_queue "
            "WHERE state = 'committing') q USING (job_id, epoch) ORDER BY job_id"
        ).fetchall()
        self._committing: dict[int, op.CommitDocument] = {}
        self._claims: dict[tuple[str, str], set[int]] = {}  # pair -> committing jobs that claim it
        for job_id, document in documents:
            with suppress(msgspec.DecodeError):  # damage: recovery and `doctor` say so
                self._claim(job_id, msgspec.msgpack.decode(bytes(document), type=op.CommitDocument))
        self.expect(())

    def _claim(self, job_id: int, document: op.CommitDocument) -> None:
        self._committing[job_id] = document
        for claim in document.claims:
            self._claims.setdefault((claim.dataset_id, claim.source_id), set()).add(job_id)

    def _release(self, job_id: int) -> None:
        document = self._committing.pop(job_id, None)
        for claim in document.claims if document is not None else ():
            pair = (claim.dataset_id, claim.source_id)
            holders = self._claims.get(pair, set())
            holders.discard(job_id)
            if not holders:
                self._claims.pop(pair, None)

    def expect(self, operations: Iterable[op.Operation]) -> None:
        """Learn which commits begin in the transaction under way: their claims are looked up together."""
        self._claimed = {
            (claim.dataset_id, claim.source_id)
            for o in operations
            if isinstance(o, op.BeginCommit)
            for claim in o.claims
        }
        self._alive: dict[tuple[str, str], list[Alive]] | None = None
        self._inserted: set[int] = set()  # jobs of the transaction under way, not in the table yet

    # -- steps

    def _insert_jobs(self, o: op.InsertJobs) -> None:
        self._buffer.insert_structs("cf_processing_queue", o.jobs)
        self._inserted.update(job.job_id for job in o.jobs)
        for job in o.jobs:
            self._event(job.job_id, job.epoch, None, job.state, o.at_ns, "enqueued")
            self._tape(
                o.at_ns,
                "job.queued",
                job_id=job.job_id,
                run_id=job.run_id,
                parser=job.parser,
                sources=job.sources,
            )

    def _event(
        self, job_id: int, epoch: int, before: str | None, after: str, at_ns: int, detail: str
    ) -> None:
        row = {
            "job_id": job_id,
            "epoch": epoch,
            "from_state": before,
            "to_state": after,
            "at_ns": at_ns,
            "detail": detail,
        }
        self._buffer.insert("cf_job_events", [row])

    def _swap(self, swap: Swap, detail: str) -> None:
        self._buffer.swap(swap)
        self._event(
            swap.job_id, swap.new_epoch, swap.before.value, swap.after.value, swap.at_ns, detail
        )
        self._tape(
            swap.at_ns,
            f"job.{swap.after.value}",
            job_id=swap.job_id,
            epoch=swap.new_epoch,
            was=swap.before.value,
            detail=detail,
        )

    def _step_job(self, o: op.StepJob) -> None:
        new_epoch = o.epoch if o.new_epoch is None else o.new_epoch
        self._swap(
            Swap(
                job_id=o.job_id,
                before=o.before,
                after=o.after,
                epoch=o.epoch,
                new_epoch=new_epoch,
                at_ns=o.at_ns,
                attempts=o.attempts,
                reason=(o.code, o.message),
                spec=o.spec,
            ),
            o.detail,
        )
        if o.before is JobState.COMMITTING:  # a commit that was taken back has no intents any more
            self._buffer.replace("cf_commit_intents", o.job_id, [])
            self._release(o.job_id)
        if o.before in (JobState.FAILED, JobState.ABORTED):
            self._before.add(o.job_id)
        self._replace_dispositions(o.job_id, o.dispositions)
        self._save_log(o.job_id, new_epoch, o.log, o.isolation, o.trust)

    def _note_job(self, o: op.NoteJob) -> None:
        known = "SELECT count(*) FROM cf_processing_queue WHERE job_id = ?"
        if o.job_id in self._inserted or scalar(self._connection, known, [o.job_id]):
            self._event(o.job_id, o.epoch, None, o.state, o.at_ns, o.detail)

    def _replace_dispositions(self, job_id: int, rows: Sequence[msgspec.Struct]) -> None:
        if rows and job_id in self._before:
            self._buffer.replace("cf_dispositions", job_id, [structs.asdict(row) for row in rows])
        elif rows:
            self._buffer.insert_structs("cf_dispositions", rows)
            self._before.add(job_id)

    def _save_log(self, job_id: int, epoch: int, log: str, isolation: str, trust: str) -> None:
        if log or isolation or trust:
            row = {"job_id": job_id, "epoch": epoch, "log": log, "isolation": isolation}
            self._buffer.insert("cf_job_logs", [row | {"trust": trust}])

    def _save_breaker(self, o: op.SaveBreaker) -> None:
        self._connection.execute(
            "DELETE FROM cf_breakers WHERE parser = ? AND artifact_hash = ?",
            [o.parser, o.artifact_hash],
        )
        if o.failures:
            self._connection.execute(
                "INSERT INTO cf_breakers VALUES (?, ?, ?, ?, ?, ?)",
                [
                    o.parser,
                    o.artifact_hash,
                    o.state,
                    o.opened_at_ns,
                    msgspec.json.encode(o.failures).decode(),
                    o.at_ns,
                ],
            )
        if o.kind:
            by = {"actor": o.actor} if o.actor else {}
            self._tape(o.at_ns, o.kind, parser=o.parser, artifact_hash=o.artifact_hash, **by)

    # -- commit

    def _living(self, o: op.BeginCommit) -> list[Alive]:
        """Living materializations of what this commit claims, of other jobs, oldest first."""
        if self._alive is None:
            self._buffer.flush_materializations()
            wanted = [{"dataset_id": d, "source_id": s} for d, s in sorted(self._claimed)]
            rows = self._buffer.given(_ALIVE, _CLAIMS, wanted)
            self._alive = {}
            for dataset, job, source, key in rows:
                found = (dataset, job, source, key)
                self._alive.setdefault((dataset, source), []).append(found)
        pairs = dict.fromkeys((claim.dataset_id, claim.source_id) for claim in o.claims)
        return [row for pair in pairs for row in self._alive.get(pair, ()) if row[1] != o.job_id]

    def _left_over(self, o: op.BeginCommit) -> list[Alive]:
        """Living materializations, of other jobs, of sources that have no rows in their sparse dataset now."""
        if not o.sparse:
            return []
        self._buffer.flush_materializations()
        wanted = [{"source_id": source} for source in sorted(set(o.sources))]
        rows = self._buffer.given(_ALIVE_OF_SOURCES, {"source_id": "VARCHAR"}, wanted)
        claimed = {(claim.dataset_id, claim.source_id) for claim in o.claims}
        sparse = set(o.sparse)
        return [
            (dataset, job, source, key)
            for dataset, job, source, key in rows
            if dataset in sparse and (dataset, source) not in claimed and job != o.job_id
        ]

    def _begin_commit(self, o: op.BeginCommit) -> op.CommitClaims:
        near = {job for c in o.claims for job in self._claims.get((c.dataset_id, c.source_id), ())}
        near.discard(o.job_id)
        if waits_for := sorted(job for job in near if self._committing[job].excludes(o)):
            return op.CommitClaims(waits_for=tuple(waits_for))
        keys = {(c.dataset_id, c.source_id): c.materialization_key for c in o.claims}
        alive = [(d, j, s, key == keys[d, s]) for d, j, s, key in self._living(o)]
        conflicts = set() if o.again else _recorded_whole(o.claims, alive)
        left_over = self._left_over(o)
        if o.mode == SinkMode.ERROR:
            conflicts = {source for _, _, source, _ in (*alive, *left_over)}
        if conflicts:
            return op.CommitClaims(conflicts=tuple(sorted(conflicts)))
        # A source of which only some outputs are recorded under this very key is written whole again: its pairs of the same
        # key give way, so that no key is ever alive twice.
        retire = [
            Pair(dataset_id=d, job_id=j, source_id=s)
            for d, j, s, same in alive
            if same or o.mode == SinkMode.REPLACE
        ]
        if o.mode == SinkMode.REPLACE:
            retire += [Pair(dataset_id=d, job_id=j, source_id=s) for d, j, s, _ in left_over]
            left_over = []
        if retire:
            retire += self._quarantine_of(retire)
        empty = dict.fromkeys((dataset, source) for dataset, _, source, _ in left_over)
        claims_found = op.CommitClaims(retire=tuple(retire), empty=tuple(empty))
        swap = Swap(
            job_id=o.job_id,
            before=JobState.RUNNING,
            after=JobState.COMMITTING,
            epoch=o.epoch,
            new_epoch=o.epoch,
            at_ns=o.at_ns,
            receipt=o.receipt,
        )
        self._swap(swap, "intents recorded")
        document = op.CommitDocument(o.intents, claims_found, o.mode, o.claims, bool(o.sparse))
        self._claim(o.job_id, document)
        encoded = msgspec.msgpack.encode(document)
        row = {"job_id": o.job_id, "epoch": o.epoch, "document": encoded}
        if o.job_id in self._before:
            self._buffer.replace("cf_commit_intents", o.job_id, [row])
        else:
            self._buffer.insert("cf_commit_intents", [row])
        return claims_found

    def _quarantine_of(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Quarantined rows live and retire with the rows of their (job, source)."""
        self._buffer.flush_materializations()
        wanted = {(pair.job_id, pair.source_id) for pair in pairs}
        found = self._connection.execute(
            "SELECT dataset_id, job_id, source_id FROM cf_materializations WHERE table_name = ? AND retired_by IS NULL "
            "AND job_id IN (SELECT unnest(?::BIGINT[])) ORDER BY sequence",
            [QUARANTINE_TABLE, sorted({job_id for job_id, _ in wanted})],
        ).fetchall()
        return [Pair(dataset_id=d, job_id=j, source_id=s) for d, j, s in found if (j, s) in wanted]

    def _finish_commit(self, o: op.FinishCommit) -> None:
        swap = Swap(
            job_id=o.job_id,
            before=JobState.COMMITTING,
            after=o.after,
            epoch=o.epoch,
            new_epoch=o.epoch,
            at_ns=o.at_ns,
            rows=o.rows,
            quarantined=o.quarantined,
            reason=(o.code, o.message),
            receipt=None,
        )
        self._swap(swap, o.code or f"{o.rows} rows, {o.quarantined} quarantined")
        rows = []
        for materialization in o.materializations:
            self._sequence += 1
            rows.append({**structs.asdict(materialization), "sequence": self._sequence})
        buffer = self._buffer
        buffer.insert("cf_materializations", rows)
        new = [document for document in o.documents if document.hash not in self._documents]
        self._documents.update(document.hash for document in new)
        buffer.insert_structs("cf_documents", new)
        buffer.insert_structs("cf_outputs", o.outputs)
        buffer.insert_structs("cf_output_pairs", o.output_pairs)
        buffer.insert_structs("cf_ledgers", o.ledgers)
        buffer.insert_structs("cf_findings", o.findings)
        self._replace_dispositions(o.job_id, o.dispositions)
        self._save_log(o.job_id, o.epoch, o.log, o.isolation, o.trust)
        buffer.retire(o.retire, o.job_id)
        buffer.replace("cf_commit_intents", o.job_id, [])
        self._release(o.job_id)
        touched = {(m.dataset_id, m.source_id) for m in o.materializations}
        touched |= {(pair.dataset_id, pair.source_id) for pair in o.retire}
        if not self._claimed.isdisjoint(touched):
            self._alive = None  # a commit that begins after this one must see it
        for output in o.outputs:
            self._tape(
                o.at_ns,
                "output.committed",
                job_id=output.job_id,
                path=output.path,
                blake3=output.blake3,
                rows=output.rows,
            )
        for pair in o.retire:
            self._tape(
                o.at_ns,
                "pair.retired",
                job_id=pair.job_id,
                source_id=pair.source_id,
                dataset_id=pair.dataset_id,
            )

    def _remove_output(self, o: op.RemoveOutput) -> None:
        self._buffer.flush()
        self._connection.execute(
            "UPDATE cf_outputs SET removed_at_ns = ? WHERE path = ? AND removed_at_ns IS NULL",
            [o.at_ns, o.path],
        )
        if o.replaced_by is not None:
            self._buffer.insert_structs("cf_outputs", [o.replaced_by])
            self._buffer.insert_structs("cf_output_pairs", o.pairs)
        new_path = o.replaced_by.path if o.replaced_by is not None else None
        self._tape(o.at_ns, "output.removed", path=o.path, replaced_by=new_path)


def stored_reply(connection: duckdb.DuckDBPyConnection, request_id: str) -> bytes | None:
    """The reply that was recorded for a mutation, if it happened."""
    row = first_row(connection, "SELECT reply FROM cf_requests WHERE request_id = ?", [request_id])
    return None if row is None else bytes(row[0])


def _recorded_whole(
    claims: Sequence[op.PairClaim], alive: Sequence[tuple[str, int, str, bool]]
) -> set[str]:
    """Sources of which every claimed output lives under the very key that is claimed: there is nothing left to do."""
    claimed = Counter(claim.source_id for claim in claims)
    recorded = Counter(source for _, source in {(d, s) for d, _, s, same in alive if same})
    return {source for source, outputs in recorded.items() if outputs == claimed[source]}
