"""Check wheelhouses, or the locks alone: `verify.py [DIR …]`. Needs the standard library of Python 3.11 and no network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bundle import platforms, wheelhouse
from bundle.platforms import ROOT, Platform
from bundle.steps import emit, say
from bundle.wheelhouse import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Exit code 0: all is as it must be; 1: something is not; 2: it was asked for what is not there."""
    asked = _parser().parse_args(arguments)
    known = platforms.load()
    reports = [wheelhouse.verify_locks(platform) for platform in known.values()]
    for directory in asked.directories or _made():
        name = asked.platform or directory.resolve().name
        if name not in known or not directory.is_dir():
            say(f"{directory}: no folder named for a platform ({', '.join(known)}); see --platform")
            return 2
        reports.append(wheelhouse.verify(directory, known[name], strict=asked.strict))
    if asked.json:
        emit({"reports": [report.document() for report in reports]})
    else:
        for report in reports:
            _show(report, known[report.platform])
    return 0 if all(report.ok for report in reports) else 1


def _made() -> list[Path]:
    """The wheelhouses that `make.py` made."""
    return sorted(path for path in (ROOT / "build/appliance/wheels").glob("*") if path.is_dir())


def _show(report: Report, platform: Platform) -> None:
    what = (
        f"lock of {wheelhouse.floor_of(platform)}"
        if report.directory is None
        else str(report.directory)
    )
    held = (
        ""
        if report.directory is None
        else f": {len(report.wheels)} wheels, {report.size_bytes / 1e6:.1f} MB"
    )
    sys.stdout.write(f"{'✓' if report.ok else '✗'} {what}{held}\n")
    for problem in report.problems:
        sys.stdout.write(f"    ✗ {problem}\n")
    for note in report.notes:
        sys.stdout.write(f"    {note}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="verify.py", description="Check wheelhouses and their locks."
    )
    parser.add_argument(
        "directories",
        metavar="DIR",
        nargs="*",
        type=Path,
        help="default: all of build/appliance/wheels",
    )
    parser.add_argument("--platform", help="of DIR, when its name does not say it")
    parser.add_argument(
        "--strict", action="store_true", help="our own wheel must be there and keep the floor"
    )
    parser.add_argument("--json", action="store_true", help="the result as a document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
