"""One transaction a commit, each exactly once, whoever else writes; readers see whole files."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import sinks_world as world

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.outputs import Sink
from casparian.errors import SinkFault
from casparian.protocol.identity import row_id
from casparian.sinks import duckdb_file
from casparian.sinks.duckdb import DuckDbSink
from casparian.sinks.faults import is_transient
from casparian.sinks.promote import PromoteLost
from casparian.sinks.uri import parse_sink


def _load(
    sink: Sink, sources: range, job_id: int = world.JOB
) -> tuple[str, OutputContract, list[str]]:
    batches = {index: world.small(index, job_id=job_id) for index in sources}
    files = world.staged(sink, world.SMALL, batches, job_id=job_id)
    return "events", world.SMALL, [file.path for file in files]


def _read(sink: Sink, sql: str) -> list[tuple[object, ...]]:
    DuckDbSink(sink).publish()
    with duckdb.connect(sink.location, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_a_commit_is_made_once(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    load = _load(sink, range(4))
    assert not DuckDbSink(sink).has_commit("h:7:1")
    assert DuckDbSink(sink).commit("h:7:1", [load])
    assert not DuckDbSink(sink).commit("h:7:1", [load])  # the crash was before T2
    assert DuckDbSink(sink).has_commit("h:7:1")
    assert _read(sink, "SELECT count(*) FROM events__all") == [(12,)]
    assert _read(sink, "SELECT commit_id, rows FROM _cf_commits") == [("h:7:1", 12)]


def test_a_row_has_its_identity_in_table_and_view(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    DuckDbSink(sink).commit("h:7:1", [_load(sink, range(2))])
    wanted = [
        (row_id("events", world.source(i).source_id, world.JOB, n),)
        for i in (0, 1)
        for n in range(3)
    ]
    for name in ("events", "events__all"):
        assert _read(sink, f"SELECT _cf_row_id FROM {name} ORDER BY ALL") == wanted


def test_replacing_one_of_256_sources_leaves_255_untouched(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    database = DuckDbSink(sink)
    database.commit("h:7:1", [_load(sink, range(256))])
    before = _read(sink, _ROWS)
    gone = world.source(100).source_id
    database.commit(
        "h:8:1", [_load(sink, range(100, 101), job_id=8)], retire=[("events", world.JOB, gone)]
    )
    after = _read(sink, _ROWS)
    old, new = {row[-1]: row for row in before}, {row[-1]: row for row in after}
    assert len(old) == len(new) == 768
    replaced = set(old) - set(new)
    assert {str(name).split(":")[1:3] == [gone[:16], "7"] for name in replaced} == {True}
    assert len(replaced) == 3
    assert all(new[name] == old[name] for name in set(old) - replaced)


def test_a_hidden_pair_leaves_the_view_and_stays_in_the_table(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    database = DuckDbSink(sink)
    pair = ("events", world.JOB, world.source(1).source_id)
    database.commit("h:7:1", [_load(sink, range(3))], hide=[pair, pair])
    count = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM events__all)"
    assert _read(sink, count) == [(6, 9)]
    assert _read(sink, "SELECT count(*) FROM _cf_hidden") == [(1,)]
    database.change_hidden(unhide=[pair])
    assert _read(sink, count) == [(9, 9)]
    database.change_hidden(hide=[pair])
    database.commit("h:9:1", [], retire=[pair, ("never_seen", 1, "x")])
    assert _read(sink, count) == [(6, 6)]
    assert _read(sink, "SELECT count(*) FROM _cf_hidden") == [(0,)]


def test_a_new_column_is_added_and_another_type_is_refused(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    database = DuckDbSink(sink)
    database.commit("h:7:1", [_load(sink, range(1))])
    wider = OutputContract(
        table="events",
        columns=(
            Column(name="extra", type="list<uint64>"),
            Column(name="n", type="int64", nullable=False),
        ),
    )
    rows = world.batch(
        wider, 5, [pa.array([[2**64 - 1]], pa.list_(pa.uint64())), pa.array([1])], job_id=8
    )
    (file,) = world.staged(sink, wider, {5: rows}, job_id=8)
    database.commit("h:8:1", [("events", wider, [file.path])])
    assert _read(sink, "SELECT extra, text IS NULL FROM events ORDER BY _cf_job_id DESC") == [
        ([2**64 - 1], True),
        (None, False),
        (None, False),
        (None, False),
    ]
    narrow = OutputContract(table="events", columns=(Column(name="N", type="int32"),))
    rows = world.batch(narrow, 6, [pa.array([1], pa.int32())], job_id=9)
    (file,) = world.staged(sink, narrow, {6: rows}, job_id=9)
    with pytest.raises(SinkFault, match=r"BIGINT .* INTEGER") as caught:
        database.commit("h:9:1", [("events", narrow, [file.path])])
    assert caught.value.code == "sink.schema"
    assert not database.has_commit("h:9:1")


def test_a_lost_stage_is_told_apart_from_a_commit_that_is_in(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    database = DuckDbSink(sink)
    load = _load(sink, range(1))
    database.commit("h:7:1", [load])
    os.unlink(load[2][0])
    assert not database.commit("h:7:1", [load])
    with pytest.raises(PromoteLost):
        database.commit("h:7:2", [load])


def test_a_commit_can_be_withdrawn_and_made_again(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    database = DuckDbSink(sink)
    database.commit("h:7:1", [_load(sink, range(2))])
    load = _load(sink, range(2, 4), job_id=8)
    database.commit("h:8:1", [load])
    assert database.withdraw("h:8:1", 8)
    assert not database.withdraw("h:8:1", 8)
    assert _read(sink, "SELECT DISTINCT _cf_job_id FROM events__all") == [(7,)]
    assert database.commit("h:8:1", [load])
    assert _read(sink, "SELECT count(*) FROM events") == [(12,)]


def test_a_commit_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    database = DuckDbSink(sink)
    database.commit("h:7:1", [_load(sink, range(2))])
    pair = ("events", world.JOB, world.source(0).source_id)
    table, output, paths = _load(sink, range(3, 4), job_id=8)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and no more")
    with pytest.raises(SinkFault):
        database.commit(
            "h:8:1", [(table, output, [*paths, str(broken)])], retire=[pair], hide=[pair]
        )
    assert not database.has_commit("h:8:1")
    assert _read(sink, "SELECT count(*) FROM events") == [(6,)]
    database.commit("h:8:1", [(table, output, paths)], retire=[pair])
    assert _read(sink, "SELECT count(*) FROM events") == [(6,)]


_ROWS = """
SELECT * REPLACE (_cf_processed_at::VARCHAR AS _cf_processed_at) FROM events ORDER BY _cf_row_id
"""
_COMMITTER = """
import sys
from casparian.domain.contracts import Column, OutputContract
from casparian.sinks.duckdb import DuckDbSink
from casparian.sinks.promote import PromoteLost
from casparian.sinks.uri import parse_sink
output = OutputContract(table="events", columns=(
    Column(name="n", type="int64", nullable=False), Column(name="text", type="utf8")))
sink = DuckDbSink(parse_sink(sys.argv[1], base="/"))
for argument in sys.argv[2:]:
    commit, path = argument.split("=", 1)
    print(sink.commit(commit, [("events", output, [path])]))
    sink.publish()
"""


def test_two_processes_that_share_a_sink_lose_and_double_nothing(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    commits: list[str] = []
    for job_id in range(10, 20):
        _, _, (path,) = _load(sink, range(job_id, job_id + 1), job_id=job_id)
        commits.append(f"h:{job_id}:1={path}")
    orders = (commits, commits[::-1])  # both try all: each commit is made by one of them
    command = [sys.executable, "-c", _COMMITTER, f"duckdb:{sink.location}"]
    running = [
        subprocess.Popen([*command, *order], stdout=subprocess.PIPE, text=True) for order in orders
    ]
    said = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(words.count("True") for words in said) == 10
    assert sum(words.count("False") for words in said) == 10
    assert _read(sink, "SELECT count(*), count(DISTINCT _cf_row_id) FROM events") == [(30, 30)]
    assert {name for name in world.tree(tmp_path) if ".casparian-stage" not in name} == {
        "out.duckdb",
        "out.duckdb.work",
        "out.duckdb.lock",
    }


_KILLED = (
    """
import os, sys
import casparian.sinks.{module} as module
real = module.{name}
def dying(*arguments):
    result = real(*arguments)
    os.kill(os.getpid(), 9)
    return result
module.{name} = dying
"""
    + _COMMITTER
)


@pytest.mark.parametrize(
    ("module", "name", "made"),
    [
        ("duckdb", "_has_commit", False),
        ("duckdb", "_load", False),
        ("duckdb", "_change_hidden", False),
        ("duckdb_file", "sync_directory", True),
        ("duckdb_file", "_mark", True),
    ],
)
def test_a_kill_leaves_a_commit_whole_or_absent(
    tmp_path: Path, module: str, name: str, made: bool
) -> None:
    sink = world.sink("duckdb", tmp_path)
    DuckDbSink(sink).commit("h:7:1", [_load(sink, range(2))])
    _, output, (path,) = _load(sink, range(5, 6), job_id=8)
    command = [
        sys.executable,
        "-c",
        _KILLED.format(module=module, name=name),
        f"duckdb:{sink.location}",
    ]
    killed = subprocess.run([*command, f"h:8:1={path}"], capture_output=True, check=False)
    assert killed.returncode == -9
    assert DuckDbSink(sink).has_commit("h:8:1") is made
    assert DuckDbSink(sink).commit("h:8:1", [("events", output, [path])]) is not made
    assert _read(sink, "SELECT count(*), count(DISTINCT _cf_row_id) FROM events") == [(9, 9)]


def test_a_reader_keeps_the_file_it_has_open(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    database = DuckDbSink(sink)
    database.commit("h:7:1", [_load(sink, range(1))])
    assert database.publish()
    assert not database.publish()  # nothing new
    reader = [sys.executable, "-c", _READER, sink.location]
    with subprocess.Popen(
        reader, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "3\n"
        database.commit("h:8:1", [_load(sink, range(1, 2), job_id=8)])
        assert database.publish()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.readline() == "3\n"
    assert _read(sink, "SELECT count(*) FROM events") == [(6,)]


_READER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
count = lambda: print(connection.execute("SELECT count(*) FROM events").fetchone()[0], flush=True)
count()
sys.stdin.readline()
count()
"""


def test_someone_elses_database_is_left_alone(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    with duckdb.connect(sink.location) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS a")
    before = Path(sink.location).read_bytes()
    with pytest.raises(SinkFault) as caught:
        DuckDbSink(sink).commit("h:7:1", [_load(sink, range(1))])
    assert caught.value.code == "sink.foreign"
    assert Path(sink.location).read_bytes() == before


def test_a_lost_work_file_is_made_again_from_the_published_one(tmp_path: Path) -> None:
    sink = world.sink("duckdb", tmp_path)
    DuckDbSink(sink).commit("h:7:1", [_load(sink, range(1))])
    DuckDbSink(sink).publish()
    os.unlink(sink.location + ".work")
    assert DuckDbSink(sink).has_commit("h:7:1")
    DuckDbSink(sink).commit("h:8:1", [_load(sink, range(1, 2), job_id=8)])
    assert _read(sink, "SELECT count(*) FROM events") == [(6,)]


def test_a_lock_that_is_never_given_is_a_transient_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = world.sink("duckdb", tmp_path)
    monkeypatch.setattr(duckdb_file, "LOCK_SECONDS_MAX", 0.1)
    with open(sink.location + ".lock", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SinkFault) as caught:
            DuckDbSink(sink).commit("h:7:1", [])
    assert caught.value.code == "sink.locked"
    assert is_transient(caught.value)


def test_strange_paths_are_only_paths(tmp_path: Path) -> None:
    where = tmp_path / "it's [1] *odd % dir"
    where.mkdir()
    sink = parse_sink("duckdb:o'ut.duckdb", base=str(where))
    DuckDbSink(sink).commit("h:7:1", [_load(sink, range(2))])
    assert _read(sink, "SELECT count(*) FROM events") == [(6,)]


def test_a_full_disk_is_a_transient_fault_and_the_commit_can_be_made_later(tmp_path: Path) -> None:
    disk = tmp_path / "tiny"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        texts = pa.array([os.urandom(512).hex() for _ in range(8_000)])
        rows = world.batch(world.SMALL, 0, [pa.array(range(8_000)), texts])
        (file,) = world.staged(world.sink("parquet", tmp_path), world.SMALL, {0: rows})
        load = ("events", world.SMALL, [file.path])
        database = DuckDbSink(world.sink("duckdb", disk))
        with pytest.raises(SinkFault) as caught:
            database.commit("h:7:1", [load])
        assert caught.value.code == "staging.no_space"
        assert is_transient(caught.value)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert not database.has_commit("h:7:1")
        assert database.commit("h:7:1", [load])
        assert _read(world.sink("duckdb", disk), "SELECT count(*) FROM events") == [(8_000,)]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
