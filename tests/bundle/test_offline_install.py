"""A wheelhouse installs with pip where there is no network, by the command that `offline-wheels/README.md` gives.

Each case runs in a network namespace of its own, which has no interface but a loopback that is down.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import venv
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from offline_tree import HOST, PLATFORM, OfflineTree, environment, needs_platform

from bundle import wheelhouse
from bundle.locks import canonical
from bundle.platforms import FOLDER, ROOT, dotted

MADE = ROOT / "build" / "appliance" / "wheels" / HOST


@cache
def apart() -> tuple[str, ...] | None:
    """How a command is started without a network; `None` where that is not allowed."""
    for command in (("unshare", "--net"), ("unshare", "--map-root-user", "--net")):
        found = shutil.which(command[0])
        if (
            found
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


pytestmark = [
    needs_platform,
    pytest.mark.skipif(
        apart() is None, reason="no network namespace: `unshare --net` is not allowed here"
    ),
]


class Machine:
    """An empty environment that is asked without a network."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "venv" / "bin" / "python"
        venv.create(folder / "venv", symlinks=True)
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        ours = metadata.distribution("pip")
        for name in ("pip", f"pip-{ours.version}.dist-info"):
            shutil.copytree(str(ours.locate_file(name)), self.site / name)

    def call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command; nothing is checked."""
        prefix = apart()
        assert prefix is not None
        return subprocess.run(
            [*prefix, *map(str, command)],
            env=environment({"PIP_NO_CACHE_DIR": "1"}),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )

    def install(self, house: Path) -> subprocess.CompletedProcess[str]:
        """The command of the README."""
        text = (FOLDER / "README.md").read_text("utf-8")
        (line,) = re.findall(r"^python (-m pip --isolated install .*)$", text, re.MULTILINE)
        assert "--no-index" in line
        assert "--require-hashes" in line
        arguments = [word.replace("DIR", str(house)) for word in shlex.split(line)]
        return self.call(self.python, *arguments)

    def installed(self) -> dict[str, str]:
        """Versions by canonical names."""
        found = metadata.distributions(path=[str(self.site)])
        return {canonical(each.metadata["Name"]): each.version for each in found}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A wheelhouse of small wheels, made by `make.py`."""
    tree = OfflineTree(tmp_path / "small", packages=("one", "two"))
    tree.add_own_wheel()
    done = tree.run("make.py", "--from", str(tree.stock), "--keep-own")
    assert done.returncode == 0, done.stderr
    return tree.house


def test_there_is_no_network(machine: Machine) -> None:
    interfaces = machine.call("cat", "/proc/net/dev").stdout.splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in interfaces] == ["lo"]
    attempt = "import socket; socket.create_connection(('127.0.0.1', 1), 5)"
    assert "Network is unreachable" in machine.call(machine.python, "-c", attempt).stderr


def test_all_of_it_installs_and_works(machine: Machine, house: Path) -> None:
    done = machine.install(house)
    assert done.returncode == 0, done.stderr
    assert {"one", "two", "casparian"} <= machine.installed().keys()
    used = machine.call(machine.python, "-c", "import one, two, casparian; print(one.value)")
    assert used.stdout == "1\n", used.stderr


@pytest.mark.parametrize("attack", ["removed", "altered", "not locked"])
def test_what_is_not_locked_is_not_installed(machine: Machine, house: Path, attack: str) -> None:
    before = machine.installed()
    path = next(house.glob("two-*.whl"))
    if attack == "removed":
        path.unlink()
    elif attack == "altered":
        with path.open("ab") as file:
            file.write(b"\0")
    else:
        lock = house / wheelhouse.LOCK
        lines = lock.read_text().splitlines()
        lock.write_text(
            "\n".join([*(line for line in lines if "two==" not in line), "two==1.0", ""])
        )
    assert machine.install(house).returncode != 0
    assert machine.installed() == before, "nothing of it, not even what was right"


@pytest.mark.slow
@pytest.mark.skipif(
    not (MADE / wheelhouse.LOCK).exists(), reason="`offline-wheels/make.py` has not been run"
)
@pytest.mark.skipif(
    PLATFORM is None or sys.version_info[:2] != PLATFORM.python,
    reason=f"the wheelhouse is for Python {dotted(PLATFORM.python) if PLATFORM else '?'}",
)
def test_the_real_one_installs_and_its_program_runs(machine: Machine, tmp_path: Path) -> None:
    assert PLATFORM is not None
    report = wheelhouse.verify(MADE, PLATFORM)
    assert report.problems == []
    done = machine.install(MADE)
    assert done.returncode == 0, done.stderr
    wanted = {held.wheel.named.name: held.wheel.version for held in report.wheels}
    assert wanted.items() <= machine.installed().items()
    assert machine.call(machine.python, "-m", "pip", "check").returncode == 0
    demo = machine.call(
        machine.python.with_name("casparian"), "--json", "demo", "--into", tmp_path / "demo"
    )
    assert demo.returncode == 0, demo.stderr
