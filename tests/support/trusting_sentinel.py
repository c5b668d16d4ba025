"""A sentinel that lets every parser run, so that hostile ones can be tried.

    python trusting_sentinel.py --home DIR [--workers N]

Only the verdict about the artifact is replaced, here and in its workers; everything else is the product. A program of the
tests, never installed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from casparian import processes
from casparian.paths import Home
from casparian.sentinel.main import serve
from casparian.trust import verdict

_TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_TESTS))
_REAL = processes.command


def _command(role: processes.Role, home: Home, *arguments: str) -> list[str]:
    """Workers are started through a program that replaces their verdict too."""
    from tests.support import trusting_worker

    if role == "worker":
        return trusting_worker.command(home, *arguments)
    return _REAL(role, home, *arguments)


def main() -> None:
    """Serve a home until told to stop."""
    options = argparse.ArgumentParser()
    options.add_argument("--home", required=True)
    options.add_argument("--workers", type=int, default=2)
    chosen = options.parse_args()
    from tests.support import trusting_worker  # keeps the real command, so before it is replaced
    from tests.support.allow import anything

    assert trusting_worker.command is not _command
    verdict.verify = anything
    processes.command = _command  # type: ignore[assignment]
    serve(Home.at(chosen.home), on_demand=False, workers=chosen.workers)


if __name__ == "__main__":
    sys.exit(main())
