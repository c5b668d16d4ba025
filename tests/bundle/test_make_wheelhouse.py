"""The commands that make and check a wheelhouse, run as a person runs them; the wheels are made ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from offline_tree import HOST, OfflineTree, environment, needs_platform

pytestmark = needs_platform
OTHER = "linux-aarch64" if HOST == "linux-x86_64" else "linux-x86_64"


@pytest.fixture
def tree(tmp_path: Path) -> OfflineTree:
    return OfflineTree(tmp_path)


def test_it_takes_from_a_folder_and_verifies(tree: OfflineTree) -> None:
    own = tree.add_own_wheel()
    made = tree.run("make.py", "--from", str(tree.stock), "--keep-own", "--json")
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    assert (document["ok"], document["brought"], document["problems"]) == (True, 3, [])
    files = {*(path.name for path in (*tree.wheels, own)), "lock.txt", "SHA256SUMS"}
    assert {path.name for path in tree.house.iterdir()} == files
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tree.house,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert tree.run("verify.py").returncode == 0

    before = {path.name: path.stat().st_ino for path in tree.house.glob("*.whl")}
    again = tree.run("make.py", "--from", "/nowhere", "--keep-own", "--json")
    assert json.loads(again.stdout)["brought"] == 0
    assert {path.name: path.stat().st_ino for path in tree.house.glob("*.whl")} == before


def test_what_is_damaged_later_is_named(tree: OfflineTree) -> None:
    tree.add_own_wheel()
    assert tree.run("make.py", "--from", str(tree.stock), "--keep-own").returncode == 0
    with (tree.house / tree.wheels[0].name).open("ab") as file:
        file.write(b"\0")
    checked = tree.run("verify.py", str(tree.house))
    assert checked.returncode == 1
    assert f"`{tree.wheels[0].name}`" in checked.stdout


def test_a_dry_run_says_what_would_be_there_and_makes_nothing(tree: OfflineTree) -> None:
    done = tree.run("make.py", "--dry-run")
    assert done.returncode == 0
    assert "  one 1.0" in done.stderr
    assert "casparian 0.1.0 (built here)" in done.stderr
    assert not tree.house.exists()


def test_for_another_platform_our_own_wheel_is_missing_and_said(tree: OfflineTree) -> None:
    house = tree.house.with_name(OTHER)
    done = tree.run("make.py", "--platform", OTHER, "--from", str(tree.stock))
    assert done.returncode == 0, done.stderr
    assert f"casparian 0.1.0: needs native builder ({OTHER})" in done.stderr
    assert tree.run("verify.py", str(house)).returncode == 0
    assert tree.run("verify.py", str(house), "--strict").returncode == 1


REFUSED = {
    "no such platform": (("--platform", "amiga-68000"), 2, "is none of"),
    "a folder without the wheels": (("--from", "/nowhere"), 1, "no wheel of one 1.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_made_is_one_line(tree: OfflineTree, case: str) -> None:
    arguments, code, said = REFUSED[case]
    done = tree.run("make.py", *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_killed_in_the_middle_the_next_run_goes_on(tree: OfflineTree) -> None:
    """Held by a `copyfile` that never ends on the last wheel, then killed."""
    tree.add_own_wheel()
    held = tree.stock / tree.wheels[-1].name
    content = held.read_bytes()
    slow = tree.root / "slow.py"
    slow.write_text(
        "import os, runpy, shutil, sys, time\n"
        "copy = shutil.copyfile\n"
        "def wait(source, target):\n"
        f"    if os.path.basename(source) == {held.name!r}:\n"
        "        open(target, 'wb').write(b'PK')\n"
        "        time.sleep(3600)\n"
        "    return copy(source, target)\n"
        "shutil.copyfile = wait\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    make = [str(tree.root / "offline-wheels" / "make.py"), "--from", str(tree.stock), "--keep-own"]
    running = subprocess.Popen(
        [sys.executable, str(slow), *make], env=environment({}), stderr=subprocess.DEVNULL
    )
    try:
        while not list(tree.house.glob(f".fresh-*/{held.name}")):
            assert running.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    assert list(tree.house.glob(".fresh-*")), "what was cut off lies there"
    assert held.read_bytes() == content

    again = tree.run("make.py", "--from", str(tree.stock), "--keep-own", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["brought"] == 1
    assert not list(tree.house.glob(".fresh-*"))
