"""A source and what lies beside it: read together, keyed together, proven together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casparian.appliance.why import why
from casparian.paths import Home
from tests.support.allow import anything
from tests.support.trusting import TrustingWorld

MANIFEST = """
    kind = "python"
    entry = "parser.py:parse"
    tags = ["registry"]
    companions = [".LOG1", ".LOG2"]
    unit = "line"
    account = "lines"
"""
CONTRACT = """
    [outputs.beside]
    main = true
    columns = [ { name = "text", type = "utf8" }, { name = "logs", type = "utf8" } ]
"""
PARSER = """
    from casparian.sdk import Row

    def parse(ctx):
        logs = {role: log.pread(log.size, 0).decode() for role, log in ctx.source.companions.items()}
        text = ctx.source.pread(ctx.source.size, 0)
        yield "beside", Row(0, len(text), {"text": text.decode(), "logs": str(sorted(logs.items()))})
"""
ALL = "SELECT _cf_source_path, text, logs FROM beside ORDER BY ALL"


def hive(text: str) -> bytes:
    """What is identified as a hive, and is one line of text."""
    return b"regf" + bytes([1]) * 28 + text.encode()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TrustingWorld]:
    world = TrustingWorld(tmp_path)
    world.parser("test.beside", MANIFEST, CONTRACT, PARSER)
    yield world
    world.stop()


def rows(world: TrustingWorld) -> dict[str, str]:
    return {path: logs for path, _, logs in world.query(ALL)}


def row_ids(world: TrustingWorld) -> list[str]:
    return world.column("SELECT _cf_row_id FROM beside ORDER BY 1")


def proof(world: TrustingWorld, row: str) -> dict[str, Any]:
    return why(Home.at(world.home), row, verify=anything).to_builtins()


def test_a_hive_is_read_with_its_logs_and_again_only_when_one_of_them_changes(
    world: TrustingWorld,
) -> None:
    world.file("a/SYSTEM", hive("one"))
    world.file("a/SYSTEM.LOG1", b"first")
    world.file("a/system.log2", b"second")  # the systems that write them do not tell cases apart
    world.file("b/SYSTEM", hive("one"))  # the same bytes, other logs: another source
    world.file("b/SYSTEM.LOG1", b"other")
    world.file("c/SOFTWARE", hive("two"))
    world.file("c/ALONE.LOG1", b"a log without its hive is a file of its own")
    first = world.run("--parser", "test.beside")
    assert rows(world) == {
        "a/SYSTEM": "[('LOG1', 'first'), ('LOG2', 'second')]",
        "b/SYSTEM": "[('LOG1', 'other')]",
        "c/SOFTWARE": "[]",
    }
    assert first["reasons"] == {"new": 3, "companion": 3, "no_parser": 1}
    assert (first["files"]["skipped"], first["files"]["unmatched"]) == (3, 1)
    assert first["ledger"]["balanced"]

    again = world.run("--parser", "test.beside")
    assert again["reasons"] == {"done": 3, "companion": 3, "no_parser": 1}
    assert again["files"]["selected"] == 0

    world.file("a/SYSTEM.LOG1", b"changed")
    changed = world.run("--parser", "test.beside")
    assert changed["files"]["selected"] == 1
    assert rows(world) == {
        "a/SYSTEM": "[('LOG1', 'changed'), ('LOG2', 'second')]",
        "b/SYSTEM": "[('LOG1', 'other')]",
        "c/SOFTWARE": "[]",
    }
    (world.evidence / "a/system.log2").unlink()
    assert world.run("--parser", "test.beside")["files"]["selected"] == 1
    assert rows(world)["a/SYSTEM"] == "[('LOG1', 'changed')]"


def test_what_belongs_together_is_shown_together(world: TrustingWorld) -> None:
    world.file("SYSTEM", hive("one"))
    world.file("SYSTEM.LOG1", b"first")
    world.run("--parser", "test.beside")
    files = {f["display_path"]: f for f in world.json("files")["files"]}
    (companion,) = files["SYSTEM"]["companions"]
    assert (companion["role"], companion["display_path"], companion["size_bytes"]) == (
        "LOG1",
        "SYSTEM.LOG1",
        5,
    )
    assert companion["source_hash"] == files["SYSTEM.LOG1"]["source_hash"]
    assert files["SYSTEM.LOG1"]["companion_of"] == "SYSTEM"
    assert files["SYSTEM"]["companion_of"] is None
    assert "companion of SYSTEM" in world.call("files").stdout
    assert world.query(
        "SELECT c.role, c.sha256 FROM (SELECT unnest(companions) AS c FROM sources)"
    ) == [["LOG1", files["SYSTEM.LOG1"]["sha256"]]]
    explained = world.json("explain", str(world.evidence / "SYSTEM.LOG1"))
    assert "belongs to SYSTEM" in str(explained)
    chain = world.json("lineage", str(world.evidence / "SYSTEM"))["chain"]
    source = next(link for link in chain if link["link"] == "source")
    assert [c["path"] for c in source["companions"]] == ["SYSTEM.LOG1"]


def test_a_row_is_proven_with_its_companions_and_not_without(world: TrustingWorld) -> None:
    world.file("SYSTEM", hive("one"))
    log = world.file("SYSTEM.LOG1", b"first")
    world.run("--parser", "test.beside")
    (row,) = row_ids(world)
    assert proof(world, row)["proven"]
    log.write_bytes(b"other")
    broken = proof(world, row)
    assert not broken["proven"]
    fields = {difference["field"] for difference in broken["differences"]}
    assert fields == {"companion.LOG1", "logs"}
    log.unlink()
    gone = {d["field"]: d["found"] for d in proof(world, row)["differences"]}
    assert gone["companion.LOG1"] == "missing"


def test_another_path_with_both_files_proves_it_as_well(world: TrustingWorld) -> None:
    world.file("SYSTEM", hive("one"))
    world.file("SYSTEM.LOG1", b"first")
    shutil.copytree(world.evidence, world.evidence / "copy")
    assert world.run("--parser", "test.beside")["reasons"]["duplicate_content"] == 1
    (row,) = row_ids(world)
    (world.evidence / "SYSTEM.LOG1").unlink()
    assert proof(world, row)["proven"]


def test_a_hive_named_alone_is_read_with_the_logs_beside_it(world: TrustingWorld) -> None:
    hive_path = world.file("NTUSER.DAT", hive("one"))
    world.file("ntuser.dat.LOG1", b"first")
    world.json("run", str(hive_path))
    assert rows(world) == {"NTUSER.DAT": "[('LOG1', 'first')]"}
    assert [f["display_path"] for f in world.json("files")["files"]] == ["NTUSER.DAT"]
    (row,) = row_ids(world)
    assert proof(world, row)["proven"]
    assert world.json("lineage", str(hive_path))["chain"]
    world.run("--parser", "test.beside")
    assert len(world.query("SELECT * FROM beside__all")) == 1  # by either road the same source
