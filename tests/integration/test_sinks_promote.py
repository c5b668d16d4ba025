"""Promotion can be cut anywhere and repeated; it never clobbers and never removes what is not its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sinks_world as world

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.outputs import Sink
from casparian.errors import IntegrityError, SinkFault
from casparian.sinks import csv, promote
from casparian.sinks.promote import Intent, PromoteLost
from casparian.sinks.staging import stage_directory, stage_root

KINDS = ("parquet", "csv")


def _staged(sink: Sink, job_id: int = world.JOB, parts: int = 3) -> tuple[Intent, ...]:
    promote.prepare(sink, world.HOME)
    found: list[Intent] = []
    for number in range(parts):
        files = world.staged(
            sink, world.SMALL, {number: world.small(number)}, job_id=job_id, epoch=number + 1
        )
        found += world.intents(files)
    return tuple(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("done_before", range(4))
def test_promotion_rolls_forward_from_any_point(
    tmp_path: Path, kind: str, done_before: int
) -> None:
    intents = _staged(world.sink(kind, tmp_path))
    for intent in intents[:done_before]:  # a crash after some of the moves
        promote.move_without_replacing(intent.staged, intent.final)
    first = promote.promote(intents)
    assert [p.how == "kept" for p in first] == [n < done_before for n in range(3)]
    assert {p.how for p in promote.promote(intents)} == {"kept"}
    for intent in intents:
        promote.verify(intent.final, intent.blake3, intent.size_bytes)
        assert not os.path.exists(intent.staged)


def test_a_crash_between_link_and_unlink_leaves_one_file(tmp_path: Path) -> None:
    intents = _staged(world.sink("parquet", tmp_path))
    os.link(intents[0].staged, intents[0].final)
    promote.promote(intents)
    assert not os.path.exists(intents[0].staged)
    promote.verify(intents[0].final, intents[0].blake3, intents[0].size_bytes)


LOSSES = {
    "staged file is gone": lambda intent: os.unlink(intent.staged),
    "staged file is torn": lambda intent: os.truncate(intent.staged, 10),
    "staged file is altered": lambda intent: _flip(intent.staged),
    "staged file is a link": lambda intent: _relink(intent.staged),
}


def _flip(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)


def _relink(path: str) -> None:
    os.rename(path, path + ".real")
    os.symlink(path + ".real", path)


@pytest.mark.parametrize("name", LOSSES)
def test_a_lost_stage_is_found_before_anything_is_moved(tmp_path: Path, name: str) -> None:
    sink = world.sink("parquet", tmp_path)
    intents = _staged(sink)
    LOSSES[name](intents[1])
    for _ in range(2):
        with pytest.raises(PromoteLost) as caught:
            promote.promote(intents)
        assert caught.value.lost == (intents[1],)
        assert not any(os.path.exists(intent.final) for intent in intents)


def test_what_was_promoted_before_the_loss_can_be_withdrawn(tmp_path: Path) -> None:
    sink = world.sink("parquet", tmp_path)
    intents = _staged(sink)
    promote.move_without_replacing(intents[0].staged, intents[0].final)
    os.unlink(intents[1].staged)
    with pytest.raises(PromoteLost):
        promote.promote(intents)
    assert promote.withdraw(intents) == (intents[0].final,)
    assert world.tree(tmp_path) == set()
    assert promote.withdraw(intents) == ()


def test_a_strangers_file_is_never_replaced(tmp_path: Path) -> None:
    intents = _staged(world.sink("parquet", tmp_path))
    Path(intents[0].final).write_bytes(b"someone else's")
    with pytest.raises(FileExistsError):
        promote.move_without_replacing(intents[0].staged, intents[0].final)
    done = promote.promote(intents)
    assert done[0].set_aside is not None
    assert Path(done[0].set_aside).read_bytes() == b"someone else's"
    promote.verify(intents[0].final, intents[0].blake3, intents[0].size_bytes)
    assert [p.set_aside for p in done[1:]] == [None, None]


def test_an_output_directory_is_synced_after_the_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = world.sink("parquet", tmp_path)
    intents = _staged(sink)
    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        promote,
        "sync_directory",
        lambda path: seen.append((path, os.path.exists(intents[-1].final))),
    )
    promote.promote(intents)
    assert seen == [(sink.location, True)]


def test_verify_names_what_is_wrong(tmp_path: Path) -> None:
    (intent, *_) = _staged(world.sink("parquet", tmp_path))
    promote.verify(intent.staged, intent.blake3, intent.size_bytes)
    _flip(intent.staged)
    with pytest.raises(IntegrityError, match="not what was committed"):
        promote.verify(intent.staged, intent.blake3, intent.size_bytes)
    os.unlink(intent.staged)
    with pytest.raises(IntegrityError, match="is missing"):
        promote.verify(intent.staged, intent.blake3, intent.size_bytes)


def test_prepare_leaves_nothing_but_directories(tmp_path: Path) -> None:
    for kind in ("parquet", "csv", "duckdb"):
        sink = world.sink(kind, tmp_path / kind / "deep")
        promote.prepare(sink, world.HOME)
        promote.prepare(sink, world.HOME)
        assert os.path.isdir(stage_root(sink, world.HOME))
    assert world.tree(tmp_path) == set()


def test_prepare_refuses_what_cannot_hold_a_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = world.sink("parquet", tmp_path)
    Path(sink.location).write_bytes(b"")
    with pytest.raises(SinkFault) as caught:
        promote.prepare(sink, world.HOME)
    assert caught.value.code == "sink.not_a_directory"
    os.unlink(sink.location)

    def unable(source: str, target: str) -> str:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(promote, "move_without_replacing", unable)
    with pytest.raises(SinkFault) as caught:
        promote.prepare(sink, world.HOME)
    assert caught.value.code == "sink.file_system"
    assert caught.value.hint is not None

    def replaces(source: str, target: str) -> str:
        os.replace(source, target)
        return "rename"

    monkeypatch.setattr(promote, "move_without_replacing", replaces)
    with pytest.raises(SinkFault, match="replaces files"):
        promote.prepare(sink, world.HOME)
    monkeypatch.setattr(promote, "FREE_BYTES_MIN", 1 << 62)
    with pytest.raises(SinkFault) as caught:
        promote.prepare(sink, world.HOME)
    assert caught.value.code == "sink.no_space"
    assert world.tree(tmp_path) == set()


REFUSED = (
    "/",
    "/tmp",
    "{sink}",
    "{sink}/.casparian-stage",
    "{sink}/.casparian-stage/{home}",
    "{sink}/.casparian-stage/{home}/7.1/",
    "{sink}/.casparian-stage/{home}/../{home}/7.1",
    "{sink}/.casparian-stage/{home}/7.1/deeper",
    "{sink}/.casparian-stage/../7.1",
    "{sink}/elsewhere/{home}/7.1",
    "{sink}/.casparian-stage/{home}/name",
    ".casparian-stage/{home}/7.1",
)


@pytest.mark.parametrize("pattern", REFUSED)
def test_only_a_stage_directory_is_ever_removed(tmp_path: Path, pattern: str) -> None:
    sink = world.sink("parquet", tmp_path)
    _staged(sink)
    before = world.tree(tmp_path)
    with pytest.raises(SinkFault) as caught:
        promote.remove_stage(pattern.format(sink=sink.location, home=world.HOME))
    assert caught.value.code == "stage.refused"
    assert world.tree(tmp_path) == before


def test_a_link_in_place_of_a_stage_leads_nowhere(tmp_path: Path) -> None:
    sink = world.sink("parquet", tmp_path)
    _staged(sink)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"x")
    link = stage_directory(sink, world.HOME, 99, 1)
    os.symlink(tmp_path / "precious", link)
    with pytest.raises(SinkFault):
        promote.remove_stage(link)
    assert (tmp_path / "precious" / "file").exists()


def test_sweeping_keeps_what_is_alive_and_other_homes(tmp_path: Path) -> None:
    sink = world.sink("parquet", tmp_path)
    _staged(sink)
    other = Path(stage_directory(sink, "other-home", 5, 1))
    other.mkdir(parents=True)
    keep = stage_directory(sink, world.HOME, world.JOB, 2)
    assert promote.sweep_stages(sink, world.HOME, {keep}) == (
        stage_directory(sink, world.HOME, world.JOB, 1),
        stage_directory(sink, world.HOME, world.JOB, 3),
    )
    assert os.path.isdir(keep)
    assert other.is_dir()
    promote.remove_stage(keep)
    promote.remove_stage(keep)  # gone already
    assert not os.path.exists(keep)


def test_removing_an_output_is_idempotent_and_only_for_files(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_bytes(b"x")
    assert promote.remove_file(str(file))
    assert not promote.remove_file(str(file))
    with pytest.raises(SinkFault):
        promote.remove_file(str(tmp_path))


@pytest.mark.parametrize("query", ["", "?delimiter=tab&newline=lf"])
def test_replacing_one_of_256_sources_rewrites_a_csv_without_it(tmp_path: Path, query: str) -> None:
    sink = world.sink("csv", tmp_path, query)
    promote.prepare(sink, world.HOME)
    batches = {index: world.small(index) for index in range(256)}
    (done,) = promote.promote(world.intents(world.staged(sink, world.SMALL, batches)))
    old = done.intent.final
    before = csv.read_back(old, world.SMALL)
    gone = world.source(100).source_id
    new = csv.rewrite_without(old, world.SMALL, {(world.JOB, gone)}, old + ".new", sink=sink)
    assert new is not None
    assert new.rows == 255 * 3
    promote.verify(new.path, new.blake3, new.size_bytes)
    after = csv.read_back(new.path, world.SMALL)
    kept = [n for n, s in enumerate(before["_cf_source_id"].to_pylist()) if s != gone]
    assert after.equals(before.take(kept))
    lines = Path(old).read_bytes().splitlines()
    assert Path(new.path).read_bytes().splitlines() == [
        line for line in lines if gone.encode() not in line
    ]


def test_a_csv_without_rows_left_makes_no_file(tmp_path: Path) -> None:
    sink = world.sink("csv", tmp_path)
    (file,) = world.staged(sink, world.SMALL, {0: world.small(0), 1: world.small(1)})
    drop = {(world.JOB, world.source(n).source_id) for n in (0, 1)}
    target = str(tmp_path / "new.csv")
    assert csv.rewrite_without(file.path, world.SMALL, drop, target, sink=sink) is None
    assert not os.path.exists(target)
    other_job = {(job + 1, source) for job, source in drop}
    kept = csv.rewrite_without(file.path, world.SMALL, other_job, target, sink=sink)
    assert kept is not None
    assert (kept.rows, kept.blake3) == (6, file.blake3)


def test_a_file_of_an_older_contract_and_dialect_can_be_rewritten(tmp_path: Path) -> None:
    old = world.sink("csv", tmp_path, "?delimiter=tab&newline=lf")
    (file,) = world.staged(old, world.SMALL, {0: world.small(0), 1: world.small(1)})
    newer = OutputContract(
        table="events",
        columns=(Column(name="added", type="utf8"), Column(name="text", type="int64")),
    )
    drop = {(world.JOB, world.source(0).source_id)}
    target = str(tmp_path / "new.csv")
    new = csv.rewrite_without(
        file.path, newer, drop, target, sink=world.sink("csv", tmp_path, "?delimiter=pipe")
    )
    assert new is not None
    before, after = csv.read_back(file.path, world.SMALL), csv.read_back(target, world.SMALL)
    assert after.equals(before.slice(3))
