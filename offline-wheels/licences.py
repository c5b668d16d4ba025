"""Judge and collect the licences of wheels and crates: `licences.py [DIR --out FOLDER] [--check]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bundle import components, locks, platforms, spdx
from bundle.locks import BadLock
from bundle.platforms import ROOT
from bundle.steps import Failed, emit, say


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit code."""
    asked = _parser().parse_args(arguments)
    known = platforms.load()
    if asked.platform not in known:
        say(f"failed: `{asked.platform}` is none of {', '.join(known)}")
        return 2
    try:
        return _check(asked) if asked.check else _collect(asked)
    except (Failed, BadLock, spdx.NotAllowed, OSError) as error:
        say(f"failed: {error}")
        return 1


def _check(asked: argparse.Namespace) -> int:
    """Of what is installed here, and of the crates of every platform."""
    known = platforms.load()
    problems, absent = components.installed(locks.of_platform(known[asked.platform]))
    counted = {name: len(components.of_crates(platform)) for name, platform in known.items()}
    for problem in problems:
        say(f"✗ {problem}")
    if asked.json:
        emit({"problems": problems, "not_installed": absent, "crates": counted})
    else:
        sys.stdout.write(f"crates: {counted}; not installed here: {', '.join(absent) or 'none'}\n")
    return 1 if problems else 0


def _collect(asked: argparse.Namespace) -> int:
    platform = platforms.load()[asked.platform]
    directory = asked.directory or ROOT / "build/appliance/wheels" / platform.name
    out = asked.out or ROOT / "build/appliance/licences" / platform.name
    say(f"reading {directory}")
    found = [*components.of_wheels(directory, platform), *components.of_crates(platform)]
    if out.exists():
        raise Failed(f"{out} is there already; remove it, or name another with --out")
    components.write_licences(found, out)
    kinds = {kind: sum(each.kind == kind for each in found) for kind in ("wheel", "crate")}
    if asked.json:
        emit({"out": str(out), **kinds})
    else:
        sys.stdout.write(f"{out}: {kinds['wheel']} wheels, {kinds['crate']} crates\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="licences.py", description="Judge and collect licences.")
    parser.add_argument("directory", metavar="DIR", nargs="?", type=Path, help="the wheelhouse")
    parser.add_argument("--platform", default=platforms.host(), help="default: this machine's")
    parser.add_argument(
        "--out", type=Path, help="a new folder; default: build/appliance/licences/PLATFORM"
    )
    parser.add_argument(
        "--check", action="store_true", help="judge what is installed, write nothing"
    )
    parser.add_argument("--json", action="store_true", help="the result as a document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
