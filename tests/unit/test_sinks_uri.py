"""Sink URIs: two spellings of one place are one dataset, and settings are always whole."""

from __future__ import annotations

import os

import pytest

from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import UsageError
from casparian.protocol.identity import dataset_id, sink_config_hash
from casparian.sinks.uri import (
    check_sink,
    default_settings,
    parse_sink,
    parse_table_sink,
    sink_text,
)

WRONG = {
    "unknown kind names the closest": ("parket:x", "did you mean `parquet`"),
    "no colon": ("outputs", "not a sink URI"),
    "empty location": ("csv:", "needs a location"),
    "nul in location": ("csv:a\0b", "needs a location"),
    "not UTF-8": ("csv:\udcff", "valid UTF-8"),
    "unknown setting names the closest": (
        "parquet:x?compresion=zstd",
        "did you mean `compression`",
    ),
    "setting of another kind": ("csv:x?compression=zstd", "has no setting `compression`"),
    "unknown choice names the closest": ("parquet:x?compression=zst", "did you mean `zstd`"),
    "level out of range": ("parquet:x?level=23", "from 1 to 22"),
    "level not a number": ("parquet:x?level=+3", "from 1 to 22"),
    "level without zstd": ("parquet:x?compression=snappy&level=3", "belongs to zstd"),
    "twice": ("csv:x?delimiter=tab&delimiter=comma", "given twice"),
    "no value": ("csv:x?delimiter", "has no value"),
    "a path DuckDB misreads": ("duckdb:a%3Fb.duckdb", "takes `?`"),
    "row groups of DuckDB": ("duckdb:x?row_group_rows=3000", "a multiple of 2048"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_sink_is_refused_by_name(name: str) -> None:
    text, says = WRONG[name]
    with pytest.raises(UsageError) as caught:
        parse_sink(text, base="/base")
    assert says in caught.value.message


def test_spellings_of_one_place_are_one_dataset(tmp_path: os.PathLike[str]) -> None:
    base = os.fspath(tmp_path)
    os.mkdir(os.path.join(base, "real"))
    os.symlink("real", os.path.join(base, "link"))
    spellings = ["csv:real/out", "csv:./real//out/", f"csv:{base}/link/out", "CSV:real/x/../out"]
    sinks = [parse_sink(text, base=base) for text in spellings]
    assert len({dataset_id(sink.uri, "t") for sink in sinks}) == 1
    assert sinks[0].location == os.path.join(os.path.realpath(base), "real", "out")


def test_saying_the_default_changes_nothing_and_another_value_does() -> None:
    silent = parse_sink("parquet:/x", base="/")
    assert sink_config_hash(parse_sink("parquet:/x?level=1", base="/")) == sink_config_hash(silent)
    for text in ("level=4", "compression=snappy", "compression=none", "row_group_rows=2048"):
        other = parse_sink(f"parquet:/x?{text}", base="/")
        assert sink_config_hash(other) != sink_config_hash(silent)
        assert other.uri == silent.uri


def test_a_sink_can_be_typed_back_from_its_text() -> None:
    for text in ("parquet:/x", "parquet:/x?level=7", "csv:/a?delimiter=tab", "csv:/what%3F/100%25"):
        assert sink_text(parse_sink(text, base="/")) == text


def test_a_duckdb_sink_is_a_file_and_a_parquet_sink_a_directory(
    tmp_path: os.PathLike[str],
) -> None:
    base = os.fspath(tmp_path)
    with pytest.raises(UsageError, match="is a directory"):
        parse_sink("duckdb:.", base=base)
    with open(os.path.join(base, "file"), "wb"):
        pass
    with pytest.raises(UsageError, match="is a file"):
        parse_sink("parquet:file", base=base)


def test_a_table_may_have_its_own_sink() -> None:
    table, sink = parse_table_sink("events=duckdb:/x.duckdb", base="/")
    assert (table, sink.kind) == ("events", SinkKind.DUCKDB)
    assert parse_table_sink("parquet:/x?level=4", base="/")[0] is None
    assert parse_table_sink("parquet:/a=b", base="/")[1].location == "/a=b"
    with pytest.raises(UsageError, match="not a table name"):
        parse_table_sink("9lives=csv:/x", base="/")


@pytest.mark.parametrize("text", ["parquet:/x?level=4", "csv:/x%3Fy?delimiter=tab", "duckdb:/x.db"])
def test_every_parsed_sink_passes_the_check_of_sinks_from_elsewhere(text: str) -> None:
    check_sink(parse_sink(text, base="/"))


@pytest.mark.parametrize(
    "location", ["", "out", "./out", "/a/../b", "/a//b", "/a/", "/a\0b", "~/x"]
)
@pytest.mark.parametrize("kind", SinkKind)
def test_a_sink_from_elsewhere_has_a_canonical_location(kind: SinkKind, location: str) -> None:
    with pytest.raises(UsageError):
        check_sink(Sink(kind=kind, location=location, settings=default_settings(kind)))
