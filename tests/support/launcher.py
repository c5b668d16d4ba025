"""Run one of our programs with faults built in: `python launcher.py PLAN (casparian|casparian.sentinel|casparian.worker) …`.

What this starts is the real program in a real process; only what the plan names is changed in it, and its children start through
this file as well (the confined guest does not). PLAN is a JSON file:

    fsync           [{"match": regex on the path, "nth": n}]: the n-th fsync of such a path, over all processes, fails with EIO
    log             file that every fsync is written to: {"path", "inode", "role", "failed"}, one JSON line each
    die             {"call": "os.unlink", "match": regex on an argument, "when": "before" or "after", "nth": n}: `kill -9` of the
                    process itself at that call, once over all processes ("done" names the file that remembers it)
    orders          directory that a sentinel looks into at each of `orders.CALLS`: what is asked for there happens, once
    batch_files_max files of a job at most
    free_bytes_min  free space below which a sink is refused before work begins (the real limit is larger than a test's disk)
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import re
import runpy
import signal
import sys
from typing import Any

PLAN_PATH = sys.argv[1]
ROLE = sys.argv[2]
_ORDERS_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "orders.py")


def main() -> None:
    """Build the faults in, then become the program."""
    with open(PLAN_PATH, encoding="utf-8") as file:
        plan = json.load(file)
    sys.path[:] = [entry for entry in sys.path if entry != os.path.dirname(__file__)]
    _children_through_here()
    if plan.get("log"):
        _failing_fsync(plan)
    if "die" in plan:
        _dying(plan["die"])
    if "orders" in plan and ROLE == "casparian.sentinel":
        runpy.run_path(_ORDERS_PATH)["obey"](plan["orders"])
    if "batch_files_max" in plan and ROLE == "casparian.sentinel":
        from casparian.sentinel import batching

        assert isinstance(batching.BATCH_FILES_MAX, int)
        batching.BATCH_FILES_MAX = plan["batch_files_max"]  # type: ignore[misc]
    if "free_bytes_min" in plan and ROLE == "casparian.sentinel":
        from casparian.sinks import promote

        assert isinstance(promote.FREE_BYTES_MIN, int)
        promote.FREE_BYTES_MIN = plan["free_bytes_min"]  # type: ignore[misc]
    sys.argv = [ROLE, *sys.argv[3:]]
    runpy.run_module(ROLE, run_name="__main__", alter_sys=True)


def _children_through_here() -> None:
    from casparian import processes
    from casparian.paths import Home

    real = processes.command

    def command(role: processes.Role, home: Home, *arguments: str) -> list[str]:
        if role == "guest":
            return real(role, home, *arguments)
        head = [sys.executable, "-B", __file__, PLAN_PATH, f"casparian.{role}"]
        return [*head, "--home", str(home.root), *arguments]

    processes.command = command  # type: ignore[assignment]


def _failing_fsync(plan: dict[str, Any]) -> None:
    real = os.fsync
    rules = [(re.compile(rule["match"]), int(rule["nth"])) for rule in plan.get("fsync", [])]

    def fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = os.readlink(f"/proc/self/fd/{number}")
        log = os.open(plan["log"], os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(log, fcntl.LOCK_EX)  # the count is over all processes
            before = [json.loads(line)["path"] for line in _lines(log)]
            failed = any(
                rule.search(path) and sum(bool(rule.search(p)) for p in before) + 1 == nth
                for rule, nth in rules
            )
            entry = {"path": path, "inode": os.fstat(number).st_ino, "role": ROLE, "failed": failed}
            os.write(log, json.dumps(entry).encode() + b"\n")
        finally:
            os.close(log)
        if failed:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(number)

    os.fsync = fsync


def _dying(rule: dict[str, Any]) -> None:
    owner_name, _, name = rule["call"].rpartition(".")
    owner = importlib.import_module(owner_name)
    real = getattr(owner, name)
    pattern = re.compile(rule["match"])
    seen = 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        texts = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
        seen += any(pattern.search(text) for text in texts)
        now = seen == rule.get("nth", 1) and not os.path.exists(rule["done"])
        if now and rule["when"] == "before":
            _die(rule["done"])
        result = real(*arguments, **options)
        if now:
            _die(rule["done"])
        return result

    setattr(owner, name, call)


def _die(done: str) -> None:
    os.close(os.open(done, os.O_WRONLY | os.O_CREAT))
    os.kill(os.getpid(), signal.SIGKILL)


def _lines(descriptor: int) -> list[bytes]:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).splitlines()


if __name__ == "__main__":
    main()
