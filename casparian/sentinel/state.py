"""What the sentinel holds in memory: live jobs, workers, runs. Values only; the database is the truth they mirror.

`State` is immutable: a step returns a new one. Its mappings are copied when they change and never changed in place.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final

import msgspec

from casparian.contracts.wide import wide_contracts, wide_numbers
from casparian.db.operations import CommitClaims, StepJob
from casparian.domain.breakers import Breaker
from casparian.domain.contracts import OutputContract
from casparian.domain.isolation import IsolationLevel
from casparian.domain.jobs import JobState
from casparian.domain.outputs import Sink, SinkMode
from casparian.domain.parsers import ParserKind
from casparian.protocol import control, identity
from casparian.protocol.identity import KeyParts
from casparian.protocol.worker import ParserTask, Receipt, SourceProgress, SourceTask

STARTS_MAX: Final = (
    3  # failed starts of workers in a row, after which none is started until somebody asks again
)


class OutputSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a job, with the identities that its materializations are recorded under."""

    contract: OutputContract
    contract_hash: str
    schema_hash: str
    sink: Sink
    sink_config_hash: str
    dataset_id: str


class SparseSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Outputs that are known by number, and materialized only where there are rows of them (`contracts.wide`).

    Args:
        sink: where they go.
        sinks: where single tables go instead.
        tightened: contracts, by table, that a laboratory made stricter.
    """

    sink: Sink
    sinks: dict[str, Sink] = {}
    tightened: dict[str, OutputContract] = {}

    def output(self, contract: OutputContract) -> OutputSpec:
        """One of the outputs, with its identities."""
        contract = self.tightened.get(contract.table, contract)
        return output_spec(contract, self.sinks.get(contract.table, self.sink))


def output_spec(contract: OutputContract, sink: Sink) -> OutputSpec:
    """An output with the identities that its materializations are recorded under."""
    return OutputSpec(
        contract=contract,
        contract_hash=identity.contract_hash(contract),
        schema_hash=identity.schema_hash(contract),
        sink=sink,
        sink_config_hash=identity.sink_config_hash(sink),
        dataset_id=identity.dataset_id(sink.uri, contract.table),
    )


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a job is, as stored with it: it can be dispatched again after any crash."""

    root: str
    mode: SinkMode
    parser: ParserTask
    env_hash: str
    engine_hash: str
    parser_config_hash: str
    lineage_version: int
    sources: tuple[SourceTask, ...]
    outputs: tuple[OutputSpec, ...]
    quarantine: OutputSpec
    quarantine_rows_max: int | None = None
    quarantine_percent_max: float | None = None
    min_isolation: IsolationLevel = IsolationLevel.FULL
    sparse: SparseSpec | None = None
    again: bool = False  # rows that are recorded under the very same key give way

    def written(self, tables: Collection[str]) -> tuple[OutputSpec, ...]:
        """All outputs of the job's own, and those of the sparse ones that are among `tables`."""
        if self.sparse is None:
            return self.outputs
        listed = (contract for contract in wide_contracts() if contract.table in tables)
        return (*self.outputs, *(self.sparse.output(contract) for contract in listed))

    def sparse_datasets(self) -> dict[str, str]:
        """Dataset and table of every sparse output that the job may have rows of."""
        if self.sparse is None:
            return {}
        contracts = wide_contracts()
        numbers = wide_numbers(self.parser.kind, self.parser.entry, self.parser.config)
        found = {}
        for number in sorted(numbers):
            table = contracts[number].table
            sink = self.sparse.sinks.get(table, self.sparse.sink)
            found[identity.dataset_id(sink.uri, table)] = table
        return found

    @property
    def sinks(self) -> dict[str, Sink]:
        """Every sink that the job may write to, by its URI."""
        found = {output.sink.uri: output.sink for output in (*self.outputs, self.quarantine)}
        if self.sparse is not None:
            found |= {s.uri: s for s in (self.sparse.sink, *self.sparse.sinks.values())}
        return found

    def key_parts(self, output: OutputSpec, source_id: str) -> KeyParts:
        """The parts of one (output, source)'s materialization key."""
        return KeyParts(
            dataset_id=output.dataset_id,
            schema_hash=output.schema_hash,
            sink_mode=self.mode,
            sink_config_hash=output.sink_config_hash,
            source_id=source_id,
            artifact_hash=self.parser.artifact_hash,
            env_hash=self.env_hash,
            engine_hash=self.engine_hash,
            parser_config_hash=self.parser_config_hash,
            contract_hash=output.contract_hash,
            lineage_version=self.lineage_version,
        )

    @property
    def main(self) -> OutputSpec:
        """The (first) output whose rows are the ledger's units: its keys stand for the source."""
        return next(output for output in self.outputs if output.contract.main)

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.parser.name}@{self.parser.version}"

    @property
    def is_native(self) -> bool:
        """Whether the parser is an entry of the native module."""
        return self.parser.kind is ParserKind.NATIVE

    @property
    def size_bytes(self) -> int:
        """Evidence bytes of the job."""
        return sum(source.size_bytes for source in self.sources)


class JobEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has not ended."""

    job_id: int
    run_ids: tuple[str, ...]
    spec: JobSpec
    state: JobState
    epoch: int = 0
    attempts: int = 0
    order: int = 0
    worker_id: str | None = None
    not_before_ns: int = 0  # monotonic: back-off after a transient fault
    deadline_ns: int = 0  # monotonic: the lease; of an aborted one, when its worker is killed
    promotes: int = 0  # promotions that met a passing fault
    keys: tuple[str, ...] = ()  # main output's materialization keys, as far as they are known
    progress: SourceProgress = SourceProgress()
    receipt: Receipt | None = None
    claims: CommitClaims = CommitClaims()
    redo_of: str = ""  # why it is queued again, for the event log


class WorkerState(StrEnum):
    """Where a worker process stands."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    KILLED = "killed"  # killed by us, not reaped yet


class WorkerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process."""

    worker_id: str
    state: WorkerState = WorkerState.STARTING
    job_id: int | None = None
    epoch: int = 0
    since_ns: int = (
        0  # monotonic: when it was started; of a busy one, when it was given what it works at
    )
    ahead: tuple[tuple[int, int], ...] = ()  # (job, epoch) that it was given beyond that, in order
    recalled: tuple[tuple[int, int], ...] = ()  # those of them that it was asked to give back
    preparing: str = ""  # the environment that it prepares, in place of a job

    @property
    def held(self) -> tuple[tuple[int, int], ...]:
        """(job, epoch) of all that it was given and has not concluded, in order."""
        return () if self.job_id is None else ((self.job_id, self.epoch), *self.ahead)


class EnvironmentState(StrEnum):
    """Where an environment stands, as far as this sentinel knows."""

    WANTED = "wanted"  # no worker prepares it yet
    BUILDING = "building"
    SETTLED = "settled"  # ready, or it could not be prepared: then the worker of a job says why


class EnvironmentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An environment that jobs or people asked for. Workers share what they make, so one of them is enough."""

    env_hash: str
    requirements: tuple[str, ...]
    state: EnvironmentState = EnvironmentState.WANTED
    failed: bool = False  # settled without being ready: asked for anew, it is tried anew
    lost: int = 0  # workers that ended while they prepared it
    requests: tuple[str, ...] = ()  # request ids that wait for it
    message: str = ""


class RunState(StrEnum):
    """Phases of a run."""

    PLANNING = "planning"
    RUNNING = "running"
    PUBLISHING = "publishing"


class OutputTotal(msgspec.Struct, frozen=True, kw_only=True):
    """Rows and files that a run added to one table of one sink."""

    table: str
    sink: str
    rows: int = 0
    files: tuple[str, ...] = ()


class RunEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose client waits, or went away."""

    run_id: str
    request: control.Run
    actor: str
    client_id: int | None
    number: int
    started_ns: int
    root: str
    state: RunState = RunState.PLANNING
    files: control.FileCounts = control.FileCounts()
    reasons: dict[str, int] = {}
    rejected: dict[str, int] = {}
    problems: tuple[control.FileProblem, ...] = ()
    jobs_open: frozenset[int] = frozenset()
    jobs_total: int = 0
    files_total: int = 0
    bytes_total: int = 0
    files_done: int = 0
    bytes_done: int = 0
    jobs: control.JobCounts = control.JobCounts()
    outputs: dict[tuple[str, str], OutputTotal] = {}
    quarantined: int = 0
    ledger: control.LedgerTotals = control.LedgerTotals()
    quarantine_limit: bool = False
    cancelled: bool = False
    progress_sent_ns: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    home_id: str
    home: str
    engine_hash: str
    workers_max: int
    on_demand: bool
    started_ns: int
    now_ns: int = 0  # wall clock of the event under way
    monotonic_ns: int = 0
    jobs: dict[int, JobEntry] = {}
    job_order: int = 0
    keys_in_flight: dict[str, int] = {}  # main output's materialization key -> job
    workers: dict[str, WorkerEntry] = {}
    workers_started: int = 0
    runs: dict[str, RunEntry] = {}
    clients: dict[int, str] = {}  # client -> actor
    planning: int = 0  # plans and scans under way
    # Proposals and decisions with their actors, in order; the first is under way until it is durable or refused.
    considering: tuple[tuple[str, control.Propose | control.Decide | control.Withdraw], ...] = ()
    replies: dict[str, bytes] = {}  # request id -> encoded reply of a finished mutation
    requests_open: dict[str, tuple[tuple[int, int], ...]] = {}  # request id -> (client, number)
    many_jobs: int = 24  # more than so many live ones: what counts is how many end in a second
    starts_failed: int = (
        0  # workers in a row that ended, or had to be killed, before they said who they are
    )
    loads: frozenset[tuple[int, int]] = frozenset()  # (client, number) whose jobs are being read
    ended: frozenset[int] = frozenset()  # jobs that ended meanwhile: what was read of them is old
    held: dict[int, tuple[int, ...]] = {}  # job -> jobs whose commit ends before its own begins
    accepts: dict[int, StepJob] = {}  # job -> its step to RUNNING, not recorded yet
    environments: dict[str, EnvironmentEntry] = {}  # by their hash
    breakers: dict[tuple[str, str], Breaker] = {}  # (name@version, artifact hash)
    draining: bool = False
    drainers: tuple[
        tuple[int, int], ...
    ] = ()  # (client, number) that wait for the end of the drain
    drain_told_ns: int = 0  # monotonic: when they were last told how it goes
    stopping: bool = False
    stop_reply: tuple[int, int] | None = None
    idle_since_ns: int = 0
    catalog_dirty: bool = False
    resting: tuple[tuple[int, int], ...] = ()  # (client, number) that are answered once at rest
    publishing: bool = False

    @property
    def has_many_jobs(self) -> bool:
        """Whether throughput counts, not how soon one job ends."""
        return len(self.jobs) > self.many_jobs

    @property
    def is_preparing(self) -> bool:
        """Whether an environment is wanted or made."""
        return any(e.state is not EnvironmentState.SETTLED for e in self.environments.values())

    @property
    def is_stuck(self) -> bool:
        """Whether workers cannot be started here: jobs stay queued until somebody asks again."""
        return self.starts_failed >= STARTS_MAX and not any(
            worker.state in (WorkerState.IDLE, WorkerState.BUSY) for worker in self.workers.values()
        )

    @property
    def busy(self) -> bool:
        """Whether anything is under way that must not be cut short."""
        if self.runs or self.planning or self.publishing or self.considering:
            return True
        if self.is_preparing:
            return True
        if self.jobs and self.is_stuck:
            return any(job.state is not JobState.QUEUED for job in self.jobs.values())
        return bool(self.jobs)
