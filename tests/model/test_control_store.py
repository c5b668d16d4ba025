"""The model of the control database may not lie: the real writer, given the same operations, holds the same rows."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from casparian.db import operations as op
from casparian.db import reads, visible
from casparian.db.migrate import migrate
from casparian.db.writer import DatabaseWriter
from casparian.domain.jobs import JobState
from casparian.errors import CasparianError
from casparian.tape.chain import GENESIS, link
from tests.model.control_store import ConstraintViolated, ControlStore
from tests.model.random_operations import JOBS, TABLES, Operations


def fresh_database() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    migrate(connection)
    return connection


# -- the same question to both


def real_tables(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Every modelled table, rows in the order they were written."""
    queries = {
        "jobs": "SELECT * FROM cf_processing_queue ORDER BY job_id",
        "runs": "SELECT * FROM cf_runs ORDER BY run_id",
        "requests": "SELECT request_id, kind, reply, at_ns FROM cf_requests ORDER BY request_id",
        "intents": "SELECT * FROM cf_commit_intents ORDER BY job_id",
        "materializations": "SELECT * FROM cf_materializations ORDER BY sequence",
        "outputs": "SELECT * FROM cf_outputs ORDER BY ALL",
        "output_pairs": "SELECT * FROM cf_output_pairs ORDER BY ALL",
        "events": "SELECT * FROM cf_job_events ORDER BY rowid",
        "dispositions": "SELECT * FROM cf_dispositions ORDER BY job_id, source_index",
        "ledgers": "SELECT * FROM cf_ledgers ORDER BY rowid",
        "findings": "SELECT * FROM cf_findings ORDER BY rowid",
        "documents": "SELECT * FROM cf_documents ORDER BY hash",
        "logs": "SELECT * FROM cf_job_logs ORDER BY ALL",
        "rules": "SELECT * FROM scout_rules ORDER BY rule_id",
        "plan_items": "SELECT * FROM cf_plan_items ORDER BY ALL",
        "contracts": "SELECT parser, table_name, revision, contract_hash, schema_hash, document, origin, promoted_at_ns "
        "FROM schema_contracts ORDER BY ALL",
        "expected": "SELECT * FROM cf_expected_outputs ORDER BY ALL",
        "breakers": "SELECT * FROM cf_breakers ORDER BY ALL",
        "tape": "SELECT * FROM cf_tape ORDER BY seq",
    }
    return {name: connection.execute(sql).fetchall() for name, sql in queries.items()}


def model_tables(store: ControlStore) -> dict[str, list[tuple[Any, ...]]]:
    """The same of the model."""
    values = structs.astuple
    tape, seq, previous = [], 0, GENESIS
    for told in store.tape:
        entry = link(seq + 1, previous, told.at_ns, told.kind, told.fields)
        tape.append((entry.seq, entry.prev_hash, entry.hash, entry.entry))
        seq, previous = entry.seq, entry.hash
    return {
        "jobs": [values(job) for _, job in sorted(store.jobs.items())],
        "runs": [values(run) for _, run in sorted(store.runs.items())],
        "requests": [(key, *rest) for key, rest in sorted(store.requests.items())],
        "intents": [values(intent) for _, intent in sorted(store.intents.items())],
        "materializations": [values(m) for m in store.materializations],
        "outputs": _ordered([values(o) for o in store.outputs]),
        "output_pairs": _ordered([values(p) for p in store.output_pairs]),
        "events": [values(e) for e in store.events],
        "dispositions": [
            values(d)
            for _, found in sorted(store.dispositions.items())
            for d in sorted(found, key=lambda d: d.source_index)
        ],
        "ledgers": [values(ledger) for ledger in store.ledgers],
        "findings": [values(f) for f in store.findings],
        "documents": [values(d) for _, d in sorted(store.documents.items())],
        "logs": _ordered(store.logs),
        "rules": [(number, *rest) for number, rest in sorted(store.rules.items())],
        "plan_items": _ordered([values(i) for found in store.plan_items.values() for i in found]),
        "contracts": _ordered(
            [
                (c.parser, c.table_name, n, c.contract_hash, c.schema_hash, c.document, c.origin, t)
                for c, n, t in store.contracts
            ]
        ),
        "expected": _ordered([values(e) for e in store.expected]),
        "breakers": _ordered(
            [
                (
                    b.parser,
                    b.artifact_hash,
                    b.state,
                    b.opened_at_ns,
                    msgspec.json.encode(b.failures).decode(),
                    b.at_ns,
                )
                for b in store.breakers.values()
            ]
        ),
        "tape": tape,
    }


def _ordered(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """As ORDER BY ALL: nulls last."""
    return sorted(rows, key=lambda r: [(cell is None, "" if cell is None else cell) for cell in r])


def same_outcome(
    group: list[op.Operation], real: list[Any] | Exception, model: list[Any] | Exception
) -> bool:
    """Equal results, or faults of the same kind.

    The writer gathers steps and notices a stale one last: of a group with several faults it may name another one.
    """
    if not isinstance(real, Exception) or not isinstance(model, Exception):
        return bool(real == model)
    if len(group) > 1:
        return isinstance(real, CasparianError | AssertionError | duckdb.ConstraintException)
    if isinstance(real, CasparianError) or isinstance(model, CasparianError):
        return type(real) is type(model) and str(real) == str(model)
    if isinstance(model, ConstraintViolated):
        return isinstance(real, duckdb.ConstraintException)
    return type(real) is type(model)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63), transactions=st.integers(1, 40))
def test_the_model_and_the_writer_hold_the_same_rows(seed: int, transactions: int) -> None:
    random = Random(seed)
    connection = fresh_database()
    writer, store = DatabaseWriter(connection), ControlStore()
    draw = Operations(random, store)
    for _ in range(transactions):
        groups = [draw.group() for _ in range(random.choice((1, 1, 1, 2, 4)))]
        real, model = writer.apply(groups), store.apply(groups)
        assert all(map(same_outcome, groups, real, model)), (groups, real, model)
        if random.random() < 0.1:  # a crash: memory is gone, what is durable is not
            writer = DatabaseWriter(connection)
    real_rows, model_rows = real_tables(connection), model_tables(store)
    for table, rows in real_rows.items():
        assert rows == model_rows[table], table
    assert list(reads.live_jobs(connection)) == store.live_jobs()
    assert sorted(reads.known_sinks(connection)) == store.known_sinks()
    assert reads.recent_replies(connection, 99) == store.recent_replies(99)
    assert reads.jobs_for_retry(connection, (*JOBS, 99)) == store.jobs_for_retry((*JOBS, 99))
    for dataset in TABLES.values():
        assert sorted(visible.shown(connection, dataset, set("ab"))) == sorted(
            store.shown(dataset, set("ab"))
        )
    connection.close()


def test_the_random_operations_reach_commits_conflicts_and_faults() -> None:
    """A comparison over operations that all fail would prove nothing."""
    seen: set[str] = set()
    for seed in range(30):
        store = ControlStore()
        draw = Operations(Random(seed), store)
        for _ in range(60):
            (outcome,) = store.apply([draw.group()])
            if isinstance(outcome, Exception):
                seen.add(type(outcome).__name__)
                continue
            for result in outcome:
                if isinstance(result, op.CommitClaims):
                    seen.add("conflicts" if result.conflicts else "claims")
                    seen.add("waits" if result.waits_for else "waits for nobody")
                    seen.add("retires" if result.retire else "retires nothing")
        seen |= {job.state for job in store.jobs.values()}
    wanted = {"StaleStep", "AssertionError", "ConstraintViolated", "conflicts", "claims", "retires"}
    assert seen >= wanted | {"waits"} | {"completed", "failed", "aborted"}


def test_a_group_that_fails_leaves_nothing_and_spares_the_others() -> None:
    store = ControlStore()
    draw = Operations(Random(0), store)
    good = op.InsertRule(at_ns=1, pattern="*", tag="t")
    stale = op.StepJob(at_ns=1, job_id=5, before=JobState.QUEUED, after=JobState.ABORTED, epoch=0)
    outcomes = store.apply([[draw.insert(11)], [good, stale], [good]])
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]
    assert outcomes[2] == [1]
    assert 11 in store.jobs


def test_a_crash_takes_back_what_was_not_durable() -> None:
    store = ControlStore()
    before = store.snapshot()
    store.apply([[op.InsertRule(at_ns=1, pattern="*", tag="t")]])
    assert store.rules
    store.restore(before)
    assert not store.rules
    assert not store.tape


def test_an_operation_that_the_model_does_not_know_is_loud() -> None:
    store = ControlStore()
    rule = op.InsertRule(at_ns=1, pattern="*", tag="t")
    scan = op.SaveScan(at_ns=1, root="/e", files=())
    with pytest.raises(NotImplementedError, match="SaveScan"):
        store.apply([[rule], [scan]])
    assert not store.rules


def test_the_tape_of_the_model_is_json_that_the_real_one_would_write() -> None:
    store = ControlStore()
    store.apply([[op.RecordDecision(at_ns=7, kind="engine.accepted", fields={"files": 2})]])
    (entry,) = model_tables(store)["tape"]
    assert json.loads(entry[3]) == {"at_ns": 7, "kind": "engine.accepted", "files": 2}
