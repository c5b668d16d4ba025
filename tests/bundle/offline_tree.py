"""A source tree in small: the real tools of the wheelhouse, locks of made wheels, and a crate in place of the native module."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from wheel_worlds import locked, wheel

from bundle import locks, platforms
from bundle.platforms import ROOT

HOST = platforms.host()
PLATFORM = platforms.load().get(HOST)
needs_platform = pytest.mark.skipif(
    PLATFORM is None or PLATFORM.glibc is None, reason=f"no wheelhouse is made for {HOST}"
)

_PYPROJECT = """\
[build-system]
requires = ["maturin>=1.16,<2"]
build-backend = "maturin"

[project]
name = "casparian"
version = "0.1.0"
license = "Apache-2.0"
license-files = ["LICENSE"]

[tool.maturin]
bindings = "bin"
manifest-path = "native/Cargo.toml"
strip = true
"""
# Beside the workspace: the compiler is told its whole path, and puts it into the program.
_SHARED = "pub fn place() -> &'static str { file!() }\n"
_MAIN = 'fn main() { println!("{}", shared::place()); }\n'
_PACKAGE = '[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\nlicense = "MIT"\n'
_CARGO_LOCK = """\
version = 3

[[package]]
name = "casparian"
version = "0.1.0"
dependencies = ["shared"]

[[package]]
name = "shared"
version = "0.1.0"
"""


class OfflineTree:
    """The tree, `stock` with all its wheels, and `house`, where the wheelhouse is made."""

    def __init__(self, folder: Path, *, packages: tuple[str, ...] = ("one", "pip", "two")) -> None:
        assert PLATFORM is not None
        self.root, self.stock = folder / "tree", folder / "stock"
        self.house = self.root / "build" / "appliance" / "wheels" / HOST
        for name in ("bundle", "offline-wheels"):
            shutil.copytree(
                ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__", "locks")
            )
        self.wheels = [
            wheel(self.stock, name, members={f"{name}_said.txt": name.encode()})
            for name in packages
        ]
        lines = [locked(path) for path in self.wheels]
        self._write(f"offline-wheels/locks/{HOST}.txt", locks.write(lines, "test"))
        for name in platforms.load():
            if name != HOST:
                self._write(f"offline-wheels/locks/{name}.txt", locks.write(lines, "test"))
        for name in ("runtime", "second-opinion", "tokens"):
            tested = [each for each in lines if each.name != "pip"] if name == "runtime" else []
            self._write(f"requirements/{name}.txt", locks.write(tested, "test"))
        self._write("pyproject.toml", _PYPROJECT)
        self._write("LICENSE", "do as you like\n")

    def add_crate(self) -> None:
        """What our own wheel is built from."""
        native = (
            _PACKAGE.format(name="casparian") + '[dependencies]\nshared = { path = "../shared" }\n'
        )
        self._write("native/Cargo.toml", native)
        self._write("native/Cargo.lock", _CARGO_LOCK)
        self._write("native/src/main.rs", _MAIN)
        self._write("shared/Cargo.toml", _PACKAGE.format(name="shared"))
        self._write("shared/src/lib.rs", _SHARED)

    def add_own_wheel(self) -> Path:
        """A made wheel of ours, where `--keep-own` finds it."""
        self.house.mkdir(parents=True, exist_ok=True)
        return wheel(self.house, "casparian", "0.1.0", members={"casparian_said.txt": b"ours"})

    def run(self, tool: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run one of the tools of `offline-wheels/`; nothing is checked."""
        return subprocess.run(
            [sys.executable, self.root / "offline-wheels" / tool, *arguments],
            env=environment(more),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def environment(more: dict[str, str]) -> dict[str, str]:
    """Ours, without what would steer a build."""
    left_out = ("SOURCE_DATE_EPOCH", "CARGO_TARGET_DIR", "RUSTFLAGS")
    return {**{k: v for k, v in os.environ.items() if k not in left_out}, **more}
