"""What can go wrong while a job runs, as types: the reaction depends on the class, never on a text.

    GuestFault       the guest is dead or cannot be trusted any more: one retry alone, in a fresh guest
    SourceExcluded   this source gives no rows; the other sources go on
    JobFault         the job as a whole cannot go on

A death is classified from what the host sees (signal, exit code, processor time, the kernel's count of memory
kills), never from what the guest said. Whether the same work is worth another attempt is the kind of the
code in `casparian.domain.faults`; who raises a fault may only say that this one is transient.
"""

from __future__ import annotations

import os
import signal
from typing import Final, assert_never

import msgspec

from casparian.domain.faults import FaultKind, kind_of
from casparian.errors import CasparianError

_OOM_COUNTER: Final = "oom_kill "
_LIMITS: Final = "limit."


class _CodedError(CasparianError):
    """An error with a code of the table in `domain.faults`.

    Args:
        code: its kind says what happens next.
        message: one sentence.
        transient: this one may pass, or may not, whatever others of its code do.
    """

    def __init__(self, code: str, message: str, *, transient: bool | None = None) -> None:
        super().__init__(message, code=code)
        self.kind = kind_of(code)
        if transient is not None and transient != (self.kind is FaultKind.TRANSIENT):
            self.kind = FaultKind.TRANSIENT if transient else FaultKind.PERMANENT

    @property
    def transient(self) -> bool:
        """Whether the same work, unchanged, may succeed later."""
        return self.kind is FaultKind.TRANSIENT


class GuestFault(_CodedError):
    """The guest died, hung, or broke the protocol."""

    code = "guest.fault"

    def retry_alone(self, *, fresh: bool) -> bool:
        """Whether the source deserves a second attempt, alone in a fresh guest.

        Args:
            fresh: the guest had seen no other source. Then a limit was met by this source's own doing.
        """
        match self.kind:
            case FaultKind.PERMANENT:
                return False
            case FaultKind.TRANSIENT:
                return True
            case FaultKind.POISON:
                return not (fresh and self.code.startswith(_LIMITS))
            case _:
                assert_never(self.kind)


class SourceExcluded(_CodedError):
    """One source cannot be committed."""

    code = "source.excluded"


class JobViolation(SourceExcluded):
    """A row of the source broke a rule that fails the whole job: none of its sources may be committed."""


class JobFault(_CodedError):
    """No source of the job can be worked on."""

    code = "job.fault"


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a guest ended. `status` is `wait`'s; `None` when the zygote died and nobody could wait."""

    status: int | None
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    memory_kills: int = 0  # of the whole machine, while the guest lived
    killed: bool = False  # by us


def classify(exit_: Exit, cpu_seconds_max: int) -> GuestFault:
    """The fault that a guest's end in the middle of a source stands for."""
    if exit_.killed:
        # It closed the bridge and lived on.
        return GuestFault(
            "bridge.truncated", "the guest closed the bridge in the middle of a source"
        )
    if exit_.status is None:
        return GuestFault("guest.killed", "the guest died together with its zygote")
    if os.WIFEXITED(exit_.status):
        number = os.WEXITSTATUS(exit_.status)
        if number == 0:
            return GuestFault("bridge.truncated", "the guest ended in the middle of a source")
        return GuestFault("guest.exit", f"the guest ended with exit code {number}")
    number = os.WTERMSIG(exit_.status)
    name = _signal_name(number)
    if number == signal.SIGXCPU or (
        number == signal.SIGKILL and exit_.cpu_seconds >= cpu_seconds_max
    ):
        return GuestFault(
            "limit.cpu", f"the guest used its {cpu_seconds_max} seconds of processor time"
        )
    if number == signal.SIGKILL and exit_.memory_kills:
        return GuestFault("limit.memory", "the kernel killed the guest for want of memory")
    if number == signal.SIGKILL:
        return GuestFault("guest.killed", "the guest was killed from outside")
    if number == signal.SIGSYS:
        return GuestFault(
            "confinement.violation",
            "the guest was killed for a system call that is forbidden to it",
        )
    return GuestFault("guest.crash", f"the guest crashed with {name}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 if it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            for line in file:
                if line.startswith(_OOM_COUNTER):
                    return int(line.split()[1])
    except OSError:
        return 0
    return 0
