"""The stages that run the installed command: from a directory to committed Parquet, again, and a question."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import processes, stages
from tests.bench.inputs import LARGE_LOGS, Inputs
from tests.bench.processes import CommandFailed, Figure
from tests.bench.readers import ID_MODULUS
from tests.bench.stages import Bench, StageResult

CORES = 2
LIVE = "NOT list_contains(_cf_flags, 'slack')"
BY_EVENT = "SELECT provider_name, event_id, count(*) AS n FROM evtx_events GROUP BY ALL ORDER BY n DESC, 1, 2"


def casparian(home: str, *arguments: str) -> list[str]:
    """The installed command on a home; its Python's module where no script was installed."""
    script = Path(sys.executable).with_name("casparian")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "casparian"]
    return [*program, "--home", home, *arguments]


def run_command(home: str, inputs: Inputs) -> list[str]:
    """`casparian run` in full isolation: it is refused where the machine cannot confine guests fully."""
    return casparian(home, "run", inputs.directory, "--min-isolation", "full", "--json")


def _run_ours(bench: Bench, inputs: Inputs) -> Figure:
    """From a new home to committed tables, the start of the sentinel and its workers included."""
    with bench.directory() as place:
        home = f"{place}/home"
        figures = (
            f"SELECT count(*), sum(record_id % {ID_MODULUS})::UBIGINT FROM evtx_events WHERE {LIVE}"
        )
        steps = [
            run_command(home, inputs),
            casparian(home, "query", figures, "--json"),
            casparian(home, "ledger", "--json"),
            casparian(home, "sentinel", "stop"),
        ]
        ran, asked, ledgers, _ = processes.session(steps, cores=CORES)
        records, ids = asked.found["rows"][0]
        found = {"records": int(records), "ids": int(ids), "ledger": _balance(ledgers.found)}
        return Figure(
            seconds=ran.seconds, cpu_seconds=ran.cpu_seconds, peak_mb=ran.peak_mb, found=found
        )


def _balance(document: dict[str, Any]) -> str:
    """Whether every unit of every source is accounted for."""
    ledgers = document["sources"]
    lost = [ledger for ledger in ledgers if not ledger["balanced"]]
    return f"{len(lost)} of {len(ledgers)} do not balance" if lost else "balanced"


def _run_baseline(bench: Bench, inputs: Inputs) -> Figure:
    with bench.directory() as place:
        argv = bench.baseline("jsonl_duckdb", inputs.paths, "--into", place)
        (figure,) = processes.session([argv], cores=CORES)
        return figure


def _to_parquet(
    bench: Bench, result: StageResult, inputs: Inputs, ratio: str, *, exact: bool
) -> StageResult:
    """Our run beside evtx → JSON lines → DuckDB → Parquet, wall time."""
    result.input = asdict(inputs)
    absent = bench.why_absent("jsonl_duckdb")
    contenders: dict[str, Callable[[], Figure]] = {
        "casparian run": lambda: _run_ours(bench, inputs)
    }
    if absent:
        result.notes.append(f"left out {absent}")
    else:
        contenders["jsonl_duckdb"] = lambda: _run_baseline(bench, inputs)
    try:
        stages.take_turns(result, bench.options.runs, contenders)
    except CommandFailed as failed:
        result.status = "failed"
        result.notes.append(str(failed))
        return result
    result.found = {name: figures[-1].found for name, figures in result.figures.items()}
    stages.compare_found(result, inputs.records if exact else None, exact=exact)
    if result.found["casparian run"]["ledger"] != "balanced":
        result.status = "differs"
        result.notes.append(f"ledger: {result.found['casparian run']['ledger']}")
    if not absent:
        stages.add_ratios(result, ratio, "jsonl_duckdb", "casparian run", "seconds")
    peaks = [figure.peak_mb for figure in result.figures["casparian run"]]
    if exact:
        result.ratios["peak_rss_mb"] = [max(peak.values()) for peak in peaks]
        result.ratios["peak_rss_mb_guest"] = [peak.get("guest", 0.0) for peak in peaks]
    return result


def directory(bench: Bench) -> StageResult:
    """A directory of large logs → committed Parquet."""
    inputs = bench.inputs.logs("large", files=LARGE_LOGS, size_mb=bench.options.size_mb)
    return _to_parquet(
        bench, StageResult(name="directory"), inputs, "dir_to_parquet_vs_jsonl_duckdb", exact=True
    )


def directory_unrepeated(bench: Bench) -> StageResult:
    """Real logs as they are → committed Parquet."""
    result = StageResult(name="directory_unrepeated")
    inputs = bench.inputs.real_logs()
    if inputs is None:
        return result.missing("real logs: set CASPARIAN_CORPUS")
    return _to_parquet(
        bench, result, inputs, "dir_to_parquet_vs_jsonl_duckdb_unrepeated", exact=False
    )


def small_files(bench: Bench) -> StageResult:
    """Distinct logs of one chunk → committed Parquet."""
    inputs = bench.inputs.logs("small", files=bench.options.small_files, size_mb=0)
    result = _to_parquet(
        bench, StageResult(name="small_files"), inputs, "small_files_vs_jsonl_duckdb", exact=True
    )
    for memory in ("peak_rss_mb", "peak_rss_mb_guest"):  # those of the large logs are told
        result.ratios.pop(memory, None)
    return result


def rerun(bench: Bench) -> StageResult:
    """The same command again over unchanged files, against a running sentinel, beside hashing them."""
    result = StageResult(name="rerun")
    options = bench.options
    absent = bench.why_absent("blake3_tree")
    if absent:
        return result.missing(absent)
    inputs = bench.inputs.logs("rerun", files=options.rerun_files, size_mb=options.rerun_mb)
    result.input = asdict(inputs)
    with bench.directory() as place:
        home = f"{place}/home"
        again = run_command(home, inputs)
        hashing = bench.baseline("blake3_tree", inputs.paths)
        # One session: the sentinel of the first run answers all others. The first hashing fills the page cache.
        turns = [
            [again, hashing] if turn % 2 == 0 else [hashing, again] for turn in range(options.runs)
        ]
        steps = [
            again,
            hashing,
            *(step for turn in turns for step in turn),
            casparian(home, "sentinel", "stop"),
        ]
        try:
            _, _, *measured, _ = processes.session(steps, cores=CORES)
        except CommandFailed as failed:
            result.status = "failed"
            result.notes.append(str(failed))
            return result
    ran = [figure for figure in measured if "run_id" in figure.found]
    hashed = [figure for figure in measured if "run_id" not in figure.found]
    result.figures = {"casparian run (again)": ran, "blake3_tree": hashed}
    skipped = [figure.found["files"] for figure in ran]
    result.found = {"casparian run (again)": {"records": inputs.files, "files": skipped[-1]}}
    if any(files.get("selected") for files in skipped) and not all(
        _all_skipped(f, inputs.files) for f in skipped
    ):
        result.status = "differs"
        result.notes.append(f"not everything was skipped: {json.dumps(skipped[-1])}")
    result.ratios["rerun_vs_hashing"] = [
        mine.seconds / base.seconds for mine, base in zip(ran, hashed, strict=True)
    ]
    return result


def _all_skipped(files: dict[str, int], expected: int) -> bool:
    return files.get("skipped", 0) >= expected


def query(bench: Bench) -> StageResult:
    """Events by provider and id: our command on committed outputs, DuckDB on the baseline's Parquet; whole processes."""
    result = StageResult(name="query")
    absent = bench.why_absent("jsonl_duckdb") or bench.why_absent("query_parquet")
    if absent:
        return result.missing(absent)
    inputs = bench.inputs.logs("large", files=LARGE_LOGS, size_mb=bench.options.size_mb)
    result.input = asdict(inputs)
    with bench.directory() as place:
        home, other = f"{place}/home", f"{place}/other"
        Path(other).mkdir()
        mine = casparian(home, "query", f"{BY_EVENT}", "--json")
        base = bench.baseline("query_parquet", [f"{other}/events.parquet"])
        prepared = [
            run_command(home, inputs),
            bench.baseline("jsonl_duckdb", inputs.paths, "--into", other),
        ]
        turns = [
            [mine, base] if turn % 2 == 0 else [base, mine] for turn in range(bench.options.runs)
        ]
        steps = [
            *prepared,
            *(step for turn in turns for step in turn),
            casparian(home, "sentinel", "stop"),
        ]
        try:
            figures = processes.session(steps, cores=CORES)[2:-1]
        except CommandFailed as failed:
            result.status = "failed"
            result.notes.append(str(failed))
            return result
    for figure in figures:
        name = "casparian query" if "rows" in figure.found else "query_parquet"
        result.figures.setdefault(name, []).append(figure)
    ours = sum(row[2] for row in result.figures["casparian query"][0].found["rows"])
    result.found = {
        "casparian query": {"records": ours, "ids": None},
        "query_parquet": result.figures["query_parquet"][0].found,
    }
    # Ours has the records of the slack as well.
    stages.compare_found(result, None, exact=False)
    stages.add_ratios(result, "query_vs_duckdb", "query_parquet", "casparian query", "seconds")
    for figure in result.figures["casparian query"]:
        figure.found.clear()
    return result


STAGES: dict[str, Callable[[Bench], StageResult]] = {
    "hash": stages.hash_files,
    "evtx": stages.evtx,
    "evtx_unrepeated": stages.evtx_unrepeated,
    "evtx_slow": stages.evtx_slow,
    "directory": directory,
    "directory_unrepeated": directory_unrepeated,
    "small_files": small_files,
    "rerun": rerun,
    "query": query,
    "hive": stages.hive,
    "infer": stages.infer,
    "infer_jsonl": stages.infer_jsonl,
    "delimited": stages.delimited,
}
"""All stages, in the order in which they run."""
