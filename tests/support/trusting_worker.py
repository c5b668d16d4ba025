"""A worker that lets every parser run: only its verdict is replaced. A program of the tests, never installed."""

from __future__ import annotations

import runpy
from pathlib import Path

from casparian import processes
from casparian.paths import Home
from casparian.trust import verdict
from tests.support.allow import anything

_REPOSITORY = Path(__file__).resolve().parents[2]
_PRODUCT = processes.command


def command(home: Home, *arguments: str) -> list[str]:
    """The command line of such a worker. The product's module stays among its words: it is how tests find workers."""
    line = _PRODUCT("worker", home, *arguments)
    start = (
        f"import sys; sys.path.insert(0, {str(_REPOSITORY)!r}); import runpy; del sys.argv[:2]; "
    )
    start += "runpy.run_module('tests.support.trusting_worker', run_name='__main__')"
    at = line.index("-m")
    return [*line[:at], "-c", start, *line[at:]]


if __name__ == "__main__":
    verdict.verify_files = lambda _home, **_named: anything()
    runpy.run_module("casparian.worker", run_name="__main__", alter_sys=True)
