"""`python -m tests.instructions [--update]`: count, compare, fail on more than 5 %."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.instructions import loops


def main() -> int:
    """Count and compare; 1 when a loop grew beyond the tolerance."""
    parser = argparse.ArgumentParser(prog="python -m tests.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="take the counts as they are now")
    parser.add_argument("--build", type=Path, default=loops.ROOT / "build" / "instructions")
    given = parser.parse_args()
    try:
        tools = loops.toolchain()
    except loops.Incomparable as reason:
        print(f"skipped: {reason}")
        return 0
    inputs = loops.write_inputs(given.build)
    kept = json.loads(loops.COUNTS.read_text()) if loops.COUNTS.is_file() else {"counts": {}}
    if not given.update:
        for part, now in (("tools", tools), ("inputs", inputs)):
            if kept.get(part) != now:
                print(f"skipped: counts.json is of other {part}: {kept.get(part)}, here {now}")
                print("`make instructions UPDATE=1` takes the counts of this machine")
                return 0
    program = loops.build()
    counts = {loop.name: loops.count(program, loop, given.build) for loop in loops.LOOPS}
    worst = 0
    for name, now in counts.items():
        if name not in kept["counts"]:
            print(f"{name:26}{'new':>14}   {now['']:>14,}")
            worst = worst or int(not given.update)
            continue
        verdict = loops.compare(name, kept["counts"][name], now)
        print(verdict)
        worst = worst or int(verdict.grown)
        if verdict.shrunk and not given.update:
            print("    `make instructions UPDATE=1` keeps what was won")
    if given.update:
        document = {"tools": tools, "inputs": inputs, "counts": counts}
        loops.COUNTS.write_text(json.dumps(document, indent=1) + "\n")
        return 0
    return worst


if __name__ == "__main__":
    sys.exit(main())
