"""The control database as values in memory: the operations of `db.operations`, with the results and faults of `db.writer`.

A group of operations happens as a whole or not at all. Several groups share a transaction, and when one of them fails each is
applied alone, as the writer does it. `snapshot` and `restore` are what a crash does to a database.

`test_control_store.py` drives this and the real writer with the same operations and compares every table and result.
Operations of discovery by pattern (`SaveScan`, `TagPaths`) are not modelled: an operation that is not known here raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import structs

from casparian.db import operations as op
from casparian.db import records as row
from casparian.db.writer import StaleStep
from casparian.domain.jobs import JobState, check_step
from casparian.domain.outputs import QUARANTINE_TABLE, SinkMode
from casparian.protocol import control
from tests.model.store_reads import StoreReads
from tests.model.store_rows import Intent, JobEvent, RunRow, Snapshot, TapeLink


class ConstraintViolated(Exception):
    """A primary key that exists already."""


class ControlStore(StoreReads):
    """Tables as attributes, rows as the structs of `db.records`.

    Public for reading: `jobs` (by id, in order of insertion), `runs`, `requests`, `intents`, `materializations`, `outputs`,
    `output_pairs`, `events`, `dispositions`, `ledgers`, `findings`, `documents`, `logs`, `tape`, `rules`, `plan_items`,
    `contracts`, `expected`, `breakers`. `version` grows with every transaction that changed something.
    """

    sees_commits = True  # a wrong writer does not: T1 then looks at what is recorded only

    def __init__(self) -> None:
        self.jobs: dict[int, row.JobRow] = {}
        self.runs: dict[str, RunRow] = {}
        self.requests: dict[str, tuple[str, bytes, int]] = {}  # kind, reply, at_ns
        self.intents: dict[int, Intent] = {}
        self.materializations: list[row.MaterializationRow] = []
        self.outputs: list[row.OutputRow] = []
        self.output_pairs: list[row.OutputPairRow] = []
        self.events: list[JobEvent] = []
        self.dispositions: dict[int, tuple[row.DispositionRow, ...]] = {}
        self.ledgers: list[row.LedgerRow] = []
        self.findings: list[row.FindingRow] = []
        self.documents: dict[str, row.DocumentRow] = {}
        self.logs: list[tuple[int, int, str, str, str]] = []  # job, epoch, log, isolation, trust
        self.tape: list[TapeLink] = []
        self.rules: dict[int, tuple[str, str, int]] = {}  # pattern, tag, at_ns
        self.plan_items: dict[str, tuple[row.PlanItemRow, ...]] = {}  # by root
        self.contracts: list[tuple[row.ContractRow, int, int]] = []  # contract, revision, at_ns
        self.expected: list[row.ExpectedOutputRow] = []
        self.breakers: dict[tuple[str, str], op.SaveBreaker] = {}  # by parser and artifact
        self._tables: Final = tuple(self.__dict__)
        self.version = 0
        self._handlers: Final[dict[type[Any], Callable[[Any], Any]]] = {
            op.StartRun: self._start_run,
            op.SavePlan: self._save_plan,
            op.InsertJobs: self._insert_jobs,
            op.StepJob: self._step_job,
            op.NoteJob: self._note_job,
            op.SaveBreaker: self._save_breaker,
            op.RemoveIntents: self._remove_intents,
            op.BeginCommit: self._begin_commit,
            op.FinishCommit: self._finish_commit,
            op.RemoveOutput: self._remove_output,
            op.FinishRun: self._finish_run,
            op.InsertRule: self._insert_rule,
            op.DeleteRule: self._delete_rule,
            op.RecordDecision: self._record_decision,
        }

    # -- transactions

    def apply(self, groups: Sequence[Sequence[op.Operation]]) -> list[list[Any] | Exception]:
        """Apply groups of operations; for each its results, or the exception that kept it from happening.

        Raises:
            NotImplementedError: an operation that this model does not know. Nothing has changed then.
        """
        before = self.snapshot()
        try:
            return [self._group(group) for group in groups]
        except NotImplementedError:
            self.restore(before)
            raise
        except Exception as error:  # noqa: BLE001 - as the writer: any fault belongs to a group
            self.restore(before)
            if len(groups) == 1:
                return [error]
        outcomes: list[list[Any] | Exception] = []
        for group in groups:
            outcomes += self.apply([group])
        return outcomes

    def snapshot(self) -> Snapshot:
        """Everything, as it is now."""
        return Snapshot(tables={name: getattr(self, name).copy() for name in self._tables})

    def restore(self, snapshot: Snapshot) -> None:
        """Make everything as it was."""
        for name, table in snapshot.tables.items():
            setattr(self, name, table.copy())
        self.version += 1

    def _group(self, operations: Sequence[op.Operation]) -> list[Any]:
        for saved in operations:
            if isinstance(saved, op.SaveReply) and saved.request_id in self.requests:
                _, stored, _ = self.requests[saved.request_id]
                return [stored if isinstance(o, op.SaveReply) else None for o in operations]
        results: list[Any] = []
        for operation in operations:
            if isinstance(operation, op.SaveReply):
                results.append(self._save_reply(operation, results))
                continue
            handler = self._handlers.get(type(operation))
            if handler is None:
                raise NotImplementedError(f"no model of {type(operation).__name__}")
            results.append(handler(operation))
        self.version += 1
        return results

    # -- rules, runs, plans

    def _record(self, at_ns: int, kind: str, **fields: Any) -> None:
        self.tape.append(TapeLink(at_ns=at_ns, kind=kind, fields=fields))

    def _insert_rule(self, o: op.InsertRule) -> int:
        number = max(self.rules, default=0) + 1
        self.rules[number] = (o.pattern, o.tag, o.at_ns)
        self._record(o.at_ns, "rule.added", rule_id=number, pattern=o.pattern, tag=o.tag)
        return number

    def _delete_rule(self, o: op.DeleteRule) -> int:
        if self.rules.pop(o.rule_id, None) is None:
            return 0
        self._record(o.at_ns, "rule.removed", rule_id=o.rule_id)
        return 1

    def _start_run(self, o: op.StartRun) -> None:
        known = self.runs.get(o.run_id)
        if known is None:
            self.runs[o.run_id] = RunRow(
                run_id=o.run_id,
                root=o.root,
                actor=o.actor,
                request=o.request,
                state="running",
                started_at_ns=o.at_ns,
            )
        elif known.state not in ("finished", "cancelled"):
            self.runs[o.run_id] = structs.replace(
                known, state="running", finished_at_ns=None, result=None
            )
        kind = "run.started" if known is None else "run.resumed"
        self._record(o.at_ns, kind, run_id=o.run_id, root=o.root, actor=o.actor)

    def _finish_run(self, o: op.FinishRun) -> None:
        if (run := self.runs.get(o.run_id)) is not None:
            self.runs[o.run_id] = structs.replace(
                run, state=o.state, finished_at_ns=o.at_ns, result=o.result
            )
        self._record(o.at_ns, "run.finished", run_id=o.run_id, state=o.state)

    def _save_plan(self, o: op.SavePlan) -> None:
        # As the writer: what was planned under the operation's root goes, each new item says its own root.
        kept = [
            item
            for item in self.plan_items.pop(o.root, ())
            if o.sources and item.source_id not in o.sources
        ]
        if kept:
            self.plan_items[o.root] = tuple(kept)
        for item in o.items:
            self.plan_items[item.root] = (*self.plan_items.get(item.root, ()), item)
        for contract in o.contracts:
            self._register_contract(contract, o.at_ns)
        for expected in o.expected:
            if _expectation(expected) not in {_expectation(known) for known in self.expected}:
                self.expected.append(expected)

    def _register_contract(self, contract: row.ContractRow, at_ns: int) -> None:
        revisions = [
            (known, revision)
            for known, revision, _ in self.contracts
            if (known.parser, known.table_name) == (contract.parser, contract.table_name)
        ]
        newest, number = max(revisions, key=lambda found: found[1], default=(None, 0))
        if newest is not None and newest.contract_hash == contract.contract_hash:
            return
        self.contracts.append((contract, number + 1, at_ns))
        self._record(
            at_ns,
            "contract.in_force",
            parser=contract.parser,
            table=contract.table_name,
            revision=number + 1,
            contract_hash=contract.contract_hash,
            origin=contract.origin,
        )

    def _record_decision(self, o: op.RecordDecision) -> None:
        self._record(o.at_ns, o.kind, **o.fields)

    def _save_reply(self, o: op.SaveReply, results: Sequence[Any]) -> bytes:
        if o.request_id in self.requests:
            raise ConstraintViolated(f"request {o.request_id} exists")
        reply = o.reply
        if o.template is not None:
            count = int(results[0] or 0)
            reply = control.encode(control.Done(message=o.template.format(n=count), count=count))
        self.requests[o.request_id] = (o.kind, reply, o.at_ns)
        return reply

    def _save_breaker(self, o: op.SaveBreaker) -> None:
        self.breakers.pop((o.parser, o.artifact_hash), None)
        if o.failures:
            self.breakers[o.parser, o.artifact_hash] = o
        if o.kind:
            by = {"actor": o.actor} if o.actor else {}
            self._record(o.at_ns, o.kind, parser=o.parser, artifact_hash=o.artifact_hash, **by)

    def _remove_intents(self, o: op.RemoveIntents) -> int:
        committing = {
            job.job_id: job.epoch for job in self.jobs.values() if job.state == "committing"
        }
        stray = [i for i in self.intents.values() if committing.get(i.job_id) != i.epoch]
        for intent in sorted(stray, key=lambda i: (i.job_id, i.epoch)):
            del self.intents[intent.job_id]
            self._record(
                o.at_ns,
                "repair.intent_removed",
                job_id=intent.job_id,
                epoch=intent.epoch,
                document=intent.document.hex(),
                actor=o.actor,
            )
        return len(stray)

    # -- jobs

    def _insert_jobs(self, o: op.InsertJobs) -> None:
        for job in o.jobs:
            if job.job_id in self.jobs:
                raise ConstraintViolated(f"job {job.job_id} exists")
            self.jobs[job.job_id] = job
            self._event(job.job_id, job.epoch, None, job.state, o.at_ns, "enqueued")
        for job in o.jobs:
            self._record(
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
        self.events.append(
            JobEvent(
                job_id=job_id,
                epoch=epoch,
                from_state=before,
                to_state=after,
                at_ns=at_ns,
                detail=detail,
            )
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
        job = self.jobs.get(job_id)
        if job is None or job.state != before.value or job.epoch != epoch:
            raise StaleStep(f"job {job_id} is no longer {before} at epoch {epoch}", job=job_id)
        self.jobs[job_id] = structs.replace(
            job, state=after.value, epoch=new_epoch, updated_at_ns=at_ns
        )
        self._event(job_id, new_epoch, before.value, after.value, at_ns, detail)
        self._record(
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
        job = self.jobs[o.job_id]
        self.jobs[o.job_id] = structs.replace(
            job,
            attempts=job.attempts if o.attempts is None else o.attempts,
            code=o.code,
            message=o.message,
            spec=job.spec if o.spec is None else o.spec,
        )
        if o.before is JobState.COMMITTING:
            self.intents.pop(o.job_id, None)
        self._keep(o.job_id, new_epoch, o.dispositions, o.log, o.isolation, o.trust)

    def _note_job(self, o: op.NoteJob) -> None:
        if o.job_id in self.jobs:
            self._event(o.job_id, o.epoch, None, o.state, o.at_ns, o.detail)

    def _keep(
        self,
        job_id: int,
        epoch: int,
        dispositions: tuple[row.DispositionRow, ...],
        log: str,
        isolation: str,
        trust: str,
    ) -> None:
        if dispositions:
            self.dispositions[job_id] = dispositions
        if log or isolation or trust:
            self.logs.append((job_id, epoch, log, isolation, trust))

    # -- commit

    def _begin_commit(self, o: op.BeginCommit) -> op.CommitClaims:
        claimed = {(claim.dataset_id, claim.source_id): claim for claim in o.claims}
        if waits_for := self._waits_for(o, claimed):
            return op.CommitClaims(waits_for=tuple(waits_for))
        alive = []  # (materialization, whether its key is the claimed one), by claim, oldest first
        for claim in claimed.values():
            alive += [
                (found, found.materialization_key == claim.materialization_key)
                for found in self.materializations
                if (found.dataset_id, found.source_id) == (claim.dataset_id, claim.source_id)
                and found.retired_by is None
                and found.job_id != o.job_id
            ]
        if o.mode == SinkMode.ERROR:
            conflicts = {found.source_id for found, _ in alive}
        elif o.again:
            conflicts = set()
        else:
            same = {(found.dataset_id, found.source_id) for found, equal in alive if equal}
            missing = {source for _, source in claimed.keys() - same}
            conflicts = {source for _, source in same} - missing
        if conflicts:
            return op.CommitClaims(conflicts=tuple(sorted(conflicts)))
        retire = [_pair(found) for found, equal in alive if equal or o.mode == SinkMode.REPLACE]
        owners = {(pair.job_id, pair.source_id) for pair in retire}
        retire += [
            _pair(found)
            for found in self.materializations
            if found.table_name == QUARANTINE_TABLE
            and found.retired_by is None
            and (found.job_id, found.source_id) in owners
        ]
        self._swap(
            o.job_id,
            JobState.RUNNING,
            JobState.COMMITTING,
            o.epoch,
            o.epoch,
            "intents recorded",
            o.at_ns,
        )
        claims = op.CommitClaims(retire=tuple(retire))
        self.jobs[o.job_id] = structs.replace(self.jobs[o.job_id], receipt=o.receipt)
        self.intents[o.job_id] = Intent(
            job_id=o.job_id,
            epoch=o.epoch,
            document=msgspec.msgpack.encode(op.CommitDocument(o.intents, claims, o.mode, o.claims)),
        )
        return claims

    def _waits_for(
        self, o: op.BeginCommit, claimed: Mapping[tuple[str, str], op.PairClaim]
    ) -> list[int]:
        """Committing jobs whose end decides what this commit may do."""
        found = set()
        for intent in self.intents.values() if self.sees_commits else ():
            if intent.job_id == o.job_id:
                continue
            other = msgspec.msgpack.decode(intent.document, type=op.CommitDocument)
            for theirs in other.claims:
                ours = claimed.get((theirs.dataset_id, theirs.source_id))
                if ours is None:
                    continue
                same = ours.materialization_key == theirs.materialization_key
                if same or not (o.mode == other.mode == SinkMode.APPEND):
                    found.add(intent.job_id)
        return sorted(found)

    def _finish_commit(self, o: op.FinishCommit) -> None:
        detail = o.code or f"{o.rows} rows, {o.quarantined} quarantined"
        self._swap(o.job_id, JobState.COMMITTING, o.after, o.epoch, o.epoch, detail, o.at_ns)
        self.jobs[o.job_id] = structs.replace(
            self.jobs[o.job_id],
            rows=o.rows,
            quarantined=o.quarantined,
            code=o.code,
            message=o.message,
            receipt=None,
        )
        sequence = self.materializations[-1].sequence if self.materializations else 0
        for number, materialization in enumerate(o.materializations, sequence + 1):
            self.materializations.append(structs.replace(materialization, sequence=number))
        for document in o.documents:
            self.documents.setdefault(document.hash, document)
        self.outputs += o.outputs
        self.output_pairs += o.output_pairs
        self.ledgers += o.ledgers
        self.findings += o.findings
        self._keep(o.job_id, o.epoch, o.dispositions, o.log, o.isolation, o.trust)
        if o.retire:
            gone = set(o.retire)
            self.materializations = [
                structs.replace(found, retired_by=o.job_id) if _pair(found) in gone else found
                for found in self.materializations
            ]
        self.intents.pop(o.job_id, None)
        for output in o.outputs:
            self._record(
                o.at_ns,
                "output.committed",
                job_id=output.job_id,
                path=output.path,
                blake3=output.blake3,
                rows=output.rows,
            )
        for pair in o.retire:
            self._record(
                o.at_ns,
                "pair.retired",
                job_id=pair.job_id,
                source_id=pair.source_id,
                dataset_id=pair.dataset_id,
            )

    def _remove_output(self, o: op.RemoveOutput) -> None:
        self.outputs = [
            structs.replace(output, removed_at_ns=o.at_ns)
            if output.path == o.path and output.removed_at_ns is None
            else output
            for output in self.outputs
        ]
        if o.replaced_by is not None:
            self.outputs.append(o.replaced_by)
            self.output_pairs += o.pairs
        new_path = o.replaced_by.path if o.replaced_by is not None else None
        self._record(o.at_ns, "output.removed", path=o.path, replaced_by=new_path)


def _pair(found: row.MaterializationRow) -> row.Pair:
    return row.Pair(dataset_id=found.dataset_id, job_id=found.job_id, source_id=found.source_id)


def _expectation(expected: row.ExpectedOutputRow) -> tuple[str, ...]:
    return (
        expected.parser,
        expected.artifact_hash,
        expected.table_name,
        expected.contract_hash,
        expected.sink,
    )
