"""Who has a home's control database: its own sentinel, or a program that should not.

Read from `/proc`: trying a lock, or opening the database, could keep a sentinel from starting.
"""

from __future__ import annotations

import os
from typing import Final

from casparian.appliance.doctor_check import Check
from casparian.display import show
from casparian.paths import Home

_OURS: Final = (b"casparian.sentinel", b"casparian.db")


def sentinel_runs(home: Home) -> bool:
    """Whether a sentinel holds this home: its stages are in use then."""
    try:
        inode = os.stat(home.lock_file).st_ino
        with open("/proc/locks", encoding="ascii") as locks:
            return any(
                "FLOCK" in line and line.split()[5].rpartition(":")[2] == str(inode)
                for line in locks
                if "->" not in line  # a process that waits for a lock does not hold it
            )
    except OSError:
        return False


def check_holders(home: Home) -> Check | None:
    """Programs other than ours that have the control database open; `None` when there is none."""
    found = _holders(home)
    if not found:
        return None
    told = ", ".join(f"process {pid} (`{show(name)}`)" for pid, name in found)
    return Check(
        check="database holders",
        status="fail",
        message=f"the control database is open in another program: {told}",
        hint="close it there: while it is open no sentinel can start, or what it writes is lost",
        details=tuple({"pid": pid, "program": name} for pid, name in found),
    )


def _holders(home: Home) -> list[tuple[int, str]]:
    """Processes, as far as we may look into them."""
    targets = {os.path.realpath(path) for path in (home.control_database, home.control_log)}
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if not any(
                _opens(f"/proc/{entry}/fd/{fd}", targets) for fd in os.listdir(f"/proc/{entry}/fd")
            ):
                continue
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            with open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as file:
                name = file.read().strip()
        except OSError:
            continue  # it ended, or belongs to someone else
        if not any(word in words for word in _OURS):
            found.append((int(entry), name))
    return sorted(found)


def _opens(link: str, targets: set[str]) -> bool:
    try:
        return os.readlink(link) in targets
    except OSError:
        return False
