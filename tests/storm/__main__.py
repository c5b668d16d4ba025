"""`python -m tests.storm --kills 200 --seed S`: the storm over every sink and mode, with a table at the end."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.storm.arena import MODES, SINKS, Arena, corpus_directory, undisturbed
from tests.storm.verdict import Violation

STEPS = 3


def storm(
    directory: Path,
    *,
    kills: int,
    seed: int,
    sinks: tuple[str, ...],
    modes: tuple[str, ...],
    steps: int = STEPS,
    corpus: Path | None = None,
) -> Counter[str]:
    """Spread the kills over all sinks and modes; what happened.

    Raises:
        Violation: with the place where everything is kept.
    """
    count: Counter[str] = Counter()
    done = 0
    for mode in modes:
        calm_directory = directory / f"calm-{mode}"
        calm_directory.mkdir()
        calm = undisturbed(calm_directory, mode, seed=seed, corpus=corpus, steps=steps)
        shutil.rmtree(calm_directory)
        for sink in sinks:
            combinations = len(modes) * len(sinks)
            share = kills * (done + 1) // combinations - kills * done // combinations
            done += 1
            place = directory / f"{sink}-{mode}"
            place.mkdir()
            arena = Arena(
                place, sink, mode, seed=seed, corpus=corpus, calm=calm, count=count, say=_say
            )
            try:
                arena.storm(share)
            except (AssertionError, OSError) as error:
                raise Violation(
                    f"{arena.name}, seed {seed}: {error}\neverything is kept in {place}"
                ) from error
            shutil.rmtree(place)
    return count


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def main() -> int:
    """Parse, storm, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--sinks", default=",".join(SINKS))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--into", type=Path, help="an empty directory (default: a temporary one)")
    given = parser.parse_args()
    corpus = corpus_directory()
    print(f"seed {given.seed}; evidence: generated{' and corpus' if corpus else ''}", flush=True)
    directory = given.into or Path(tempfile.mkdtemp(prefix="casparian-storm-"))
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        count = storm(
            directory.resolve(),
            kills=given.kills,
            seed=given.seed,
            sinks=tuple(given.sinks.split(",")),
            modes=tuple(given.modes.split(",")),
            corpus=corpus,
        )
    except Violation as violation:
        print(f"\nVIOLATION  {violation}", file=sys.stderr)
        return 1
    if given.into is None:
        shutil.rmtree(directory)
    print(f"\nno violation in {time.monotonic() - started:.0f} s, seed {given.seed}")
    killed = sum(number for name, number in count.items() if name.startswith("kill "))
    for name, number in [("kills", killed), *sorted(count.items())]:
        print(f"  {name:<32} {number:>6}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
