"""`python -m casparian.db --home DIR copy|backup|restore|list`: work on the control database's files, in a process of its own.

copy      for a sentinel, which holds its writer still until we end: it must not open those files itself
backup    take the home's lock, then copy
restore   take the home's lock, then put a copy in the database's place
list      what copies there are

The answer is one JSON document on stdout: `{"done": …}` or `{"error": {"code", "message", "hint", "exit_code"}}`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from casparian.db import snapshot
from casparian.db.connection import HomeLock
from casparian.errors import CasparianError
from casparian.paths import Home


def main(arguments: list[str] | None = None) -> int:
    """Do one thing and say how it went."""
    parser = argparse.ArgumentParser(prog="casparian.db")
    parser.add_argument("--home", required=True)
    parser.add_argument("what", choices=("copy", "backup", "restore", "list"))
    parser.add_argument("--file", type=Path)
    parser.add_argument("--parent", type=int, help="the sentinel that waits for a copy")
    given = parser.parse_args(arguments)
    try:
        answer: dict[str, Any] = {"done": _do(Home.at(given.home), given)}
        code = 0
    except CasparianError as error:
        code = int(error.exit_code)
        answer = {
            "error": {
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "exit_code": code,
            }
        }
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return code


def _do(home: Home, given: argparse.Namespace) -> Any:
    if given.what == "list":
        return snapshot.snapshots(home)
    if given.what == "copy":
        return snapshot.take(
            home,
            reason="asked",
            to=given.file,
            # A sentinel that died no longer holds its writer still, and another one may write already.
            still_valid=lambda: os.getppid() == given.parent,
        )
    lock = HomeLock(home)
    try:
        if given.what == "restore":
            return snapshot.restore(home, given.file)
        snapshot.finish_restore(home)
        return snapshot.take(home, reason="asked", to=given.file)
    finally:
        lock.release()


if __name__ == "__main__":
    sys.exit(main())
