"""Copies of the control database: complete, proven, pruned; and the way back, also when a migration fails."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from casparian.db import migrate, snapshot
from casparian.db.connection import ControlDatabase
from casparian.errors import CasparianError, IntegrityError, UsageError
from casparian.paths import Home
from tests.factories.control import committed, tape_length

BROKEN = "CREATE TABLE half (x BIGINT); INSERT INTO half VALUES (1); SELECT * FROM not_there;"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home.at(tmp_path / "home")
    committed(made)
    return made


def content(path: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("SELECT * FROM cf_tape ORDER BY seq").fetchall()


NOW = migrate.migrations()[-1][0]  # the newest schema


def newer(monkeypatch: pytest.MonkeyPatch, *scripts: str) -> None:
    known = migrate.migrations()
    more = [(n, f"{n:04}_more.sql", sql) for n, sql in enumerate(scripts, start=NOW + 1)]
    monkeypatch.setattr(migrate, "migrations", lambda: known + more)


def test_a_copy_is_one_file_that_says_what_it_is(home: Home) -> None:
    made = snapshot.take(home, reason="asked")
    path = home.backups / made.file
    assert content(path) == content(home.control_database)
    assert (made.schema, made.tape_seq, made.reason) == (NOW, 3, "asked")
    assert made.home_id == home.home_id_file.read_text().strip()
    assert snapshot.snapshots(home) == [made]
    assert sorted(os.listdir(home.backups)) == [made.file, made.file + ".json"]


def test_what_is_only_in_the_log_is_in_the_copy(home: Home, tmp_path: Path) -> None:
    """The log is copied with the database: a copy without it would open, and be stale."""
    writing = duckdb.connect(str(home.control_database))
    writing.execute("SET checkpoint_threshold = '1GB'")
    writing.execute("INSERT INTO cf_meta VALUES ('late', 'yes')")
    assert home.control_log.stat().st_size
    frozen = Home.at(tmp_path / "frozen")  # what a crash at this moment leaves
    frozen.root.mkdir()
    for name in ("casparian_flow.duckdb", "casparian_flow.duckdb.wal"):
        (frozen.root / name).write_bytes((home.root / name).read_bytes())
    writing.close()
    made = snapshot.take(frozen, reason="asked")
    with duckdb.connect(str(frozen.backups / made.file), read_only=True) as copy:
        assert copy.execute("SELECT value FROM cf_meta WHERE name = 'late'").fetchall() == [
            ("yes",)
        ]
    assert not list(frozen.backups.glob("*.wal"))


def test_a_copy_whose_sentinel_died_meanwhile_is_thrown_away(home: Home) -> None:
    with pytest.raises(CasparianError) as failure:
        snapshot.take(home, reason="asked", still_valid=lambda: False)
    assert failure.value.code == "backup.interrupted"
    assert os.listdir(home.backups) == []


def test_only_the_copies_before_migrations_are_pruned(home: Home) -> None:
    asked = snapshot.take(home, reason="asked")
    made = [snapshot.take(home, reason="migration") for _ in range(snapshot.KEPT + 2)]
    kept = {s.file for s in snapshot.snapshots(home)}
    assert kept == {asked.file, *(s.file for s in made[-snapshot.KEPT :])}
    assert len(os.listdir(home.backups)) == 2 * len(kept)


def test_a_copy_never_replaces_a_file(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "there.duckdb"
    target.write_text("mine")
    with pytest.raises(UsageError) as failure:
        snapshot.take(home, reason="asked", to=target)
    assert failure.value.code == "backup.exists"
    assert target.read_text() == "mine"


def test_a_broken_database_gives_no_copy(home: Home) -> None:
    home.control_database.write_bytes(os.urandom(100_000))
    with pytest.raises(IntegrityError) as failure:
        snapshot.take(home, reason="asked")
    assert failure.value.code == "backup.broken"
    assert os.listdir(home.backups) == []


def test_a_restore_moves_the_present_database_aside_and_is_on_the_tape(home: Home) -> None:
    made = snapshot.take(home, reason="asked")
    with ControlDatabase(home) as database:
        database.writer.execute("INSERT INTO cf_meta VALUES ('since', 'yes')")
    former = content(home.control_database)
    done = snapshot.restore(home, home.backups / made.file)
    aside = Path(done.aside) / "casparian_flow.duckdb"
    assert content(aside) == former
    with duckdb.connect(str(aside), read_only=True) as old:
        assert old.execute("SELECT count(*) FROM cf_meta WHERE name = 'since'").fetchall() == [(1,)]
    restored = content(home.control_database)
    assert len(restored) == 4
    assert made.blake3 in str(restored[-1])
    with ControlDatabase(home) as database:
        assert database.home_id == made.home_id


REFUSED = {
    "altered": ("backup.altered", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")),
    "cut": ("backup.altered", lambda path: os.truncate(path, 5000)),
    "without its record": ("backup.unverified", lambda p: Path(f"{p}.json").unlink()),
    "gone": ("backup.missing", lambda path: path.unlink()),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_copy_that_cannot_be_trusted_is_not_restored(case: str, home: Home) -> None:
    code, spoil = REFUSED[case]
    made = snapshot.take(home, reason="asked")
    before = home.control_database.read_bytes()
    spoil(home.backups / made.file)
    with pytest.raises(CasparianError) as failure:
        snapshot.restore(home, home.backups / made.file)
    assert failure.value.code == code
    assert home.control_database.read_bytes() == before
    assert not list(home.root.glob("*.new-*"))


def test_another_homes_copy_is_not_restored(home: Home, tmp_path: Path) -> None:
    other = Home.at(tmp_path / "other")
    committed(other)
    made = snapshot.take(other, reason="asked")
    with pytest.raises(UsageError) as failure:
        snapshot.restore(home, other.backups / made.file)
    assert failure.value.code == "backup.foreign"


def test_a_copy_is_taken_before_a_migration(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    newer(monkeypatch, "CREATE TABLE more (x BIGINT)")
    before = content(home.control_database)
    with ControlDatabase(home) as database:
        assert database.schema_number == NOW + 1
    (made,) = snapshot.snapshots(home)
    assert (made.schema, made.reason) == (NOW, "migration")
    assert content(home.backups / made.file) == before
    with ControlDatabase(home):
        assert len(snapshot.snapshots(home)) == 1, "none without a migration"


def test_a_new_home_needs_no_copy(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    home.run.mkdir()
    with ControlDatabase(home):
        assert not home.backups.exists()


def test_a_failed_migration_leaves_the_old_database(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two migrations succeeds, the second fails: both are undone."""
    before = content(home.control_database)
    with monkeypatch.context() as patch:
        newer(patch, "CREATE TABLE more (x BIGINT)", BROKEN)
        for _ in range(2):  # a second start ends in the same way
            with pytest.raises(IntegrityError) as failure:
                ControlDatabase(home)
            assert failure.value.code == "db.migration_failed"
            assert "put back as it was" in failure.value.message
    assert content(home.control_database)[: len(before)] == before
    with ControlDatabase(home) as database:
        assert database.schema_number == NOW
        tables = {
            n
            for (n,) in database.writer.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
        assert not tables & {"more", "half"}
    assert tape_length(home.control_database) == len(before) + 2, "both restores are on the tape"
