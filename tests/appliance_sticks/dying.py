"""A process that dies at its n-th change of the disk: what a power cut leaves when the disk keeps its order."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from casparian.appliance.stick import durable

_CHANGES = ("mkdir", "rename", "symlink", "write", "chmod", "fchmod", "unlink", "rmdir", "fsync")
SURVIVED = 0
FAILED = 3


def die_at(number: int, work: Callable[[], object]) -> bool:
    """Run `work` in a forked process that is killed at its n-th change; whether it was."""
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            _count_down(number)
            work()
            code = SURVIVED
        except BaseException:  # noqa: BLE001 - a forked process must not return into the test runner
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == SURVIVED
    return False


def _count_down(number: int) -> None:
    left = [number]

    def tick() -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            tick()
            return real(*arguments, **named)

        return call

    for name in _CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    durable.exchange = counted(durable.exchange)
    durable.sync_everything_at = counted(
        lambda _path: None
    )  # no power is cut: what was written is there
    real_open = os.open

    def opening(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            tick()
        return real_open(path, flags, *arguments, **named)

    os.open = opening  # type: ignore[assignment]
