"""Uninstalling: from the very version that runs, with a sentinel at work, killed at each step; the work stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import casparian
from casparian.appliance.service import removal
from casparian.appliance.service.manager import Manager
from casparian.appliance.service.unit import Unit
from casparian.appliance.stick.installation_store import InstallationStore
from casparian.errors import Conflict, UsageError
from tests.support.small import syslog_lines
from tests.support.world import World

OLD, NEW = "1.0.0-1", "1.0.0-2"
PACKAGE = Path(casparian.__file__).parent


def fake_installation(place: Path, *names: str) -> InstallationStore:
    """Folders and links as an installation has them; nothing in it runs."""
    for name in names:
        (place / "versions" / name / "bin").mkdir(parents=True)
        (place / "versions" / name / "bin" / "casparian").write_text("#!/bin/sh\n")
    (place / "bin").mkdir()
    (place / "bin" / "casparian").symlink_to("../current/bin/casparian")
    (place / "current").symlink_to(f"versions/{names[-1]}")
    if len(names) > 1:
        (place / "previous").symlink_to(f"versions/{names[-2]}")
    (place / "installation.json").write_text('{"schema_version":1,"floor":2}')
    return InstallationStore(place)


class Appliance:
    """An installation that runs: an interpreter of its own, and the package as files in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.store = fake_installation(place, OLD, NEW)
        version = place / "versions" / NEW
        runtime = version / "runtime"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", "--copies", str(runtime)], check=True
        )
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = runtime / "lib" / name / "site-packages"
        shutil.copytree(PACKAGE, site / "casparian", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PACKAGE.parent / "parsers", site / "parsers")
        for found in Path(sysconfig.get_path("purelib")).glob("casparian*.dist-info"):
            shutil.copytree(found, site / found.name)
        (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
        program = version / "bin" / "casparian"
        program.write_text(
            '#!/bin/sh\nhere=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd -P)\n'
            'exec "$here/runtime/bin/python3" -I -B -m casparian "$@"\n'
        )
        program.chmod(0o755)
        self.program = place / "bin" / "casparian"


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[tuple[Appliance, World]]:
    made = Appliance(tmp_path / "opt")
    world = World(tmp_path)
    world.program = [str(made.program)]
    yield made, world
    world.program = [sys.executable, "-m", "casparian"]
    world.stop()


def test_a_running_installation_removes_itself_once_its_sentinel_is_drained(
    appliance: tuple[Appliance, World],
) -> None:
    made, world = appliance
    world.file("messages", syslog_lines(host="a", count=20))
    other = made.place / "notes.txt"
    other.write_text("somebody's")
    assert world.run()["jobs"]["completed"] == 1
    assert world.json("sentinel", "start")["running"]
    (sentinel,) = world.processes("sentinel")
    assert str(made.place) in os.readlink(f"/proc/{sentinel}/exe")

    refused = world.call("uninstall")
    assert refused.returncode == 2
    assert "uninstall.unconfirmed" in refused.stderr
    dry = world.json("uninstall", "--dry-run")
    assert dry["versions"] == [OLD, NEW]
    assert [found["pid"] for found in dry["sentinels"]] == [sentinel]
    assert world.processes("sentinel") == [sentinel]

    done = world.json("uninstall", "--yes")
    assert done["everything"]
    assert [kept["home"] for kept in done["kept"]] == [str(world.home)]
    assert not world.alive(), "nothing of it runs any more"
    assert [path.name for path in made.place.iterdir()] == ["notes.txt"]

    world.program = [sys.executable, "-m", "casparian"]
    assert world.query("SELECT count(*) FROM syslog_events")[0] == [20]
    assert world.json("doctor", code=None)["checks"]


def test_one_version_goes_and_the_rest_works(appliance: tuple[Appliance, World]) -> None:
    made, world = appliance
    used = world.json("uninstall", "--version", NEW, "--yes", code=8)
    assert used["error"]["code"] == "uninstall.in_use"
    world.json("uninstall", "--version", OLD, "--yes")
    assert made.store.names() == [NEW]
    assert made.store.current == NEW
    assert made.store.previous is None
    assert not (made.place / "previous").is_symlink()
    assert made.store.recorded().floor == 2, "an older stick is refused as before"
    assert made.store.recorded().history[-1].action == "remove"
    assert world.json("sentinel", "status", code=3)["running"] is False


KILLER = """
import os, signal, sys
from casparian.appliance.service import removal
from casparian.appliance.stick.installation_store import InstallationStore
store, left = InstallationStore(sys.argv[1]), int(sys.argv[2])
def step(path):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
planned = removal.plan(store, version=None, managers=())
removal.carry_out(store, planned, running=sys.argv[3], step=step)
"""


def test_killed_at_each_step_it_can_be_repeated(tmp_path: Path) -> None:
    steps = 0
    while True:
        steps += 1
        place = tmp_path / str(steps)
        store = fake_installation(place, "1.0.0-1", "1.0.0-2", "1.0.0-3")
        command = [sys.executable, "-c", KILLER, str(place), str(steps), "1.0.0-3"]
        code = subprocess.run(command, check=False, cwd=PACKAGE.parent).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if (place / "versions" / "1.0.0-3").exists():
            program = place / "versions" / "1.0.0-3" / "bin" / "casparian"
            assert program.exists(), "whoever is to repeat it is whole"
        planned = removal.plan(store, version=None, managers=())
        removal.carry_out(store, planned, running="1.0.0-3")
        assert not place.exists()
    assert not place.exists()
    assert steps > 8, "versions, links, the record, the lock"


def test_units_of_this_installation_go_and_others_stay(tmp_path: Path) -> None:
    store = fake_installation(tmp_path / "opt", OLD)
    manager = Manager("system", folder=str(tmp_path / "units"))
    ours, theirs = (
        Unit(
            scope="system",
            program=("/bin/true",),
            home=str(tmp_path / name),
            account="root",
            installation=str(tmp_path / place),
        )
        for name, place in (("one", "opt"), ("two", "elsewhere"))
    )
    manager.install(ours)
    manager.install(theirs)
    planned = removal.plan(store, version=None, managers=(manager,))
    assert [unit.home for unit in planned.units] == [ours.home]
    removal.remove_units(planned, (manager,))
    assert [unit.home for unit in manager.units()] == [theirs.home]
    assert (tmp_path / "one").is_dir()


def test_nothing_is_removed_under_a_sentinel_that_was_started_meanwhile(
    appliance: tuple[Appliance, World],
) -> None:
    made, world = appliance
    planned = removal.plan(made.store, version=None, managers=())
    world.json("sentinel", "start")
    with pytest.raises(Conflict) as caught:
        removal.carry_out(made.store, planned, running=None)
    assert caught.value.code == "uninstall.running"
    assert made.store.names() == [OLD, NEW]


def test_what_is_no_installation_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    for arguments in ((), ("--from", str(tmp_path))):
        found = world.json("uninstall", "--yes", *arguments, code=2)
        assert found["error"]["code"] == "uninstall.nothing"
    store = fake_installation(tmp_path / "opt", OLD)
    with pytest.raises(UsageError) as caught:
        removal.plan(store, version="9.9.9-9", managers=())
    assert caught.value.code == "uninstall.no_version"
