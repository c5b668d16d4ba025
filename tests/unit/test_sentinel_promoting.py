"""Promotion and its faults over real files: which pass, which are taken back, and that nothing half-done can be seen."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import blake3
import pytest
from msgspec import structs

from casparian.db.connection import ControlDatabase
from casparian.db.operations import CommitClaims
from casparian.domain.outputs import Sink, SinkKind
from casparian.paths import Home
from casparian.protocol import worker as messages
from casparian.sentinel.effects import Promote
from casparian.sentinel.events import Promoted, PromoteFailed
from casparian.sentinel.io import promoting
from casparian.sinks import promote as promotion
from casparian.sinks.faults import fsync_fault, staging_fault
from casparian.sinks.staging import stage_directory
from tests.support.sentinel_state import RECEIPT, SPEC

CONTENT = b"rows"


class Staged:
    """One job with two staged files."""

    def __init__(self, folder: Path) -> None:
        self.home = Home.at(folder / "home")
        self.home.run.mkdir(parents=True)
        self.out = folder / "out"
        self.out.mkdir()
        sink = Sink(kind=SinkKind.PARQUET, location=str(self.out))
        self.stage = Path(stage_directory(sink, "home", 7, 3))
        self.stage.mkdir(parents=True)
        files = []
        for number in range(2):
            path = self.stage / f"t_7_3_{number}.parquet"
            path.write_bytes(CONTENT)
            files.append(
                messages.StagedFile(
                    table="t", sink=sink, path=str(path), size_bytes=len(CONTENT), rows=1, sources=(0,),
                    blake3=blake3.blake3(CONTENT).hexdigest(),
                )
            )  # fmt: skip
        outputs = tuple(structs.replace(output, sink=sink) for output in SPEC.outputs)
        self.effect = Promote(
            job_id=7,
            epoch=3,
            spec=structs.replace(SPEC, outputs=outputs),
            receipt=structs.replace(RECEIPT, files=tuple(files)),
            claims=CommitClaims(),
        )

    def carry_out(self, *, give_up: bool = False) -> Promoted | PromoteFailed:
        with ControlDatabase(self.home) as database:
            return promoting.carry_out(
                structs.replace(self.effect, give_up=give_up),
                home=self.home,
                home_id="home",
                reader=database.reader(),
            )

    def visible(self) -> list[str]:
        return sorted(path.name for path in self.out.glob("*.parquet"))


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    return Staged(tmp_path)


def break_second(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The second file of a promotion meets this fault."""
    real = promotion.move_without_replacing

    def move(source: str, target: str) -> str:
        if target.endswith("_1.parquet"):
            raise error
        return real(source, target)

    monkeypatch.setattr(promotion, "move_without_replacing", move)


def test_a_passing_fault_leaves_everything_for_the_next_time(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_second(patch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        failed = staged.carry_out()
    assert isinstance(failed, PromoteFailed)
    assert (failed.transient, failed.code) == (True, "staging.no_space")
    assert staged.visible() == ["t_7_3_0.parquet"], "part of a commit that goes on"
    assert isinstance(staged.carry_out(), Promoted)
    assert len(staged.visible()) == 2


def test_giving_up_takes_back_what_was_in_place(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_second(monkeypatch, OSError(errno.EIO, os.strerror(errno.EIO)))
    failed = staged.carry_out(give_up=True)
    assert isinstance(failed, PromoteFailed)
    assert not failed.transient
    assert staged.visible() == []


def test_a_failed_fsync_is_taken_back_at_once_and_not_tried_again(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def sync(path: str) -> None:
        calls.append(path)
        raise fsync_fault(OSError(errno.EIO, "i/o error"), path)

    monkeypatch.setattr(promotion, "sync_directory", sync)
    failed = staged.carry_out()
    assert isinstance(failed, PromoteFailed)
    assert (failed.transient, failed.code) == (False, "staging.fsync")
    assert len(calls) == 1
    assert staged.visible() == []


def test_a_job_is_not_over_while_a_row_of_it_can_be_seen(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_second(monkeypatch, OSError(errno.EIO, os.strerror(errno.EIO)))

    def stuck(intents: object) -> None:
        raise staging_fault(OSError(errno.EROFS, "read-only"), "x")

    with monkeypatch.context() as patch:
        patch.setattr(promoting, "withdraw", stuck)
        failed = staged.carry_out(give_up=True)
    assert isinstance(failed, PromoteFailed)
    assert failed.transient, "the first file is still visible"
    failed = staged.carry_out(give_up=True)
    assert isinstance(failed, PromoteFailed)
    assert not failed.transient
    assert staged.visible() == []
