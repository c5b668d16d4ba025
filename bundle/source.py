"""The commit that is built: its name, its date, its documents."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a build comes from."""

    commit: str  # 40 hexadecimal digits, or `unknown` outside of a repository
    dirty: bool  # the working tree differs from the commit
    count: int  # of commits up to it: the release when nobody names one
    date: int  # seconds since 1970: SOURCE_DATE_EPOCH, else of the commit

    @property
    def built(self) -> str:
        """The date as documents have it."""
        return datetime.fromtimestamp(self.date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def describe(root: Path = ROOT) -> Source:
    """The commit of a working tree."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        date = int(given or _git(root, "log", "-1", "--format=%ct"))
        count = int(_git(root, "rev-list", "--count", "HEAD"))
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.CalledProcessError):
        return Source(commit="unknown", dirty=True, count=1, date=int(given or 0))
    return Source(commit=commit, dirty=dirty, count=count, date=date)


def tracked(root: Path, *patterns: str) -> list[str]:
    """Files that the repository holds below folders, sorted; outside of a repository those that are there."""
    try:
        listed = _git(root, "ls-files", "-z", "--", *patterns).split("\0")
    except (OSError, subprocess.CalledProcessError):
        listed = [
            str(path.relative_to(root))
            for pattern in patterns
            for path in (root / pattern).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
    return sorted(path for path in listed if path and (root / path).is_file())


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout
