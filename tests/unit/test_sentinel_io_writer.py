"""The writer thread gathers what may wait, and nothing that somebody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from casparian.db.operations import NoteJob, Operation
from casparian.db.writer import DatabaseWriter
from casparian.sentinel.events import Persisted
from casparian.sentinel.io import writer as io_writer
from casparian.sentinel.io.mailbox import Mailbox
from casparian.sentinel.io.writer import GROUPS_MAX, Writer

HOURS_NS = 3_600_000_000_000


class Transactions:
    """A database that notes which groups came together."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.changed = threading.Condition()

    def apply(self, groups: Sequence[Sequence[Operation]]) -> list[list[Any]]:
        with self.changed:
            self.made.append([cast("NoteJob", group[0]).job_id for group in groups])
            self.changed.notify_all()
        return [[None] for _ in groups]

    def until(self, count: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: sum(map(len, self.made)) >= count)


def note(job_id: int) -> tuple[NoteJob]:
    return (NoteJob(at_ns=0, job_id=job_id, epoch=1, state="running", detail=""),)


@pytest.fixture
def made() -> Transactions:
    return Transactions()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    yield box
    box.close()


@pytest.fixture
def writer(
    made: Transactions, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Writer]:
    monkeypatch.setattr(io_writer, "PATIENCE_NS", HOURS_NS)
    writer = Writer(cast("DatabaseWriter", made), mailbox)
    yield writer
    writer.close()


def test_what_may_wait_goes_with_the_first_that_may_not_in_order(
    writer: Writer, made: Transactions, mailbox: Mailbox
) -> None:
    for job_id in (1, 2, 3):
        writer.submit(note(job_id), job_id, patient=True)
    writer.submit(note(4), 4)
    made.until(4)
    assert made.made == [[1, 2, 3, 4]]
    writer.submit(note(5), 5, patient=True)
    writer.apply(note(6))
    assert made.made == [[1, 2, 3, 4], [5, 6]], "patience begins anew"
    events = [cast("Persisted", event).then for event in mailbox.collect()]
    assert events == [1, 2, 3, 4, 5]


def test_a_full_transaction_waits_for_nobody(writer: Writer, made: Transactions) -> None:
    for job_id in range(GROUPS_MAX):
        writer.submit(note(job_id), None, patient=True)
    made.until(GROUPS_MAX)
    assert made.made == [list(range(GROUPS_MAX))]


def test_patience_ends(
    made: Transactions, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_writer, "PATIENCE_NS", 1)
    writer = Writer(cast("DatabaseWriter", made), mailbox)
    writer.submit(note(1), None, patient=True)
    made.until(1)
    writer.close()
    assert made.made == [[1]]


def test_what_waits_is_written_at_the_end(made: Transactions, writer: Writer) -> None:
    writer.submit(note(1), None, patient=True)
    writer.close()
    assert made.made == [[1]]
