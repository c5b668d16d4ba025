"""`python -m tests.fuzz --time 60 --targets event_log,event_records`: build, seed, search, tell; 1 when something was found.

The fuzzers are built with stable Rust: the coverage that libFuzzer follows comes from LLVM's own instrumentation. No sanitizer is
needed, since the engine's decoders have no unsafe code; an allocator of the checks counts the memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import SEEDS, write_seeds

ROOT = Path(__file__).resolve().parents[2]
INSTRUMENTATION = (
    "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    " -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    " -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
)
INPUT_BYTES_MAX = {
    "event_log": 72_000,
    "event_records": 16_384,
    "hive": 32_768,
    "transaction_log": 32_768,
    "delimited": 4_096,
    "json_lines": 4_096,
}
"""The greatest input of a target: small ones are tried more often. Longer seeds are cut."""

SECONDS_AN_INPUT = 25
"""After so long an input counts as a hang; the engine takes milliseconds."""

MEMORY_MB = 1_024


@dataclass(frozen=True, kw_only=True)
class Search:
    """What became of a target."""

    target: str
    seeds: int
    runs: int
    findings: tuple[Path, ...]


def build(targets: list[str]) -> Path:
    """Build the fuzzers; gives the directory they are in."""
    host = next(
        line.partition(" ")[2]
        for line in _output("rustc", "-vV").splitlines()
        if line.startswith("host: ")
    )
    target_dir = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "fuzz"
    command = ["cargo", "build", "--release", "--locked", "--target", host]
    for target in targets:
        command += ["--bin", target]
    environment = {**os.environ, "RUSTFLAGS": INSTRUMENTATION, "CARGO_TARGET_DIR": str(target_dir)}
    subprocess.run(command, check=True, cwd=ROOT / "fuzz", env=environment)
    return target_dir / host / "release"


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def search(
    program: Path, target: str, directory: Path, *, seconds: int, corpus: Path | None
) -> Search:
    """Search for so long, or to the first finding; what was learnt is kept for the next search."""
    place = directory / target
    seeds = write_seeds(target, place / "seeds", corpus)
    for name in ("learnt", "findings"):
        (place / name).mkdir(parents=True, exist_ok=True)
    before = set((place / "findings").iterdir())
    log = place / "last.log"
    command = [
        str(program), f"-max_total_time={seconds}", f"-timeout={SECONDS_AN_INPUT}", f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={INPUT_BYTES_MAX[target]}", "-print_final_stats=1", f"-report_slow_units={SECONDS_AN_INPUT}",
        f"-artifact_prefix={place}/findings/", str(place / "learnt"), str(place / "seeds"),
    ]  # fmt: skip
    with log.open("w") as said:
        done = subprocess.run(command, check=False, stdout=said, stderr=said)
    lines = log.read_text(errors="replace").splitlines()
    executed = [
        int(line.split()[-1]) for line in lines if line.startswith("stat::number_of_executed_units")
    ]
    found = tuple(sorted(set((place / "findings").iterdir()) - before))
    if done.returncode != 0 and not found:
        raise SystemExit(f"{target}: the fuzzer ended with {done.returncode}, see {log}")
    return Search(target=target, seeds=seeds, runs=sum(executed), findings=found)


def main() -> int:
    """Build, search each target, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--time", type=int, default=60, help="seconds for each target")
    parser.add_argument("--targets", default=",".join(SEEDS), help=f"of {', '.join(SEEDS)}")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "fuzz")
    given = parser.parse_args()
    targets = [name for name in given.targets.split(",") if name]
    if unknown := [name for name in targets if name not in SEEDS]:
        parser.error(f"unknown targets: {', '.join(unknown)}")
    corpus = os.environ.get("CASPARIAN_CORPUS")
    programs = build(targets)
    worst = 0
    for target in targets:
        found = search(
            programs / target,
            target,
            given.into,
            seconds=given.time,
            corpus=Path(corpus) if corpus else None,
        )
        print(
            f"{target}: {found.runs:,} inputs, begun with {found.seeds}, {len(found.findings)} findings"
        )
        for finding in found.findings:
            worst = 1
            print(f"  {finding}\n  once mended, put it into native/core/tests/fuzz_inputs/{target}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
