"""Work beside the thread of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, TypeVar

from casparian.worker.cancel import Cancellation

_CANCEL_LOOK_SECONDS: Final = 0.05

T = TypeVar("T")


def in_background(work: Callable[[], T]) -> Future[T]:
    """Run on a daemon thread: a hash of a huge file must not hold up the end of the process."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            future.set_exception(error)

    threading.Thread(target=run, name="hash", daemon=True).start()
    return future


def result(future: Future[T], cancellation: Cancellation) -> T:
    """Wait for it, and look at the cancellation while waiting."""
    while not wait((future,), timeout=_CANCEL_LOOK_SECONDS).done:
        cancellation.check()
    return future.result()
