"""Worker processes: honest by nature, and as bad as a fault makes them."""

from __future__ import annotations

from collections import deque
from typing import Final

from casparian.protocol import worker as messages
from casparian.sentinel import events as ev
from tests.simulation import jobs
from tests.simulation.disk import Disk

ABORTED: Final = "job.aborted"
FULL: Final = "disk.full"
_SCANT: Final = ("transient", "failed", "failed before")
# What becomes of a job, and how often: most are good.
_OUTCOMES: Final = (
    *("good",) * 12,
    "partly",
    "partly",
    "partly transient",
    "failed",
    "failed before",
    "transient",
    "policy",
)


# Of a parser that fails on everything but now and then: its breaker opens.
BAD_PARSER: Final = (*("failed",) * 6, "failed before", "good")
# Of evidence that goes past the policy's limit, where there is one.
STRICT: Final = ("policy", "policy", "good")
USUAL: Final = _OUTCOMES


class Worker:
    """One process with its two channels. It reads `inbox`; what it says goes to `outbox`, in order."""

    def __init__(self, worker_id: str, disk: Disk, outcomes: tuple[str, ...] = _OUTCOMES) -> None:
        self.worker_id = worker_id
        self.outcomes = outcomes
        self.disk = disk
        self.inbox: deque[messages.Dispatch | messages.Abort] = deque()
        self.outbox: deque[ev.Event] = deque()
        self.told: messages.Dispatch | None = None
        self.waiting: deque[messages.Dispatch] = deque()  # given ahead, not begun
        self.progress = 0
        self.identified = False
        self.hung = False  # neither reads nor writes
        self.deaf = False  # ignores ABORT
        self.gone = False  # reaped: the sentinel will be told, or was
        self.said: ev.WorkerConcluded | None = None

    @property
    def can_move(self) -> bool:
        """Whether it has anything to do."""
        if self.hung:
            return False
        return bool(not self.identified or self.inbox or self.told or self.waiting)

    def move(self, luck: int, fault: str | None) -> None:
        """Do the next thing."""
        if not self.identified:
            self.identified = True
            self.outbox.append(ev.WorkerIdentified(worker_id=self.worker_id))
        elif self.inbox and (self.told is None or luck % 7):  # it reads beside its work
            self._read(self.inbox.popleft())
        elif self.told is None and self.waiting:
            self.told, self.progress = self.waiting.popleft(), 0
        elif self.told is not None:
            self._work(self.told, luck, fault)

    def die(self, reason: str, *, line_lost: bool = False, survives: bool = False) -> None:
        """The process ends; what it had said before still arrives, unless the line was lost first.

        With `survives` it is only thought dead, and goes on with what it was told before.
        """
        if self.gone:
            return
        self.gone = True
        self.hung = self.hung or not survives
        if line_lost:
            self.outbox.clear()
        self.outbox.append(ev.WorkerGone(worker_id=self.worker_id, reason=reason))

    def _read(self, message: messages.Dispatch | messages.Abort) -> None:
        if isinstance(message, messages.Dispatch):
            held = [*self.waiting, *([] if self.told is None else [self.told])]
            if len(held) >= messages.HELD_MAX or any(_same(message, other) for other in held):
                self.die("a dispatch too many")
                return
            self.waiting.append(message)
        elif self.deaf:
            return
        elif self.told is not None and _same(message, self.told):
            self._unstage(self.told)
            self._conclude(self.told, jobs.receipt(self.told, code=ABORTED))
        else:
            for told in [told for told in self.waiting if _same(message, told)]:
                self.waiting.remove(told)
                self._conclude(told, jobs.receipt(told, code=ABORTED))

    def _work(self, told: messages.Dispatch, luck: int, fault: str | None) -> None:
        self.progress += 1
        if fault == FULL:
            self._unstage(told)
            self._conclude(told, jobs.receipt(told, code="staging.no_space", transient=True))
        elif self.progress == 1 or (self.progress < 5 and luck % 3 == 0):
            beat = messages.Heartbeat(epoch=told.epoch, job_id=told.job_id)
            self.outbox.append(ev.WorkerBeat(worker_id=self.worker_id, beat=beat))
        else:
            self._finish(told, self.outcomes[luck // 3 % len(self.outcomes)])

    def _finish(self, told: messages.Dispatch, outcome: str) -> None:
        everything = range(len(told.sources))
        if outcome == "transient":
            receipt = jobs.receipt(told, code="guest.lost", transient=True)
        elif outcome == "failed before":
            receipt = jobs.receipt(told, code="parser.import")
        elif outcome == "failed":
            receipt = jobs.receipt(told, bad=everything)
        elif outcome == "partly transient":
            receipt = jobs.receipt(told, bad=[0], transient=True)
        elif outcome == "partly":
            receipt = jobs.receipt(told, bad=[0])
        elif outcome == "policy" and told.quarantine_rows_max is not None:
            receipt = jobs.receipt(told, code=jobs.POLICY)
        else:
            receipt = jobs.receipt(told)
        if outcome in _SCANT:
            self._unstage(told)
        elif not self.gone:  # what a process wrote after it was thought dead, nobody would look for
            self.disk.stage(told.job_id, told.epoch, receipt.files)
        self._conclude(told, receipt)

    def _conclude(self, told: messages.Dispatch, receipt: messages.Receipt) -> None:
        conclude = messages.Conclude(epoch=told.epoch, job_id=told.job_id, receipt=receipt)
        self.said = ev.WorkerConcluded(worker_id=self.worker_id, conclude=conclude)
        self.outbox.append(self.said)
        if told is self.told:
            self.told = None

    def _unstage(self, told: messages.Dispatch) -> None:
        sinks = [output.sink for output in told.outputs] + [told.quarantine]
        self.disk.remove_stages(sinks, told.home_id, told.job_id, told.epoch)


def _same(one: messages.Dispatch | messages.Abort, other: messages.Dispatch) -> bool:
    return (one.job_id, one.epoch) == (other.job_id, other.epoch)
