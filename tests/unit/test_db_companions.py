"""Companions in the control database: kept with the files and sightings of a scan, and absent from what is older."""

from __future__ import annotations

from pathlib import Path

import duckdb
import msgspec

from casparian.db import migrate
from casparian.db.operations import SaveScan
from casparian.db.writer import DatabaseWriter
from casparian.domain.files import CataloguedFile, Companion, FileStatus

LOG = Companion(
    role="LOG1",
    name=b"HIVE.log\xff",
    display_path="d/HIVE.log\\xff",
    size_bytes=5,
    source_hash="c",
    sha256="s",
)


def file(path: bytes, source_id: str, companions: tuple[Companion, ...] = ()) -> CataloguedFile:
    return CataloguedFile(
        root="/e",
        path=path,
        display_path=path.decode(),
        status=FileStatus.CATALOGUED,
        source_hash="h",
        sha256="s",
        source_id=source_id,
        companions=companions,
        companion_of=None if companions else "d/HIVE",
    )


def save(connection: duckdb.DuckDBPyConnection, at_ns: int, *files: CataloguedFile) -> None:
    (outcome,) = DatabaseWriter(connection).apply([[SaveScan(at_ns=at_ns, root="/e", files=files)]])
    assert not isinstance(outcome, Exception), outcome


def test_what_was_scanned_before_there_were_companions_has_none(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "db")) as connection:
        migrate.schema_number(connection)
        for number, name, sql in migrate.migrations()[:2]:
            connection.execute(sql)
            connection.execute("INSERT INTO cf_schema_version VALUES (?, ?)", [number, name])
        connection.execute(
            "INSERT INTO scout_sightings VALUES ('/e', 'a', 'a', 'id', 'hash', NULL, 1, 1)"
        )
        assert migrate.migrate(connection) == migrate.newest()
        assert connection.execute("SELECT companions FROM scout_sightings").fetchall() == [([],)]
        assert connection.execute("SELECT count(*) FROM scout_files").fetchall() == [(0,)]


def test_companions_are_kept_with_files_and_with_each_new_sighting(tmp_path: Path) -> None:
    expected = msgspec.structs.asdict(LOG)
    for count in (1, 100):  # few rows are written as values, many as a table
        others = [file(b"x%d" % n, f"id{n}") for n in range(count)]
        with duckdb.connect(str(tmp_path / f"db{count}")) as connection:
            migrate.migrate(connection)
            save(connection, 1, file(b"d/HIVE", "with", (LOG,)), *others)
            save(connection, 2, file(b"d/HIVE", "without"), *others)
            save(connection, 3, file(b"d/HIVE", "with", (LOG,)), *others)
            hive = "WHERE path = 'd/HIVE'"
            assert connection.execute(
                f"SELECT source_id, companions, companion_of FROM scout_files {hive}"
            ).fetchall() == [("with", [expected], None)]
            assert connection.execute(
                f"SELECT source_id, companions, first_seen_ns FROM scout_sightings {hive} ORDER BY 3"
            ).fetchall() == [("with", [expected], 1), ("without", [], 2)]
            assert connection.execute(
                "SELECT count(*), count(companion_of) FROM scout_files WHERE path <> 'd/HIVE'"
            ).fetchall() == [(count, count)]
