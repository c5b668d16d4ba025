"""Scratch directories below `HOME/run`: private, named by process, swept when it is gone."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from casparian.paths import Home


def make(home: Home, kind: str) -> Path:
    """Make `HOME/run/<kind>-<pid>-<random>`, mode 0700, and remove those of dead processes.

    Raises:
        OSError: the home cannot be written.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    for leftover in home.run.glob(f"{kind}-*-*"):
        process = leftover.name.split("-")[1]
        if process.isdigit() and not os.path.exists(f"/proc/{process}"):
            shutil.rmtree(leftover, ignore_errors=True)
    directory = home.run / f"{kind}-{os.getpid()}-{secrets.token_hex(4)}"
    directory.mkdir(mode=0o700)
    return directory


def remove(directory: Path) -> None:
    """Remove a scratch directory; whatever stays is swept later."""
    shutil.rmtree(directory, ignore_errors=True)
