"""`doctor` sees what is wrong with a home, and changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casparian.appliance import doctor, engine_sources, sample
from casparian.appliance.doctor import checks
from casparian.appliance.doctor_check import Check
from casparian.appliance.doctor_processes import sentinel_runs
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.sinks.staging import stage_directory
from tests.factories.committed import VALUES, CommittedHome


@pytest.fixture
def world(tmp_path: Path) -> CommittedHome:
    made = CommittedHome(tmp_path)
    sink = made.sink("parquet:out")
    made.commit(sink, 7, [(made.source("a.log", b"x" * 30), VALUES)])
    for stage in (made.home.root / "out" / ".casparian-stage").rglob("7.1"):
        stage.rmdir()
    made.publish(sink.uri)
    return made


def found(home: Home, name: str, *, verify: bool = False) -> Check:
    (check,) = [check for check in doctor.home_checks(home, verify=verify) if check.check == name]
    return check


def test_a_whole_home_is_well(world: CommittedHome) -> None:
    results = list(doctor.home_checks(world.home, verify=True))
    assert {check.status for check in results} == {"ok"}, results
    assert {check.check for check in results} >= {"catalog", "outputs", "orphans", "staging"}


def test_a_lost_output_is_named(world: CommittedHome) -> None:
    path = world.outputs[0]["path"]
    os.unlink(path)
    check = found(world.home, "outputs")
    assert check.status == "fail"
    assert path in check.message


def test_an_altered_output_of_the_same_size_needs_verify(world: CommittedHome) -> None:
    path = Path(world.outputs[0]["path"])
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    assert found(world.home, "outputs").status == "ok"
    check = found(world.home, "outputs", verify=True)
    assert check.status == "fail"
    assert str(path) in check.message


def test_a_shorter_output_is_seen_at_once(world: CommittedHome) -> None:
    with open(world.outputs[0]["path"], "r+b") as file:
        file.truncate(50)
    assert "50 bytes" in found(world.home, "outputs").message


def test_an_unrecorded_file_of_ours_is_an_orphan_and_stays(world: CommittedHome) -> None:
    ours = world.home.root / "out" / "lines_7_2_0.parquet"
    theirs = world.home.root / "out" / "lines_12345_1_0.parquet"
    ours.touch()
    theirs.touch()
    check = found(world.home, "orphans")
    assert check.status == "warn"
    assert str(ours) in check.message
    assert str(theirs) not in check.message
    assert ours.exists()


def test_a_leftover_stage_is_named_unless_a_sentinel_runs(world: CommittedHome) -> None:
    import fcntl

    stage = stage_directory(world.sink("parquet:out"), world.home_id, 7, 3)
    os.makedirs(stage)
    check = found(world.home, "staging")
    assert check.status == "warn"
    assert stage in check.message
    world.home.run.mkdir(exist_ok=True)
    with world.home.lock_file.open("w") as lock:
        assert not sentinel_runs(world.home)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sentinel_runs(world.home)


def test_a_broken_catalog_is_an_answer(world: CommittedHome) -> None:
    world.home.catalog.write_bytes(b"x" * 10_000)
    assert found(world.home, "catalog").status == "fail"


def test_the_guest_parses_the_sample_and_says_what_confines_it(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "never-made")
    result = sample.run_sample(home)
    assert result.as_expected
    assert result.isolation["no_new_privs"] == "yes"
    assert not home.root.exists()


def test_every_check_answers_without_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(home: Home) -> sample.SampleResult:
        raise CasparianError("no guest here", hint="mend it")

    monkeypatch.setattr(doctor, "run_sample", broken)
    home = Home.at(tmp_path / "never-made")
    results = {check.check: check for check in checks(home)}
    assert results["guest"].status == "fail"
    assert results["guest"].hint == "mend it"
    assert {"versions", "native module", "parsers", "home", "catalog"} <= set(results)
    assert results["parsers"].status == "ok"
    assert not home.root.exists()


def test_an_engine_that_differs_from_its_sources_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    for name in ("native/core/src/lib.rs", "casparian/guest/job.py", "casparian/sdk/x.py"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("1")
    (root / "Cargo.lock").write_text("")
    before = engine_sources.hash_sources(root)
    (root / "casparian/sdk/note.md").write_text("not a source")
    (root / "casparian/sdk/__pycache__").mkdir()
    (root / "casparian/sdk/__pycache__/x.py").write_text("2")
    assert engine_sources.hash_sources(root) == before
    (root / "native/core/src/lib.rs").write_text("2")
    assert engine_sources.hash_sources(root) != before
    monkeypatch.setattr(engine_sources, "development_tree", lambda: root)
    (check,) = doctor._engine()
    assert check.status == "fail"
    monkeypatch.setattr(engine_sources, "development_tree", lambda: None)
    assert list(doctor._engine()) == []


def test_a_nearly_full_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    for free, status in ((1 << 40, "ok"), (1 << 30, "warn"), (1 << 20, "fail")):
        monkeypatch.setattr(
            doctor.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free)
        )
        assert doctor._disk("home", tmp_path / "not" / "yet").status == status
