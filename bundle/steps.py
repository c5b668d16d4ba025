"""What the builders share: they say what they do, run the programs of others, and end with one line when they cannot go on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_LINES_SHOWN: Final = 12
_SCRATCH: Final = ".fresh-"


class Failed(Exception):
    """A build that cannot go on: what happened, and what to do."""


def say(text: str) -> None:
    """Progress, on stderr: stdout is for results."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def emit(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps({"schema_version": 1, **document}, indent=2, sort_keys=True) + "\n")


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A private folder within another, so that what is made there takes its place by a rename."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=_SCRATCH) as fresh:
        yield Path(fresh)


def sweep(folder: Path) -> None:
    """Remove what a run that was killed has left of `scratch`."""
    for left in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left)


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program and give what it wrote to stdout.

    Args:
        command: by path or name.
        environment: added to ours.
        cwd: its folder.

    Raises:
        Failed: with the end of what it said.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise Failed(f"`{command[0]}` does not start: {error.strerror}") from error
    if done.returncode != 0:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-_LINES_SHOWN:])
        raise Failed(
            f"`{' '.join(str(part) for part in command[:4])} …` ended with {done.returncode}:\n{said}"
        )
    return done.stdout
