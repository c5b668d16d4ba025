"""What a finished version tree says of itself: asked of the program in it, never assumed from this checkout."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from pathlib import Path
from typing import Final

import msgspec

# The oldest kernel of the systems that have the oldest glibc (Debian 10 has 4.19, RHEL 8 has 4.18).
KERNEL: Final = "4.18"
_QUESTION: Final = """
import json, platform
from casparian import __version__, _native
from casparian.db import migrate
public, development = _native.release_key()
print(json.dumps({"version": __version__, "python": platform.python_version(), "release_key": public,
                  "development": development, "database_schema": migrate.newest()}))
"""
_GLIBC: Final = re.compile(rb"GLIBC_(\d{1,3}\.\d{1,3})\0")
_ELF: Final = b"\x7fELF"


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the program of a tree answers."""

    version: str
    python: str
    release_key: str  # public, 64 hexadecimal digits
    development: bool
    database_schema: int


class TreeUnusable(ValueError):
    """The tree holds no program that answers."""


def ask(tree: Path) -> Facts:
    """The facts of a tree.

    Raises:
        TreeUnusable: its program does not start, or answers something else.
    """
    python = tree / "runtime" / "bin" / "python3"
    try:
        done = subprocess.run(
            [python, "-I", "-B", "-c", _QUESTION], capture_output=True, check=True, env={}, cwd="/"
        )
        return msgspec.convert(json.loads(done.stdout), Facts)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-500:]
        raise TreeUnusable(f"the program in {tree} does not answer: {said}") from error
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise TreeUnusable(f"{tree} holds no program that answers: {error}") from error


def glibc_floor(files: dict[str, Path]) -> str:
    """The newest version of a glibc symbol that any ELF file of the tree names; `2.17` when none names one."""
    newest = (2, 17)
    for path in files.values():
        with open(path, "rb") as stream:
            if stream.read(4) != _ELF:
                continue
            content = stream.read()
        for match in _GLIBC.finditer(content):
            major, minor = match[1].split(b".")
            newest = max(newest, (int(major), int(minor)))
    return f"{newest[0]}.{newest[1]}"


def host_platform() -> str:
    """The platform that this machine builds for: `linux-x86_64`."""
    return f"{platform.system()}-{platform.machine()}".lower()
