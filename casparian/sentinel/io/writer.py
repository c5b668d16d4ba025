"""The database's single writer thread, with group commit.

Whatever has queued up while a transaction was made becomes the next transaction: one fsync, and a few statements, for many
jobs. A transaction of groups that all may wait is held back for `PATIENCE_NS`, for others to join it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from casparian import clock
from casparian.db.operations import Operation
from casparian.db.writer import DatabaseWriter
from casparian.errors import CasparianError
from casparian.sentinel.events import Persisted, PersistFailed
from casparian.sentinel.io.mailbox import Mailbox

GROUPS_MAX: Final = 64
PATIENCE_NS: Final = 150_000_000
_LOG = logging.getLogger(__name__)

Outcome = list[Any] | Exception


class Writer:
    """Applies groups of operations in the order they were submitted."""

    def __init__(self, database_writer: DatabaseWriter, mailbox: Mailbox) -> None:
        self._database_writer = database_writer
        self._mailbox = mailbox
        self._queue: deque[tuple[Sequence[Operation], Callable[[Outcome], None]]] = deque()
        self._due_ns = 0  # when the queue must be written at the latest
        self._condition = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def submit(self, operations: Sequence[Operation], then: Any, *, patient: bool = False) -> None:
        """Apply later; `Persisted` or `PersistFailed` is posted when it is decided."""

        def post(outcome: Outcome) -> None:
            if isinstance(outcome, Exception):
                code = outcome.code if isinstance(outcome, CasparianError) else "db.write"
                _LOG.error("a transaction failed", exc_info=outcome)
                self._mailbox.post(PersistFailed(then=then, code=code, message=str(outcome)))
            else:
                self._mailbox.post(Persisted(then=then, results=tuple(outcome)))

        self._enqueue(operations, post, patient=patient)

    def apply(self, operations: Sequence[Operation]) -> list[Any]:
        """Apply and wait; for other threads than the loop's.

        Raises:
            Exception: what kept the operations from happening.
        """
        done = threading.Event()
        outcomes: list[Outcome] = []

        def note(outcome: Outcome) -> None:
            outcomes.append(outcome)
            done.set()

        self._enqueue(operations, note)
        done.wait()
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]
        return outcomes[0]

    def close(self) -> None:
        """Apply what is queued, then end the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def _enqueue(
        self,
        operations: Sequence[Operation],
        note: Callable[[Outcome], None],
        *,
        patient: bool = False,
    ) -> None:
        with self._condition:
            if not patient:
                self._due_ns = 0
            elif not self._queue:
                self._due_ns = clock.monotonic_ns() + PATIENCE_NS
            self._queue.append((operations, note))
            self._condition.notify()

    def _pause(self) -> float | None:
        """Seconds until the queue is to be written; `None` is now, 0 when there is nothing to write."""
        if not self._queue:
            return 0
        left = self._due_ns - clock.monotonic_ns()
        return left / 1e9 if left > 0 and len(self._queue) < GROUPS_MAX else None

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._closing and (wait := self._pause()) is not None:
                    self._condition.wait(wait or None)
                if not self._queue:
                    return
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), GROUPS_MAX))]
            groups = [operations for operations, _ in batch]
            for outcome, (_, note) in zip(self._database_writer.apply(groups), batch, strict=True):
                note(outcome)
