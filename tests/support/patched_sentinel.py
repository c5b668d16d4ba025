"""A real sentinel, for tests that need a shorter deadline or a worker of their own.

    python -m tests.support.patched_sentinel HOME [--frame-seconds N] [--workers N] [--worker PROGRAM STATE]

With `--worker` each worker is `python PROGRAM STATE -- <the real command line>`.
"""

from __future__ import annotations

import argparse
import faulthandler
import signal
import sys

from casparian import processes
from casparian.paths import Home
from casparian.sentinel import main
from casparian.sentinel.io import clients

_real_command = processes.command


def _main() -> None:
    faulthandler.register(signal.SIGUSR1)  # where it is, when a test waits in vain
    parser = argparse.ArgumentParser()
    parser.add_argument("home")
    parser.add_argument("--frame-seconds", type=float)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--worker", nargs=2)
    arguments = parser.parse_args()
    if arguments.frame_seconds:
        clients.FRAME_NS = int(arguments.frame_seconds * 1e9)  # type: ignore[misc]
    if arguments.worker:
        program, state = arguments.worker

        def command(role: processes.Role, home: Home, *rest: str) -> list[str]:
            real = _real_command(role, home, *rest)
            return [sys.executable, program, state, "--", *real] if role == "worker" else real

        processes.command = command
    main.serve(Home.at(arguments.home), on_demand=False, workers=arguments.workers)


if __name__ == "__main__":
    _main()
