"""Make a stick: `python -m bundle.build --tree DIR --wheels DIR --out STICK`.

    --kind appliance   the program (default): the version tree, the wheelhouse, parsers, roots, policy, what vouches for them
    --kind trust       parsers, roots and policy alone

The stick is written to `STICK.partial`, verified there as an installed program would, and renamed when all of it is good.
Two builds of one commit from the same inputs are the same bytes: dates are the commit's (or SOURCE_DATE_EPOCH).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bundle import release_key
from bundle.facts import TreeUnusable
from bundle.folder import NotForAStick, StickWriter
from bundle.make import Inputs, NotBuilt, Report, build_appliance, build_trust
from bundle.source import describe
from bundle.spdx import NotAllowed
from bundle.ustar import NotPackable
from bundle.wheelfile import BadWheel
from casparian.errors import CasparianError


def main(arguments: list[str] | None = None) -> int:
    """Build a stick; the process's exit code."""
    given = _parser().parse_args(arguments)
    try:
        report = _build(given)
    except (
        CasparianError,
        NotForAStick,
        NotPackable,
        TreeUnusable,
        NotBuilt,
        NotAllowed,
        BadWheel,
        FileExistsError,
        FileNotFoundError,
    ) as error:
        message = error.message if isinstance(error, CasparianError) else str(error)
        if given.json:
            print(json.dumps({"schema_version": 1, "error": message}))
        print(f"not built: {message}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(report.document(dry_run=given.dry_run), indent=1))
        return 0
    for line in report.lines(dry_run=given.dry_run):
        print(line)
    return 0


def _build(given: argparse.Namespace) -> Report:
    key, development = release_key.load(given.key)
    if development:
        print(
            "DEVELOPMENT KEY: everybody has it; name the release key with --key or "
            f"{release_key.VARIABLE} before you hand this stick to anyone",
            file=sys.stderr,
        )
    inputs = Inputs(
        tree=given.tree,
        wheels=given.wheels,
        parsers=tuple(given.parsers),
        trust=given.trust,
        key=key,
        development=development,
        source=describe(),
        release=given.release,
        glibc=given.glibc,
        say=_say(quiet=given.quiet),
    )
    build = build_trust if given.kind == "trust" else build_appliance
    if not given.dry_run:
        return build(inputs, StickWriter(given.out))
    if given.out.exists():
        raise FileExistsError(f"{given.out} is there already")
    with tempfile.TemporaryDirectory() as folder:  # everything is made, nothing is kept
        return build(inputs, StickWriter(Path(folder) / "stick"))


def _say(*, quiet: bool) -> Any:
    def say(text: str, done: int = 0, total: int = 0) -> None:
        if quiet:
            return
        if total and sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{text}: {100 * done // total} %", end=end, file=sys.stderr, flush=True)
        elif not total or done == total:
            print(text, file=sys.stderr)

    return say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bundle.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kind", choices=("appliance", "trust"), default="appliance")
    parser.add_argument("--tree", type=Path, help="the version tree, as `bundle.tree` makes it")
    parser.add_argument("--wheels", type=Path, help="the wheelhouse: wheels and lock.txt")
    parser.add_argument(
        "--out", type=Path, required=True, help="the stick's folder; must not exist"
    )
    parser.add_argument("--key", help="the release key: unencrypted PKCS#8 PEM, Ed25519")
    parser.add_argument(
        "--release", type=int, help="counts what is handed out [default: number of commits]"
    )
    parser.add_argument(
        "--parsers", type=Path, nargs="*", default=(), help="signed packages, FILE.casparian"
    )
    parser.add_argument(
        "--trust", type=Path, help="folder with roots (N.root.json) and policy.json"
    )
    parser.add_argument("--glibc", help="oldest glibc that runs it [default: measured]")
    parser.add_argument("--dry-run", action="store_true", help="build and verify, keep nothing")
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


if __name__ == "__main__":
    sys.exit(main())
