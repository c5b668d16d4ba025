"""`python -m tests.storm --kills 200 --seed S`: the storm over every sink and mode, with a table at the end."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from casparian.errors import CasparianError
from tests.storm.arena import MODES, SINKS, Arena, corpus_directory, undisturbed
from tests.storm.verdict import Fingerprint, Violation

STEPS = 3
_AT_ONCE = 2


def storm(
    directory: Path,
    *,
    kills: int,
    seed: int,
    sinks: tuple[str, ...],
    modes: tuple[str, ...],
    steps: int = STEPS,
    short: bool = False,
    corpus: Path | None = None,
) -> Counter[str]:
    """Spread the kills over all sinks and modes; what happened. Two storms rage at the same time, each in a home of its own.

    Args:
        directory: empty.
        kills: at least so many processes are killed, unless they escape again and again.
        seed: of evidence and dice; moments depend on the machine as well.
        sinks: which kinds.
        modes: which modes.
        steps: how often the settled evidence and the options change.
        short: only replacing needs a second step, and only the end of the last one is judged.
        corpus: real logs to add.

    Raises:
        Violation: with the place where everything is kept.
    """
    stopped = threading.Event()
    steps_of = {mode: 1 if short and mode != "replace" else steps for mode in modes}

    def undisturbed_in(mode: str) -> list[Fingerprint]:
        place = directory / f"calm-{mode}"
        place.mkdir()
        found = undisturbed(place, mode, seed=seed, corpus=corpus, steps=steps_of[mode])
        shutil.rmtree(place)
        return found

    def rage(number: int, mode: str, sink: str) -> Counter[str]:
        count: Counter[str] = Counter()
        if stopped.is_set():
            return count
        place = directory / f"{sink}-{mode}"
        place.mkdir()
        arena = Arena(
            place,
            sink,
            mode,
            seed=seed,
            corpus=corpus,
            calm=calm[mode],
            count=count,
            say=_say,
            every_step=not short,
        )
        try:
            arena.storm(shares[number])
        except (AssertionError, OSError, CasparianError) as error:
            stopped.set()
            raise Violation(
                f"{arena.name}, seed {seed}: {error}\neverything is kept in {place}"
            ) from error
        shutil.rmtree(place)
        return count

    combinations = [(mode, sink) for mode in modes for sink in sinks]
    total = len(combinations)
    shares = [kills * (n + 1) // total - kills * n // total for n in range(total)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        calm = dict(zip(modes, pool.map(undisturbed_in, modes), strict=True))
        storms = [pool.submit(rage, n, *combination) for n, combination in enumerate(combinations)]
    return sum((found.result() for found in storms), Counter())


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
