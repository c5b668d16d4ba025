"""What confines a guest, as the host sees it.

A guest reports the steps it took, but a parser's code has run by then. So whatever the kernel tells the host about the process
replaces what the guest said, and the record names who says it. The level is `domain.isolation`'s rule over the host's
observation and the self-attacks of this worker; the guest alone never raises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from casparian.domain.isolation import (
    ATTACKS,
    NOTHING_MISSING,
    IsolationLevel,
    Verdict,
    judge,
    outcomes_text,
    repelled,
)
from casparian.worker.faults import JobFault

_STATUS: Final = {"NoNewPrivs": "no_new_privs", "Seccomp": "seccomp"}
_WORDS: Final = {
    "no_new_privs": {"0": "no", "1": "yes"},
    "seccomp": {"0": "no", "1": "strict", "2": "filter"},
}
_CAPABILITIES: Final = ("CapEff", "CapPrm", "CapInh", "CapAmb")
_LIMITS: Final = {
    "Max data size": "data",
    "Max cpu time": "cpu",
    "Max file size": "fsize",
    "Max core file size": "core",
    "Max open files": "nofile",
}
_WALLS: Final = frozenset({"seccomp", "no_new_privs", "capabilities", "user"})
_ENTRIES_MAX: Final = 32
_TEXT_CHARACTERS_MAX: Final = 256
_MISSING_NAMED_MAX: Final = 6


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the self-attacks of a worker showed, once for all its guests."""

    claimed: dict[str, str]
    observed: dict[str, str]
    outcomes: dict[str, str]

    @property
    def verdict(self) -> Verdict:
        """Level of the guests that attacked."""
        return judge(self.claimed, self.observed, self.outcomes)


def observe(pid: int) -> dict[str, str]:
    """What `/proc` says of a living process; empty when it cannot be read."""
    record: dict[str, str] = {}
    capabilities: list[str] = []
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in _STATUS:
                    key = _STATUS[name]
                    record[key] = _WORDS[key].get(value.strip(), value.strip())
                elif name in _CAPABILITIES and int(value, 16):
                    capabilities.append(f"{name} {value.strip()}")
                elif name == "Uid":  # real, effective, saved, of the file system: any 0 is root
                    users = value.split()
                    record["user"] = f"uid {'0' if '0' in users else users[1]}"
        record["capabilities"] = ", ".join(capabilities) or "none"
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
    """The guest's steps, bounded, and over them the host's view; where they differ both are kept."""
    kept = {
        key[:_TEXT_CHARACTERS_MAX]: value[:_TEXT_CHARACTERS_MAX]
        for key, value in list(claimed.items())[:_ENTRIES_MAX]
    }
    for key, value in observed.items():
        said = kept.get(key, value)
        kept[key] = value
        if said != value and key in _WALLS:
            kept[f"guest_says_{key}"] = said
    kept["observed_by_host"] = " ".join(sorted(observed)) or "nothing"
    return kept


def judged(
    claimed: Mapping[str, str], observed: Mapping[str, str], outcomes: Mapping[str, str]
) -> tuple[Verdict, dict[str, str]]:
    """Level and whole record of one guest: what a receipt carries."""
    verdict = judge(claimed, observed, outcomes)
    kept = record(claimed, observed)
    failed = sum(repelled(outcomes.get(name, "")) for name in ATTACKS)
    kept["level"] = verdict.level.value
    kept["missing"] = ", ".join(verdict.missing) or NOTHING_MISSING
    kept["self_attacks"] = f"{failed} of {len(ATTACKS)} repelled"
    kept["self_attack_outcomes"] = outcomes_text(outcomes)
    return verdict, kept


def require(verdict: Verdict, minimum: IsolationLevel) -> None:
    """Refuse a guest that is confined less than the policy asks for.

    Raises:
        JobFault: `isolation.too_low`; it names what is missing.
    """
    if verdict.level.satisfies(minimum):
        return
    named = ", ".join(verdict.missing[:_MISSING_NAMED_MAX])
    more = len(verdict.missing) - _MISSING_NAMED_MAX
    rest = f" and {more} more" if more > 0 else ""
    raise JobFault(
        "isolation.too_low",
        f"guests are confined at `{verdict.level}` here, `min_isolation` asks for `{minimum}`; missing: {named}{rest}; "
        f"`casparian doctor` says more, `min_isolation = {verdict.level}` (a setting, and a flag of `run`) accepts it "
        "and is recorded",
    )
