"""Everything that can happen to the sentinel. Each event carries the two clock readings of its moment."""

from __future__ import annotations

from typing import Any

import msgspec

from casparian.db.operations import Operation
from casparian.db.records import (
    ContractRow,
    ExpectedOutputRow,
    OutputPairRow,
    OutputRow,
    PlanItemRow,
)
from casparian.domain.approvals import Approval, Vote
from casparian.domain.jobs import JobState
from casparian.protocol import control, worker
from casparian.sentinel.state import JobSpec


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    pass


class ClientConnected(_Event, frozen=True, kw_only=True):
    """A client whose credentials the kernel vouches for."""

    client_id: int
    actor: str


class ClientGone(_Event, frozen=True, kw_only=True):
    """A client closed its connection, or was cut off."""

    client_id: int


class ClientAsked(_Event, frozen=True, kw_only=True):
    """A whole, well-formed request."""

    client_id: int
    number: int
    request: control.Request


class WorkerIdentified(_Event, frozen=True, kw_only=True):
    """A worker process is ready."""

    worker_id: str


class WorkerBeat(_Event, frozen=True, kw_only=True):
    """A heartbeat; the first one of a job accepts it."""

    worker_id: str
    beat: worker.Heartbeat


class WorkerConcluded(_Event, frozen=True, kw_only=True):
    """A job is over as far as its worker is concerned."""

    worker_id: str
    conclude: worker.Conclude


class WorkerPrepared(_Event, frozen=True, kw_only=True):
    """How it goes with an environment that a worker was asked for."""

    worker_id: str
    ready: worker.EnvironmentReady


class WorkerGone(_Event, frozen=True, kw_only=True):
    """A worker process has ended and was reaped."""

    worker_id: str
    reason: str


class Tick(_Event, frozen=True, kw_only=True):
    """Time passed."""


class StopAsked(_Event, frozen=True, kw_only=True):
    """A signal asks the sentinel to end."""


class Discovering(_Event, frozen=True, kw_only=True):
    """Progress of a walk."""

    run_id: str
    client_id: int | None
    number: int
    progress: control.Discovering


class Scanned(_Event, frozen=True, kw_only=True):
    """A scan is complete and recorded."""

    client_id: int
    number: int
    request_id: str
    result: control.ScanResult


class PlannedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job the plan asks for, and the key of each of its sources (main output)."""

    job_id: int
    spec: JobSpec
    keys: tuple[str, ...]


class PlanReady(_Event, frozen=True, kw_only=True):
    """The plan of a run."""

    run_id: str
    root: str
    files: control.FileCounts
    items: tuple[PlanItemRow, ...]
    jobs: tuple[PlannedJob, ...]
    contracts: tuple[ContractRow, ...]
    expected: tuple[ExpectedOutputRow, ...]
    problems: tuple[control.FileProblem, ...]
    rejected: dict[str, int]
    by_parser: dict[str, int]
    accepted_engine: int = 0
    unbalanced: int = 0  # skipped files whose recorded ledger does not balance


class PlanFailed(_Event, frozen=True, kw_only=True):
    """The plan (or a scan) could not be made."""

    run_id: str | None
    client_id: int | None
    number: int
    failure: control.Failure


class Persisted(_Event, frozen=True, kw_only=True):
    """A `Persist` effect is durable; `then` is what it was for."""

    then: Any
    results: tuple[Any, ...]


class PersistFailed(_Event, frozen=True, kw_only=True):
    """A `Persist` effect did not happen."""

    then: Any
    code: str
    message: str


class Promoted(_Event, frozen=True, kw_only=True):
    """Staged files are in place (or in the sink's database), durably."""

    job_id: int
    epoch: int
    outputs: tuple[OutputRow, ...]
    pairs: tuple[OutputPairRow, ...]


class PromoteFailed(_Event, frozen=True, kw_only=True):
    """Staged files could not be put in place.

    `lost`: neither the staged nor the final copy is there any more. `transient`: nothing was taken back, and the same promotion
    may succeed later; otherwise everything of the commit was taken back.
    """

    job_id: int
    epoch: int
    code: str
    message: str
    lost: bool
    transient: bool = False


class Published(_Event, frozen=True, kw_only=True):
    """The catalog (and published copies of database sinks) show all that was committed before."""

    run_ids: tuple[str, ...]
    housekeeping: tuple[
        Operation, ...
    ] = ()  # output files that were removed or rewritten, to be recorded
    code: str | None = None
    message: str = ""


class RowsRead(_Event, frozen=True, kw_only=True):
    """Answer to a read."""

    client_id: int
    number: int
    reply: control.Reply


class Maintained(_Event, frozen=True, kw_only=True):
    """A repair or a backup is done and recorded, or could not be."""

    client_id: int
    number: int
    request_id: str
    reply: control.Done | control.Failure
    catalog: bool = False  # the catalog is to be written again


class TrustChanged(_Event, frozen=True, kw_only=True):
    """A change of trust is recorded together with its reply, or was refused."""

    client_id: int
    number: int
    request_id: str
    reply: control.Done | control.Failure
    recorded: bool = False  # the reply is in the database


class Proposed(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal that holds: new, or known already."""

    approval: Approval
    known: bool = False
    supersedes: tuple[str, ...] = ()
    dry_run: bool = False


class Voted(msgspec.Struct, frozen=True, kw_only=True):
    """A decision whose signatures hold."""

    approval: Approval
    vote: Vote
    holders: int  # that have accepted, this one included
    missing: int  # how many more must


class TakenBack(msgspec.Struct, frozen=True, kw_only=True):
    """A pending request that is to be withdrawn."""

    approval: Approval


class Considered(_Event, frozen=True, kw_only=True):
    """What became of a proposal or a decision, as read at `at_ns`, which never goes back behind a moment once recorded."""

    request_id: str
    actor: str
    at_ns: int
    outcome: Proposed | Voted | TakenBack | control.Failure
    reason: str = ""


class JobLoaded(_Event, frozen=True, kw_only=True):
    """An ended job that is to be tried again."""

    client_id: int
    number: int
    request_id: str
    job_id: int
    state: JobState
    epoch: int
    spec: JobSpec
    has_rows: bool = False


class LoadedJob(msgspec.Struct, frozen=True, kw_only=True):
    """An ended job; `has_rows`: a policy failed it, and what it quarantined is recorded."""

    job_id: int
    state: JobState
    epoch: int
    spec: JobSpec
    has_rows: bool = False


class JobsLoaded(_Event, frozen=True, kw_only=True):
    """Ended jobs that are to be tried again together."""

    client_id: int
    number: int
    request_id: str
    jobs: tuple[LoadedJob, ...]
    dry_run: bool = False


Event = (
    ClientConnected
    | ClientGone
    | ClientAsked
    | WorkerIdentified
    | WorkerBeat
    | WorkerConcluded
    | WorkerPrepared
    | WorkerGone
    | Tick
    | StopAsked
    | Discovering
    | Scanned
    | PlanReady
    | PlanFailed
    | Persisted
    | PersistFailed
    | Promoted
    | PromoteFailed
    | Published
    | RowsRead
    | Maintained
    | TrustChanged
    | Considered
    | JobLoaded
    | JobsLoaded
)
