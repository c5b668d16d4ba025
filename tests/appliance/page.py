"""The newcomer's page, walked: its commands for the connected machine here, those for the other one in a room."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.appliance.log import Log
from tests.appliance.room import HOME, STICK, Room

REPOSITORY: Final = Path(__file__).resolve().parents[2]
_RELEASES: Final = ("1", "2")  # that the page makes
PAGE: Final = REPOSITORY / "docs" / "how-to" / "airgap.md"


def walk(room: Room, work: Path, log: Log, *, sticks: Path) -> None:
    """Walk the page in a room that runs.

    Args:
        room: the disconnected machine; its slot for the stick is that of the connected one too.
        work: a folder for what the connected machine remembers.
        log: gets a line for each block.
        sticks: where each stick that the page has made is kept, named by its release; what is there is not made again.

    Raises:
        WalkthroughError: a command failed, or did not print what the page says.
    """
    walkthrough = _walkthrough()
    stick = room.media / "stick"
    stick.mkdir(exist_ok=True)

    # Where sticks are made, or a place that looks like it.
    made_before = all((sticks / release).exists() for release in _RELEASES)
    here = work / "connected" if made_before else REPOSITORY
    here.mkdir(exist_ok=True)

    def kept(line: re.Match[str]) -> str:
        one, made = shlex.quote(str(sticks / line[1])), "build/appliance/stick"
        if made_before:
            return (
                f"mkdir -p build/appliance && rm -f {made} && ln -s {one} {made}\n"
                f"echo the stick is in {made}: $(du -sm {made}/ | cut -f1) MiB, made before"
            )
        return f"{line[0]}\nmkdir -p {one} && cp -R {made}/. {one}"

    def connected(script: str) -> object:
        script = re.sub(r"^make appliance RELEASE=([0-9]+)$", kept, script, flags=re.MULTILINE)
        done = subprocess.run(
            ["sh"],
            input=script,
            cwd=here,
            env=os.environ | {"STICK": str(stick)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return walkthrough.Ended(done.returncode, done.stdout)

    def disconnected(script: str) -> object:
        # What a person types from the card.
        environment = {"STICK": STICK}
        card = stick / "CARD.txt"
        found = re.search(r"SHA256:[A-Za-z0-9+/]{43}", card.read_text(encoding="utf-8"))
        if found is not None:
            environment["FINGERPRINT"] = found[0]
        ran = room.run("/bin/sh", environment=environment, script=script, expect=None)
        return walkthrough.Ended(ran.code, ran.output)

    shells = {"connected": connected, "disconnected": disconnected}
    states = {
        "connected": str(work / "connected.environment"),
        "disconnected": f"{HOME}/.environment",
    }
    machines = {name: (_logged(name, shell, log), states[name]) for name, shell in shells.items()}
    walkthrough.walk(PAGE, work, machines=machines)


def _logged(name: str, shell: Callable[[str], object], log: Log) -> Callable[[str], object]:
    def run(script: str) -> object:
        started = time.monotonic()
        ended = shell(script)
        commands = [
            line
            for line in script.splitlines()
            if line and not line.startswith((". ", "set -e", "export -p"))
        ]
        log.note(f"{name}: {time.monotonic() - started:.1f} s for")
        for command in commands:
            log.note(f"    $ {command[:150]}")
        return ended

    return run


def _walkthrough() -> ModuleType:
    spec = importlib.util.spec_from_file_location("walkthrough", REPOSITORY / "docs/walkthrough.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["walkthrough"] = module
    spec.loader.exec_module(module)
    return module
