"""Operations by chance: mostly what a sentinel would ask, sometimes stale, repeated or unknown."""

from __future__ import annotations

from random import Random

import msgspec
from msgspec import structs

from casparian.db import operations as op
from casparian.db import records as row
from casparian.domain.breakers import BreakerFailure, BreakerState
from casparian.domain.jobs import NEXT, JobState
from tests.model.control_store import ControlStore

JOBS = (11, 12, 13, 14)
SOURCES = ("a", "b", "c")
TABLES = {"t": "d-t", "u": "d-u"}
QUARANTINE = "d-q"


class Operations:
    """Draws operations that suit the store's present state, and some that do not."""

    def __init__(self, random: Random, store: ControlStore) -> None:
        self.random = random
        self.store = store
        self.now = 0

    def group(self) -> list[op.Operation]:
        if self.random.random() < 0.05:
            return self.template()
        return [self.one() for _ in range(self.random.choice((1, 1, 1, 2, 3)))]

    def one(self) -> op.Operation:
        self.now += self.random.choice((0, 1))
        if self.random.random() < 0.65:
            return self.of_a_job()
        draw = self.random.choice((self.of_a_run, self.of_a_plan, self.of_a_rule, self.of_a_file))
        return draw()

    def of_a_job(self) -> op.Operation:
        pick = self.random
        job_id = pick.choice(JOBS)
        job = self.store.jobs.get(job_id)
        if job is None or pick.random() < 0.03:
            return self.insert(job_id)
        if pick.random() < 0.08:
            return self.note(pick.choice((job_id, 99)))
        state = JobState(job.state)
        epoch = job.epoch if pick.random() < 0.93 else job.epoch + 1
        if state is JobState.RUNNING and pick.random() < 0.6:
            return self.begin(job_id, epoch)
        if state is JobState.COMMITTING and pick.random() < 0.7:
            return self.finish(job_id, epoch)
        if pick.random() < 0.07:
            state = pick.choice(list(JobState))
        onward = [s for s in (JobState.DISPATCHED, JobState.RUNNING) if s in NEXT[state]]
        after = pick.choice(onward or sorted(NEXT[state]) or [JobState.QUEUED])
        if pick.random() < 0.2:
            after = pick.choice(list(JobState))
        return op.StepJob(
            at_ns=self.now,
            job_id=job_id,
            before=state,
            after=after,
            epoch=epoch,
            new_epoch=epoch + 1 if after is JobState.DISPATCHED else None,
            attempts=pick.choice((None, 0, 2)),
            code=pick.choice((None, "worker.lost")),
            message=pick.choice((None, "gone")),
            detail=pick.choice(("", "a detail")),
            spec=pick.choice((None, None, b"other")),
            dispositions=self.dispositions(job_id, epoch),
            log=pick.choice(("", "guest said so")),
            isolation=pick.choice(("", "{}")),
            trust=pick.choice(("", "{}")),
        )

    def note(self, job_id: int) -> op.NoteJob:
        return op.NoteJob(
            at_ns=self.now, job_id=job_id, epoch=1, state="running", detail="a late receipt"
        )

    def insert(self, job_id: int) -> op.InsertJobs:
        jobs = [self.job(job_id)]
        if self.random.random() < 0.2:
            jobs.append(self.job(self.random.choice(JOBS)))
        return op.InsertJobs(at_ns=self.now, jobs=tuple(jobs))

    def job(self, job_id: int) -> row.JobRow:
        return row.JobRow(
            job_id=job_id,
            run_id="r1",
            state="queued",
            epoch=0,
            attempts=0,
            parser="p@1",
            sources=2,
            size_bytes=9,
            spec=b"spec",
            created_at_ns=self.now,
            updated_at_ns=self.now,
        )

    def dispositions(self, job_id: int, epoch: int) -> tuple[row.DispositionRow, ...]:
        return tuple(
            row.DispositionRow(
                job_id=job_id,
                epoch=epoch,
                source_index=index,
                source_id=source,
                source_hash=source,
                display_path=source,
                status="failed",
                code="guest.crash",
                message="",
                permanent=True,
                rows=0,
                quarantined=0,
                failure_key=source,
                at_ns=self.now,
            )
            for index, source in enumerate(self.sources(at_least=0))
        )

    def sources(self, at_least: int = 1) -> list[str]:
        return self.random.sample(SOURCES, self.random.randint(at_least, len(SOURCES)))

    def begin(self, job_id: int, epoch: int) -> op.BeginCommit:
        tables = list(TABLES) if self.random.random() < 0.7 else [self.random.choice(list(TABLES))]
        return op.BeginCommit(
            at_ns=self.now,
            job_id=job_id,
            epoch=epoch,
            mode=self.random.choice(("append", "append", "replace", "error")),
            claims=tuple(
                op.PairClaim(
                    dataset_id=TABLES[table],
                    source_id=source,
                    materialization_key=self.key(table, source),
                )
                for table in tables
                for source in self.sources(at_least=self.random.choice((0, 1)))
            ),
            receipt=b"receipt",
            intents=b"intents",
            again=self.random.random() < 0.1,
        )

    def key(self, table: str, source: str) -> str:
        return f"{table}-{source}-{self.random.choice('xxy')}"

    def finish(self, job_id: int, epoch: int) -> op.FinishCommit:
        intent = self.store.intents.get(job_id)
        claims = op.CommitClaims()
        if intent is not None:
            claims = msgspec.msgpack.decode(intent.document, type=op.CommitDocument).found
        sources = self.sources()
        place = f"/out/{job_id}_{epoch}"
        return op.FinishCommit(
            at_ns=self.now,
            job_id=job_id,
            epoch=epoch,
            after=self.random.choice((JobState.COMPLETED, JobState.COMPLETED, JobState.FAILED)),
            code=self.random.choice((None, "quarantine.limit")),
            message=None,
            rows=3,
            quarantined=1,
            materializations=tuple(
                self.materialization(job_id, epoch, table, dataset, source)
                for table, dataset in (*TABLES.items(), ("quarantine", QUARANTINE))
                for source in sources
            ),
            documents=(
                row.DocumentRow(hash="c", document=f'"{job_id}"'),
                row.DocumentRow(hash=f"c{job_id}", document="{}"),
            ),
            outputs=tuple(
                self.output(job_id, epoch, table, dataset, place)
                for table, dataset in TABLES.items()
            ),
            output_pairs=tuple(self.pairs(job_id, place, sources)),
            ledgers=tuple(self.ledger(job_id, source) for source in sources),
            findings=(
                row.FindingRow(
                    job_id=job_id,
                    source_id=sources[0],
                    source_path="p",
                    code="source.truncated",
                    offset=1,
                    length=2,
                    message="m",
                ),
            ),
            dispositions=self.dispositions(job_id, epoch),
            retire=claims.retire,
            log="",
            isolation='{"level":"full"}',
        )

    def materialization(
        self, job_id: int, epoch: int, table: str, dataset: str, source: str
    ) -> row.MaterializationRow:
        texts = {
            name: name
            for name in row.MaterializationRow.__struct_fields__
            if row.MaterializationRow.__annotations__[name] == "str"
        }
        texts |= {
            "materialization_key": self.key(table, source),
            "dataset_id": dataset,
            "table_name": table,
            "source_id": source,
            "parser": self.random.choice("pq"),
            "sink": f"parquet:/{table}",
        }
        return row.MaterializationRow(
            sequence=0,
            job_id=job_id,
            epoch=epoch,
            lineage_version=1,
            rows=1,
            quarantined=0,
            committed_at_ns=self.now,
            retired_by=None,
            **texts,
        )

    def output(
        self, job_id: int, epoch: int, table: str, dataset: str, place: str
    ) -> row.OutputRow:
        return row.OutputRow(
            job_id=job_id,
            epoch=epoch,
            table_name=table,
            sink="parquet:/out",
            dataset_id=dataset,
            path=f"{place}_{table}",
            rows=3,
            size_bytes=4,
            blake3="b",
            committed_at_ns=self.now,
        )

    def pairs(self, job_id: int, place: str, sources: list[str]) -> list[row.OutputPairRow]:
        return [
            row.OutputPairRow(path=f"{place}_{table}", job_id=job_id, source_id=source)
            for table in TABLES
            for source in sources
        ]

    def ledger(self, job_id: int, source: str) -> row.LedgerRow:
        return row.LedgerRow(
            job_id=job_id,
            source_id=source,
            source_hash=source,
            sha256=source,
            root="/e",
            source_path=source,
            parser="p@1",
            unit="line",
            declared=None,
            present=1,
            rows=1,
            recovered_live=0,
            recovered_extra=0,
            quarantined=0,
            quarantined_extra=0,
            lost=0,
            blank_units=0,
            blank_bytes=0,
            balanced=True,
        )

    def of_a_run(self) -> op.Operation:
        run_id = self.random.choice(("r1", "r2"))
        return self.random.choice(
            (
                op.StartRun(at_ns=self.now, run_id=run_id, root="/e", actor="me", request="{}"),
                op.FinishRun(at_ns=self.now, run_id=run_id, state="finished", result="{}"),
                op.SaveReply(
                    at_ns=self.now,
                    request_id=self.random.choice("mno"),
                    kind="Done",
                    reply=str(self.now).encode(),
                ),
                op.RecordDecision(at_ns=self.now, kind="engine.accepted", fields={"files": 2}),
                op.RemoveIntents(at_ns=self.now, actor="me"),
                self.breaker(),
            )
        )

    def breaker(self) -> op.SaveBreaker:
        failure = BreakerFailure(job_id=11, code="guest.crash", message="m", at_ns=self.now)
        state = self.random.choice(list(BreakerState))
        return op.SaveBreaker(
            at_ns=self.now,
            parser=self.random.choice(("p@1", "q@1")),
            artifact_hash="a",
            state=state.value,
            opened_at_ns=self.random.choice((None, self.now)),
            failures=(failure,) * self.random.choice((0, 1, 2)),
            kind=self.random.choice(("", "breaker.opened")),
            actor=self.random.choice(("", "me")),
        )

    def template(self) -> list[op.Operation]:
        """A small mutation, whose reply counts what it did."""
        saved = op.SaveReply(
            at_ns=self.now,
            request_id=self.random.choice("mno"),
            kind="Done",
            template="{n} rules",
        )
        return [self.of_a_rule(), saved]

    def of_a_plan(self) -> op.SavePlan:
        root = self.random.choice(("/e", "/f"))
        item = row.PlanItemRow(
            run_id="r1",
            root=root,
            path=b"p",
            display_path="p",
            parser="p",
            decision="selected",
            reason="new",
            detail=str(self.now),
            source_id=self.random.choice(("a", "b", None)),
            job_id=None,
        )
        contract = row.ContractRow(
            parser="p",
            table_name=self.random.choice("tu"),
            contract_hash=self.random.choice("xy"),
            schema_hash="s",
            document="{}",
            origin="parser",
        )
        expected = row.ExpectedOutputRow(
            parser="p",
            artifact_hash=self.random.choice("xy"),
            table_name="t",
            main=True,
            contract_hash="c",
            sink="parquet:/t",
            declared_at_ns=self.now,
        )
        return op.SavePlan(
            at_ns=self.now,
            run_id="r1",
            root=root,
            items=(item,) * self.random.randint(0, 2),
            contracts=(contract,),
            expected=(expected,),
            sources=self.random.choice(((), (), ("a",), ("b", "c"))),
        )

    def of_a_rule(self) -> op.Operation:
        if self.random.random() < 0.5:
            return op.InsertRule(at_ns=self.now, pattern="*.evtx", tag="t")
        return op.DeleteRule(at_ns=self.now, rule_id=self.random.randint(1, 3))

    def of_a_file(self) -> op.Operation:
        paths = [output.path for output in self.store.outputs] or ["/out/none"]
        path = self.random.choice(paths)
        replaced_by = None
        if self.random.random() < 0.4 and self.store.outputs:
            replaced_by = structs.replace(
                self.store.outputs[-1], path=path + "r", removed_at_ns=None
            )
        pairs = (row.OutputPairRow(path=path + "r", job_id=11, source_id="a"),)
        return op.RemoveOutput(at_ns=self.now, path=path, replaced_by=replaced_by, pairs=pairs)
