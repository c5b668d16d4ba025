"""How Casparian starts its own processes.

Every process carries `--home DIR` in its command line, so that an operator (or `doctor`) can tell whose it is. Interpreters run
isolated (`-I`): neither the working directory nor `PYTHON*` variables can change what code runs.
"""

from __future__ import annotations

import os
from typing import Literal

from casparian import installation
from casparian.paths import Home

Role = Literal["sentinel", "worker", "guest", "db"]

_ENVIRONMENT_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "NO_COLOR")
_SETTINGS = (
    "CASPARIAN_"  # settings given by the environment hold for the processes that a command starts
)


def command(role: Role, home: Home, *arguments: str) -> list[str]:
    """Command line of one of our processes: `python -I -B -m casparian.<role> --home DIR …`.

    The frozen program takes the interpreter's place, except for guests: parsers need a whole Python.
    """
    host = [installation.interpreter(), "-I", "-B"] if role == "guest" else installation.program()
    return [
        *host,
        "-m",
        f"casparian.{role}",
        "--home",
        str(home.root),
        *arguments,
    ]


def host_environment() -> dict[str, str]:
    """Environment of sentinel and workers: little, our settings, and nothing that changes how Python runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT_KEPT or name.startswith(_SETTINGS)
    }
    # One allocator arena a thread would keep every thread's peak; memory is what we promise to bound.
    return kept | {"MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def guest_environment() -> dict[str, str]:
    """Environment of the confined process: a constant, nothing inherited."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
