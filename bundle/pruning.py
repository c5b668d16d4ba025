"""What a tree leaves out: the patterns of `prune.toml`, and the list of what they left out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

Part = Literal["standard-library", "wheels"]

_FILE = Path(__file__).parent / "prune.toml"


@dataclass
class Pruned:
    """Files that were left out: by part and reason, and by path below `lib/python3.11`."""

    files: list[dict[str, str]] = field(default_factory=list)

    def add(self, path: str, reason: str, sha256: str) -> None:
        """Note one."""
        self.files.append({"path": path, "reason": reason, "sha256": sha256})

    def document(self) -> dict[str, object]:
        """For `pruned.json`, in the order of paths."""
        return {"schema_version": 1, "files": sorted(self.files, key=lambda one: one["path"])}


def reason(part: Part, path: str) -> str | None:
    """Why a file is left out; `None`: it stays. Paths are relative to the part's folder, with `/`."""
    for why, pattern in _patterns(part):
        if pattern.match(path):
            return why
    return None


def unused(part: Part, paths: Iterable[str]) -> list[str]:
    """Patterns that none of these paths match: what they were for has another name now."""
    known = list(paths)
    return [
        f"{why}: {pattern.pattern}"
        for why, pattern in _patterns(part)
        if not any(pattern.match(path) for path in known)
    ]


@lru_cache(maxsize=2)
def _patterns(part: Part) -> tuple[tuple[str, re.Pattern[str]], ...]:
    groups: dict[str, list[str]] = tomllib.loads(_FILE.read_text("utf-8"))[part]
    return tuple((why, _compiled(one)) for why, names in groups.items() for one in names)


def _compiled(pattern: str) -> re.Pattern[str]:
    text = "[^/]*".join(map(re.escape, pattern.split("*")))
    return re.compile(text + (".*" if pattern.endswith("/") else "") + r"\Z")
