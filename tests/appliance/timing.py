"""CPU time of a command and of all the processes that it leaves behind, and two commands measured in turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

# Orphans become its children (a sentinel and its workers are orphans): what they used is counted when they have ended.
_MEASURE: Final = """
import ctypes, json, os, resource, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
started = time.monotonic()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
wall = time.monotonic() - started
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
used = resource.getrusage(resource.RUSAGE_CHILDREN)
errors = done.stderr.decode(errors="replace")
print(json.dumps([done.returncode, wall, used.ru_utime + used.ru_stime, errors]))
"""


class Took(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float  # user and system, of every process that the command started


def took(command: Sequence[str]) -> Took:
    """Run a command to the end of all its processes."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], capture_output=True, text=True, check=True
    )
    code, wall, cpu, errors = json.loads(done.stdout)
    if code != 0:
        raise AssertionError(f"exit {code} of {list(command)}\n{errors[-2000:]}")
    return Took(wall, cpu)


def least(commands: Sequence[Sequence[str]], *, rounds: int) -> list[Took]:
    """The least time that each command took, in turn so that load of the machine falls on all."""
    best = [Took(float("inf"), float("inf")) for _ in commands]
    for _ in range(rounds):
        for index, command in enumerate(commands):
            one = took(command)
            best[index] = Took(min(best[index].wall, one.wall), min(best[index].cpu, one.cpu))
    return best
