"""Build the product with a fault in its decoder, and an environment in which all its processes run it.

The fault is compiled in (feature `sabotage`, variable `CASPARIAN_SABOTAGE` while building): the
confined guest takes nothing from outside that could carry it. The build goes into the usual target
directory, where only the two crates of this project are compiled again, and comes out as a wheel;
the environment is that wheel unpacked, in front of the installed packages. Nothing that is installed changes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any, Final

from tests.support.world import World

PROJECT: Final = Path(__file__).resolve().parents[2]


def sabotaged_python(fault: str, shared: Path) -> Path:
    """The interpreter of an environment whose decoder commits `fault`.

    Args:
        fault: `drop-record:N` or `drop-chunk:I`.
        shared: a directory that the workers of this test run share; each fault is built once in it.
    """
    place = shared / fault.replace(":", "-")
    python = place / "bin" / "python"
    with (shared / "sabotage.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            _make_environment(place, python, _build(fault, place / "wheel"))
            (place / "done").touch()
    return python


def _build(fault: str, directory: Path) -> Path:
    maturin = Path(sys.executable).with_name("maturin")
    command = [
        str(maturin), "build", "--quiet", "--release", "--locked",
        "--interpreter", sys.executable, "--out", str(directory),
        "--features", "sabotage,pyo3/extension-module",
    ]  # fmt: skip
    virtual_environment = Path(sys.executable).parents[1]
    environment = os.environ | {
        "CASPARIAN_SABOTAGE": fault,
        "VIRTUAL_ENV": str(virtual_environment),  # as `make` does, so that nothing else is rebuilt
        "PATH": f"{virtual_environment / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    (wheel,) = directory.glob("*.whl")
    return wheel


def _make_environment(place: Path, python: Path, wheel: Path) -> None:
    command = [sys.executable, "-m", "venv", "--without-pip", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    packages = Path(
        sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
    )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # Behind the unpacked wheel; a `.pth` of that directory, which would name the tree, is not read.
    (packages / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert python.exists()


class SabotagedWorld(World):
    """A world in which every process has the faulty decoder."""

    def __init__(self, directory: Path, python: Path, *, evidence: Path | None = None) -> None:
        super().__init__(directory, evidence=evidence)
        self.python = python

    def call(
        self, *arguments: str, home: Path | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the sabotaged product."""
        return subprocess.run(
            [
                str(self.python),
                "-I",
                "-m",
                "casparian",
                "--home",
                str(home or self.home),
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    def build_info(self) -> dict[str, str]:
        """What the decoder says of itself, and where it lies."""
        program = (
            "import json; from casparian import _native;"
            "print(json.dumps(_native.build_info() | {'file': _native.__file__}))"
        )
        done = subprocess.run(
            [str(self.python), "-I", "-c", program], capture_output=True, text=True, check=True
        )
        found: dict[str, str] = json.loads(done.stdout)
        return found
