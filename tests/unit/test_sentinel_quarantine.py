"""Decisions about quarantined rows: bound to the exact rows and bytes, made once, taken back without a key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from casparian.db import quarantine as records
from casparian.domain.quarantine import Acceptance, Span, problem_with, spans_of
from casparian.protocol import control
from casparian.sentinel import effects as eff
from casparian.sinks.quarantine_rows import read_held, rows_hash
from tests.support.desk import Desk, PaperBallot, paper, with_notes

SOURCE, OTHER = "a" * 64, "b" * 64
KIND = "quarantine.accept"


@dataclasses.dataclass
class Held:
    """A desk whose home holds quarantined rows: job 1 of `SOURCE` and `OTHER`, four rows each."""

    desk: Desk
    path: Path

    def asked(self, *spans: Span, **changes: Any) -> Acceptance:
        """What an honest program would propose about these rows."""
        chosen = spans or (Span(1, SOURCE, 0, 3),)
        rows = read_held([str(self.path)], chosen)
        made = Acceptance(
            parser="linux.syslog",
            reason="an old format that nobody needs",
            rows=len(rows),
            rows_hash=rows_hash(rows),
            spans=chosen,
        )
        return structs.replace(made, **changes)

    def propose(self, asked: Acceptance, subject: str | None = None) -> Any:
        content = {name: getattr(asked, name) for name in asked.__struct_fields__}
        content["spans"] = [list(structs.astuple(span)) for span in asked.spans]
        return self.desk.propose(content, subject=subject or asked.subject, kind=KIND)

    def accept(self, asked: Acceptance) -> str:
        approval_id = str(self.propose(asked).fields["approval_id"])
        done = self.desk.decide(approval_id, paper("alice"))
        assert done.fields["state"] == "accepted"
        return approval_id

    def reopen(self, *decision_ids: str) -> Any:
        self.desk.asked += 1
        return self.desk.ask(
            control.ReopenQuarantine(
                request_id=f"reopen-{self.desk.asked}",
                decision_ids=decision_ids,
                reason="a parser reads it now",
            )
        )


def write_rows(path: Path, *, raw: bytes = b"line") -> None:
    names = [(source, ordinal) for source in (SOURCE, OTHER) for ordinal in range(4)]
    table = pa.table(
        {
            "reason": ["syslog.no_header"] * 8,
            "raw": [raw + bytes([48 + ordinal]) for _, ordinal in names],
            "raw_blake3": pa.nulls(8, pa.utf8()),
            "_cf_job_id": pa.array([1] * 8, pa.int64()),
            "_cf_source_id": [source for source, _ in names],
            "_cf_source_path": ["var/log/\x1b[2Jsyslog"] * 8,
            "_cf_ordinal": pa.array([ordinal for _, ordinal in names], pa.int64()),
            "_cf_offset": pa.array([ordinal * 5 for _, ordinal in names], pa.uint64()),
            "_cf_length": pa.array([5] * 8, pa.uint64()),
            "_cf_parser": ["linux.syslog@1.0.0"] * 8,
        }
    )
    pq.write_table(table, path)


def record_pair(desk: Desk, source: str, *, job: int = 1, sequence: int) -> None:
    text = {
        "table_name": "quarantine",
        "parser": "linux.syslog",
        "dataset_id": "d",
        "source_id": source,
    }
    columns = desk.database.writer.execute("DESCRIBE cf_materializations").fetchall()
    values: dict[str, Any] = {}
    for name, kind, *_ in columns:
        values[name] = text.get(name, "x") if kind == "VARCHAR" else 1
    values |= {"job_id": job, "sequence": sequence, "retired_by": None}
    marks = ", ".join("?" for _ in values)
    desk.database.writer.execute(
        f"INSERT INTO cf_materializations ({', '.join(values)}) VALUES ({marks})",
        list(values.values()),
    )


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    with_notes(monkeypatch)
    desk = Desk(tmp_path / "home")
    path = tmp_path / "quarantine_1_1_0.parquet"
    write_rows(path)
    for number, source in enumerate((SOURCE, OTHER), 1):
        record_pair(desk, source, sequence=number)
    desk.database.writer.execute(
        "INSERT INTO cf_outputs VALUES (1, 1, 'quarantine', 'parquet:x', 'd', ?, 8, 1, 'h', 1, NULL)",
        [str(path)],
    )
    yield Held(desk, path)
    desk.close()


def test_accepted_rows_are_recorded_with_who_why_and_which(held: Held) -> None:
    decision = held.accept(held.asked())
    (entry,) = held.desk.tape("quarantine.accepted")
    assert (entry["decision_id"], entry["rows"], entry["actor"]) == (decision, 4, "examiner(1000)")
    assert entry["reason"] == "an old format that nobody needs"
    assert entry["rows_hash"] == held.asked().rows_hash
    connection = held.desk.database.writer
    assert records.held_by_decisions(connection, (Span(1, SOURCE, 3, 9),)) == [decision]
    assert records.held_by_decisions(connection, (Span(1, SOURCE, 4, 9),)) == []
    assert records.held_by_decisions(connection, (Span(1, OTHER, 0, 9),)) == []
    assert any(isinstance(effect, eff.Publish) for effect in held.desk.left), "readers are told"


def test_the_lines_that_are_decided_about_count_and_hide_nothing(held: Held) -> None:
    approval_id = held.propose(held.asked()).fields["approval_id"]
    approval = held.desk.approval(approval_id)
    assert approval.scope == "quarantine/linux.syslog"
    text = "\n".join(approval.diff)
    assert "4 quarantined rows of linux.syslog" in text
    assert "4 x syslog.no_header" in text
    assert "\x1b" not in text


ATTACKS: dict[str, tuple[dict[str, Any], str]] = {
    "rows that are not there": (
        {"spans": (Span(1, SOURCE, 0, 4),), "rows": 5},
        "quarantine.rows_changed",
    ),
    "a job that is not there": ({"spans": (Span(2, SOURCE, 0, 3),)}, "quarantine.rows_changed"),
    "rows of another parser": ({"parser": "windows.evtx"}, "quarantine.rows_changed"),
    "other rows than the hash says": (
        {"spans": (Span(1, OTHER, 0, 3),)},
        "quarantine.rows_changed",
    ),
    "a number that is not theirs": ({"rows": 3}, "approval.content"),
    "no reason": ({"reason": "  "}, "approval.content"),
    "no rows": ({"spans": (), "rows": 0}, "approval.content"),
    "spans that overlap": (
        {"spans": (Span(1, SOURCE, 0, 1), Span(1, SOURCE, 1, 2))},
        "approval.content",
    ),
    "negative ordinals": ({"spans": (Span(1, SOURCE, -1, 2),)}, "approval.content"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_not_exactly_there_is_refused(name: str, held: Held) -> None:
    changes, code = ATTACKS[name]
    refused = held.propose(structs.replace(held.asked(), **changes))
    assert refused.code == code
    assert held.desk.tape("approval.proposed") == []


def test_a_subject_that_is_not_of_these_rows_is_refused(held: Held) -> None:
    assert held.propose(held.asked(), subject="linux.syslog 0").code == "approval.content"


def test_bytes_that_change_between_proposal_and_decision_stop_it(held: Held) -> None:
    approval_id = held.propose(held.asked()).fields["approval_id"]
    write_rows(held.path, raw=b"other")
    assert held.desk.decide(approval_id, paper("alice")).code == "approval.outdated"
    assert held.desk.tape("quarantine.accepted") == []


def test_rows_that_a_later_job_replaced_cannot_be_accepted_any_more(held: Held) -> None:
    approval_id = held.propose(held.asked()).fields["approval_id"]
    record_pair(held.desk, SOURCE, job=2, sequence=9)
    assert held.desk.decide(approval_id, paper("alice")).code == "approval.outdated"
    assert held.propose(held.asked()).code == "quarantine.rows_changed"


def test_no_row_is_accepted_twice(held: Held) -> None:
    held.accept(held.asked(Span(1, SOURCE, 1, 2)))
    assert held.propose(held.asked(Span(1, SOURCE, 2, 3))).code == "quarantine.accepted"
    held.accept(held.asked(Span(1, SOURCE, 3, 3)))


def test_of_two_requests_about_the_same_rows_one_is_carried_out(held: Held) -> None:
    first = held.propose(held.asked(Span(1, SOURCE, 0, 2))).fields["approval_id"]
    second = held.propose(held.asked(Span(1, SOURCE, 2, 3))).fields["approval_id"]
    assert held.desk.decide(first, paper("alice")).fields["state"] == "accepted"
    assert held.desk.decide(second, paper("alice")).code == "approval.outdated"
    assert len(held.desk.tape("quarantine.accepted")) == 1


def test_two_people_decide_where_two_are_needed(held: Held) -> None:
    PaperBallot.threshold = 2
    approval_id = held.propose(held.asked()).fields["approval_id"]
    held.desk.decide(approval_id, paper("alice"))
    assert held.desk.tape("quarantine.accepted") == []
    assert held.desk.decide(approval_id, paper("bob")).fields["state"] == "accepted"


def test_reopened_rows_may_be_accepted_again_and_all_of_it_is_on_the_tape(held: Held) -> None:
    decision = held.accept(held.asked())
    done = held.reopen(decision)
    assert done.count == 1
    assert records.held_by_decisions(held.desk.database.writer, (Span(1, SOURCE, 0, 3),)) == []
    (entry,) = held.desk.tape("quarantine.reopened")
    assert (entry["decision_id"], entry["reason"]) == (decision, "a parser reads it now")
    assert held.reopen(decision, "nonsense").count == 0
    held.accept(held.asked())
    kinds = [e["kind"] for e in held.desk.tape() if e["kind"].startswith("quarantine")]
    assert kinds == ["quarantine.accepted", "quarantine.reopened", "quarantine.accepted"]


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.sampled_from([SOURCE, OTHER]), st.integers(0, 12)),
        min_size=1,
    )
)
def test_spans_hold_exactly_the_rows_in_as_few_as_can_be(
    places: list[tuple[int, str, int]],
) -> None:
    spans = spans_of(places)
    back = {(s.job_id, s.source_id, n) for s in spans for n in range(s.first, s.last + 1)}
    assert back == set(places)
    asked = Acceptance(parser="p", reason="r", rows=len(back), rows_hash="h", spans=spans)
    assert problem_with(asked) is None
    runs = sum((job, source, n - 1) not in back for job, source, n in back)
    assert len(spans) == runs
