"""`parser test` runs a parser twice and names where the passes part."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.control import parser_test
from casparian.control.parser_test import (
    NONDETERMINISTIC,
    different_sources,
    first_difference,
    run_test,
)
from casparian.domain.isolation import IsolationLevel
from casparian.paths import first_party_parsers
from casparian.protocol.worker import SourceReceipt
from casparian.trust.library import ParserLibrary, load_parser

MANIFEST = """
schema_version = 1
name = "test.twice"
version = "1.0.0"
kind = "python"
entry = "parser.py:parse"
tags = ["text"]
unit = "line"
account = "lines"
"""
CONTRACT = """
schema_version = 1
[outputs.lines]
main = true
columns = [
    { name = "number", type = "int64", nullable = false },
    { name = "text", type = "utf8" },
    { name = "ratio", type = "float64" },
]
"""
HEAD = """
import time
from casparian.sdk import Row

def parse(ctx):
    offset = 0
    for number, line in enumerate(ctx.source.read().splitlines(True)):
        row = {"number": number, "text": line.decode().strip(), "ratio": float("nan")}
"""
TAIL = """
        yield "lines", Row(offset, len(line), row)
        offset += len(line)
"""


def tried(folder: Path, change: str = "") -> parser_test.TestReport:
    """What `parser test` says of a parser with one more line in its loop."""
    directory = folder / "twice"
    directory.mkdir()
    (directory / "parser.toml").write_text(MANIFEST)
    (directory / "contract.toml").write_text(CONTRACT)
    (directory / "parser.py").write_text(HEAD + textwrap.indent(change, " " * 8) + TAIL)
    sample = folder / "sample.log"
    sample.write_bytes(b"".join(b"line %d\n" % number for number in range(100)))
    artifact = ParserLibrary(first_party_parsers(), folder / "none").find(str(directory))
    return run_test(artifact, [str(sample)], {}, min_isolation=IsolationLevel.REDUCED)


def test_equal_passes_are_equal_even_with_values_that_equal_nothing(tmp_path: Path) -> None:
    report = tried(tmp_path)
    assert report.deterministic
    assert report.passed
    assert report.findings == ()


def test_a_parser_that_reads_the_clock_is_caught_at_the_first_row_and_column(
    tmp_path: Path,
) -> None:
    report = tried(tmp_path, "if number >= 42: row['text'] = str(time.time_ns())")
    assert not report.deterministic
    assert not report.passed
    (finding,) = report.findings
    assert finding.code == NONDETERMINISTIC
    assert (finding.table, finding.row, finding.column) == ("lines", 42, "text")
    assert finding.first != finding.second
    assert finding.first.isdigit()
    assert finding.second.isdigit()
    assert report.different_tables == ("lines",)


def test_a_parser_that_quarantines_by_the_clock_is_caught(tmp_path: Path) -> None:
    """The message differs, not the rows: quarantine is a table too."""
    change = """\
if number == 7:
    ctx.quarantine(offset, len(line), "test.late", str(time.time_ns()))
    offset += len(line)
    continue
"""
    report = tried(tmp_path, change)
    (finding,) = report.findings
    assert (finding.table, finding.row, finding.column) == ("quarantine", 0, "message")


def test_a_file_that_fails_in_one_pass_only_is_a_difference() -> None:
    good = SourceReceipt(index=0, rows={"lines": 3})
    bad = SourceReceipt(index=0, code="parser.exception", message="odd")
    (found,) = different_sources(["sample.log"], (good,), (bad,))
    assert found.code == NONDETERMINISTIC
    assert found.path == "sample.log"
    assert (found.first["code"], found.second["code"]) == (None, "parser.exception")
    assert (
        found.message
        == "`sample.log` came to 3 rows and 0 quarantined and then to `parser.exception`"
    )
    assert list(different_sources(["sample.log"], (good,), (good,))) == []


def test_the_command_names_it_and_fails(tmp_path: Path) -> None:
    tried(tmp_path, "row['number'] = time.time_ns()")
    command = [
        sys.executable,
        "-m",
        "casparian",
        "--home",
        str(tmp_path / "home"),
        "parser",
        "test",
    ]
    command += [str(tmp_path / "twice"), str(tmp_path / "sample.log")]
    environ = os.environ | {"CASPARIAN_MIN_ISOLATION": "reduced"}
    human = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert human.returncode == 1
    assert "parser.nondeterministic: row 0 of `lines` has another `number`" in human.stdout
    machine = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=False, env=environ
    )
    document = json.loads(machine.stdout)
    assert not document["passed"]
    (finding,) = document["findings"]
    assert (finding["code"], finding["row"], finding["column"]) == (NONDETERMINISTIC, 0, "number")


VALUES = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["a", "b", None]), st.sampled_from([0.5, math.nan])
    ),
    max_size=20,
)


def table_of(values: list[tuple[int, str | None, float]]) -> pa.Table:
    columns = list(zip(*values, strict=True)) or [(), (), ()]
    types = {"number": pa.int64(), "text": pa.string(), "ratio": pa.float64()}
    return pa.table(
        {
            name: pa.array(column, kind)
            for column, (name, kind) in zip(columns, types.items(), strict=True)
        }
    )


@settings(deadline=None)  # a busy machine is no failure
@given(VALUES, VALUES)
def test_the_first_difference_is_the_first(
    one: list[tuple[int, str | None, float]], other: list[tuple[int, str | None, float]]
) -> None:
    found = first_difference("t", table_of(one), table_of(other))
    rows = [list(map(repr, row)) for row in one], [list(map(repr, row)) for row in other]
    expected = next(
        (
            (row, ("number", "text", "ratio")[column])
            for row, (a, b) in enumerate(zip(*rows, strict=False))
            for column in range(3)
            if a[column] != b[column]
        ),
        None,
    )
    if expected is not None:
        assert found is not None
        assert (found.row, found.column) == expected
    elif len(one) == len(other):
        assert found is None
    else:
        assert found is not None
        assert (found.row, found.column) == (min(len(one), len(other)), None)


def test_a_table_that_only_one_pass_has_is_a_difference() -> None:
    rows = table_of([(1, "a", 0.5)])
    for first, second, which in ((rows, None, "first"), (None, rows, "second")):
        found = first_difference("t", first, second)
        assert found is not None
        assert f"only the {which} pass" in found.message


def test_companions_lie_beside_the_file_and_are_no_files_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "acme.beside"
    folder.mkdir()
    (folder / "parser.toml").write_text(
        'schema_version = 1\nname = "acme.beside"\nversion = "1.0.0"\nkind = "python"\n'
        'entry = "parser.py:parse"\ntags = ["any"]\ncompanions = [".LOG1"]\nunit = "line"\naccount = "lines"\n'
    )
    (folder / "contract.toml").write_text(
        'schema_version = 1\n[outputs.beside]\nmain = true\ncolumns = [ { name = "text", type = "utf8" } ]\n'
    )
    (folder / "parser.py").write_text(
        "from casparian.sdk import Row\n"
        "def parse(ctx):\n"
        "    beside = {role: log.read().decode() for role, log in ctx.source.companions.items()}\n"
        "    yield 'beside', Row(0, ctx.source.size, {'text': str(beside)})\n"
    )
    (tmp_path / "hive").write_bytes(b"one")
    (tmp_path / "HIVE.log1").write_bytes(b"its log")
    files = [str(tmp_path / name) for name in ("HIVE.log1", "hive")]
    report = run_test(load_parser(folder), files, {})
    assert report.passed
    assert [source.path for source in report.sources] == ["hive"]
    (table,) = report.tables
    assert [row["text"] for row in table.sample] == ["{'LOG1': 'its log'}"]
