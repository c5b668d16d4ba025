"""Apply operations to the control database: one writer, one transaction at a time, the tape in the same transaction."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa

from casparian.db import operations as op
from casparian.db.records import Pair
from casparian.db.rows import first_row, scalar
from casparian.domain.jobs import JobState, check_step
from casparian.domain.outputs import QUARANTINE_TABLE, SinkMode
from casparian.errors import CasparianError
from casparian.tape.chain import GENESIS, link

if TYPE_CHECKING:
    import duckdb

# At a time: the rows of a large plan are many times larger as dictionaries.
_INSERT_ROWS: Final = 4096
_ARROW_TYPES: Final = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
    "UINTEGER": pa.uint32(),
    "BOOLEAN": pa.bool_(),
    "BLOB": pa.binary(),
    "VARCHAR[]": pa.list_(pa.string()),
}


class StaleStep(CasparianError):
    """A compare-and-swap found the job in another state or epoch."""

    code = "job.stale"


class DatabaseWriter:
    """The single writer. Not thread-safe: it belongs to one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.standstill = threading.Lock()  # whoever holds it knows that nothing is written
        self._schemas: dict[str, pa.Schema] = {}
        self._sequence = self._scalar("SELECT coalesce(max(sequence), 0) FROM cf_materializations")
        self._load_tape_end()
        self._handlers: dict[type[Any], Callable[[Any], Any]] = {
            op.SaveScan: self._save_scan,
            op.StartRun: self._start_run,
            op.SavePlan: self._save_plan,
            op.InsertJobs: self._insert_jobs,
            op.StepJob: self._step_job,
            op.BeginCommit: self._begin_commit,
            op.FinishCommit: self._finish_commit,
            op.RemoveOutput: self._remove_output,
            op.FinishRun: self._finish_run,
            op.SaveReply: self._save_reply,
            op.InsertRule: self._insert_rule,
            op.DeleteRule: self._delete_rule,
            op.TagPaths: self._tag_paths,
            op.RecordDecision: self._record_decision,
            op.RemoveIntents: self._remove_intents,
        }

    def apply(self, groups: Sequence[Sequence[op.Operation]]) -> list[list[Any] | Exception]:
        """Apply groups of operations, all in one transaction when none fails.

        When one group fails, the transaction is rolled back and each group is applied in a transaction of its own, so that the
        fault of one does not undo the others.

        Returns:
            For each group the results of its operations, or the exception that kept the group from happening.
        """
        try:
            return list(self._transact(groups))
        except Exception as error:  # noqa: BLE001 - any fault must be reported to the group it belongs to
            if len(groups) == 1:
                return [error]
        outcomes: list[list[Any] | Exception] = []
        for group in groups:
            try:
                outcomes += self._transact([group])
            except Exception as error:  # noqa: BLE001 - reported to this group alone
                outcomes.append(error)
        return outcomes

    def _transact(self, groups: Sequence[Sequence[op.Operation]]) -> list[list[Any]]:
        with self.standstill:
            return self._transact_now(groups)

    def _transact_now(self, groups: Sequence[Sequence[op.Operation]]) -> list[list[Any]]:
        self._connection.execute("BEGIN")
        try:
            results = [[self._handlers[type(o)](o) for o in group] for group in groups]
            self._connection.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise
        return results

    def _rollback(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        finally:
            self._sequence = self._scalar(
                "SELECT coalesce(max(sequence), 0) FROM cf_materializations"
            )
            self._load_tape_end()

    # -- helpers ------------------------------------------------------------------------------------------------------------

    def _scalar(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return scalar(self._connection, sql, parameters)

    def _schema(self, table: str) -> pa.Schema:
        if table not in self._schemas:
            rows = self._connection.execute(f'DESCRIBE "{table}"').fetchall()
            self._schemas[table] = pa.schema(
                [pa.field(name, _ARROW_TYPES[kind]) for name, kind, *_ in rows]
            )
        return self._schemas[table]

    def _insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert many rows as one Arrow table: a statement per row costs twenty times as much."""
        for start in range(0, len(rows), _INSERT_ROWS):
            part = list(rows[start : start + _INSERT_ROWS])
            batch = pa.Table.from_pylist(part, schema=self._schema(table))
            self._connection.register("incoming", batch)
            self._connection.execute(f'INSERT INTO "{table}" SELECT * FROM incoming')
            self._connection.unregister("incoming")

    def _insert_structs(self, table: str, rows: Sequence[msgspec.Struct]) -> None:
        for start in range(0, len(rows), _INSERT_ROWS):
            part = rows[start : start + _INSERT_ROWS]
            self._insert(table, [msgspec.structs.asdict(row) for row in part])

    def _load_tape_end(self) -> None:
        row = first_row(self._connection, "SELECT seq, hash FROM cf_tape ORDER BY seq DESC LIMIT 1")
        self._tape_seq, self._tape_hash = (int(row[0]), str(row[1])) if row else (0, GENESIS)

    def _tape(self, at_ns: int, kind: str, **fields: Any) -> None:
        entry = link(self._tape_seq + 1, self._tape_hash, at_ns, kind, fields)
        self._connection.execute(
            "INSERT INTO cf_tape VALUES (?, ?, ?, ?)",
            [entry.seq, entry.prev_hash, entry.hash, entry.entry],
        )
        self._tape_seq, self._tape_hash = entry.seq, entry.hash

    # -- discovery ----------------------------------------------------------------------------------------------------------

    def _save_scan(self, o: op.SaveScan) -> None:
        self._connection.execute("DELETE FROM scout_files WHERE root = ?", [o.root])
        rows = [
            {
                **msgspec.structs.asdict(file),
                "walk_order": order,
                "status": file.status.value,
                "tags": list(file.tags),
                "tag_reasons": list(file.tag_reasons),
                "seen_at_ns": o.at_ns,
            }
            for order, file in enumerate(o.files)
        ]
        self._insert("scout_files", rows)
        self._connection.execute(
            "INSERT INTO scout_sightings SELECT root, path, display_path, source_id, source_hash, sha256, size_bytes, ? "
            "FROM scout_files f WHERE root = ? AND source_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM scout_sightings s "
            "WHERE s.root = f.root AND s.path = f.path AND s.source_id = f.source_id)",
            [o.at_ns, o.root],
        )
        self._tape(o.at_ns, "scan", root=o.root, files=len(o.files))

    def _insert_rule(self, o: op.InsertRule) -> int:
        number = self._scalar("SELECT coalesce(max(rule_id), 0) + 1 FROM scout_rules")
        self._connection.execute(
            "INSERT INTO scout_rules VALUES (?, ?, ?, ?)", [number, o.pattern, o.tag, o.at_ns]
        )
        self._tape(o.at_ns, "rule.added", rule_id=number, pattern=o.pattern, tag=o.tag)
        return number

    def _delete_rule(self, o: op.DeleteRule) -> int:
        count = self._scalar("SELECT count(*) FROM scout_rules WHERE rule_id = ?", [o.rule_id])
        self._connection.execute("DELETE FROM scout_rules WHERE rule_id = ?", [o.rule_id])
        if count:
            self._tape(o.at_ns, "rule.removed", rule_id=o.rule_id)
        return count

    def _tag_paths(self, o: op.TagPaths) -> int:
        subject = "regexp_extract(display_path, '[^/]*$')" if o.name_only else "display_path"
        matches = f"FROM scout_files WHERE regexp_full_match({subject}, ?, 'is')"
        count = self._scalar(f"SELECT count(*) {matches}", [o.expression])
        self._connection.execute(
            f"DELETE FROM scout_tags t WHERE tag = ? AND EXISTS (SELECT 1 {matches} "
            "AND scout_files.root = t.root AND scout_files.path = t.path)",
            [o.tag, o.expression],
        )
        if not o.remove:
            self._connection.execute(
                f"INSERT INTO scout_tags SELECT root, path, ?, ? {matches}",
                [o.tag, o.at_ns, o.expression],
            )
        kind = "tag.removed" if o.remove else "tag.added"
        self._tape(o.at_ns, kind, pattern=o.pattern, tag=o.tag, paths=count)
        return count

    # -- runs and plans -----------------------------------------------------------------------------------------------------

    def _start_run(self, o: op.StartRun) -> None:
        self._connection.execute(
            "INSERT INTO cf_runs VALUES (?, ?, ?, ?, 'running', ?, NULL, NULL) ON CONFLICT DO NOTHING",
            [o.run_id, o.root, o.actor, o.request, o.at_ns],
        )
        self._tape(o.at_ns, "run.started", run_id=o.run_id, root=o.root, actor=o.actor)

    def _finish_run(self, o: op.FinishRun) -> None:
        self._connection.execute(
            "UPDATE cf_runs SET state = ?, finished_at_ns = ?, result = ? WHERE run_id = ?",
            [o.state, o.at_ns, o.result, o.run_id],
        )
        self._tape(o.at_ns, "run.finished", run_id=o.run_id, state=o.state)

    def _save_plan(self, o: op.SavePlan) -> None:
        self._connection.execute("DELETE FROM cf_plan_items WHERE root = ?", [o.root])
        self._insert_structs("cf_plan_items", o.items)
        for contract in o.contracts:
            self._register_contract(contract, o.at_ns)
        for row in o.expected:
            known = self._scalar(
                "SELECT count(*) FROM cf_expected_outputs WHERE parser = ? AND artifact_hash = ? AND table_name = ? "
                "AND contract_hash = ? AND sink = ?",
                [row.parser, row.artifact_hash, row.table_name, row.contract_hash, row.sink],
            )
            if not known:
                self._insert_structs("cf_expected_outputs", [row])

    def _register_contract(self, contract: Any, at_ns: int) -> None:
        row = first_row(
            self._connection,
            "SELECT revision, contract_hash FROM schema_contracts WHERE parser = ? AND table_name = ? "
            "ORDER BY revision DESC LIMIT 1",
            [contract.parser, contract.table_name],
        )
        if row is not None and row[1] == contract.contract_hash:
            return
        revision = (int(row[0]) if row else 0) + 1
        self._insert(
            "schema_contracts",
            [{**msgspec.structs.asdict(contract), "revision": revision, "promoted_at_ns": at_ns}],
        )
        self._tape(
            at_ns,
            "contract.in_force",
            parser=contract.parser,
            table=contract.table_name,
            revision=revision,
            contract_hash=contract.contract_hash,
            origin=contract.origin,
        )

    def _record_decision(self, o: op.RecordDecision) -> None:
        self._tape(o.at_ns, o.kind, **o.fields)

    def _remove_intents(self, o: op.RemoveIntents) -> int:
        rows = self._connection.execute(
            "SELECT job_id, epoch, document FROM cf_commit_intents i ANTI JOIN (SELECT job_id, epoch FROM "
            "cf_processing_queue WHERE state = 'committing') q USING (job_id, epoch) ORDER BY ALL"
        ).fetchall()
        for job_id, epoch, document in rows:
            self._connection.execute(
                "DELETE FROM cf_commit_intents WHERE job_id = ? AND epoch = ?", [job_id, epoch]
            )
            self._tape(
                o.at_ns,
                "repair.intent_removed",
                job_id=job_id,
                epoch=epoch,
                document=bytes(document).hex(),
                actor=o.actor,
            )
        return len(rows)

    def _save_reply(self, o: op.SaveReply) -> None:
        self._connection.execute(
            "INSERT INTO cf_requests VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [o.request_id, o.kind, o.reply, o.at_ns],
        )

    # -- jobs ---------------------------------------------------------------------------------------------------------------

    def _insert_jobs(self, o: op.InsertJobs) -> None:
        self._insert_structs("cf_processing_queue", o.jobs)
        events = [
            {
                "job_id": job.job_id,
                "epoch": job.epoch,
                "from_state": None,
                "to_state": job.state,
                "at_ns": o.at_ns,
                "detail": "enqueued",
            }
            for job in o.jobs
        ]
        self._insert("cf_job_events", events)
        for job in o.jobs:
            self._tape(
                o.at_ns,
                "job.queued",
                job_id=job.job_id,
                run_id=job.run_id,
                parser=job.parser,
                sources=job.sources,
            )

    def _swap(
        self,
        job_id: int,
        before: JobState,
        after: JobState,
        epoch: int,
        new_epoch: int,
        detail: str,
        at_ns: int,
    ) -> None:
        check_step(before, after)
        row = first_row(
            self._connection,
            "UPDATE cf_processing_queue SET state = ?, epoch = ?, updated_at_ns = ? "
            "WHERE job_id = ? AND state = ? AND epoch = ? RETURNING job_id",
            [after.value, new_epoch, at_ns, job_id, before.value, epoch],
        )
        if row is None:
            raise StaleStep(f"job {job_id} is no longer {before} at epoch {epoch}", job=job_id)
        self._connection.execute(
            "INSERT INTO cf_job_events VALUES (?, ?, ?, ?, ?, ?)",
            [job_id, new_epoch, before.value, after.value, at_ns, detail],
        )
        self._tape(
            at_ns,
            f"job.{after.value}",
            job_id=job_id,
            epoch=new_epoch,
            was=before.value,
            detail=detail,
        )

    def _step_job(self, o: op.StepJob) -> None:
        new_epoch = o.epoch if o.new_epoch is None else o.new_epoch
        self._swap(o.job_id, o.before, o.after, o.epoch, new_epoch, o.detail, o.at_ns)
        self._connection.execute(
            "UPDATE cf_processing_queue SET attempts = coalesce(?, attempts), code = ?, message = ?, spec = coalesce(?, spec) "
            "WHERE job_id = ?",
            [o.attempts, o.code, o.message, o.spec, o.job_id],
        )
        self._replace_dispositions(o.job_id, o.dispositions)
        self._save_log(o.job_id, new_epoch, o.log, o.isolation)

    def _replace_dispositions(self, job_id: int, rows: Sequence[msgspec.Struct]) -> None:
        if rows:
            self._connection.execute("DELETE FROM cf_dispositions WHERE job_id = ?", [job_id])
            self._insert_structs("cf_dispositions", rows)

    def _save_log(self, job_id: int, epoch: int, log: str, isolation: str) -> None:
        if log or isolation:
            self._connection.execute(
                "INSERT INTO cf_job_logs VALUES (?, ?, ?, ?)", [job_id, epoch, log, isolation]
            )

    # -- commit -------------------------------------------------------------------------------------------------------------

    def _begin_commit(self, o: op.BeginCommit) -> op.CommitClaims:
        claims = pa.Table.from_pylist(
            [msgspec.structs.asdict(claim) for claim in o.claims],
            schema=pa.schema(
                [
                    ("dataset_id", pa.string()),
                    ("source_id", pa.string()),
                    ("materialization_key", pa.string()),
                ]
            ),
        )
        self._connection.register("claims", claims)
        alive = self._connection.execute(
            "SELECT m.dataset_id, m.job_id, m.source_id, m.materialization_key = c.materialization_key "
            "FROM cf_materializations m JOIN claims c ON m.dataset_id = c.dataset_id AND m.source_id = c.source_id "
            "WHERE m.retired_by IS NULL AND m.job_id <> ? ORDER BY m.sequence",
            [o.job_id],
        ).fetchall()
        self._connection.unregister("claims")
        conflicts = _recorded_whole(o.claims, alive)
        if o.mode == SinkMode.ERROR:
            conflicts = {source for _, _, source, _ in alive}
        if conflicts:
            return op.CommitClaims(conflicts=tuple(sorted(conflicts)))
        # A source of which only some outputs are recorded under this very key is written whole again: its pairs of the same
        # key give way, so that no key is ever alive twice.
        retire = [
            Pair(dataset_id=d, job_id=j, source_id=s)
            for d, j, s, same in alive
            if same or o.mode == SinkMode.REPLACE
        ]
        if retire:
            retire += self._quarantine_of(retire)
        claims_found = op.CommitClaims(retire=tuple(retire))
        self._swap(
            o.job_id,
            JobState.RUNNING,
            JobState.COMMITTING,
            o.epoch,
            o.epoch,
            "intents recorded",
            o.at_ns,
        )
        self._connection.execute(
            "UPDATE cf_processing_queue SET receipt = ? WHERE job_id = ?", [o.receipt, o.job_id]
        )
        self._connection.execute("DELETE FROM cf_commit_intents WHERE job_id = ?", [o.job_id])
        document = msgspec.msgpack.encode((o.intents, claims_found))
        self._connection.execute(
            "INSERT INTO cf_commit_intents VALUES (?, ?, ?)", [o.job_id, o.epoch, document]
        )
        return claims_found

    def _quarantine_of(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Quarantined rows live and retire with the rows of their (job, source)."""
        wanted = {(pair.job_id, pair.source_id) for pair in pairs}
        found = self._connection.execute(
            "SELECT dataset_id, job_id, source_id FROM cf_materializations WHERE table_name = ? AND retired_by IS NULL",
            [QUARANTINE_TABLE],
        ).fetchall()
        return [Pair(dataset_id=d, job_id=j, source_id=s) for d, j, s in found if (j, s) in wanted]

    def _finish_commit(self, o: op.FinishCommit) -> None:
        detail = o.code or f"{o.rows} rows, {o.quarantined} quarantined"
        self._swap(o.job_id, JobState.COMMITTING, o.after, o.epoch, o.epoch, detail, o.at_ns)
        self._connection.execute(
            "UPDATE cf_processing_queue SET rows = ?, quarantined = ?, code = ?, message = ?, receipt = NULL WHERE job_id = ?",
            [o.rows, o.quarantined, o.code, o.message, o.job_id],
        )
        rows = []
        for materialization in o.materializations:
            self._sequence += 1
            rows.append({**msgspec.structs.asdict(materialization), "sequence": self._sequence})
        self._insert("cf_materializations", rows)
        for document in o.documents:
            if not self._scalar(
                "SELECT count(*) FROM cf_documents WHERE hash = ?", [document.hash]
            ):
                self._insert_structs("cf_documents", [document])
        self._insert_structs("cf_outputs", o.outputs)
        self._insert_structs("cf_output_pairs", o.output_pairs)
        self._insert_structs("cf_ledgers", o.ledgers)
        self._insert_structs("cf_findings", o.findings)
        self._replace_dispositions(o.job_id, o.dispositions)
        self._save_log(o.job_id, o.epoch, o.log, o.isolation)
        for pair in o.retire:
            self._connection.execute(
                "UPDATE cf_materializations SET retired_by = ? WHERE dataset_id = ? AND job_id = ? AND source_id = ?",
                [o.job_id, pair.dataset_id, pair.job_id, pair.source_id],
            )
        self._connection.execute("DELETE FROM cf_commit_intents WHERE job_id = ?", [o.job_id])
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
        self._connection.execute(
            "UPDATE cf_outputs SET removed_at_ns = ? WHERE path = ? AND removed_at_ns IS NULL",
            [o.at_ns, o.path],
        )
        if o.replaced_by is not None:
            self._insert_structs("cf_outputs", [o.replaced_by])
            self._insert_structs("cf_output_pairs", o.pairs)
        new_path = o.replaced_by.path if o.replaced_by is not None else None
        self._tape(o.at_ns, "output.removed", path=o.path, replaced_by=new_path)


def _recorded_whole(
    claims: Sequence[op.PairClaim], alive: Sequence[tuple[str, int, str, bool]]
) -> set[str]:
    """Sources of which every claimed output lives under the very key that is claimed: there is nothing left to do."""
    claimed = Counter(claim.source_id for claim in claims)
    recorded = Counter(source for _, source in {(d, s) for d, _, s, same in alive if same})
    return {source for source, outputs in recorded.items() if outputs == claimed[source]}
