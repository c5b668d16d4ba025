"""The `casparian` program: `python -m casparian` and the installed command."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Start-up makes thousands of objects that live to the end: looking at them again and again costs a tenth of it.
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


if __name__ == "__main__":
    main()
