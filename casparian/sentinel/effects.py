"""Everything the sentinel can do to the world. `io` carries effects out, in order; what comes of them returns as events."""

from __future__ import annotations

from typing import Any

import msgspec

from casparian.db.operations import CommitClaims, Operation
from casparian.domain.outputs import Sink
from casparian.protocol import control, worker
from casparian.sentinel.state import JobSpec


class _Effect(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Persist(_Effect, frozen=True, kw_only=True):
    """Make operations durable, in order, all or nothing; then `Persisted(then)`.

    `patient`: nobody waits for just this, so it may wait a little for company in its transaction.
    """

    operations: tuple[Operation, ...]
    then: Any
    patient: bool = False


class SendReply(_Effect, frozen=True, kw_only=True):
    """The one reply to a request."""

    client_id: int
    number: int
    reply: control.Reply


class SendEvent(_Effect, frozen=True, kw_only=True):
    """Progress for a waiting client; may be dropped when the client does not read."""

    client_id: int
    number: int
    event: control.Event


class StartWorker(_Effect, frozen=True, kw_only=True):
    """Start a worker process."""

    worker_id: str


class SendWorker(_Effect, frozen=True, kw_only=True):
    """Dispatch, abort, or prepare an environment."""

    worker_id: str
    message: worker.Dispatch | worker.Abort | worker.PrepareEnvironment


class KillWorker(_Effect, frozen=True, kw_only=True):
    """SIGKILL; `WorkerGone` follows when it is reaped."""

    worker_id: str


class MakePlan(_Effect, frozen=True, kw_only=True):
    """Discover and plan, beside the loop."""

    run_id: str
    client_id: int | None
    number: int
    request: control.Run


class MakeScan(_Effect, frozen=True, kw_only=True):
    """Discover only, beside the loop."""

    client_id: int
    number: int
    request: control.Scan


class Promote(_Effect, frozen=True, kw_only=True):
    """P1 and P2 (file sinks), or the sink database's transaction, from the receipt in the intents.

    A passing fault leaves everything as it is, to be tried again; with `give_up` it is taken back like any other.
    """

    job_id: int
    epoch: int
    spec: JobSpec
    receipt: worker.Receipt
    claims: CommitClaims
    give_up: bool = False


class RemoveStages(_Effect, frozen=True, kw_only=True):
    """Remove a job's staging directories of one epoch, in every sink it writes to."""

    job_id: int
    epoch: int
    sinks: tuple[Sink, ...]


class Publish(_Effect, frozen=True, kw_only=True):
    """Publish database sinks, swap the catalog, remove files without a living pair; then `Published(run_ids)`."""

    run_ids: tuple[str, ...]
    sinks: tuple[Sink, ...]


class ReadRows(_Effect, frozen=True, kw_only=True):
    """Answer a read from committed truth."""

    client_id: int
    number: int
    request: control.Read | control.Select | control.Doctor
    aborting: tuple[int, ...] = ()  # cancelled jobs whose worker has not let go yet
    live: tuple[int, ...] = ()  # jobs that somebody works on, for `Doctor`
    at_rest: bool = True  # nothing is under way, for `Doctor`


class Maintain(_Effect, frozen=True, kw_only=True):
    """Repair or back up, beside the loop; then `Maintained`."""

    client_id: int
    number: int
    actor: str
    request: control.Repair | control.Backup


class ChangeTrust(_Effect, frozen=True, kw_only=True):
    """Import root and policy, deploy or retire a parser, beside the loop; then `TrustChanged`."""

    client_id: int
    number: int
    actor: str
    request: control.ImportTrust | control.Deploy | control.Retire


class Consider(_Effect, frozen=True, kw_only=True):
    """Check a proposal, or verify a decision, against what is recorded and trusted now; then `Considered`."""

    actor: str
    request: control.Propose | control.Decide | control.Withdraw


class SettleTrust(_Effect, frozen=True, kw_only=True):
    """Bring the files of HOME/trust in line with what is recorded, before the next plan is made."""


class LoadJob(_Effect, frozen=True, kw_only=True):
    """Fetch an ended job for a retry; `JobLoaded`, or a refusal by `RowsRead`."""

    client_id: int
    number: int
    request: control.RetryJob


class LoadJobs(_Effect, frozen=True, kw_only=True):
    """Fetch ended jobs for a retry of many; `JobsLoaded`, or a refusal by `RowsRead`."""

    client_id: int
    number: int
    request: control.RetryJobs


class FindEnd(_Effect, frozen=True, kw_only=True):
    """Tell a client who wants to cancel a job that is not live how it ended; `RowsRead`."""

    client_id: int
    number: int
    job_id: int


class Stop(_Effect, frozen=True, kw_only=True):
    """Leave the loop."""

    reason: str


Effect = (
    Persist
    | SendReply
    | SendEvent
    | StartWorker
    | SendWorker
    | KillWorker
    | MakePlan
    | MakeScan
    | Promote
    | RemoveStages
    | Publish
    | ReadRows
    | LoadJob
    | Consider
    | Maintain
    | ChangeTrust
    | SettleTrust
    | LoadJobs
    | FindEnd
    | Stop
)
