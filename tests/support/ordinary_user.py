"""Run a command as an ordinary user although the program lies where only root may look.

    unshare -m --propagation private python ordinary_user.py UID PATH… -- COMMAND…

In a mount namespace of its own, each folder that other users may not enter is covered by an empty one, and just the named paths
are bound back into it. Then every right of root is given up for good and the command takes the process's place. Nothing outside
of the namespace changes.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Uncover, drop, execute."""
    split = sys.argv.index("--")
    uid = int(sys.argv[1])
    reach = [Path(argument).resolve() for argument in sys.argv[2:split]]
    command = sys.argv[split + 1 :]
    for closed, inside in _closed_folders(reach).items():
        _uncover(closed, inside)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.chdir("/")
    os.execv(command[0], command)


def _closed_folders(reach: list[Path]) -> dict[Path, list[Path]]:
    """The topmost folder above each path that others may not enter, with the paths below it."""
    found: dict[Path, list[Path]] = {}
    for path in reach:
        for folder in reversed(path.parents):
            if not stat.S_IMODE(folder.stat().st_mode) & stat.S_IXOTH:
                found.setdefault(folder, []).append(path)
                break
    return found


def _uncover(closed: Path, inside: list[Path]) -> None:
    held = [(path, os.open(path, os.O_PATH)) for path in inside]
    subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", "mode=755", "none", str(closed)], check=True
    )
    for path, descriptor in held:
        path.mkdir(parents=True, exist_ok=True)
        source = f"/proc/{os.getpid()}/fd/{descriptor}"
        subprocess.run(
            ["/usr/bin/mount", "--no-canonicalize", "--bind", source, str(path)], check=True
        )


if __name__ == "__main__":
    main()
