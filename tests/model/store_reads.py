"""What is read of the model, as `db.reads` and `db.visible` read it of the database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from casparian.db import records as row
from casparian.domain.jobs import LIVE
from tests.model.store_rows import Intent, RunRow

LIVE_STATES: Final = frozenset(state.value for state in LIVE)


class StoreReads:
    """Reads over the tables of a `ControlStore`."""

    jobs: dict[int, row.JobRow]
    runs: dict[str, RunRow]
    requests: dict[str, tuple[str, bytes, int]]
    intents: dict[int, Intent]
    materializations: list[row.MaterializationRow]
    expected: list[row.ExpectedOutputRow]

    def live_jobs(self) -> list[tuple[Any, ...]]:
        """(job_id, run_id, state, epoch, attempts, spec, receipt, intents) of jobs that a crash may have left.

        Oldest first; jobs of one moment in the order of their numbers.
        """
        found = []
        for job in sorted(self.jobs.values(), key=lambda job: (job.created_at_ns, job.job_id)):
            if job.state in LIVE_STATES:
                intent = self.intents.get(job.job_id)
                document = (
                    intent.document if intent is not None and intent.epoch == job.epoch else None
                )
                found.append(
                    (
                        job.job_id,
                        job.run_id,
                        job.state,
                        job.epoch,
                        job.attempts,
                        job.spec,
                        job.receipt,
                        document,
                    )
                )
        return found

    def running_runs(self) -> list[str]:
        """Runs whose end is not recorded."""
        return [run.run_id for run in self.runs.values() if run.state == "running"]

    def recent_replies(self, limit: int) -> dict[str, bytes]:
        """Replies to the newest mutations, by request id."""
        newest = sorted(self.requests.items(), key=lambda item: -item[1][2])
        return {request_id: reply for request_id, (_, reply, _) in newest[:limit]}

    def jobs_for_retry(self, job_ids: Iterable[int]) -> dict[int, tuple[str, int, bytes, bool]]:
        """State, epoch, specification, and whether it has recorded rows, of jobs that exist."""
        found = [self.jobs[job_id] for job_id in job_ids if job_id in self.jobs]
        owners = {m.job_id for m in self.materializations}
        return {j.job_id: (j.state, j.epoch, j.spec, j.job_id in owners) for j in found}

    def known_sinks(self) -> list[str]:
        """Canonical URIs of all sinks that have been written to, or were about to be."""
        written = {materialization.sink for materialization in self.materializations}
        return sorted(written | {expected.sink for expected in self.expected})

    def living(self) -> list[row.MaterializationRow]:
        """Materializations that nothing has retired."""
        return [m for m in self.materializations if m.retired_by is None]

    def shown(self, dataset_id: str, source_ids: Iterable[str]) -> list[tuple[int, str]]:
        """(job, source) pairs that the view of a dataset shows: living, and the newest of their parser."""
        newest = {
            (m.source_id, m.parser): m.job_id for m in self.living() if m.dataset_id == dataset_id
        }
        wanted = set(source_ids)
        return [(job, source) for (source, _), job in newest.items() if source in wanted]
