"""Locks of wheels: one line a package, `name==version --hash=sha256:…`, which pip reads and a person can check on paper."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundle.platforms import FOLDER, ROOT, Platform

_LINE: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)"
    r"(?P<hashes>(?: +--hash=sha256:[0-9a-f]{64})+)"
)


class BadLock(ValueError):
    """A lock that says something else than names, versions and hashes."""


@dataclass(frozen=True, kw_only=True)
class Locked:
    """One package."""

    name: str  # canonical: lower case, one dash between words
    version: str
    hashes: tuple[str, ...]  # SHA-256, hexadecimal

    def line(self) -> str:
        """As it stands in a lock."""
        return f"{self.name}=={self.version}" + "".join(
            f" --hash=sha256:{digest}" for digest in self.hashes
        )


def canonical(name: str) -> str:
    """The one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(text: str, where: str) -> list[Locked]:
    """Read a lock.

    Args:
        text: lines joined by a backslash at their end, comments and empty lines are understood; nothing else is.
        where: said in errors.

    Raises:
        BadLock: a line is no requirement with hashes, or a package stands twice.
    """
    found: dict[str, Locked] = {}
    for line in text.replace("\\\n", " ").split("\n"):
        meant = line.partition("#")[0].strip()
        if not meant:
            continue
        match = _LINE.fullmatch(meant)
        if match is None:
            raise BadLock(f"{where}: `{meant[:80]}` is not `name==version --hash=sha256:…`")
        locked = Locked(
            name=canonical(match["name"]),
            version=match["version"],
            hashes=tuple(sorted(re.findall(r"[0-9a-f]{64}", match["hashes"]))),
        )
        if locked.name in found:
            raise BadLock(f"{where}: `{locked.name}` stands twice")
        found[locked.name] = locked
    return list(found.values())


def read(path: Path) -> list[Locked]:
    """Read a lock's file.

    Raises:
        BadLock: see `parse`.
    """
    return parse(path.read_text("utf-8"), path.name)


def write(locked: Iterable[Locked], comment: str) -> str:
    """The text of a lock, sorted by name.

    Args:
        locked: its packages.
        comment: first line, without `#`.
    """
    return f"# {comment}\n" + "".join(
        f"{each.line()}\n" for each in sorted(locked, key=lambda each: (each.name, each.version))
    )


def of_platform(platform: Platform, folder: Path = FOLDER) -> list[Locked]:
    """The lock of a platform that the source tree holds: all but our own wheel.

    Raises:
        BadLock: see `parse`.
        OSError: there is none.
    """
    return read(folder / "locks" / f"{platform.name}.txt")


def of_parsers(root: Path = ROOT) -> dict[str, list[Locked]]:
    """The locks of first-party parsers that have one, by the parser's folder.

    Raises:
        BadLock: see `parse`.
    """
    return {
        path.parent.name: parse(path.read_text("utf-8"), f"{path.parent.name}/{path.name}")
        for path in sorted((root / "parsers").glob("*/requirements.lock"))
    }
