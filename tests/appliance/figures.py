"""What the appliance costs: size of a stick, time to verify, install and start, and the main job beside the plain environment."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.appliance.attacks import fingerprint_of
from tests.appliance.log import Log
from tests.appliance.room import STICK, Room
from tests.appliance.timing import Took, least

_MIB: Final = 1 << 20
_PAGE: Final = """# What the appliance costs

Written by `make appliance-test PAGE=1` on a machine with {cpus} processors that was not idle. CPU time is user and system
time of every process that a command started, sentinel, workers and guests among them. Beside the plain virtual environment:
the least of several rounds ({rounds} of the main job), taken in turn.

| | |
|---|---|
{rows}
"""


def measure(room: Room, evidence: Path, rounds: int, log: Log) -> None:
    """Measure with the stick that is plugged in and the version that is installed.

    Args:
        room: a running room with an installation.
        evidence: what the main job reads.
        rounds: of each comparison.
        log: gets the figures.
    """
    stick = room.media / "stick"
    manifest = json.loads((stick / "stick.json").read_text(encoding="utf-8"))
    for payload in manifest["payloads"]:
        form = "compiled" if payload["frozen"] else "a launcher over plain modules (`FREEZE=0`)"
        log.figure(
            "program",
            f"{manifest['version']} for {payload['platform']}, {form}; Python {payload['python']}, "
            f"glibc {payload['needs']['glibc']} or newer",
        )
    sizes = [path.stat().st_size for path in stick.rglob("*") if path.is_file()]
    log.figure("stick", f"{sum(sizes) / _MIB:.0f} MiB in {len(sizes)} files")
    parts = {
        folder.name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in stick.iterdir()
        if folder.is_dir()
    }
    largest = sorted(parts.items(), key=lambda part: -part[1])
    log.figure("of which", ", ".join(f"{name} {size / _MIB:.1f} MiB" for name, size in largest))
    version = (room.home / "casparian" / "current").resolve()
    installed = [path.stat().st_size for path in version.rglob("*") if path.is_file()]
    log.figure("installed version", f"{sum(installed) / _MIB:.0f} MiB in {len(installed)} files")

    log.figure("`sha256sum -c`", _seconds(room, f"cd {STICK} && sha256sum --quiet -c SHA256SUMS"))
    program = "casparian/bin/casparian"
    log.figure("`casparian bundle check`", _seconds(room, f"{program} bundle check {STICK}"))
    fingerprint = fingerprint_of(room)
    log.figure(
        "`sh install.sh`: check, copy, unpack, check again, self-test, switch",
        _seconds(room, f"sh {STICK}/install.sh ~/measured {fingerprint}"),
    )
    shutil.rmtree(room.home / "measured")
    log.figure("`casparian bundle verify`", _seconds(room, f"{program} bundle verify"))

    installed_program = [str(room.home / program)]
    plain = [sys.executable, "-I", "-m", "casparian"]
    for name, arguments in (("--version", ["--version"]), ("jobs", ["jobs"])):
        with tempfile.TemporaryDirectory(prefix="casparian-start-") as home:
            mine, theirs = least(
                [
                    [*which, *([] if name == "--version" else ["--home", home]), *arguments]
                    for which in (installed_program, plain)
                ],
                rounds=4 * rounds,
            )
        log.figure(f"start: `casparian {name}`", _against(mine, theirs))
    with tempfile.TemporaryDirectory(prefix="casparian-main-") as folder:
        commands = []
        for name, which in (("installed", installed_program), ("plain", plain)):
            home = f"{folder}/{name}"
            script = 'rm -rf "$0"; exec "$@"'
            commands.append(["sh", "-c", script, home, *which, "--home", home, "run"])
        mine, theirs = least([[*command, str(evidence)] for command in commands], rounds=rounds)
    log.figure(f"main job: `casparian run` on {_what(evidence)}", _against(mine, theirs))


def show(log: Log, page: Path | None, *, rounds: int) -> None:
    """Print the figures, and write the page of them when one is named."""
    if page is None or not log.figures:
        return
    rows = "\n".join(f"| {figure.name} | {figure.value} |" for figure in log.figures)
    page.write_text(_PAGE.format(rows=rows, rounds=rounds, cpus=os.cpu_count()), encoding="utf-8")
    log.note(f"written to `{page}`")


def _seconds(room: Room, script: str) -> str:
    best = float("inf")
    for _ in range(3 if "install.sh" not in script else 1):
        started = time.monotonic()
        room.sh(script)
        best = min(best, time.monotonic() - started)
    return f"{best:.1f} s"


def _against(mine: Took, theirs: Took) -> str:
    return (
        f"{mine.wall:.3f} s, {mine.cpu:.3f} s of CPU; plain environment {theirs.wall:.3f} s, {theirs.cpu:.3f} s of CPU: "
        f"{mine.wall / theirs.wall:.2f}× the time, {mine.cpu / theirs.cpu:.2f}× the CPU"
    )


def _what(evidence: Path) -> str:
    sizes = [path.stat().st_size for path in evidence.rglob("*") if path.is_file()]
    return f"{len(sizes)} files, {sum(sizes) / _MIB:.1f} MiB"
