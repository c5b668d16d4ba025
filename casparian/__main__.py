"""The `casparian` program: `python -m casparian` and the installed command."""

from __future__ import annotations

import gc
import importlib
import os
import sys

from casparian import installation

_ROLES = ("sentinel", "worker", "db")


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Start-up makes thousands of objects that live to the end: looking at them again and again costs a tenth of it.
    role = _role(sys.argv) if installation.FROZEN else None
    if role is not None:
        del sys.argv[1:5]
        sys.exit(importlib.import_module(f"casparian.{role}.__main__").main())
    gc.set_threshold(50_000)
    from casparian.cli.main import run

    code = run(sys.argv[1:])
    # Not by the interpreter's shutdown: all that a command owns is flushed or closed by now, and the rest is taking memory apart.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the reader is gone; `run` has judged that already
            continue
    os._exit(code)


def _role(arguments: list[str]) -> str | None:
    """Which of our processes a command line asks for: the frozen program is their interpreter too."""
    if arguments[1:4] != ["-I", "-B", "-m"]:
        return None
    name = arguments[4].removeprefix("casparian.") if len(arguments) > 4 else ""
    return name if name in _ROLES else None


if __name__ == "__main__":
    main()
