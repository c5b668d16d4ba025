"""Run a command of the benchmark and measure it: wall time, processor time and memory of everything that it starts.

    python -m tests.bench.processes CORES STEPS      (STEPS: JSON, a list of [argv, …]; prints a figure for each)

A run of Casparian starts a sentinel that outlives the command, and its workers and guests. The steps therefore run below one
process that adopts what their children leave behind, so that the processor time of all of them is seen in one place.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LOOK_SECONDS = 0.02
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one run of a contender took.

    Attributes:
        seconds: wall time.
        cpu_seconds: processor time of all its processes.
        peak_mb: anonymous memory in MB, the most that one process had, by role.
        found: what it printed about what it found.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)


class CommandFailed(Exception):
    """A contender ended with an error; its last words."""


def reader(argv: list[str], *, cores: int = 1) -> Figure:
    """Run a reader, which times itself, on so many cores."""
    (figure,) = session([argv], cores=cores)
    found = figure.found
    return Figure(
        seconds=found["seconds"],
        cpu_seconds=found["cpu_seconds"],
        peak_mb=figure.peak_mb,
        found=found,
    )


def session(steps: list[list[str]], *, cores: int) -> list[Figure]:
    """Run commands one after the other below one process; whatever is left in the end is waited for.

    Raises:
        CommandFailed: a step or the session itself ended with another code than 0.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.processes", str(cores), json.dumps(steps)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise CommandFailed(" | ".join(words[-3:])[:500] or f"exit code {done.returncode}")
    return [Figure(**figure) for figure in json.loads(done.stdout)]


# -- inside the session's process -----------------------------------------------------------------


class _Watch(threading.Thread):
    """Looks at all descendants again and again: the most anonymous memory of each role.

    Processes that were left to this one and ended are reaped: who asks whether they live must see that they do not.
    """

    def __init__(self, own: int) -> None:
        super().__init__(daemon=True)
        self._own = own
        self.peaks: dict[str, float] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for pid in _descendants():
                with contextlib.suppress(OSError):
                    self._look(pid)

    def end(self) -> dict[str, float]:
        self._ended.set()
        self.join()
        return self.peaks

    def _look(self, pid: int) -> None:
        state, parent = _stat(pid)[:2]
        if state == "Z":
            if int(parent) == os.getpid() and pid != self._own:
                os.waitpid(pid, os.WNOHANG)
            return
        status = Path(f"/proc/{pid}/status").read_text()
        anonymous = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
        if anonymous:
            role = _role(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
            self.peaks[role] = max(self.peaks.get(role, 0.0), int(anonymous[1]) * 1024 / 1e6)


def _role(command: list[bytes]) -> str:
    for role in ("sentinel", "worker", "guest"):
        if f"casparian.{role}".encode() in command:
            return role
    return "command"


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (proc(5): field 3)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _descendants() -> Iterator[int]:
    """All processes below this one; those of the same moment as far as that can be."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = children.get(os.getpid(), [])
    while found:
        pid = found.pop()
        yield pid
        found.extend(children.get(pid, []))


def _cpu_seconds() -> float:
    """Processor time of everything that this process started: ended and reaped, or still there."""
    times = os.times()
    total = times.children_user + times.children_system
    ticks = os.sysconf("SC_CLK_TCK")
    for pid in _descendants():
        with contextlib.suppress(OSError):
            # utime, stime, cutime, cstime: fields 14 to 17
            total += sum(map(int, _stat(pid)[11:15])) / ticks
    return total


def _step(argv: list[str]) -> dict[str, Any]:
    used, started = _cpu_seconds(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        # Files: what the command leaves behind may hold a pipe open.
        running = subprocess.Popen(argv, stdout=output, stderr=errors)
        watch = _Watch(running.pid)
        watch.start()
        code = running.wait()
        seconds, used = time.perf_counter() - started, _cpu_seconds() - used
        peaks = watch.end()
        output.seek(0)
        errors.seek(0)
        printed, said = output.read().strip(), errors.read()
    if code != 0:
        sys.stderr.write("\n".join((printed + said).splitlines()[-20:]))
        sys.stderr.write(f"\n{' '.join(argv)[:200]}: exit code {code}\n")
        raise SystemExit(1)
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "peak_mb": peaks,
        "found": json.loads(printed) if printed.startswith("{") else {},
    }


def main() -> None:
    """Run the steps that the arguments name."""
    cores, steps = int(sys.argv[1]), json.loads(sys.argv[2])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    figures = [_step(argv) for argv in steps]
    while True:  # what the last step left behind ends by itself
        try:
            os.wait()
        except ChildProcessError:
            break
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
