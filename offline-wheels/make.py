"""Make a platform's wheelhouse: `make.py --platform linux-x86_64`. README.md explains."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bundle import fetch, locks, own_wheel, platforms, wheelfile, wheelhouse
from bundle.locks import BadLock, Locked
from bundle.platforms import ROOT, Platform
from bundle.steps import Failed, emit, say, sweep
from bundle.wheelfile import BadWheel


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; its exit code."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.lock and (asked.take_from or asked.dry_run):
        parser.error("--lock asks the package index: it goes with neither --from nor --dry-run")
    known = platforms.load()
    if asked.platform not in known:
        say(
            f"failed: `{asked.platform}` is none of {', '.join(known)} (offline-wheels/platforms.toml)"
        )
        return 2
    platform = known[asked.platform]
    out = Path(asked.out or ROOT / "build/appliance/wheels" / platform.name)
    try:
        if asked.dry_run:
            return _plan(platform, out)
        out.mkdir(parents=True, exist_ok=True)
        return _make(platform, out, asked)
    except (Failed, BadLock, BadWheel, OSError) as error:
        say(f"failed: {error}")
        return 1


def _make(platform: Platform, out: Path, asked: argparse.Namespace) -> int:
    sweep(out)
    if asked.lock:
        fetch.lock(platform, out, index=asked.index_url)
    locked = locks.of_platform(platform)
    alone = wheelhouse.of_parsers_alone(locked)
    sources = [Path(each) for each in asked.take_from]
    brought = fetch.get(platform, [*locked, *alone], out, sources=sources, index=asked.index_url)
    own = _own(platform, out, asked)
    wheelhouse.write_lists(out, platform, [*locked, *own], alone)
    report = wheelhouse.verify(out, platform)
    for problem in report.problems:
        say(f"✗ {problem}")
    for note in report.notes:
        say(f"note: {note}")
    if asked.json:
        emit({"brought": brought, **report.document()})
    elif report.ok:
        say(f"{out}: {len(report.wheels)} wheels, {report.size_bytes / 1e6:.1f} MB")
    return 0 if report.ok else 1


def _own(platform: Platform, out: Path, asked: argparse.Namespace) -> list[Locked]:
    """Our own wheel: built here, or the one that lies there with `--keep-own`."""
    there = sorted(out.glob(f"{wheelhouse.OWN}-*.whl"))
    if platform.name == platforms.host() and not (asked.keep_own and there):
        there = [own_wheel.build(platform, out, zig=asked.zig)]
    return [
        Locked(
            name=wheelhouse.OWN,
            version=wheelfile.parse_name(path.name).version,
            hashes=(wheelfile.sha256(path),),
        )
        for path in there
    ]


def _plan(platform: Platform, out: Path) -> int:
    locked = locks.of_platform(platform)
    say(f"would have in {out}:")
    for each in locked:
        say(f"  {each.name} {each.version}")
    built = "built here" if platform.name == platforms.host() else wheelhouse.NEEDS_BUILDER
    say(f"  {wheelhouse.OWN} {wheelhouse.own_version()} ({built})")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make.py", description="Make a platform's wheelhouse.")
    parser.add_argument("--platform", default=platforms.host(), help="default: this machine's")
    parser.add_argument("--out", help="default: build/appliance/wheels/PLATFORM")
    parser.add_argument(
        "--lock", action="store_true", help="resolve again and write the lock (needs uv)"
    )
    parser.add_argument(
        "--from",
        dest="take_from",
        metavar="DIR",
        action="append",
        default=[],
        help="take the wheels from this folder, without network; may be given again",
    )
    parser.add_argument(
        "--index-url",
        help="package index; default: the one of the machine's /etc/pip.conf, else PyPI."
        " The user's settings of pip are not read",
    )
    parser.add_argument(
        "--zig", action="store_true", help="link our own wheel for the glibc floor, with zig"
    )
    parser.add_argument(
        "--keep-own", action="store_true", help="keep our own wheel if it lies there"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be there")
    parser.add_argument("--json", action="store_true", help="the result as a document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
