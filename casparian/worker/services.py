"""What outlives a job in a worker."""

from __future__ import annotations

import logging

from casparian.paths import Home
from casparian.worker import parser_files, self_attack
from casparian.worker.cancel import Cancellation
from casparian.worker.compiled import CompiledParsers
from casparian.worker.environments import Environments
from casparian.worker.guest_process import Guests, Needs
from casparian.worker.isolation import Measured

_log = logging.getLogger(__name__)


class Services:
    """What outlives a job: the zygote, what its guests could do to us, and who says whether a parser may run.

    Use it from one thread that lives as long as the process.
    """

    def __init__(self, home: Home, judge: parser_files.Judge | None = None) -> None:
        self.home = home
        self.guests = Guests(home)
        self.judge = judge or parser_files.judge_of(home)
        self.compiled = CompiledParsers()
        self.environments = Environments(home)
        self._measured: dict[tuple[Needs, bool], Measured] = {}

    def measured(
        self,
        cancellation: Cancellation,
        needs: Needs = Needs(),  # noqa: B008 - a frozen value
        *,
        program: bool = False,
    ) -> Measured:
        """What the self-attacks showed; they run when it is asked for first.

        Args:
            cancellation: of the job that waits.
            needs: what the guests' zygote has loaded: other modules, other zygote, other guests.
            program: the guests become programs: other filters.

        Raises:
            JobFault: no guest could be had.
            Cancelled: the job was cancelled meanwhile.
        """
        found = self._measured.get((needs, program))
        if found is None:
            found = self._measured[needs, program] = self_attack.measure(
                self.guests, cancellation, needs, program=program
            )
            verdict = found.verdict
            fields = {"level": verdict.level.value, "missing": ", ".join(verdict.missing)}
            _log.info("self-attacks", extra={"fields": fields})
        return found

    def close(self) -> None:
        """End the zygotes; environments may be removed then."""
        self.guests.close()
        self.environments.close()
