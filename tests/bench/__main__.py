"""`python -m tests.bench`: measure, print, write `build/bench.json`; `--report FILE` writes the page again from it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench import page, report
from tests.bench.inputs import InputMaker
from tests.bench.stages import Bench, Options, StageResult
from tests.bench.stages_runs import STAGES

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--stages", default=",".join(STAGES), help=f"of {', '.join(STAGES)}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size-mb", type=int, default=256, help="of the large logs together")
    parser.add_argument("--small-files", type=int, help="870, fewer below 64 MB of large logs")
    parser.add_argument("--rerun-mb", type=int, help="16 times the large logs, so 4 GB by default")
    parser.add_argument("--rerun-files", type=int, help="1,000, fewer below 256 MB of large logs")
    parser.add_argument("--slow-mb", type=int, default=1, help="of the log for the slow readers")
    parser.add_argument(
        "--csv-mb", type=int, default=1000, help="of each file whose types are inferred"
    )
    parser.add_argument("--baselines", help="Python of the environment with the baselines")
    parser.add_argument(
        "--build", type=Path, default=BUILD, help="where inputs, runs and bench.json go"
    )
    parser.add_argument(
        "--page", type=Path, help="write the page of the documentation too, with its plot"
    )
    parser.add_argument(
        "--page-only", action="store_true", help="write the page from the last bench.json"
    )
    given = parser.parse_args()
    target = given.build / "bench.json"
    if given.page_only:
        page.write_page(json.loads(target.read_text()), given.page)
        return
    names = [name for name in given.stages.split(",") if name]
    unknown = [name for name in names if name not in STAGES]
    if not names:
        parser.error(f"no stage was named: {', '.join(STAGES)}")
    if unknown or given.runs < 1 or given.size_mb < 1:
        parser.error(
            f"unknown stages: {', '.join(unknown)}" if unknown else "runs and sizes are at least 1"
        )
    corpus = os.environ.get("CASPARIAN_CORPUS")
    if corpus and not Path(corpus, "MANIFEST.csv").is_file():
        parser.error(f"CASPARIAN_CORPUS is {corpus}, which has no MANIFEST.csv")
    inputs = given.build / "bench" / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    work = tempfile.mkdtemp(prefix="run-", dir=given.build / "bench")
    try:
        options = Options(
            runs=given.runs,
            size_mb=given.size_mb,
            small_files=given.small_files or min(870, 14 * given.size_mb),
            rerun_mb=given.rerun_mb or 16 * given.size_mb,
            rerun_files=given.rerun_files or min(1_000, 4 * given.size_mb),
            slow_mb=given.slow_mb,
            csv_mb=given.csv_mb,
            baselines=given.baselines,
            work=work,
        )
        bench = Bench(options, InputMaker(inputs, Path(corpus).resolve() if corpus else None))
        results: list[StageResult] = []
        for name in names:
            results.append(STAGES[name](bench))
            report.print_stage(results[-1])
            # After each stage: a run that is stopped keeps what it measured.
            document = report.document(results, options)
            target.write_text(json.dumps(document, indent=1) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report.print_ratios(document)
    print(f"written: {target}")
    if given.page:
        page.write_page(document, given.page)
    if any(result.status in {"differs", "failed"} for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
