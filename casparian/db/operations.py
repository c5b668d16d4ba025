"""Every change of the control database, as a value. `db.writer` applies them; nothing else writes.

Operations of one `Persist` effect are applied in order and in one transaction; several effects may share a transaction (group
commit). A compare-and-swap that finds another state raises `StaleStep`, and that effect as a whole does not happen.
"""

from __future__ import annotations

import msgspec

from casparian.db.records import (
    AmendmentRow,
    ContractRow,
    DatasetRow,
    DispositionRow,
    DocumentRow,
    ExpectedOutputRow,
    FindingRow,
    JobRow,
    LedgerRow,
    MaterializationRow,
    OutputPairRow,
    OutputRow,
    Pair,
    PlanItemRow,
)
from casparian.domain.approvals import Approval, ApprovalState, Vote
from casparian.domain.breakers import BreakerFailure
from casparian.domain.deployments import Deployment
from casparian.domain.files import CataloguedFile
from casparian.domain.jobs import JobState
from casparian.domain.outputs import SinkMode
from casparian.domain.quarantine import Acceptance
from casparian.domain.trust import TrustRecord


class _Operation(msgspec.Struct, frozen=True, kw_only=True):
    at_ns: int


class SaveScan(_Operation, frozen=True, kw_only=True):
    """Replace what is known about a root, and remember every new (path, content) pair."""

    root: str
    files: tuple[CataloguedFile, ...]


class StartRun(_Operation, frozen=True, kw_only=True):
    """A run begins."""

    run_id: str
    root: str
    actor: str
    request: str


class SavePlan(_Operation, frozen=True, kw_only=True):
    """Keep the newest plan of a root, line by line.

    With `sources` it is a plan of these alone: what the newest plan says of others stays.
    """

    run_id: str
    root: str
    items: tuple[PlanItemRow, ...]
    contracts: tuple[ContractRow, ...]
    expected: tuple[ExpectedOutputRow, ...]
    sources: tuple[str, ...] = ()


class InsertJobs(_Operation, frozen=True, kw_only=True):
    """New jobs, queued."""

    jobs: tuple[JobRow, ...]


class StepJob(_Operation, frozen=True, kw_only=True):
    """Compare-and-swap on (id, state, epoch), with everything that is recorded beside it."""

    job_id: int
    before: JobState
    after: JobState
    epoch: int  # expected before the step
    new_epoch: int | None = None
    attempts: int | None = None
    code: str | None = None
    message: str | None = None
    detail: str = ""
    spec: bytes | None = None
    dispositions: tuple[DispositionRow, ...] = ()
    log: str = ""
    isolation: str = ""
    trust: str = ""


class PairClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is about to materialize; checked at T1 against the living and against commits that are under way."""

    dataset_id: str
    source_id: str
    materialization_key: str


class BeginCommit(_Operation, frozen=True, kw_only=True):
    """T1, the point of no return: CAS Running -> Committing and the intents.

    Result: `CommitClaims`. With conflicts nothing changes, and the job must go back without those sources. Nothing changes
    either while it would decide over a pair that another job is committing: it is to be asked again after that job's end.
    """

    job_id: int
    epoch: int
    mode: str
    claims: tuple[PairClaim, ...]
    receipt: bytes
    intents: bytes
    sparse: tuple[str, ...] = ()  # datasets that are claimed only for sources with rows in them
    sources: tuple[str, ...] = ()  # that the commit is about; needed with `sparse`
    again: bool = (
        False  # rows of the very same key give way, where otherwise there is nothing to do
    )


class CommitClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What T1 found: sources that lost a race, pairs that this commit retires, jobs whose commit must end before.

    `empty` are pairs (dataset, source) without rows in this commit that hold older rows: they are materialized all the same, so
    that these are superseded.
    """

    conflicts: tuple[str, ...] = ()
    retire: tuple[Pair, ...] = ()
    waits_for: tuple[int, ...] = ()
    empty: tuple[tuple[str, str], ...] = ()


class CommitDocument(msgspec.Struct, frozen=True, array_like=True):
    """`cf_commit_intents.document`: what a crash after T1 needs, and what other commits must know meanwhile."""

    files: bytes
    found: CommitClaims
    mode: str = ""
    claims: tuple[PairClaim, ...] = ()
    sparse: bool = False

    def excludes(self, other: BeginCommit) -> bool:
        """Whether the other commit may not be decided before this one has ended.

        Two that append different keys to a pair go side by side; for any other two, what the second may do depends on whether
        the first one's rows live in the end. So does, with sparse outputs, what the second must supersede.
        """
        keys = {(c.dataset_id, c.source_id): c.materialization_key for c in self.claims}
        appends = self.mode == SinkMode.APPEND and other.mode == SinkMode.APPEND
        appends = appends and not (self.sparse or other.sparse)
        shared = [c for c in other.claims if (c.dataset_id, c.source_id) in keys]
        return any(
            not appends or keys[c.dataset_id, c.source_id] == c.materialization_key for c in shared
        )


class FinishCommit(_Operation, frozen=True, kw_only=True):
    """T2: everything that the commit means, and the job's end, in one transaction."""

    job_id: int
    epoch: int
    after: JobState  # COMPLETED, or FAILED when a policy failed it and only its quarantine lives
    code: str | None
    message: str | None
    rows: int
    quarantined: int
    materializations: tuple[MaterializationRow, ...]
    documents: tuple[DocumentRow, ...]
    outputs: tuple[OutputRow, ...]
    output_pairs: tuple[OutputPairRow, ...]
    ledgers: tuple[LedgerRow, ...]
    findings: tuple[FindingRow, ...]
    dispositions: tuple[DispositionRow, ...]
    retire: tuple[Pair, ...]
    log: str
    isolation: str
    trust: str = ""


class RemoveOutput(_Operation, frozen=True, kw_only=True):
    """An output file left the disk: all its pairs are retired, or `replaced_by` holds what lives on."""

    path: str
    replaced_by: OutputRow | None = None
    pairs: tuple[OutputPairRow, ...] = ()


class FinishRun(_Operation, frozen=True, kw_only=True):
    """A run ended."""

    run_id: str
    state: str
    result: str


class SaveReply(_Operation, frozen=True, kw_only=True):
    """The reply to a mutation, recorded together with it. Last in its group. Result: the encoded reply.

    A group whose request was answered before does not act again: its result is the reply that is stored.
    With a `template` the reply is a `Done` whose count `{n}` is the result of the group's first operation.
    """

    request_id: str
    kind: str
    reply: bytes = b""
    template: str | None = None


class NoteJob(_Operation, frozen=True, kw_only=True):
    """A line in a job's history that is no step: a late receipt, a promotion that is tried again."""

    job_id: int
    epoch: int
    state: str
    detail: str


class SaveBreaker(_Operation, frozen=True, kw_only=True):
    """The circuit breaker of one parser artifact; without failures it is forgotten."""

    parser: str  # name@version
    artifact_hash: str
    state: str
    opened_at_ns: int | None
    failures: tuple[BreakerFailure, ...]
    kind: str = ""  # of the tape's entry; empty: none
    actor: str = ""


class SaveProposal(_Operation, frozen=True, kw_only=True):
    """A new request to approve something; pending ones that it takes the place of end."""

    approval: Approval
    supersedes: tuple[str, ...] = ()


class SaveVote(_Operation, frozen=True, kw_only=True):
    """A verified decision about a pending request."""

    vote: Vote


class EndApproval(_Operation, frozen=True, kw_only=True):
    """Compare-and-swap of a pending request to an end; accepted ones need recorded votes.

    It comes before the operations that apply the request, so that these never happen without it.
    """

    approval: Approval
    after: ApprovalState
    actor: str = ""
    reason: str = ""


class ExpireApprovals(_Operation, frozen=True, kw_only=True):
    """End all pending requests whose time is over at `at_ns`. Result: how many."""


class RaiseLimits(_Operation, frozen=True, kw_only=True):
    """A laboratory's higher limits of a parser, as an accepted request has them."""

    parser: str
    limits: dict[str, int]
    approval_id: str
    actor: str


class LowerLimits(_Operation, frozen=True, kw_only=True):
    """Bounds below what is in force; `None` goes back to what the parser itself declares."""

    parser: str
    limits: dict[str, int | None]
    actor: str


class InsertRule(_Operation, frozen=True, kw_only=True):
    """A tagging rule. Result: its number."""

    pattern: str
    tag: str


class DeleteRule(_Operation, frozen=True, kw_only=True):
    """Remove a rule. Result: how many were removed."""

    rule_id: int


class TagPaths(_Operation, frozen=True, kw_only=True):
    """Tag paths by hand, or take such a tag away. Result: how many paths."""

    pattern: str  # as the person wrote it, for the tape
    expression: str  # the same as a regular expression that must match the whole subject
    name_only: bool  # the subject is the file's name, else its path below the root
    tag: str
    remove: bool


class RecordDecision(_Operation, frozen=True, kw_only=True):
    """A decision of a person, for the tape (for example `--accept-engine`)."""

    kind: str
    fields: dict[str, str | int]


class ProgramChange(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an installation's history, and what came of it."""

    at: str
    action: str  # install, apply, rollback, remove
    version: str  # which it was about, as its folder is called: `1.2.0-7`
    release: int
    before: str | None  # which was in use until then
    key: str  # the release key's fingerprint
    by: str
    outcome: str  # switched, not_switched, removed


class RecordProgramChanges(_Operation, frozen=True, kw_only=True):
    """Take an installation's history onto the tape, from where it was left. Result: how many entries that made."""

    installation: str
    changes: tuple[ProgramChange, ...]  # oldest first


class SaveTrustDocument(_Operation, frozen=True, kw_only=True):
    """A root or policy comes into force."""

    kind: str  # `root`, `policy`
    version: int
    sha256: str
    document: bytes
    actor: str


class SaveDeployment(_Operation, frozen=True, kw_only=True):
    """A parser version is deployed; one that was retired runs again, one that is there gets its new statement."""

    deployment: Deployment
    statement_sha256: str
    trust: TrustRecord
    actor: str


class RetireDeployment(_Operation, frozen=True, kw_only=True):
    """A deployed version is not used any more; its files stay, for proofs. Result: how many."""

    parser: str
    version: str
    actor: str


class PromoteDataset(_Operation, frozen=True, kw_only=True):
    """A revision of a dataset's contract is in force from now on; `amendment` is `None` for the first one.

    `StaleStep` when another revision is the next one.
    """

    dataset: DatasetRow
    amendment: AmendmentRow | None = None


class AcceptQuarantine(_Operation, frozen=True, kw_only=True):
    """Quarantined rows are accepted as they are, as an accepted request has them."""

    decision_id: str  # the request's
    acceptance: Acceptance
    actor: str


class ReopenQuarantine(_Operation, frozen=True, kw_only=True):
    """Acceptances are taken back. Result: how many were in force."""

    decision_ids: tuple[str, ...]
    reason: str
    actor: str


class RemoveIntents(_Operation, frozen=True, kw_only=True):
    """Take away commit intents that no committing job has, keeping them on the tape. Result: how many."""

    actor: str


Operation = (
    SaveScan
    | StartRun
    | SavePlan
    | InsertJobs
    | StepJob
    | BeginCommit
    | FinishCommit
    | RemoveOutput
    | FinishRun
    | SaveReply
    | NoteJob
    | SaveBreaker
    | InsertRule
    | DeleteRule
    | TagPaths
    | RecordDecision
    | RecordProgramChanges
    | SaveTrustDocument
    | SaveDeployment
    | RetireDeployment
    | PromoteDataset
    | RemoveIntents
    | SaveProposal
    | SaveVote
    | EndApproval
    | ExpireApprovals
    | RaiseLimits
    | LowerLimits
    | AcceptQuarantine
    | ReopenQuarantine
)
