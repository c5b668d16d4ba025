"""Places that are taken away, locked or replaced: a clear error or success, no row lost or doubled, the next run completes."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from tests.faults.disks import (
    Disk,
    FaultWorld,
    assert_clear,
    assert_only_whole_sources,
    assert_recovers,
    held,
)
from tests.storm.verdict import Fingerprint
from tests.support.world import wait_until

_KINDS = ("parquet", "csv", "duckdb")
_HOLD = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("ready", flush=True)
time.sleep(10_000)
"""
_HOLD_FOR_A_MOMENT = """
import glob, sys, time, duckdb
print("ready", flush=True)
while not glob.glob(sys.argv[1] + "/.casparian-stage/*/*.*/*"):
    time.sleep(0.002)
while True:
    try:
        connection = duckdb.connect(sys.argv[1] + "/out.duckdb.work")
        break
    except duckdb.IOException:
        time.sleep(0.002)
time.sleep(2)
"""
_READ = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
count = connection.execute("SELECT count(*) FROM syslog_events").fetchone()[0]
print("ready", flush=True)
sys.stdin.readline()
assert connection.execute("SELECT count(*) FROM syslog_events").fetchone()[0] == count
print("same", flush=True)
"""


def kinds(*soon: str) -> pytest.MarkDecorator:
    """Every kind of sink; those that are not named are slow tests."""
    return pytest.mark.parametrize(
        "kind", [pytest.param(k, marks=() if k in soon else pytest.mark.slow) for k in _KINDS]
    )


def uri_of(kind: str, place: Path) -> str:
    return f"{kind}:{place / 'out.duckdb' if kind == 'duckdb' else place}"


@contextmanager
def meanwhile(condition: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Do something once, as soon as the condition holds, while the block runs; it must have come to it."""
    over = threading.Event()
    acted: list[bool] = []

    def watch() -> None:
        while not over.is_set():
            if condition():
                act()
                acted.append(True)
                return
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert acted, "the moment never came"


# -- read-only


@kinds("duckdb")
def test_a_read_only_output_directory(
    kind: str, faulty: FaultWorld, disk: Disk, expected: Fingerprint
) -> None:
    place = disk.path / "sink"
    place.mkdir()
    disk.read_only()
    code, document = faulty.attempt("--sink", uri_of(kind, place))
    assert code == 1
    assert_clear(document, "read-only")
    disk.writable()
    assert_recovers(faulty, expected, place, "--sink", uri_of(kind, place))


@kinds("csv")
def test_an_output_directory_that_becomes_read_only_in_the_middle(
    kind: str, faulty: FaultWorld, disk: Disk, expected: Fingerprint
) -> None:
    place = disk.path / "sink"

    def freeze() -> None:
        for _ in range(2000):  # it is busy while a file is open for writing
            try:
                disk.read_only()
            except BaseException:  # noqa: BLE001 - `pytest.skip` is how a mount says no
                time.sleep(0.001)
            else:
                return

    with meanwhile(lambda: any(place.glob(".casparian-stage/*/*.*")), freeze):
        code, document = faulty.attempt("--sink", uri_of(kind, place))
    faulty.stop()  # a file that was given its name before cannot be taken back now; nobody waits for that
    disk.writable()
    if code:
        assert_clear(document, "read-only")
    if document.get("outputs"):
        assert_only_whole_sources(faulty.rows("--sink", uri_of(kind, place)), expected)
    assert_recovers(faulty, expected, place, "--sink", uri_of(kind, place))


def test_a_read_only_home(faulty: FaultWorld, disk: Disk, expected: Fingerprint) -> None:
    faulty.home = disk.path / "home"
    faulty.home.mkdir()
    sink = faulty.directory / "sink"
    disk.read_only()
    code, document = faulty.attempt("--sink", f"parquet:{sink}")
    assert code in (1, 3)
    assert_clear(document, "read-only")
    disk.writable()
    assert_recovers(faulty, expected, sink, "--sink", f"parquet:{sink}")


# -- taken away


@kinds("parquet")
def test_an_output_directory_that_is_deleted_in_the_middle(
    kind: str, faulty: FaultWorld, expected: Fingerprint
) -> None:
    place = faulty.directory / "sink"
    with meanwhile(
        lambda: any(place.glob(".casparian-stage/*/*.*/*")),
        lambda: shutil.rmtree(place, ignore_errors=True),
    ):
        code, document = faulty.attempt("--sink", uri_of(kind, place))
    faulty.stop()
    if code:
        assert_clear(document, "sink", "no such file", "lost", "missing", "gone")
    # What had been committed before went with the directory: only a new beginning has it all.
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(faulty.home)
    assert_recovers(faulty, expected, place, "--sink", uri_of(kind, place))


@kinds("duckdb")
def test_a_stage_that_is_deleted_in_the_middle(
    kind: str, faulty: FaultWorld, expected: Fingerprint
) -> None:
    place = faulty.directory / "sink"

    def delete() -> None:
        for stage in place.glob(".casparian-stage/*/*.*"):
            shutil.rmtree(stage, ignore_errors=True)

    with meanwhile(lambda: any(place.glob(".casparian-stage/*/*.*/*")), delete):
        code, document = faulty.attempt("--sink", uri_of(kind, place))
    faulty.stop()
    if code:
        assert_clear(document, "no such file", "staging", "promote.lost", "gone")
        assert_only_whole_sources(faulty.rows("--sink", uri_of(kind, place)), expected)
    assert_recovers(faulty, expected, place, "--sink", uri_of(kind, place))


@kinds("csv")
def test_a_file_lies_where_the_output_directory_should_be(
    kind: str, faulty: FaultWorld, expected: Fingerprint
) -> None:
    place = faulty.directory / "sink"
    place.write_bytes(b"someone's file")
    code, document = faulty.attempt("--sink", uri_of(kind, place))
    assert code in (1, 2)
    assert_clear(document, "not a directory", "is a file", "not_a_directory")
    assert place.read_bytes() == b"someone's file", "it is left alone"
    place.unlink()
    assert_recovers(faulty, expected, place, "--sink", uri_of(kind, place))


@kinds("parquet")
def test_a_link_lies_where_the_output_directory_should_be(
    kind: str, faulty: FaultWorld, expected: Fingerprint
) -> None:
    """It is resolved once, when the sink is named: what it points to later changes no sink."""
    place, target = faulty.directory / "sink", faulty.directory / "target"
    place.symlink_to(target)
    code, document = faulty.attempt("--sink", uri_of(kind, place))
    assert code == 0, document
    assert {output["sink"] for output in document["outputs"]} == {uri_of(kind, target)}
    assert_recovers(faulty, expected, target, "--sink", uri_of(kind, target))


def test_a_file_of_evidence_that_becomes_a_pipe(faulty: FaultWorld, expected: Fingerprint) -> None:
    """A read that would never end: the file is passed over with a reason, nothing hangs."""
    path = faulty.evidence / "h1" / "syslog"
    content = path.read_bytes()
    place = faulty.directory / "sink"

    def swap() -> None:
        path.unlink()
        os.mkfifo(path)

    with meanwhile(lambda: bool(faulty.processes("sentinel")), swap):
        code, document = faulty.attempt("--sink", f"parquet:{place}")
    faulty.stop()
    if code:
        assert_clear(document, "source", "changed", "regular", "special")
    if document.get("outputs"):
        assert_only_whole_sources(faulty.rows("--sink", f"parquet:{place}"), expected)
    path.unlink()
    path.write_bytes(content)
    assert_recovers(faulty, expected, place, "--sink", f"parquet:{place}")


# -- held by others


def test_the_work_file_is_open_in_another_program(
    faulty: FaultWorld, expected: Fingerprint
) -> None:
    place = faulty.directory / "sink"
    uri = uri_of("duckdb", place)
    place.mkdir()
    with held(sys.executable, "-c", _HOLD, str(place / "out.duckdb.work")):
        code, document = faulty.attempt("--sink", uri)
        assert code == 1
        assert_clear(document, "sink.locked", "open in another program")
    faulty.stop()
    assert_recovers(faulty, expected, place, "--sink", uri)


def test_a_work_file_that_is_let_go_soon_is_waited_for(
    faulty: FaultWorld, expected: Fingerprint
) -> None:
    place = faulty.directory / "sink"
    uri = uri_of("duckdb", place)
    place.mkdir()
    with held(sys.executable, "-c", _HOLD_FOR_A_MOMENT, str(place)) as holder:
        code, document = faulty.attempt("--sink", uri)
        assert holder.wait() == 0, "it was never held"
    faulty.stop()
    if code:
        assert_clear(document, "sink.locked", "open in another program")
    assert_recovers(faulty, expected, place, "--sink", uri)


def test_readers_of_the_published_file_see_one_state_while_the_next_is_published(
    faulty: FaultWorld, expected: Fingerprint
) -> None:
    place = faulty.directory / "sink"
    uri = uri_of("duckdb", place)
    faulty.run("--sink", uri, "--include", "h0/**")
    with held(sys.executable, "-c", _READ, str(place / "out.duckdb")) as reader:
        faulty.run("--sink", uri)
        with duckdb.connect(str(place / "out.duckdb"), read_only=True) as fresh:
            assert fresh.execute("SELECT count(*) FROM syslog_events").fetchone() == (32_000,)
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "same\n"
    faulty.stop()
    assert_recovers(faulty, expected, place, "--sink", uri)


def test_the_control_database_is_open_in_another_program(
    faulty: FaultWorld, expected: Fingerprint
) -> None:
    place = faulty.directory / "sink"
    faulty.run("--sink", f"parquet:{place}", "--include", "h0/**")
    faulty.stop()
    wait_until(lambda: not faulty.alive())
    with held(sys.executable, "-c", _HOLD, str(faulty.home / "casparian_flow.duckdb")) as holder:
        code, document = faulty.attempt("--sink", f"parquet:{place}")
        assert code == 3
        assert_clear(document, str(holder.pid))
    assert_recovers(faulty, expected, place, "--sink", f"parquet:{place}")
