"""How well a guest is confined: the levels, the self-attacks that show it, and the rule that gives the level.

    full      every first wall stands as the host sees it, and every self-attack failed
    reduced   the guest is confined, but a wall is missing; `missing` names it
    none      no wall that a system call would have to pass: neither a filter nor `no_new_privs`

Landlock and namespaces are second walls: their absence is named and never lowers the level, because
the self-attacks were run without them and failed all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec


class IsolationLevel(StrEnum):
    """What `min_isolation` asks for and a receipt's `level` gives."""

    NONE = "none"
    REDUCED = "reduced"
    FULL = "full"

    def satisfies(self, minimum: IsolationLevel) -> bool:
        """Whether it is at least the minimum."""
        return _ORDER[self] >= _ORDER[minimum]


_ORDER: Final = {IsolationLevel.NONE: 0, IsolationLevel.REDUCED: 1, IsolationLevel.FULL: 2}


class Attack(NamedTuple):
    """One self-attack: what it tries, and what it belongs to in a table."""

    group: str
    aim: str


ATTACKS: Final[dict[str, Attack]] = {
    "open_file": Attack("files", "read a file that every user may read"),
    "list_directory": Attack("files", "list a directory"),
    "stat_path": Attack("files", "ask whether a path exists"),
    "create_file": Attack("files", "create a file where every user may"),
    "change_mode": Attack("files", "change the mode of a file"),
    "remove_file": Attack("files", "remove a file"),
    "write_input": Attack("input", "write to the evidence's descriptor"),
    "reopen_input": Attack("input", "open the evidence again, for writing"),
    "lock_input": Attack("input", "lock the evidence"),
    "tcp_connect": Attack("network", "connect to a port of this machine"),
    "udp_send": Attack("network", "send a datagram to a port of this machine"),
    "unix_connect": Attack("network", "connect to a local socket without a path"),
    "fork": Attack("processes", "make another process"),
    "execute": Attack("processes", "become another program"),
    "spawn": Attack("processes", "start another program"),
    "signal_parent": Attack("processes", "send a signal to the parent"),
    "trace_parent": Attack("processes", "trace the parent"),
    "read_process": Attack("processes", "read the memory map of the host's process"),
    "set_user": Attack("privileges", "become root"),
    "raise_limits": Attack("privileges", "raise its own limits"),
    "outlive_parent": Attack("privileges", "survive the death of its parent"),
    "allocate": Attack("memory", "allocate four times its memory limit"),
    "share_memory": Attack("memory", "map shared memory, which no limit counts"),
    "memory_file": Attack("memory", "make a file that lives in memory"),
    "executable_memory": Attack("memory", "map memory that is writable and executable"),
}

SUCCEEDED: Final = "SUCCEEDED"
ATTACK_PREFIX: Final = "attack:"  # in `missing`: this attack was not repelled
NOTHING_MISSING: Final = "nothing"
_REPELLED: Final = ("denied ", "killed SIGSYS")


def repelled(outcome: str) -> bool:
    """Whether an attack's outcome shows that a wall held; an attack without an answer shows nothing."""
    return outcome.startswith(_REPELLED)


def outcomes_text(outcomes: Mapping[str, str]) -> str:
    """One line for a receipt: `denied EPERM: open_file, stat_path; killed SIGSYS: fork`."""
    by_outcome: dict[str, list[str]] = {}
    for name, outcome in outcomes.items():
        by_outcome.setdefault(outcome.replace(";", ",").replace(":", ","), []).append(name)
    return "; ".join(f"{outcome}: {', '.join(names)}" for outcome, names in by_outcome.items())


def outcomes_of(text: str) -> dict[str, str]:
    """The inverse of `outcomes_text`, in the order of `ATTACKS`."""
    found: dict[str, str] = {}
    for part in text.split("; ") if text else ():
        outcome, _, names = part.rpartition(": ")
        found.update(dict.fromkeys(names.split(", "), outcome))
    return {name: found[name] for name in ATTACKS if name in found}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A level, and every wall that is not there, first walls first."""

    level: IsolationLevel
    missing: tuple[str, ...] = ()


_FIRST_WALLS: Final = {
    # key of the host's own observation -> the value that means: it stands
    "seccomp": "filter",
    "no_new_privs": "yes",
    "capabilities": "none",
}
_STANDS: Final = {
    # second walls: what the guest's record begins with when they do
    "landlock": ("abi ",),
    "namespaces": ("user", "net", "ipc", "uts", "mnt"),
}


def judge(
    claimed: Mapping[str, str], observed: Mapping[str, str], outcomes: Mapping[str, str] | None
) -> Verdict:
    """The level of one guest.

    Args:
        claimed: the guest's own record; believed about second walls only, which never raise a level.
        observed: what the kernel told the host about the living process; empty when it could not be asked.
        outcomes: of the self-attacks on this machine, by name; `None` when they were not run.
    """
    missing = [wall for wall, value in _FIRST_WALLS.items() if observed.get(wall) != value]
    if observed.get("user", "uid 0") == "uid 0":
        missing.append("user")
    if outcomes is None:
        missing.append("self_attacks")
    else:
        missing += [
            f"{ATTACK_PREFIX}{name}"
            for name in ATTACKS
            if not repelled(outcomes.get(name, "not run"))
        ]
    level = IsolationLevel.REDUCED if missing else IsolationLevel.FULL
    if "seccomp" in missing and "no_new_privs" in missing:
        level = IsolationLevel.NONE
    missing += [
        wall for wall, starts in _STANDS.items() if not claimed.get(wall, "").startswith(starts)
    ]
    return Verdict(level=level, missing=tuple(missing))
