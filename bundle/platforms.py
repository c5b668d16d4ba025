"""Which wheels a platform takes: `offline-wheels/platforms.toml`, and the tags of PEP 425, 600 and 656.

Only the standard library (3.11 or newer) is used here and in whatever verifies a wheelhouse, so that it runs on any machine.
"""

from __future__ import annotations

import platform as machine_of
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "offline-wheels"

# Names from before PEP 600, each with the C library that it stands for.
_LEGACY: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
# The oldest that a 64-bit machine can have: x86_64 came to the manylinux profiles first.
_OLDEST: Final = {"x86_64": 5, "aarch64": 17}


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One kind of machine."""

    name: str
    python: tuple[int, int]
    resolve: str  # what the resolver calls it
    machine: str
    glibc: tuple[int, int] | None  # floor; `None` where there is no glibc

    def pip_platforms(self) -> list[str]:
        """Each tag that `pip download --platform` has to be told: it adds none by itself."""
        if self.glibc is None:
            return [f"win_{self.machine}"]
        major, minor = self.glibc
        found = []
        for each in range(minor, _OLDEST[self.machine] - 1, -1):
            found.append(f"manylinux_{major}_{each}_{self.machine}")
            found += [
                f"{old}_{self.machine}"
                for old, version in _LEGACY.items()
                if version == (major, each)
            ]
        return found

    def takes(self, python: str, abi: str, system: str) -> bool:
        """Whether the platform takes a wheel of one tag."""
        return self._takes_python(python, abi) and self._takes_system(system)

    def _takes_python(self, python: str, abi: str) -> bool:
        major, minor = self.python
        if abi == "none":
            return python in {f"py{major}", f"py{major}{minor}", f"cp{major}{minor}"}
        if abi == "abi3":  # made for an older minor, good for all that follow
            digits = python.removeprefix(f"cp{major}")
            return (
                python.startswith(f"cp{major}") and digits.isdecimal() and 2 <= int(digits) <= minor
            )
        return python == abi == f"cp{major}{minor}"

    def _takes_system(self, system: str) -> bool:
        if system == "any":
            return True
        if self.glibc is None:
            return system == f"win_{self.machine}"
        needed = glibc_of(system, self.machine)
        return needed is not None and needed <= self.glibc


def glibc_of(system: str, machine: str) -> tuple[int, int] | None:
    """The glibc that a platform tag asks for; `None` when it is no manylinux tag of this machine."""
    if not system.endswith(f"_{machine}"):
        return None
    profile = system[: -len(machine) - 1]
    if profile in _LEGACY:
        return _LEGACY[profile]
    parts = profile.removeprefix("manylinux_").split("_")
    if (
        not profile.startswith("manylinux_")
        or len(parts) != 2
        or not all(map(str.isdecimal, parts))
    ):
        return None
    return int(parts[0]), int(parts[1])


def load(folder: Path = FOLDER) -> dict[str, Platform]:
    """The platforms of `platforms.toml`, by name."""
    document = tomllib.loads((folder / "platforms.toml").read_text("utf-8"))
    python = _version(document.pop("python"))
    return {
        name: Platform(
            name=name,
            python=python,
            resolve=table["resolve"],
            machine=table["machine"],
            glibc=_version(table["glibc"]) if "glibc" in table else None,
        )
        for name, table in document.items()
    }


def host() -> str:
    """The name that this machine would have; it need not be one that wheelhouses are made for."""
    machine = machine_of.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return f"{'windows' if sys.platform == 'win32' else sys.platform}-{machine}"


def dotted(version: tuple[int, int]) -> str:
    """`2.28`."""
    return f"{version[0]}.{version[1]}"


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
