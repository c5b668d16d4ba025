"""Small logs cross the bridge together; what becomes of each is what becomes of it alone."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from test_worker_parsers import CORPUS, corpus, log_of, run
from worker_world import World, rows

from casparian.errors import SinkFault
from casparian.protocol.worker import Receipt
from casparian.worker import group, outputs, session
from casparian.worker.executor import Services
from casparian.worker.faults import GuestFault

TABLES = ("evtx_events", "evtx_chunks", "quarantine")


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sources went through the guests at once, each time it was tried."""
    seen: list[int] = []
    original = session.ParseSession.together

    def counted(self: session.ParseSession, sources: Any) -> Any:
        seen.append(len(sources))
        return original(self, sources)

    monkeypatch.setattr(session.ParseSession, "together", counted)
    return seen


def alone(world: World, monkeypatch: pytest.MonkeyPatch) -> Receipt:
    """The same job, one source at a time, in a stage of its own."""
    with monkeypatch.context() as patch:
        patch.setattr(group, "GROUP_ENTRIES", frozenset())
        twin = World(world.directory / "alone", world.services)
        twin.sources = world.sources
        return run(twin, "windows.evtx")


def same(one: Receipt, other: Receipt) -> None:
    assert one.sources == other.sources
    for table in TABLES:
        assert rows(one, table) == rows(other, table)


@pytest.fixture(autouse=True)
def twin_directory(world: World) -> None:
    (world.directory / "alone").mkdir()


def test_logs_taken_together_give_what_each_gives_alone(
    world: World, together: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(11)
    for _number in range(60):
        content = bytearray(log_of(chance.randrange(0, 400)))
        for _ in range(chance.randrange(0, 4)):
            at = chance.randrange(len(content))
            content[at : at + chance.choice((1, 16, 512))] = bytes(chance.choice((1, 16)))
        world.source(bytes(content[: chance.choice((len(content), len(content) - 3000))]))
    world.source(b"", name="nothing.evtx")
    world.source(b"no event log at all\n" * 99, name="other.evtx")
    world.source(log_of(9000), name="large.evtx")
    world.source(log_of(3), name="behind.evtx")
    receipt = run(world, "windows.evtx")
    assert len(together) >= 2
    assert sum(together) >= 60
    assert {source.code for source in receipt.sources} == {None}
    assert rows(receipt, "quarantine")
    # A group that its guest could not take would fall back to one by one, in guests of their own.
    assert receipt.isolation["guests"] == "2"
    same(receipt, alone(world, monkeypatch))
    done = [progress.sources_done for progress in world.progress]
    assert done[-1] == len(world.sources)
    assert world.progress[-1].bytes_done == sum(task.size_bytes for task in world.sources)


def test_source_that_changed_is_excluded_and_its_neighbours_are_not(
    world: World, together: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [world.source(log_of(20 + number)) for number in range(5)]
    other = bytearray(paths[2].read_bytes())
    other[5000] ^= 1
    paths[2].write_bytes(other)
    paths[4].unlink()
    receipt = run(world, "windows.evtx")
    codes = [source.code for source in receipt.sources]
    assert codes == [None, None, "source.changed", None, "source.unreadable"]
    assert [source.rows.get("evtx_events") for source in receipt.sources] == [
        20, 21, None, 23, None,
    ]  # fmt: skip
    assert len(rows(receipt, "evtx_events")) == 20 + 21 + 23


def test_source_written_to_while_it_is_read_is_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [world.source(log_of(20)) for _ in range(3)]
    original = session.ParseSession.together

    def written(self: session.ParseSession, sources: Any) -> Any:
        found = original(self, sources)
        os.utime(paths[1], ns=(1, 1))
        return found

    monkeypatch.setattr(session.ParseSession, "together", written)
    receipt = run(world, "windows.evtx")
    # Alone it is read again, as what it now is: nobody writes to it any more.
    assert [source.code for source in receipt.sources] == [None, None, None]
    assert len(rows(receipt, "evtx_events")) == 60


def test_guest_that_dies_with_several_sources_costs_none_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        world.source(log_of(10 + number))

    def dying(self: session.ParseSession, sources: Any) -> Any:
        os.kill(self.pid, 9)
        raise self.fault(session.GuestClosed())

    with monkeypatch.context() as patch:
        patch.setattr(session.ParseSession, "together", dying)
        receipt = run(world, "windows.evtx")
    same(receipt, alone(world, monkeypatch))
    assert int(receipt.isolation["guests"]) > 2


def test_batch_that_claims_bytes_of_a_neighbour_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source(log_of(300))
    world.source(log_of(2000))
    refused: list[str] = []
    original = session.check_spans_by_source

    def shifted(batch: Any, counts: Any, sizes: Any) -> None:
        try:
            original(batch, list(reversed(counts)), sizes)
        except GuestFault as fault:
            refused.append(fault.code)
            raise

    monkeypatch.setattr(session, "check_spans_by_source", shifted)
    receipt = run(world, "windows.evtx")
    assert refused == ["bridge.invalid_batch"]
    assert [source.rows["evtx_events"] for source in receipt.sources] == [300, 2000]


def test_value_no_sink_can_hold_is_told_of_its_own_source(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        world.source(log_of(10 + number))

    def refuses(batch: Any) -> None:
        raise SinkFault("out of range", code="sink.range")

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "check_times", refuses)
        receipt = run(world, "windows.evtx")
    same(receipt, alone(world, monkeypatch))


@pytest.mark.corpus
@pytest.mark.skipif(CORPUS is None, reason="CASPARIAN_CORPUS is not set")
def test_corpus_gives_the_same_together_and_alone(
    world: World, together: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(world, "evtx", ".evtx")
    receipt = run(world, "windows.evtx")
    assert sum(together) > 50
    assert receipt.isolation["guests"] == "2"
    same(receipt, alone(world, monkeypatch))
