"""Orders to a running sentinel: at the named call, before it or after it, die or wait.

`obey` is built into the process by the launcher; `Orders` gives an order from outside and sees what became of it. The directory
between them holds `order.json` until somebody takes it (it is `taken.json` then), and `release` for one who waits.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

CALLS: Final = (
    "os.replace",
    "os.unlink",
    "shutil.rmtree",
    "casparian._native.promote_noreplace",
    "casparian.db.job_writer.JobWriter._begin_commit",
    "casparian.db.job_writer.JobWriter._finish_commit",
    "casparian.sinks.duckdb.DuckDbSink.commit",
    "casparian.sinks.duckdb.DuckDbSink.publish",
    "casparian.sentinel.recovery._sweep",
)
_WAIT_STEPS = 4000  # a giver that was killed must not leave one waiting for ever
_STEP_SECONDS = 0.005


class Orders:
    """Gives one order at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def give(
        self, call: str, match: str, when: Literal["before", "after"], do: Literal["die", "wait"]
    ) -> None:
        """Ask for it; an earlier order that nobody took is forgotten."""
        assert call in CALLS, call
        self.withdraw()
        order = {"call": call, "match": match, "when": when, "do": do}
        new = self.directory / "new.json"
        new.write_text(json.dumps(order))
        new.rename(self.directory / "order.json")

    @property
    def taken(self) -> bool:
        """Whether it has begun to happen."""
        return (self.directory / "taken.json").exists()

    def release(self) -> None:
        """One who waits goes on."""
        (self.directory / "release").touch()

    def withdraw(self) -> None:
        """Nothing is asked for any more."""
        for name in ("order.json", "taken.json", "release"):
            (self.directory / name).unlink(missing_ok=True)


def obey(directory: str) -> None:
    """Look for an order at each of the calls from now on."""
    for call in CALLS:
        owner_name, _, name = call.rpartition(".")
        owner = _resolve(owner_name)
        setattr(owner, name, _watched(call, getattr(owner, name), directory))


def _resolve(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def _watched(call: str, real: Callable[..., Any], directory: str) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        texts = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
        _look(directory, call, "before", texts)
        result = real(*arguments, **options)
        _look(directory, call, "after", texts)
        return result

    return called


def _look(directory: str, call: str, when: str, texts: list[str]) -> None:
    given, taken = f"{directory}/order.json", f"{directory}/taken.json"
    try:
        with open(given, encoding="utf-8") as file:
            order = json.load(file)
        if (order["call"], order["when"]) != (call, when):
            return
        if order["match"] and not any(re.search(order["match"], text) for text in texts):
            return
        os.rename(given, taken)  # of two threads or processes one has it
    except OSError:
        return
    if order["do"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(_WAIT_STEPS):
        if os.path.exists(f"{directory}/release") or not os.path.exists(taken):
            break
        time.sleep(_STEP_SECONDS)
