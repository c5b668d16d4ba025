"""Copies of the control database: made through the sentinel when one runs, else by a process of their own.

This process never opens the database: the sentinel does, or `python -m casparian.db`, which takes the home's lock.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from casparian import ids, processes
from casparian.control.client import Client, failure, is_answering
from casparian.errors import CasparianError, Conflict
from casparian.paths import Home
from casparian.protocol import control


def backup(home: Home, to: str | None) -> dict[str, Any]:
    """Copy the control database; what the copy is, with its path.

    Raises:
        UsageError: `backup.nothing`, `backup.exists`.
        CasparianError: it could not be copied.
    """
    target = None if to is None else os.path.abspath(to)
    if is_answering(home):
        with Client.connect(home) as client:
            request = control.Backup(request_id=ids.new_request_id(), to=target)
            done: dict[str, Any] = dict(client.ask(request, control.Done).fields)
    else:
        done = _call(home, "backup", *(["--file", target] if target else []))
    return {**done, "path": target or str(home.backups / done["file"])}


def restore(home: Home, file: str) -> dict[str, Any]:
    """Put a copy in the place of the control database, which is moved aside.

    Raises:
        Conflict: `sentinel.running`.
        UsageError: `backup.missing`, `backup.unverified`, `backup.foreign`.
        IntegrityError: `backup.altered`, `backup.broken`.
    """
    if is_answering(home):
        raise Conflict(
            "a sentinel runs on this home",
            code="sentinel.running",
            hint="`casparian sentinel stop`, then restore",
        )
    found: dict[str, Any] = _call(home, "restore", "--file", _found(home, file))
    return found


def backups(home: Home) -> list[dict[str, Any]]:
    """The copies in `HOME/backups`, newest first."""
    if not home.backups.is_dir():
        return []
    found: list[dict[str, Any]] = _call(home, "list")
    return [{**one, "path": str(home.backups / one["file"])} for one in found]


def _found(home: Home, file: str) -> str:
    """A path as typed, or a name that `backups` lists."""
    if not os.path.exists(file) and os.sep not in file and (home.backups / file).exists():
        return str(home.backups / file)
    return os.path.abspath(file)


def _call(home: Home, *arguments: str) -> Any:
    done = subprocess.run(
        processes.command("db", home, *arguments),
        env=processes.host_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        raise CasparianError(
            f"the control database's files could not be worked on: {lines[-1] if lines else 'no reason given'}",
            code="backup.failed",
        ) from None
    if "error" in answer:
        raise failure(control.Failure(**answer["error"]))
    return answer["done"]
