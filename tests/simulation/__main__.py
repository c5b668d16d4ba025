"""`python -m tests.simulation --seeds 10000`: many histories; `--seed 17 --verbose`: one, told line by line.

Ends with 1 when an invariant is violated, with the shortened history of the first of each kind.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Container

from tests.simulation import histories
from tests.simulation.mutations import WRONG, AllBut

_EVERY = 1000  # seeds between two lines of progress


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one history only")
    parser.add_argument("--verbose", action="store_true", help="tell everything that happens")
    parser.add_argument("--whole", action="store_true", help="do not shorten what fails")
    parser.add_argument("--wrong", choices=sorted(WRONG), help="simulate a wrong product")
    parser.add_argument(
        "--without", action="append", default=[], choices=histories.FAULTS, help="leave a fault out"
    )
    options = parser.parse_args()
    tolerated: Container[str] = frozenset()
    if options.wrong:
        tolerated = AllBut(WRONG[options.wrong])
    if options.seed is not None:
        return one(options.seed, options, tolerated)
    return many(range(options.first, options.first + options.seeds), options, tolerated)


def one(seed: int, options: argparse.Namespace, tolerated: Container[str]) -> int:
    """One history, shortened when it fails."""
    outcome = histories.draw(
        seed, wrong=options.wrong, tolerated=tolerated, without=frozenset(options.without)
    )
    if outcome.name is not None and not options.whole:
        outcome = histories.shorten(outcome, wrong=options.wrong, tolerated=tolerated)
    if options.verbose or outcome.name is not None:
        tell(outcome, options.wrong, tolerated)
    print(f"seed {seed}: {outcome.name or 'no violation'}")
    return 1 if outcome.name is not None else 0


def many(seeds: range, options: argparse.Namespace, tolerated: Container[str]) -> int:
    """Many histories; what fails is counted, and the first of each kind is told."""
    began, events = time.process_time(), 0
    failed: dict[str, list[histories.Outcome]] = {}
    for count, seed in enumerate(seeds, 1):
        outcome = histories.draw(
            seed, wrong=options.wrong, tolerated=tolerated, without=frozenset(options.without)
        )
        events += outcome.events
        if outcome.name is not None:
            if outcome.name not in failed:
                short = outcome if options.whole else None
                short = short or histories.shorten(
                    outcome, wrong=options.wrong, tolerated=tolerated
                )
                tell(short, options.wrong, tolerated)
            failed.setdefault(outcome.name, []).append(outcome)
        if count % _EVERY == 0:
            print(f"{count} histories, {sum(map(len, failed.values()))} violations", flush=True)
    seconds = time.process_time() - began
    rate = events / max(seconds, 1e-9)
    print(f"{len(seeds)} histories, {events} events, {seconds:.1f} s of CPU, {rate:.0f} events/s")
    for name, outcomes in sorted(failed.items()):
        examples = ", ".join(str(outcome.seed) for outcome in outcomes[:5])
        print(f"FAILED  {len(outcomes):6} x {name}: seeds {examples}")
    return 1 if failed else 0


def tell(outcome: histories.Outcome, wrong: str | None, tolerated: Container[str]) -> None:
    """A history line by line: actions, `>` events the sentinel took, `<` effects it asked for."""
    print(f"--- seed {outcome.seed}, {len(outcome.actions)} actions")
    histories.repeat(outcome.seed, outcome.actions, wrong=wrong, tolerated=tolerated, trace=print)


if __name__ == "__main__":
    sys.exit(main())
