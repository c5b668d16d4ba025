"""Where the program lives, and how its own processes are started.

It is one code in four forms:

    tree, wheel   `casparian` is imported by whatever interpreter runs it; that one runs everything
    plain         VERSION/runtime is an interpreter of our own with `casparian` in its site-packages
    frozen        VERSION/app/casparian is the host's code, compiled; modules that are not in it, the native one first of all,
                  and all files of ours come from VERSION/runtime, which also runs guests and pip

VERSION is a folder of an installation (`casparian.appliance.stick.layout`); the last two forms are an appliance.
In the frozen form `sys.executable` names nothing that exists: ask here instead.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

FROZEN = "__compiled__" in globals()  # the compiler's own mark in each module that it made

_PACKAGE = Path(__file__).parent
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@lru_cache(maxsize=1)
def root() -> Path | None:
    """The version's folder; `None` in a tree, or installed as any other wheel."""
    return _root(_PACKAGE, frozen=FROZEN)


def interpreter() -> str:
    """A Python for guests, for pip and for `-c`; it is the host's own except in the frozen form."""
    version = root()
    return str(version / "runtime" / "bin" / "python3") if version and FROZEN else sys.executable


def program() -> list[str]:
    """How a command line of one of our own processes begins; `-m casparian.ROLE` and its arguments follow."""
    version = root()
    host = str(version / "app" / "casparian") if version and FROZEN else sys.executable
    return [host, "-I", "-B"]


def wheelhouse() -> Path | None:
    """The wheels that came with the program."""
    return _folder("wheels")


def share() -> Path | None:
    """Documentation, sample, licences and service files that came with the program."""
    return _folder("share")


def package() -> Path:
    """The folder of our package as files: what is read from it lies there in every form."""
    version = root()
    return _site(version) / "casparian" if version and FROZEN else _PACKAGE


def join_runtime() -> None:
    """Let the frozen program import from the runtime what is not in itself.

    Raises:
        RuntimeError: there is no runtime of this Python beside the program.
    """
    version = root()
    if version is None or not _site(version).is_dir():
        raise RuntimeError(f"no {_PYTHON} runtime beside the program: the installation is damaged")
    folders = [str(_site(version).parent), str(_site(version).parent / "lib-dynload")]
    folders.append(str(_site(version)))
    sys.path.extend(folders)
    sys.meta_path.append(_RestOfPackages(folders))


class _RestOfPackages(importlib.abc.MetaPathFinder):
    """Finds modules of a package that is only partly in the program, such as `casparian._native`; asked after all others."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - where the parts that are compiled would be
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        parents = fullname.split(".")[:-1]
        places = [os.path.join(folder, *parents) for folder in self._folders]
        return importlib.machinery.PathFinder.find_spec(fullname, places, target)


def _root(package_folder: Path, *, frozen: bool) -> Path | None:
    if frozen:  # VERSION/app/casparian/installation.py: a name only, no such file
        return package_folder.parents[1]
    # VERSION/runtime/lib/python3.11/site-packages/casparian
    folders = package_folder.parents
    if len(folders) > 4 and [folders[0].name, folders[2].name] == ["site-packages", "lib"]:
        version = folders[4]
        if folders[3].name == "runtime" and (version / "bin" / "casparian").is_file():
            return version
    return None


def _site(version: Path) -> Path:
    return version / "runtime" / "lib" / _PYTHON / "site-packages"


def _folder(name: str) -> Path | None:
    version = root()
    return version / name if version and (version / name).is_dir() else None
