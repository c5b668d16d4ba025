"""`kill -9` of the sentinel at one exact call: promotion, publication, housekeeping. Every moment has a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.disks import FaultWorld
from tests.storm import verdict
from tests.support.small import syslog_lines
from tests.support.world import World

_FILES = 5
_CHANGED = ("--set", "linux.syslog.timezone=+01:00")
_SOME = ("--include", "h[01]/**")  # what stays of a file makes a CSV file be written again
_PROMOTE = "casparian._native.promote_noreplace"
_STAGED = r"/sink/\.casparian-stage/[^/]+/\d+\.\d+/"
_REWRITTEN = r"/sink/[^/]*r\d+\.csv$"

# kind of sink, call, what its argument matches, before or after it
_MOMENTS = {
    "before the first file is promoted": ("parquet", _PROMOTE, _STAGED, "before"),
    "after the first file is promoted": ("parquet", _PROMOTE, _STAGED, "after"),
    "after a quarantine file is promoted": ("csv", _PROMOTE, r"/quarantine/\.casparian-s", "after"),
    "before the catalog is renamed": ("parquet", "os.replace", r"/catalog\.duckdb$", "before"),
    "after the catalog is renamed": ("parquet", "os.replace", r"/catalog\.duckdb$", "after"),
    "before the database is published": ("duckdb", "os.replace", r"/out\.duckdb$", "before"),
    "after the database is published": ("duckdb", "os.replace", r"/out\.duckdb$", "after"),
    "before a retired file is removed": ("parquet", "os.unlink", r"/sink/\w+\.parquet$", "before"),
    "after a retired file is removed": ("parquet", "os.unlink", r"/sink/\w+\.parquet$", "after"),
    "before a rewritten file is promoted": ("csv", _PROMOTE, _REWRITTEN, "before"),
    "after a rewritten file is promoted": ("csv", _PROMOTE, _REWRITTEN, "after"),
    "before the file that was rewritten is removed": ("csv", "os.unlink", r"_0\.csv$", "before"),
    "after the file that was rewritten is removed": ("csv", "os.unlink", r"_0\.csv$", "after"),
    "before a stage is removed": ("csv", "shutil.rmtree", r"/sink/\.casparian-stage/", "before"),
    "after a stage is removed": ("csv", "shutil.rmtree", r"/sink/\.casparian-stage/", "after"),
}


def fill(world: World) -> None:
    for number in range(_FILES):
        world.file(f"h{number}/syslog", syslog_lines(host=f"h{number}", count=40, bad=2))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, verdict.Fingerprint]:
    """What undisturbed runs give, by kind of sink."""
    found = {}
    for kinds, some in ((("csv",), _SOME), (("parquet", "duckdb"), ())):
        calm = FaultWorld(tmp_path_factory.mktemp("calm"))
        fill(calm)
        try:
            calm.run("--mode", "replace")
            calm.run("--mode", "replace", *_CHANGED, *some)
            found |= dict.fromkeys(kinds, verdict.fingerprint(calm))
        finally:
            calm.stop()
    return found


@pytest.mark.sampled(5)
@pytest.mark.parametrize("moment", _MOMENTS)
def test_a_crash(moment: str, tmp_path: Path, expected: dict[str, verdict.Fingerprint]) -> None:
    kind, call, match, when = _MOMENTS[moment]
    world = FaultWorld(tmp_path)
    fill(world)
    sink, died = tmp_path / "sink", tmp_path / "died"
    uri = f"{kind}:{sink / 'out.duckdb' if kind == 'duckdb' else sink}"
    arguments = ("--sink", uri, "--mode", "replace")
    changed = (*arguments, *_CHANGED, *(_SOME if kind == "csv" else ()))
    try:
        world.plan(die={"call": call, "match": match, "when": when, "done": str(died)})
        world.attempt(*arguments)
        # In two parts: a file that a crash left half rewritten then has to give up more rows.
        world.attempt(*changed, "--exclude", "h1/**")
        world.attempt(*changed)
        assert died.exists(), "the moment never came"
        world.stop()
        world.plan()
        world.run(*changed)
        known = verdict.wait_until_quiet(world)
        world.stop()
        assert verdict.fingerprint(world, "--sink", uri) == expected[kind]
        problems = verdict.judge(world, known, sink, is_database=kind == "duckdb")
        assert not problems, "\n".join(problems)
    finally:
        world.stop()
