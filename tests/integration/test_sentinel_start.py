"""A control database that cannot be had: the start says why, changes nothing, and a copy brings it back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from casparian import ids
from casparian.control import autostart
from casparian.db import snapshot
from casparian.db.connection import ControlDatabase, HomeLock
from casparian.errors import CasparianError, ExitCode, SentinelUnreachable, UsageError
from casparian.paths import Home
from casparian.protocol import control
from tests.factories.control import committed
from tests.support.world import World

HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home.at(tmp_path / "home")
    committed(made)
    return made


@pytest.fixture
def holder(home: Home) -> Iterator[subprocess.Popen[str]]:
    """Another program that has the database open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.control_database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process
    process.communicate("")


def files(home: Home) -> dict[str, bytes]:
    """Everything that is kept of a database."""
    return {p.name: p.read_bytes() for p in home.root.glob("casparian_flow.*")}


def damage_rows(path: Path) -> None:
    """Overwrite the middle of the file, where the rows of a large table lie; its head stays good."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "INSERT INTO cf_requests SELECT range::VARCHAR, 'Done', md5(range::VARCHAR)::BLOB, range FROM range(200000)"
        )
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 5)
        file.write(os.urandom(size * 3 // 5))


BROKEN = {
    "garbage in its head": ("db.corrupt", lambda p: p.write_bytes(os.urandom(8192) + p.read_bytes()[8192:])),
    "cut short": ("db.corrupt", lambda p: os.truncate(p, p.stat().st_size // 2)),
    "empty": ("db.corrupt", lambda p: os.truncate(p, 0)),
    "gone": ("db.missing", lambda p: p.unlink()),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_database_that_cannot_be_read_is_left_alone_and_named(case: str, home: Home) -> None:
    code, spoil = BROKEN[case]
    spoil(home.control_database)
    before = files(home)
    with pytest.raises(CasparianError) as failure:
        ControlDatabase(home)
    assert failure.value.code == code
    assert failure.value.exit_code == ExitCode.INTEGRITY
    assert "sentinel restore" in str(failure.value.hint)
    assert files(home) == before


def test_an_empty_file_of_a_home_that_never_was_is_no_obstacle(tmp_path: Path) -> None:
    """A crash in the moment when the very first database is made."""
    home = Home.at(tmp_path)
    home.run.mkdir()
    home.control_database.touch()
    with ControlDatabase(home) as database:
        assert database.home_id == home.home_id_file.read_text().strip()


def test_a_home_id_that_a_crash_kept_from_its_file_is_written(home: Home) -> None:
    known = home.home_id_file.read_text()
    home.home_id_file.unlink()
    with ControlDatabase(home):
        assert home.home_id_file.read_text() == known


def test_another_program_that_has_the_database_open_is_named(
    home: Home, holder: subprocess.Popen[str]
) -> None:
    before = files(home)
    with pytest.raises(CasparianError) as failure:
        ControlDatabase(home)
    assert failure.value.code == "db.locked"
    assert failure.value.exit_code == ExitCode.CONFLICT
    assert f"process {holder.pid}" in failure.value.message
    assert files(home) == before


def test_a_database_that_another_program_reads_is_locked_too(home: Home) -> None:
    reading = HOLD.replace("argv[1])", "argv[1], read_only=True)")
    process = subprocess.Popen(
        [sys.executable, "-c", reading, str(home.control_database)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(CasparianError) as failure:
            ControlDatabase(home)
        assert failure.value.code == "db.locked"
    finally:
        process.communicate("")
    with ControlDatabase(home):
        pass


def test_a_client_is_told_the_sentinels_own_reason(
    home: Home, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(SentinelUnreachable) as failure:
        autostart.start(home, on_demand=True)
    assert failure.value.code == "db.locked"
    assert str(holder.pid) in failure.value.message
    assert "close it" in str(failure.value.hint)


def test_damage_that_shows_only_in_the_rows_ends_the_start_in_the_same_way(home: Home) -> None:
    damage_rows(home.control_database)
    done = subprocess.run(
        [sys.executable, "-m", "casparian.sentinel", "--home", str(home.root), "--on-demand"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.startswith("db.corrupt: "), done.stderr
    assert done.returncode == ExitCode.INTEGRITY
    assert "Traceback" not in done.stderr


# Root may write anywhere, so it steps down; the interpreter and its modules may be closed to others: they are loaded before.
AS_ANOTHER = """
import os, sys
import duckdb, pyarrow
import casparian.sentinel.__main__ as program
from casparian.db.migrate import migrations
known = migrations()
program.serve.__globals__["ControlDatabase"].__init__.__globals__["newest"] = lambda: known[-1][0]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.argv[1:] = ["--home", sys.argv[1], "--on-demand"]
sys.exit(program.main())
"""


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that other users can reach; pytest's own are closed to them."""
    place = Path(tempfile.mkdtemp(prefix="casparian-test-"))
    place.chmod(0o755)
    yield place
    for folder, _, _ in os.walk(place):
        os.chmod(folder, 0o755)
    shutil.rmtree(place)


@pytest.mark.parametrize("inside", [(), ("run",), ("run", "logs")], ids=str)
def test_a_home_that_cannot_be_written_is_named(inside: tuple[str, ...], open_place: Path) -> None:
    home = Home.at(open_place / "home")
    committed(home)
    for name in ("run", "logs"):
        (home.root / name).mkdir(exist_ok=True)
        (home.root / name).chmod(0o777 if name in inside else 0o555)
    home.control_database.chmod(0o444)
    home.root.chmod(0o555)
    before = files(home)
    done = subprocess.run(
        [sys.executable, "-B", "-c", AS_ANOTHER, str(home.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "home.unwritable: " in done.stderr, done.stderr
    assert done.returncode == ExitCode.FAILED
    assert "Traceback" not in done.stderr
    home.root.chmod(0o755)
    assert files(home) == before


def test_a_broken_database_is_brought_back_from_the_newest_copy(world: World) -> None:
    """The whole road: run, copy, damage, a clear refusal, restore, and a home that is well."""
    world.file("syslog", b"2024-03-05T08:00:00+00:00 h cron[2]: y\n")
    world.run()
    world.stop()
    home = Home.at(world.home)
    world.json("sentinel", "backup")
    home.control_database.write_bytes(os.urandom(50_000))
    refused = world.json("jobs", code=ExitCode.SENTINEL)
    assert refused["error"]["code"] == "db.corrupt"
    assert "sentinel restore" in refused["error"]["hint"]
    report = world.json("doctor", code=ExitCode.FAILED)
    checks = {check["check"]: check for check in report["checks"]}
    assert "cannot be read" in checks["sentinel"]["message"]
    assert checks["outputs"]["status"] == "ok", "what the catalog says is compared all the same"
    (copy,) = world.json("sentinel", "backups")["backups"]
    done = world.json("sentinel", "restore", copy["file"])
    assert Path(done["aside"], "casparian_flow.duckdb").stat().st_size == 50_000
    assert world.json("doctor", "--verify")["healthy"]
    assert world.column("SELECT count(*) FROM syslog_events") == [1]
    skipped = world.run()
    assert skipped["files"]["skipped"] == 1


def test_a_running_sentinel_is_copied_while_it_works_and_keeps_its_lock(world: World) -> None:
    world.file("syslog", b"2024-03-05T08:00:00+00:00 h cron[2]: y\n")
    world.run()
    world.json("sentinel", "start")
    target = world.directory / "copy.duckdb"
    done = world.json("sentinel", "backup", "--to", str(target))["backup"]
    assert done["path"] == str(target)
    home = Home.at(world.home)
    assert snapshot._hash(target) == done["blake3"]
    with pytest.raises(duckdb.Error, match="lock"):
        duckdb.connect(str(home.control_database), read_only=True)
    refused = world.json("sentinel", "restore", str(target), code=ExitCode.CONFLICT)
    assert refused["error"]["code"] == "sentinel.running"
    again = world.json("sentinel", "backup", "--to", str(target), code=ExitCode.USAGE)
    assert again["error"]["code"] == "backup.exists"
    with autostart.connect(home) as client:
        for path in ("copy.duckdb", "../copy.duckdb", ""):  # of whose directory?
            request = control.Backup(request_id=ids.new_request_id(), to=path)
            with pytest.raises(UsageError) as raised:
                client.ask(request, control.Done)
            assert raised.value.code == "backup.path"
    world.stop()
    with duckdb.connect(str(home.control_database), read_only=True) as connection:
        kinds = connection.execute("SELECT count(*) FROM cf_tape WHERE entry LIKE '%db.backup%'")
        assert kinds.fetchall() == [(1,)]


def test_what_was_committed_since_the_copy_is_found_and_comes_back_once(world: World) -> None:
    sink = ("--sink", f"parquet:{world.directory / 'out'}")
    world.file("a/syslog", b"2024-03-05T08:00:00+00:00 h cron[2]: y\n")
    world.run(*sink)
    copy = world.json("sentinel", "backup")["backup"]
    world.file("b/syslog", b"2024-03-05T08:00:01+00:00 h cron[3]: z\n")
    world.run(*sink)
    world.stop()
    world.json("sentinel", "restore", copy["path"])
    report = world.json("doctor", "--repair", code=None)
    (moved,) = report["repair"]["aside"]
    assert moved["why"] == "orphan"
    assert Path(moved["to"]).is_file()
    assert world.column("SELECT count(*) FROM syslog_events") == [1]
    again = world.run(*sink)
    assert again["files"]["skipped"] == 1
    assert sorted(world.column("SELECT message FROM syslog_events")) == ["y", "z"]
    checks = {
        c["check"]: c["status"] for c in world.json("doctor", "--verify", code=None)["checks"]
    }
    assert checks["orphans"] == checks["outputs"] == checks["catalog"] == "ok"


def test_only_one_process_restores_or_serves_at_a_time(home: Home) -> None:
    made = snapshot.take(home, reason="asked")
    lock = HomeLock(home)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "casparian.db", "--home", str(home.root), "restore", "--file", str(home.backups / made.file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "sentinel.running" in done.stdout
        assert done.returncode == ExitCode.CONFLICT
    finally:
        lock.release()


def test_a_copy_whose_sentinel_is_gone_is_not_believed(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "casparian.db", "--home", str(home.root), "copy", "--parent", str(1 << 22)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "backup.interrupted" in done.stdout
    assert os.listdir(home.backups) == []
