"""The Control API: requests, replies and events between front ends and the sentinel.

One AF_UNIX stream socket, mode 0600. A client sends CONTROL_REQUEST (number = its own request counter); the sentinel answers
with any number of CONTROL_EVENT frames and exactly one CONTROL_REPLY of the same number. Mutations carry a `request_id`,
stored with the result: a client that retries after a crash acts once.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from casparian.domain.isolation import IsolationLevel
from casparian.domain.numbers import Count
from casparian.domain.outputs import Sink, SinkMode
from casparian.domain.parsers import ConfigValue
from casparian.protocol.frame import Opcode
from casparian.protocol.payload import check_numbers, decode

RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]  # chosen by the client


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which files: all conditions must hold; empty means no condition."""

    tags: tuple[str, ...] = ()
    parsers: tuple[str, ...] = ()  # names, or paths of parser folders
    include: tuple[str, ...] = ()  # globs over the display path
    exclude: tuple[str, ...] = ()
    since_ns: int | None = None  # modification time, a hint only; its use is recorded in the plan
    # Source ids as last catalogued; when there are any, nothing is walked and nothing else is planned.
    sources: tuple[str, ...] = ()


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Who answers? Reply: `SentinelStatus`.

    With `when_at_rest` the reply comes once the catalog is as new as the record. Plans and jobs are not waited for: while there
    are any, the reply comes at once and says that it is not at rest.
    """

    when_at_rest: bool = False


class Scan(msgspec.Struct, frozen=True, kw_only=True, tag="scan"):
    """Discover an evidence root: walk, hash, identify, tag. Reply: `ScanResult`; events: `Discovering`."""

    request_id: RequestId
    evidence: bytes  # absolute path
    dry_run: bool = False  # list and identify, record nothing


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Evidence to committed tables. Reply: `RunResult`; events: all but `Draining`."""

    request_id: RequestId
    evidence: bytes  # absolute path
    sinks: dict[str, Sink] = {}  # table -> sink; the key "" is the default sink
    mode: SinkMode = SinkMode.APPEND
    selection: Selection = Selection()
    parser_config: dict[
        str, dict[str, ConfigValue]
    ] = {}  # parser -> settings that differ from the defaults
    retry_failed: bool = False
    accept_engine: bool = False
    dry_run: bool = False  # plan only
    quarantine_rows_max: int | None = None
    quarantine_percent_max: float | None = None
    min_isolation: IsolationLevel = IsolationLevel.FULL
    batch_files: int | None = None  # files of a job at most; `None`: the product's own choice
    force: bool = (
        False  # read again also what is recorded under the very same key; its rows give way
    )
    carve: bool = False  # give files that no parser takes to the parsers that can carve


class Select(msgspec.Struct, frozen=True, kw_only=True, tag="select"):
    """Which catalogued files would be taken, by which parser. Reply: `Rows` (no re-scan)."""

    selection: Selection
    root: str | None = None


class AddRule(msgspec.Struct, frozen=True, kw_only=True, tag="add_rule"):
    """Add a tagging rule. Reply: `Done`."""

    request_id: RequestId
    pattern: str
    tag: str


class RemoveRule(msgspec.Struct, frozen=True, kw_only=True, tag="remove_rule"):
    """Remove a tagging rule. Reply: `Done`."""

    request_id: RequestId
    rule_id: int


class TagFiles(msgspec.Struct, frozen=True, kw_only=True, tag="tag_files"):
    """Add (or remove) a tag by hand on catalogued paths that match a glob. Reply: `Done` with the count."""

    request_id: RequestId
    pattern: str
    tag: str
    remove: bool = False


class CancelJob(msgspec.Struct, frozen=True, kw_only=True, tag="cancel_job"):
    """Cancel a job, all live jobs of a run, or all. Reply: `Done`, or an error `job.too_late` once it commits.

    Cancelling a cancelled job again is `Done` with the count 0.
    """

    request_id: RequestId
    job_id: int | None = None
    run_id: str | None = None
    everything: bool = False


class RetryJob(msgspec.Struct, frozen=True, kw_only=True, tag="retry_job"):
    """Queue a failed or aborted job again. Reply: `Done`."""

    request_id: RequestId
    job_id: int


class RetryJobs(msgspec.Struct, frozen=True, kw_only=True, tag="retry_jobs"):
    """Queue jobs again: the named ones, or all failed ones that nobody tried again. Reply: `Done` with the count."""

    request_id: str
    job_ids: tuple[int, ...] = ()  # empty: all dead letters that the filters leave
    parser: str | None = None  # name, or name@version
    code: str | None = None  # reason code, or its family
    run_id: str | None = None
    dry_run: bool = False  # only count


class ResetParser(msgspec.Struct, frozen=True, kw_only=True, tag="reset_parser"):
    """Let an open circuit breaker try one job of a parser now. Reply: `Done` with the count of breakers."""

    request_id: str
    parser: str  # name, or name@version


class Propose(msgspec.Struct, frozen=True, kw_only=True, tag="propose"):
    """Ask that something be trusted. The sentinel checks the content and makes the diff. Reply: `Done`.

    Its fields: `approval_id`, `state`, `scope`, `content_hash`, `expires_at_ns`, `diff` (lines). Equal content that waits is
    the same request, another proposal for the same subject takes its place.
    """

    request_id: RequestId
    kind: str
    subject: str
    content: str  # JSON text
    dry_run: bool = False  # check and show, record nothing


class Decide(msgspec.Struct, frozen=True, kw_only=True, tag="decide"):
    """Hand in a signed decision about a request. What it decides, and why, is in the envelope alone. Reply: `Done`.

    Its fields: `approval_id`, `state`, `holders` (how many have accepted) and `missing` (how many more are needed).
    """

    request_id: RequestId
    approval_id: str
    envelope: bytes


class Withdraw(msgspec.Struct, frozen=True, kw_only=True, tag="withdraw"):
    """Take a pending request back; nothing follows from it any more. Reply: `Done`."""

    request_id: RequestId
    approval_id: str
    reason: str = ""


class LowerLimits(msgspec.Struct, frozen=True, kw_only=True, tag="lower_limits"):
    """Bounds of a parser below what is in force; `None` goes back to what it declares. Reply: `Done`.

    No approval is needed: whatever is named here, a parser never gets more than it had.
    """

    request_id: RequestId
    parser: str
    limits: dict[str, int | None]


class PrepareEnvironment(msgspec.Struct, frozen=True, kw_only=True, tag="prepare_environment"):
    """Have an environment ready before a job needs it. Reply: `Done` with its size; events: `Preparing`."""

    request_id: RequestId
    env_hash: str
    requirements: tuple[str, ...]  # canonical lines of a lock


class ReopenQuarantine(msgspec.Struct, frozen=True, kw_only=True, tag="reopen_quarantine"):
    """Take acceptances of quarantined rows back. Reply: `Done` with the count of decisions that were in force.

    No approval is needed: it accepts nothing.
    """

    request_id: RequestId
    decision_ids: tuple[str, ...]
    reason: str


class Read(msgspec.Struct, frozen=True, kw_only=True, tag="read"):
    """A named read of control-plane truth (`db/reads.py` lists names, filters and columns). Reply: `Rows`."""

    view: str
    filters: dict[str, str | int | bool | None] = {}
    limit: Count | None = None


class Doctor(msgspec.Struct, frozen=True, kw_only=True, tag="doctor"):
    """Ask the sentinel for its own checks.

    Reply: `Rows` with columns check, status (ok, warn, fail), message, hint, details.
    """


class Aside(msgspec.Struct, frozen=True, kw_only=True):
    """One file or stage directory that `doctor --repair` moves out of the way, and why."""

    path: str
    why: str  # `orphan`, `stage`, `altered`


class Repair(msgspec.Struct, frozen=True, kw_only=True, tag="repair"):
    """Move aside what nothing recorded needs; nothing is ever deleted. Reply: `Done`, its fields say from where to where.

    Refused with `doctor.busy` while anything is under way. Each act is on the tape before it is done.
    """

    request_id: str
    asides: tuple[Aside, ...] = ()
    intents: bool = (
        False  # take away commit intents that no committing job has; a copy goes to the tape
    )
    catalog: bool = False  # write the catalog again


class Backup(msgspec.Struct, frozen=True, kw_only=True, tag="backup"):
    """Copy the control database, to `HOME/backups` or elsewhere. Reply: `Done`, its fields describe the copy."""

    request_id: str
    to: str | None = None  # absolute path; nothing may be there


class ImportTrust(msgspec.Struct, frozen=True, kw_only=True, tag="import_trust"):
    """Put a root chain and a policy into force. Reply: `Done`, its fields say what is in force now.

    Args:
        request_id: it acts once.
        documents: roots and policies in any order, as files hold them.
        fingerprint: of the first root, which is needed where none is in force yet.
        dry_run: check only.
    """

    request_id: RequestId
    documents: tuple[bytes, ...]
    fingerprint: str | None = None
    dry_run: bool = False


class Deploy(msgspec.Struct, frozen=True, kw_only=True, tag="deploy"):
    """Put a signed parser into the store. Sent under the opcode DEPLOY. Reply: `Done`.

    The sentinel reads the package itself, once; what it verified is what it stores.

    Args:
        request_id: it acts once.
        path: absolute, of a package file.
        artifact_hash: what the client saw in it: another content at that path is refused.
        dry_run: check only.
    """

    request_id: RequestId
    path: bytes
    artifact_hash: str
    dry_run: bool = False


class Retire(msgspec.Struct, frozen=True, kw_only=True, tag="retire"):
    """Do not use a deployed version any more; its files stay, for proofs. Reply: `Done` with the count."""

    request_id: RequestId
    parser: str
    version: str


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, tag="shutdown"):
    """Finish what is committing, requeue the rest, stop. Reply: `Done`.

    With `if_idle` a sentinel that has other clients, or anything under way, goes on, and the reply's count is 0.
    """

    if_idle: bool = False


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """Finish what runs, begin nothing, then stop. Reply: `Done` at the end; events: `Draining`.

    It stays in force when the asker leaves. With `take_back` it ends: queued jobs are begun again, who waited for it gets
    `sentinel.resumed`, and the count of the reply, which comes at once, is 0 when there was nothing to take back.
    """

    take_back: bool = False


Request = (
    Hello
    | Scan
    | Run
    | Select
    | AddRule
    | RemoveRule
    | TagFiles
    | CancelJob
    | RetryJob
    | RetryJobs
    | ResetParser
    | PrepareEnvironment
    | Propose
    | Decide
    | Withdraw
    | LowerLimits
    | ReopenQuarantine
    | Read
    | Doctor
    | Repair
    | Backup
    | ImportTrust
    | Deploy
    | Retire
    | Shutdown
    | Drain
)


class SentinelStatus(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """State of the sentinel that answers."""

    version: str
    protocol: int
    pid: int
    home_id: str
    home: str
    started_at_ns: int
    on_demand: bool  # started by a command, and stops when idle
    workers: int
    jobs: dict[str, int]  # live jobs by state
    engine_hash: str
    at_rest: bool = True  # nothing is under way, and the catalog is as new as the record
    draining: bool = False  # finishes what runs, begins nothing, then stops


class ScanResult(msgspec.Struct, frozen=True, kw_only=True, tag="scan_result"):
    """What lies under an evidence root."""

    root: str
    files: int
    size_bytes: int
    unreadable: int
    links: int
    special: int
    directories: int
    duplicates: int  # paths whose content was seen at an earlier path
    by_tag: dict[str, int]
    untagged: int
    problems: tuple[tuple[str, str], ...] = ()  # (display path, reason), the first thousand


class FileCounts(msgspec.Struct, frozen=True, kw_only=True):
    """`seen = selected + skipped + unmatched + unreadable`; `failed` is a part of `selected`.

    A file that is read with the one it belongs to, and by no parser of its own, is skipped.
    """

    seen: int = 0
    selected: int = 0
    skipped: int = 0
    unmatched: int = 0
    unreadable: int = 0
    failed: int = 0


class JobCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one run by how they ended."""

    completed: int = 0
    failed: int = 0
    aborted: int = 0
    rejected: int = 0


class OutputSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Rows and files that this run added to one table."""

    table: str
    rows: int
    files: tuple[str, ...]
    sink: str


class LedgerTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Sum of the ledgers of the sources that this run read. `rows` excludes recovered ones."""

    balanced: bool = True
    present: int = 0
    rows: int = 0
    recovered: int = 0
    quarantined: int = 0
    lost: int = 0
    findings: int = 0


class FileProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was refused, could not be read or failed."""

    path: str
    code: str
    message: str


class RunResult(msgspec.Struct, frozen=True, kw_only=True, tag="run_result"):
    """How a run ended."""

    run_id: str
    root: str
    dry_run: bool
    files: FileCounts
    jobs: JobCounts
    outputs: tuple[OutputSummary, ...]
    quarantined: int
    ledger: LedgerTotals
    reasons: dict[str, int]  # plan reason -> files, e.g. {"done": 134}
    rejected: dict[str, int]  # reject code -> files
    problems: tuple[FileProblem, ...]
    quarantine_limit: bool
    elapsed_ns: int
    cancelled: bool = False


class Rows(msgspec.Struct, frozen=True, kw_only=True, tag="rows"):
    """A table. Cells are JSON values; bytes columns hold `bytes`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """A mutation happened (or had happened already under the same request id)."""

    message: str
    count: int = 0
    fields: dict[str, str | int] = {}


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag="failure"):
    """The request was not carried out. The client raises it again as the error class of this exit code."""

    code: str
    message: str
    exit_code: int
    hint: str | None = None


Reply = SentinelStatus | ScanResult | RunResult | Rows | Done | Failure


class Discovering(msgspec.Struct, frozen=True, kw_only=True, tag="discovering"):
    """The walk and the hashing are under way."""

    files: int
    files_total: int
    size_bytes: int
    size_bytes_total: int


class Planned(msgspec.Struct, frozen=True, kw_only=True, tag="planned"):
    """The plan stands: what will be done, and why the rest will not."""

    run_id: str
    root: str
    files: FileCounts
    size_bytes: int
    jobs: int
    by_parser: dict[str, int]
    reasons: dict[str, int]


class Preparing(msgspec.Struct, frozen=True, kw_only=True, tag="preparing"):
    """An environment is made ready; jobs that need it wait."""

    env_hash: str
    message: str


class CommitWaits(msgspec.Struct, frozen=True, kw_only=True, tag="commit_waits"):
    """A job is read whole, and its sink cannot be written just now; it is tried again after a pause."""

    job_id: int
    code: str
    message: str
    tried: int  # times
    pause_ns: int


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """At most four a second."""

    run_id: str
    jobs_done: int
    jobs_total: int
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    rows: int
    quarantined: int


class RunningJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has begun and not ended."""

    job_id: int
    parser: str
    state: str
    files: int
    files_done: int
    size_bytes: int
    bytes_done: int


class Draining(msgspec.Struct, frozen=True, kw_only=True, tag="draining"):
    """What a drain waits for. At most four a second."""

    jobs: int
    queued: int  # left for the next sentinel
    plans: int
    decisions: int
    environments: int
    publishing: bool
    running: tuple[RunningJob, ...]  # the first of the jobs


Event = Discovering | Planned | Preparing | CommitWaits | Progress | Draining


def opcode_of(message: Request) -> Opcode:
    """The opcode that a request is sent under."""
    return Opcode.DEPLOY if isinstance(message, Deploy) else Opcode.CONTROL_REQUEST


def encode(message: msgspec.Struct) -> bytes:
    """MessagePack of a request, reply or event."""
    return msgspec.msgpack.encode(message)


_requests = msgspec.msgpack.Decoder(Request)
_replies = msgspec.msgpack.Decoder(Reply)
_events = msgspec.msgpack.Decoder(Event)


def decode_request(payload: bytes) -> Request:
    """Read a request."""
    message: Request = decode(_requests, payload, "request")
    check_numbers(message, "request")
    return message


def decode_reply(payload: bytes) -> Reply:
    """Read a reply."""
    message: Reply = decode(_replies, payload, "reply")
    return message


def decode_event(payload: bytes) -> Event:
    """Read an event."""
    message: Event = decode(_events, payload, "event")
    return message
