"""Apply operations to the control database: one writer, one transaction at a time, the tape in the same transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from casparian.db import operations as op
from casparian.db.approvals import ApprovalWriter
from casparian.db.buffer import Buffer, StaleStep
from casparian.db.job_writer import JobWriter, stored_reply
from casparian.db.program_writer import ProgramWriter
from casparian.db.quarantine import QuarantineWriter
from casparian.db.rows import first_row, scalar
from casparian.db.trust_writer import TrustWriter
from casparian.protocol import control
from casparian.tape.chain import GENESIS, link

if TYPE_CHECKING:
    import duckdb

__all__ = ["DatabaseWriter", "StaleStep"]

_ROWS_AT_A_TIME: Final = 4096


class DatabaseWriter:
    """The single writer. Not thread-safe: it belongs to one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.standstill = threading.Lock()  # whoever holds it knows that nothing is written
        self._buffer = Buffer(connection)
        self._jobs = JobWriter(connection, self._buffer, self._tape)
        self._load_tape_end()
        self._handlers: dict[type[Any], Callable[[Any], Any]] = {
            **self._jobs.handlers,
            **ApprovalWriter(connection, self._tape).handlers,
            **QuarantineWriter(connection, self._tape).handlers,
            op.SaveScan: self._save_scan,
            op.StartRun: self._start_run,
            op.SavePlan: self._save_plan,
            op.FinishRun: self._finish_run,
            op.InsertRule: self._insert_rule,
            op.DeleteRule: self._delete_rule,
            op.TagPaths: self._tag_paths,
            op.RecordDecision: self._record_decision,
            op.PromoteDataset: self._promote_dataset,
            op.RemoveIntents: self._remove_intents,
            **TrustWriter(connection, self._tape).handlers,
            **ProgramWriter(connection, self._tape).handlers,
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
            self._jobs.expect(o for group in groups for o in group)
            results = [self._group(group) for group in groups]
            self._buffer.flush()
            self._connection.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise
        return results

    def _group(self, group: Sequence[op.Operation]) -> list[Any]:
        """Results of a group's operations. A mutation whose reply is stored happened before: only its reply is given again."""
        for saved in group:
            if not isinstance(saved, op.SaveReply):
                continue
            stored = stored_reply(self._connection, saved.request_id)
            if stored is not None:
                return [stored if isinstance(other, op.SaveReply) else None for other in group]
        results: list[Any] = []
        for o in group:
            if isinstance(o, op.SaveReply):
                results.append(self._save_reply(o, results))
            else:
                results.append(self._handlers[type(o)](o))
        return results

    def _rollback(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        finally:
            self._buffer.clear()
            self._jobs.forget()
            self._load_tape_end()

    # -- helpers ------------------------------------------------------------------------------------------------------------

    def _scalar(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return scalar(self._connection, sql, parameters)

    def _load_tape_end(self) -> None:
        row = first_row(self._connection, "SELECT seq, hash FROM cf_tape ORDER BY seq DESC LIMIT 1")
        self._tape_seq, self._tape_hash = (int(row[0]), str(row[1])) if row else (0, GENESIS)

    def _tape(self, at_ns: int, kind: str, **fields: Any) -> None:
        entry = link(self._tape_seq + 1, self._tape_hash, at_ns, kind, fields)
        self._buffer.insert_structs("cf_tape", [entry])
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
                "companions": [msgspec.structs.asdict(c) for c in file.companions],
                "seen_at_ns": o.at_ns,
            }
            for order, file in enumerate(o.files)
        ]
        self._buffer.insert("scout_files", rows)
        self._buffer.flush()
        self._connection.execute(
            "INSERT INTO scout_sightings SELECT root, path, display_path, source_id, source_hash, sha256, size_bytes, ?, "
            "companions FROM scout_files f WHERE root = ? AND source_id IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM scout_sightings s "
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
        """A run that was asked for again after the sentinel ended is the same run, taken up again."""
        known = self._scalar("SELECT count(*) FROM cf_runs WHERE run_id = ?", [o.run_id])
        if known:
            self._connection.execute(
                "UPDATE cf_runs SET state = 'running', finished_at_ns = NULL, result = NULL "
                "WHERE run_id = ? AND state NOT IN ('finished', 'cancelled')",
                [o.run_id],
            )
        else:
            self._connection.execute(
                "INSERT INTO cf_runs VALUES (?, ?, ?, ?, 'running', ?, NULL, NULL)",
                [o.run_id, o.root, o.actor, o.request, o.at_ns],
            )
        kind = "run.resumed" if known else "run.started"
        self._tape(o.at_ns, kind, run_id=o.run_id, root=o.root, actor=o.actor)

    def _finish_run(self, o: op.FinishRun) -> None:
        self._connection.execute(
            "UPDATE cf_runs SET state = ?, finished_at_ns = ?, result = ? WHERE run_id = ?",
            [o.state, o.at_ns, o.result, o.run_id],
        )
        self._tape(o.at_ns, "run.finished", run_id=o.run_id, state=o.state)

    def _save_plan(self, o: op.SavePlan) -> None:
        if o.sources:
            self._connection.execute(
                "DELETE FROM cf_plan_items WHERE root = ? AND source_id IN (SELECT unnest(?::VARCHAR[]))",
                [o.root, list(o.sources)],
            )
        else:
            self._connection.execute("DELETE FROM cf_plan_items WHERE root = ?", [o.root])
        for start in range(0, len(o.items), _ROWS_AT_A_TIME):
            self._buffer.insert_structs("cf_plan_items", o.items[start : start + _ROWS_AT_A_TIME])
            self._buffer.flush()
        for contract in o.contracts:
            self._register_contract(contract, o.at_ns)
        for row in o.expected:
            known = self._scalar(
                "SELECT count(*) FROM cf_expected_outputs WHERE parser = ? AND artifact_hash = ? AND table_name = ? "
                "AND contract_hash = ? AND sink = ?",
                [row.parser, row.artifact_hash, row.table_name, row.contract_hash, row.sink],
            )
            if not known:
                self._buffer.insert_structs("cf_expected_outputs", [row])
                self._buffer.flush()

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
        self._buffer.insert(
            "schema_contracts",
            [{**msgspec.structs.asdict(contract), "revision": revision, "promoted_at_ns": at_ns}],
        )
        self._buffer.flush()  # another plan of this transaction must see it
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

    def _promote_dataset(self, o: op.PromoteDataset) -> None:
        dataset = o.dataset
        newest = self._scalar(
            "SELECT coalesce(max(revision), 0) FROM schema_datasets WHERE table_name = ?",
            [dataset.table_name],
        )
        if newest + 1 != dataset.revision:
            raise StaleStep(
                f"`{dataset.table_name}` has {newest} revisions: {dataset.revision} is not next"
            )
        self._buffer.insert_structs("schema_datasets", [dataset])
        if o.amendment is not None:
            self._buffer.insert_structs("schema_amendments", [o.amendment])
        self._buffer.flush()  # another decision of this transaction must see it
        self._tape(
            o.at_ns,
            "contract.amended" if o.amendment is not None else "contract.promoted",
            table=dataset.table_name,
            revision=dataset.revision,
            hash=dataset.hash,
            effect=dataset.effect,
            approval_id=dataset.approval_id,
            actor=dataset.actor,
        )

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

    def _save_reply(self, o: op.SaveReply, results: Sequence[Any]) -> bytes:
        reply = o.reply
        if o.template is not None:
            count = int(results[0] or 0)
            reply = control.encode(control.Done(message=o.template.format(n=count), count=count))
        self._connection.execute(
            "INSERT INTO cf_requests VALUES (?, ?, ?, ?)", [o.request_id, o.kind, reply, o.at_ns]
        )
        return reply
