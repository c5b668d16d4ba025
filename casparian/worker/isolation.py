"""What confines a guest, as the host sees it.

A guest reports the steps it took, but a parser's code has run by then. So whatever the kernel tells the host about the process
replaces what the guest said, and the record names who says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_STATUS: Final = {"NoNewPrivs": "no_new_privs", "Seccomp": "seccomp"}
_WORDS: Final = {
    "no_new_privs": {"0": "no", "1": "yes"},
    "seccomp": {"0": "no", "1": "strict", "2": "filter"},
}
_LIMITS: Final = {
    "Max data size": "data",
    "Max cpu time": "cpu",
    "Max file size": "fsize",
    "Max core file size": "core",
    "Max open files": "nofile",
}
_ENTRIES_MAX: Final = 32
_TEXT_CHARACTERS_MAX: Final = 256


def observe(pid: int) -> dict[str, str]:
    """What `/proc` says of a living process; empty when it cannot be read."""
    record: dict[str, str] = {}
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in _STATUS:
                    key = _STATUS[name]
                    record[key] = _WORDS[key].get(value.strip(), value.strip())
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            limits = [_limit(line) for line in file]
    except OSError:
        return record
    record["rlimits"] = " ".join(text for text in limits if text)
    return record


def _limit(line: str) -> str:
    for title, name in _LIMITS.items():
        if line.startswith(title):
            return f"{name}={line[len(title) :].split()[0]}"
    return ""


def record(claimed: Mapping[str, str], observed: Mapping[str, str]) -> dict[str, str]:
    """The isolation record of a receipt: bounded, and the host's view wins."""
    kept = {
        key[:_TEXT_CHARACTERS_MAX]: value[:_TEXT_CHARACTERS_MAX]
        for key, value in list(claimed.items())[:_ENTRIES_MAX]
    }
    kept.update(observed)
    kept["observed_by_host"] = " ".join(sorted(observed)) or "nothing"
    return kept
