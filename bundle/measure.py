"""Measure how forms of the program start: `python -m bundle.measure NAME=COMMAND NAME=COMMAND… [--arguments TEXT]`.

Runs take turns, so that what else the machine does hits all alike. For each form: the least wall time, and the least time of the
processor (user and system, of all its processes), each beside the baseline's. Processor time is what to compare on a busy one.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

_ENVIRONMENT = ("HOME", "PATH", "LANG", "CASPARIAN_HOME")


@dataclass
class Best:
    """The least of all runs, in seconds."""

    wall: float = float("inf")
    processor: float = float("inf")


def measure(forms: dict[str, list[str]], runs: int) -> dict[str, Best]:
    """Run each form so many times, in turns, after one run that counts for nothing.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    best = {name: Best() for name in forms}
    for turn in range(runs + 1):
        for name, command in forms.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            begun = time.perf_counter()
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
            wall = time.perf_counter() - begun
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            if turn:
                best[name].wall = min(best[name].wall, wall)
                best[name].processor = min(best[name].processor, used)
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a line a form."""
    parser = argparse.ArgumentParser(prog="python -m bundle.measure", description=__doc__)
    parser.add_argument("form", nargs="+", help="NAME=COMMAND; the first one is the baseline")
    parser.add_argument("--arguments", default="--version", help="what each is given")
    parser.add_argument("--runs", type=int, default=15)
    given = parser.parse_args(arguments)
    forms = {}
    for form in given.form:
        name, equals, command = form.partition("=")
        if not equals:
            parser.error(f"`{form}` is no NAME=COMMAND")
        forms[name] = [*shlex.split(command), *shlex.split(given.arguments)]
    best = measure(forms, given.runs)
    first = next(iter(best.values()))
    for name, one in best.items():
        sys.stdout.write(
            f"{name:12} wall {one.wall * 1000:7.1f} ms ({one.wall / first.wall:4.2f}x)"
            f"   processor {one.processor * 1000:7.1f} ms ({one.processor / first.processor:4.2f}x)\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
