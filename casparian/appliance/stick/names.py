"""Names on a stick and in its archive: what is allowed, and what collides.

A stick's names must survive FAT and a shell that is typed by hand; an archive's only have to be one file each on any file system.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from casparian.appliance.stick.refusals import refused

PATH_CHARACTERS_MAX: Final = 255
_STICK_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*\Z")
_ARCHIVE_PART: Final = re.compile(r"[ !#-.0-9:;=?-\[\]-~]+\Z")  # printable ASCII without \ " < > /
_WINDOWS: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z", re.ASCII)


def check_stick_paths(paths: Iterable[str]) -> None:
    """Refuse a list of files that FAT could not hold as it is (`stick.name`)."""
    for path in (every := list(paths)):
        if len(path) > PATH_CHARACTERS_MAX or not all(map(_is_stick_part, path.split("/"))):
            raise refused("stick.name", f"the path {path[:120]!a} is not allowed on a stick")
    if both := collision(every):
        raise refused("stick.name", f"{both[0]!a} and {both[1]!a} are one name on a stick")


def check_archive_paths(paths: Iterable[str]) -> None:
    """Refuse paths that could lead elsewhere (`stick.archive_path`) or collide (`stick.archive_duplicate`)."""
    for path in (every := list(paths)):
        parts = path.split("/")
        inside = all(part not in (".", "..") and _ARCHIVE_PART.match(part) for part in parts)
        if len(path) > PATH_CHARACTERS_MAX or not inside:
            raise refused("stick.archive_path", f"the path {path[:120]!a} is not allowed")
    if both := collision(every):
        raise refused("stick.archive_duplicate", f"{both[0]!a} and {both[1]!a} are one name")


def collision(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths that are the same after case folding, or a file that is another one's folder."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        folded = path.casefold()
        if folded in files:
            return files[folded], path
        files[folded] = path
        while "/" in folded:
            folded, path = folded.rpartition("/")[0], path.rpartition("/")[0]
            if folders.setdefault(folded, path) != path:
                return folders[folded], path
    for folded in sorted(files.keys() & folders.keys()):
        return files[folded], folders[folded]
    return None


def _is_stick_part(part: str) -> bool:
    return (
        _STICK_PART.match(part) is not None
        and not part.endswith(".")
        and not _WINDOWS.match(part.casefold())
    )
