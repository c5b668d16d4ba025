"""The simulated disk promotes as the real one does: the same files where readers look, the same verdict."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import blake3
import pytest
from msgspec import structs

from casparian.db.operations import CommitClaims
from casparian.domain.outputs import Sink, SinkKind
from casparian.paths import Home
from casparian.protocol.worker import Receipt, StagedFile
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.io import promoting
from casparian.sinks.promote import final_path, sweep_stages
from casparian.sinks.quarantine import QUARANTINE_CONTRACT
from casparian.sinks.staging import stage_directory
from tests.simulation import disk, jobs
from tests.simulation.disk import Disk, File

CONTENT = b"rows"
PLACES = ("staged", "final", "both", "neither")


def promotion(folder: Path) -> eff.Promote:
    """A commit of two tables and a quarantine into directories of their own."""

    def sink(name: str) -> Sink:
        return Sink(kind=SinkKind.PARQUET, location=str(folder / name))

    spec = jobs.spec(
        "ab",
        outputs=(jobs.output(jobs.MAIN, sink("main")), jobs.output(jobs.SIDE, sink("side"))),
        quarantine=jobs.output(QUARANTINE_CONTRACT, sink("quarantine")),
    )
    files = []
    for output in (*spec.outputs, spec.quarantine):
        table = output.contract.table
        files.append(
            StagedFile(
                table=table,
                sink=output.sink,
                path=f"{stage_directory(output.sink, 'home', 1, 2)}/{table}_1_2_0.parquet",
                size_bytes=len(CONTENT),
                blake3=blake3.blake3(CONTENT).hexdigest(),
                rows=2,
                sources=(0, 1),
            )
        )
    receipt = Receipt(sources=(), files=tuple(files), isolation={})
    return eff.Promote(job_id=1, epoch=2, spec=spec, receipt=receipt, claims=CommitClaims())


def put(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(CONTENT)


def run(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def at(event: ev.Promoted | ev.PromoteFailed) -> tuple[Any, ...]:
    """What both must say."""
    if isinstance(event, ev.PromoteFailed):
        return ("failed", event.lost, event.code)
    rows = [structs.replace(row, committed_at_ns=0) for row in event.outputs]
    return ("promoted", tuple(rows), event.pairs)


@pytest.mark.parametrize("places", list(itertools.product(PLACES, repeat=3)))
def test_promotion_is_the_real_one(places: tuple[str, str, str], tmp_path: Path) -> None:
    effect = promotion(tmp_path)
    model = Disk()
    for file, place in zip(effect.receipt.files, places, strict=True):
        final = final_path(file.sink, file.path)
        Path(final).parent.mkdir(parents=True, exist_ok=True)
        if place in ("staged", "both"):
            put(file.path)
            model.stage(1, 2, [file])
        if place in ("final", "both"):
            put(final)
            model.finals[final] = File(file.blake3, file.table, 1, 2)
    real = promoting.carry_out(
        effect,
        home=Home.at(str(tmp_path / "home")),
        home_id="home",
        reader=None,  # read for database sinks only
    )
    assert at(run(model.promote(effect, None, 0))) == at(real)
    visible = {str(path) for path in tmp_path.glob("*/*.parquet")}
    assert visible == set(model.finals)
    staged = {str(p) for p in tmp_path.glob("*/.casparian-stage/home/*/*")}
    assert staged == {path for files in model.stages.values() for path in files}


def test_the_sweep_is_the_real_one(tmp_path: Path) -> None:
    effect = promotion(tmp_path)
    model = Disk()
    for file in effect.receipt.files:
        put(file.path)
    model.stage(1, 2, effect.receipt.files)
    sinks = [file.sink for file in effect.receipt.files[:2]]
    keep = {str(Path(effect.receipt.files[0].path).parent)}
    for sink in sinks:
        sweep_stages(sink, "home", keep)
    model.sweep(sinks, "home", keep)
    staged = {str(p) for p in tmp_path.glob("*/.casparian-stage/home/*/*")}
    assert staged == {path for files in model.stages.values() for path in files}
    assert len(staged) == 2


@pytest.mark.parametrize("fault", [disk.FULL, disk.FSYNC])
def test_what_fails_half_way_is_taken_back(fault: str, tmp_path: Path) -> None:
    effect = structs.replace(promotion(tmp_path), give_up=True)
    model = Disk()
    model.stage(1, 2, effect.receipt.files)
    told = run(model.promote(effect, fault, 0))
    assert isinstance(told, ev.PromoteFailed)
    assert not told.lost
    assert not told.transient
    assert model.finals == {}


def test_a_passing_fault_leaves_everything_for_the_next_time(tmp_path: Path) -> None:
    effect = promotion(tmp_path)
    model = Disk()
    model.stage(1, 2, effect.receipt.files)
    told = run(model.promote(effect, disk.FULL, 0))
    assert isinstance(told, ev.PromoteFailed)
    assert told.transient
    assert isinstance(run(model.promote(effect, None, 0)), ev.Promoted)
    assert len(model.finals) == 3


def test_a_promotion_that_was_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    effect = promotion(tmp_path)
    for cut in range(4):
        model = Disk()
        model.stage(1, 2, effect.receipt.files)
        steps = model.promote(effect, None, 0)
        for _ in range(cut):
            next(steps)
        told = run(model.promote(effect, None, 0))
        assert isinstance(told, ev.Promoted)
        assert len(model.finals) == 3
