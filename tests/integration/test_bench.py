"""The benchmark itself: its inputs are what they say, it counts, compares and tells what is missing. No speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from casparian import _native
from tests.bench import page, report, stages
from tests.bench.inputs import InputMaker
from tests.bench.processes import CommandFailed, Figure, session
from tests.bench.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A quick run over logs of the factory; the baselines' environment is this one, which has some of them."""
    build = tmp_path_factory.mktemp("bench")
    command = [
        sys.executable,
        "-m",
        "tests.bench",
        "--build",
        str(build),
        "--baselines",
        sys.executable,
    ]
    sizes = [
        "--runs=1",
        "--size-mb=2",
        "--small-files=12",
        "--rerun-mb=1",
        "--rerun-files=6",
        "--slow-mb=1",
        "--csv-mb=2",
    ]
    done = subprocess.run(
        [*command, *sizes, "--page", str(build / "benchmark.md")],
        cwd=ROOT, capture_output=True, text=True, check=False, env=_without_corpus(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads((build / "bench.json").read_text())
    found["screen"] = done.stdout
    found["page"] = (build / "benchmark.md").read_text()
    assert (build / page.PLOT).read_text().startswith("<svg ")
    return found


def _without_corpus() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "CASPARIAN_CORPUS"}


def stage(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(stage for stage in found["stages"] if stage["name"] == name)


@pytest.mark.parametrize("name", ["evtx", "directory", "small_files"])
def test_our_side_finds_every_record_that_was_written(quick: dict[str, Any], name: str) -> None:
    result = stage(quick, name)
    mine = next(
        found for contender, found in result["found"].items() if contender.startswith("casparian")
    )
    assert result["status"] == "measured", result["notes"]
    assert mine["records"] == result["input"]["records"] > 0
    if name != "evtx":
        assert mine["ledger"] == "balanced"


def test_the_baseline_found_the_same_records(
    quick: dict[str, Any],
) -> None:
    result = stage(quick, "evtx")
    mine, theirs = result["found"]["casparian evtx"], result["found"]["evtx_json"]
    assert (mine["records"], mine["ids"]) == (theirs["records"], theirs["ids"])
    assert quick["ratios"]["evtx_to_arrow_vs_wheel_json"]["turns"] == 1


def test_what_could_not_be_measured_is_named_with_its_reason(quick: dict[str, Any]) -> None:
    assert stage(quick, "evtx_unrepeated")["status"] == "missing"
    notes = " ".join(stage(quick, "evtx_slow")["notes"])
    assert "python_evtx: Evtx.Evtx: ModuleNotFoundError" in notes
    for name in quick["missing"]:
        assert TARGETS[name].wanted is not None
        assert name in quick["screen"]
        assert f"| `{name}` |" in quick["page"]
    wanted = {name for name, target in TARGETS.items() if target.wanted is not None}
    assert wanted == set(quick["missing"]) | (wanted & set(quick["ratios"]))


def test_a_rerun_skips_everything_and_memory_is_seen(quick: dict[str, Any]) -> None:
    files = stage(quick, "rerun")["found"]["casparian run (again)"]["files"]
    assert (files["skipped"], files["selected"]) == (6, 0)
    peaks = stage(quick, "directory")["figures"]["casparian run"][0]["peak_mb"]
    assert {"command", "sentinel", "worker", "guest"} <= set(peaks)
    assert all(peak > 1 for peak in peaks.values())
    assert quick["ratios"]["peak_rss_mb"]["max"] == round(max(peaks.values()), 3)


def test_nothing_of_this_machine_s_paths_is_told(quick: dict[str, Any]) -> None:
    told = json.dumps(
        {key: value for key, value in quick.items() if key not in {"screen", "stages"}}
    )
    assert str(ROOT) not in told
    assert str(ROOT) not in quick["page"]


def test_contenders_that_disagree_are_no_result() -> None:
    result = stages.StageResult(name="x", ratios={"evtx_to_arrow_vs_wheel_json": [3.0]})
    result.found = {"casparian": {"records": 5, "ids": 9}, "other": {"records": 5, "ids": 8}}
    stages.compare_found(result, 5)
    assert result.status == "differs"
    options = stages.Options(
        runs=1,
        size_mb=1,
        small_files=1,
        rerun_mb=1,
        rerun_files=1,
        slow_mb=1,
        csv_mb=2,
        baselines=None,
        work="",
    )
    document = report.document([result], options)
    assert document["ratios"] == {}
    assert "evtx_to_arrow_vs_wheel_json" in document["missing"]
    lost = stages.StageResult(name="y", found={"casparian": {"records": 4, "ids": None}})
    stages.compare_found(lost, 5)
    assert lost.status == "differs"


def test_turns_alternate_and_ratios_are_taken_within_a_turn() -> None:
    order = []

    def contender(name: str, seconds: float) -> Any:
        def run() -> Figure:
            order.append(name)
            return Figure(seconds=seconds * len(order), cpu_seconds=1.0)

        return run

    result = stages.StageResult(name="x")
    stages.take_turns(result, 2, {"mine": contender("mine", 1), "base": contender("base", 3)})
    assert order == ["mine", "base", "base", "mine"]
    stages.add_ratios(result, "r", "base", "mine", "seconds")
    assert result.ratios["r"] == [3 * 2 / 1, 3 * 3 / 4]


@pytest.mark.parametrize(
    ("name", "median", "verdict"),
    [
        ("dir_to_parquet_vs_jsonl_duckdb", 5.99, "missed"),
        ("dir_to_parquet_vs_jsonl_duckdb", 6.0, "met"),
        ("dir_to_parquet_vs_jsonl_duckdb", 9.0, "stretch"),
        ("rerun_vs_hashing", 1.25, "met"),
        ("rerun_vs_hashing", 1.26, "missed"),
        ("query_vs_duckdb", 0.1, "-"),
    ],
)
def test_verdicts_follow_the_targets(name: str, median: float, verdict: str) -> None:
    assert TARGETS[name].verdict(median) == verdict


def test_processor_time_of_what_a_step_leaves_behind_is_counted_until_the_session_ends() -> None:
    burn = "sum(i for i in range(20_000_000))"
    orphan = (
        f"import os,sys\nif os.fork() == 0:\n os.setsid()\n {burn}\n os._exit(0)\nprint('{{}}')"
    )
    waits = "import time\ntime.sleep(3.0)\nprint('{}')"
    left, waited = session([[sys.executable, "-c", orphan], [sys.executable, "-c", waits]], cores=2)
    alone = session([[sys.executable, "-c", burn]], cores=2)[0]
    assert (
        left.cpu_seconds + waited.cpu_seconds > alone.cpu_seconds / 4
    )  # a tick of the clock is 10 ms


def test_a_step_that_fails_says_what_it_said() -> None:
    with pytest.raises(CommandFailed, match=r"nothing to read"):
        session([[sys.executable, "-c", "raise SystemExit('nothing to read')"]], cores=1)


def test_copies_of_a_chunk_are_other_content_with_records_of_their_own(tmp_path: Path) -> None:
    maker = InputMaker(tmp_path, None)
    made = maker.logs("logs", files=5, size_mb=1)
    assert made == maker.logs("logs", files=5, size_mb=1)  # found again, not made again
    contents = {Path(path).read_bytes() for path in made.paths}
    assert len(contents) == made.files == 5
    records = 0
    for path in made.paths:
        with open(path, "rb") as log:
            account = _native.account_evtx(log.fileno(), Path(path).stat().st_size)
        assert not [
            finding for finding in account.findings if not finding[0].startswith("chunk.slack")
        ]
        records += account.present
    assert records == made.records


@pytest.mark.parametrize(
    ("name", "ratio"),
    [("infer", "infer_vs_duckdb_csv"), ("infer_jsonl", "infer_vs_duckdb_jsonl")],
)
def test_inference_is_compared_with_duckdb_over_the_same_rows(
    quick: dict[str, Any], name: str, ratio: str
) -> None:
    result = stage(quick, name)
    assert result["status"] == "measured", result["notes"]
    rows = {found["records"] for found in result["found"].values()}
    assert rows == {result["input"]["records"]}
    assert len(result["ratios"][ratio]) == 1
