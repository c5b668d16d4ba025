"""The stages: which contenders read what, and which ratios come out."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from casparian import _native
from tests.bench import ours, processes
from tests.bench.inputs import InputMaker, Inputs
from tests.bench.processes import CommandFailed, Figure

SLOW_SECONDS = 0.4
"""Small inputs are read again and again for so long."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure with.

    Attributes:
        runs: turns of each stage; the slow readers get one.
        size_mb: of the large logs together.
        small_files: number of one-chunk logs.
        rerun_mb: size of the files of the rerun, in `rerun_files` files.
        slow_mb: size of the log that the slow readers are given.
        csv_mb: size of each file whose types are inferred.
        baselines: Python of the environment that the baselines are installed in; None when there is none.
        work: a directory for what runs write.
    """

    runs: int
    size_mb: int
    small_files: int
    rerun_mb: int
    rerun_files: int
    slow_mb: int
    csv_mb: int
    baselines: str | None
    work: str


@dataclass(kw_only=True)
class StageResult:
    """What came of a stage.

    Attributes:
        status: `measured`; `differs` when the contenders did not find the same; `missing` when a tool or an input is;
            `failed` when a contender ended with an error.
        notes: reasons, and what was left out.
        input: what was read.
        found: by contender, what it found.
        figures: by contender, one for each turn.
        ratios: by name, one for each turn.
    """

    name: str
    status: str = "measured"
    notes: list[str] = field(default_factory=list)
    input: dict[str, Any] | None = None
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    figures: dict[str, list[Figure]] = field(default_factory=dict)
    ratios: dict[str, list[float]] = field(default_factory=dict)

    def missing(self, reason: str) -> StageResult:
        """Nothing could be measured, for this reason."""
        self.status = "missing"
        self.notes.append(reason)
        return self

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Bench:
    """All that stages share: options, inputs, and which baselines are there."""

    def __init__(self, options: Options, inputs: InputMaker) -> None:
        self.options = options
        self.inputs = inputs
        self.absent = self._absent_readers()

    def _absent_readers(self) -> dict[str, str | None]:
        if self.options.baselines is None:
            return {}
        argv = [self.options.baselines, f"{Path(__file__).parent}/readers.py", "--list"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        found: dict[str, str | None] = json.loads(done.stdout)
        return found

    def why_absent(self, reader: str) -> str | None:
        """Why a baseline cannot run; None when it can."""
        if self.options.baselines is None:
            return f"{reader}: the baselines are not installed (`make bench` does it)"
        reason = self.absent.get(reader, "unknown")
        return f"{reader}: {reason}" if reason else None

    def baseline(self, reader: str, paths: list[str], *more: str) -> list[str]:
        """The command of a baseline."""
        assert self.options.baselines is not None
        script = f"{Path(__file__).parent}/readers.py"
        return [self.options.baselines, script, *more, reader, *_named(paths, self.options.work)]

    def native(self, reader: str, paths: list[str], *more: str) -> list[str]:
        """The command of a native reader."""
        return [sys.executable, "-m", "tests.bench.ours", *more, reader, *paths]

    @contextmanager
    def directory(self) -> Iterator[str]:
        """An empty directory for one run."""
        made = tempfile.mkdtemp(dir=self.options.work)
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _named(paths: list[str], work: str) -> list[str]:
    """Paths as arguments; many of them by a file that names them."""
    if len(paths) <= 64:
        return paths
    with tempfile.NamedTemporaryFile("w", dir=work, suffix=".list", delete=False) as names:
        names.write("\n".join(paths))
    return [f"@{names.name}"]


def take_turns(result: StageResult, runs: int, contenders: dict[str, Callable[[], Figure]]) -> None:
    """Run the contenders in turn; every second round begins at the other end, so that none is always first."""
    for turn in range(runs):
        order = list(contenders.items())
        for name, run in order if turn % 2 == 0 else reversed(order):
            result.figures.setdefault(name, []).append(run())


def compare_found(result: StageResult, expected: int | None, *, exact: bool = True) -> None:
    """Hold against each other what the contenders found; with `expected`, also against what was written.

    Without `exact` only we must find all that was written.
    """
    figures = {name: (found["records"], found.get("ids")) for name, found in result.found.items()}
    for (one, a), (other, b) in itertools.combinations(figures.items(), 2):
        same_ids = a[1] is None or b[1] is None or a[1] == b[1]
        if a[0] != b[0] or not same_ids:
            result.notes.append(
                f"{one} found {a[0]} (ids {a[1]}), {other} found {b[0]} (ids {b[1]})"
            )
            if exact:
                result.status = "differs"
    for name, (records, _) in figures.items():
        if expected is not None and records != expected:
            result.notes.append(f"{name} found {records} of {expected} records written")
            if exact or name.startswith(
                "casparian"
            ):  # what another reader loses is told, and no fault of the comparison
                result.status = "differs"


def add_ratios(result: StageResult, ratio: str, base: str, mine: str, measure: str) -> None:
    """`base` over `mine`, turn by turn, in `seconds` or `cpu_seconds`."""
    pairs = zip(result.figures[base], result.figures[mine], strict=True)
    result.ratios[ratio] = [getattr(b, measure) / getattr(m, measure) for b, m in pairs]


# -- in process, one core ---------------------------------------------------------------------------


def in_process(
    bench: Bench,
    result: StageResult,
    inputs: Inputs,
    *,
    reader: str,
    baselines: dict[str, str],
    runs: int,
    exact: bool = True,
) -> StageResult:
    """One of our readers beside baselines on the same files; `baselines` gives each its ratio's name."""
    if not hasattr(_native, ours.READERS[reader][1]):
        return result.missing(f"the native module has no {ours.READERS[reader][1]}")
    result.input = asdict(inputs)
    paths = inputs.paths
    present = {}
    for name, ratio in baselines.items():
        absent = bench.why_absent(name)
        if absent:
            result.notes.append(f"left out {absent}")
        else:
            present[name] = ratio
    mine = f"casparian {reader}"
    try:
        result.found[mine] = processes.reader(bench.native(reader, paths, "--check")).found
        for name in present:
            result.found[name] = processes.reader(bench.baseline(name, paths)).found
        compare_found(result, inputs.records, exact=exact)
        seconds = ["--seconds", str(SLOW_SECONDS)]

        def of_ours() -> Figure:
            return processes.reader(bench.native(reader, paths, *seconds))

        contenders = {mine: of_ours}
        for name in present:
            argv = bench.baseline(name, paths, *seconds)
            contenders[name] = lambda argv=argv: processes.reader(argv)  # type: ignore[misc]
        take_turns(result, runs, contenders)
    except CommandFailed as failed:
        result.status = "failed"
        result.notes.append(str(failed))
        return result
    for name, ratio in present.items():
        add_ratios(result, ratio, name, mine, "cpu_seconds")
    if not present:
        result.missing("no baseline is there to compare with")
    return result


def evtx(bench: Bench) -> StageResult:
    """Event log → Arrow beside the wheel."""
    inputs = bench.inputs.logs("large", files=1, size_mb=min(bench.options.size_mb, 128))
    baselines = {
        "evtx_json": "evtx_to_arrow_vs_wheel_json",
        "evtx_json_arrow": "evtx_to_arrow_vs_wheel_json_arrow",
    }
    return in_process(bench, StageResult(name="evtx"), inputs, reader="evtx", baselines=baselines,
                      runs=bench.options.runs)  # fmt: skip


def evtx_unrepeated(bench: Bench) -> StageResult:
    """The same on real logs as they are. Readers differ there on damaged ones, which is told and no fault."""
    result = StageResult(name="evtx_unrepeated")
    inputs = bench.inputs.real_logs()
    if inputs is None:
        return result.missing("real logs: set CASPARIAN_CORPUS")
    baselines = {
        "evtx_json": "evtx_to_arrow_vs_wheel_json_unrepeated",
        "evtx_json_arrow": "evtx_to_arrow_vs_wheel_json_arrow_unrepeated",
    }
    return in_process(bench, result, inputs, reader="evtx", baselines=baselines,
                      runs=bench.options.runs, exact=False)  # fmt: skip


def evtx_slow(bench: Bench) -> StageResult:
    """The readers that take minutes for what takes us a second, on a small log, in one turn."""
    inputs = bench.inputs.logs("small-log", files=1, size_mb=bench.options.slow_mb)
    baselines = {
        "libevtx": "evtx_to_arrow_vs_libevtx",
        "python_evtx": "evtx_to_arrow_vs_python_evtx",
        "dissect_eventlog": "evtx_to_arrow_vs_dissect",
    }
    return in_process(bench, StageResult(name="evtx_slow"), inputs, reader="evtx",
                      baselines=baselines, runs=1, exact=False)  # fmt: skip


def hash_files(bench: Bench) -> StageResult:
    """BLAKE3, one core."""
    inputs = bench.inputs.logs("large", files=1, size_mb=min(bench.options.size_mb, 128))
    result = StageResult(name="hash")
    files = Inputs(**{**asdict(inputs), "records": 1})  # one digest a file
    return in_process(bench, result, files, reader="blake3_files",
                      baselines={"blake3_files": "hash_vs_blake3"}, runs=bench.options.runs)  # fmt: skip


def hive(bench: Bench) -> StageResult:
    """Hive → Arrow."""
    result = StageResult(name="hive")
    inputs = bench.inputs.hives()
    if inputs is None:
        return result.missing("hives: set CASPARIAN_CORPUS")
    rust = {"regrs": "hive_vs_regrs", "regipy_rs": "hive_vs_regipy_rs"}
    others = {"libregf": "hive_vs_libregf", "python_registry": "hive_vs_python_registry"}
    # regipy leaves out some values of these hives: told, not a fault of the comparison.
    in_process(bench, result, inputs, reader="hive", baselines={**rust, **others},
               runs=bench.options.runs, exact=False)  # fmt: skip
    if result.status == "measured":
        turns = [result.ratios.pop(ratio) for ratio in rust.values() if ratio in result.ratios]
        if turns:
            # The fastest of a turn is the one that leaves us the least lead.
            result.ratios["hive_vs_fastest_rust"] = [min(turn) for turn in zip(*turns, strict=True)]
    return result


def infer(bench: Bench) -> StageResult:
    """Types of a CSV file from all of its rows, beside DuckDB's sniffer and reader over all rows: wall time, two cores."""
    return _inferred(bench, StageResult(name="infer"), reader="infer_csv", baseline="duckdb_sniffed",
                     make=bench.inputs.csv, ratio="infer_vs_duckdb_csv")  # fmt: skip


def infer_jsonl(bench: Bench) -> StageResult:
    """The same of JSON Lines with nested objects and lists."""
    return _inferred(bench, StageResult(name="infer_jsonl"), reader="infer_jsonl", baseline="duckdb_json_sniffed",
                     make=bench.inputs.jsonl, ratio="infer_vs_duckdb_jsonl")  # fmt: skip


def _inferred(
    bench: Bench,
    result: StageResult,
    *,
    reader: str,
    baseline: str,
    make: Callable[..., Inputs],
    ratio: str,
) -> StageResult:
    absent = bench.why_absent(baseline)
    if absent:
        return result.missing(absent)
    inputs = make(size_mb=bench.options.csv_mb)
    result.input = asdict(inputs)
    mine = f"casparian {reader}"

    def of_ours() -> Figure:
        return processes.reader(bench.native(reader, inputs.paths), cores=2)

    def of_theirs() -> Figure:
        return processes.reader(bench.baseline(baseline, inputs.paths), cores=2)

    try:
        take_turns(result, bench.options.runs, {mine: of_ours, baseline: of_theirs})
    except CommandFailed as failed:
        result.status = "failed"
        result.notes.append(str(failed))
        return result
    result.found = {name: figures[0].found for name, figures in result.figures.items()}
    compare_found(result, inputs.records)
    add_ratios(result, ratio, baseline, mine, "seconds")
    return result


def delimited(bench: Bench) -> StageResult:
    """Delimited text → typed Arrow under a contract, on one core."""
    inputs = bench.inputs.delimited(min(bench.options.size_mb, 256))
    return in_process(bench, StageResult(name="delimited"), inputs, reader="delimited",
                      baselines={"pyarrow_csv": "delimited_vs_pyarrow", "duckdb_csv": "delimited_vs_duckdb"},
                      runs=bench.options.runs)  # fmt: skip
