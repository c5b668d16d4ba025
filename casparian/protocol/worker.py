"""Messages between sentinel and worker. Payloads are MessagePack of these structs; the epoch comes first in each.

worker -> sentinel   Identify, Heartbeat (accepted, and then progress), Conclude, WorkerError
sentinel -> worker   Dispatch, Abort, PrepareEnvironment (answered with EnvironmentReady, several times)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Literal, TypeVar

import msgspec

from casparian.domain.contracts import OutputContract
from casparian.domain.isolation import IsolationLevel
from casparian.domain.ledger import Ledger
from casparian.domain.numbers import Count
from casparian.domain.outputs import Sink
from casparian.domain.parsers import ConfigValue, Limits, ParserArtifact, ParserKind
from casparian.domain.trust import TrustRecord
from casparian.protocol.payload import decode as decode_payload

NOT_DONE: Final = "job.aborted"  # code of a receipt for a job that the sentinel called off
HELD_MAX: Final = 16  # jobs that a worker may have at once, the one it works at included


class Identify(msgspec.Struct, frozen=True, kw_only=True):
    """First message of a worker."""

    epoch: Count = 0
    worker_id: str
    pid: Count
    version: str


class CompanionTask(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is read together with a source: a hive's log, a database's journal."""

    role: str  # as `domain.files.Companion`
    source_hash: str
    size_bytes: Count
    path: bytes  # absolute, byte-exact


class SourceTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One source of a job."""

    index: Count  # position in the job
    source_id: str
    source_hash: str
    sha256: str
    size_bytes: Count
    path: bytes  # absolute, byte-exact
    display_path: str  # relative to the evidence root, as `_cf_source_path` carries it
    companions: tuple[CompanionTask, ...] = ()  # those that the parser asked for


class OutputTask(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a job. `stage` is an absolute directory on the sink's own file system."""

    contract: OutputContract
    contract_hash: str
    sink: Sink
    stage: str


class SparsePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where an output goes. `stage` is an absolute directory on the sink's own file system."""

    sink: Sink
    stage: str


class SparseTask(msgspec.Struct, frozen=True, kw_only=True):
    """Outputs whose contracts both ends know by number (`contracts.wide`); most jobs have rows of few of them.

    Args:
        place: where they go.
        elsewhere: where single tables go instead.
        tightened: the contracts, by table, that a laboratory made stricter.
    """

    place: SparsePlace
    elsewhere: dict[str, SparsePlace] = {}
    tightened: dict[str, OutputContract] = {}


class ParserTask(msgspec.Struct, frozen=True, kw_only=True):
    """The parser to run. The worker hashes the folder again before the guest sees a byte of it."""

    name: str
    version: str
    kind: ParserKind
    entry: str
    directory: str
    artifact_hash: str
    account: str
    unit: str
    config: dict[str, ConfigValue]
    limits: Limits
    preload: tuple[str, ...] = ()  # modules that its guests have loaded beyond the usual ones
    environment: str = ""  # path of the lock of its packages, in its folder
    requirements: tuple[str, ...] = ()  # that lock, line by line; the worker reads it again
    raised: dict[str, str] = {}  # limits above what the parser declares, and the approvals of them
    trust: TrustRecord | None = None  # the verdict when it was planned; the worker makes its own


def parser_task(
    artifact: ParserArtifact,
    config: Mapping[str, ConfigValue],
    trust: TrustRecord | None = None,
) -> ParserTask:
    """What a worker is told of an artifact that runs with these settings."""
    manifest = artifact.manifest
    return ParserTask(
        name=manifest.name,
        version=manifest.version,
        kind=manifest.kind,
        entry=manifest.entry,
        directory=artifact.directory,
        artifact_hash=artifact.artifact_hash,
        account=manifest.account,
        unit=manifest.unit,
        config=dict(config),
        limits=manifest.limits,
        preload=manifest.preload,
        environment=manifest.environment,
        requirements=artifact.requirements,
        trust=trust,
    )


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """Run one parser artifact over a batch of sources. The epoch is the fencing token."""

    epoch: Count
    job_id: Count
    home_id: str
    parser: ParserTask
    sources: tuple[SourceTask, ...]
    outputs: tuple[OutputTask, ...]
    quarantine: Sink
    quarantine_stage: str
    processed_at_ns: int
    lineage_version: int
    quarantine_rows_max: int | None = None  # policy: above it the job's verdict is a failure
    quarantine_percent_max: float | None = None
    min_isolation: IsolationLevel = IsolationLevel.FULL  # a guest that is confined less is refused
    threads: Count = (
        1  # of a native decoder: this worker's share of the cores; the rows do not depend on it
    )
    sparse: SparseTask | None = None


class Abort(msgspec.Struct, frozen=True, kw_only=True):
    """Kill the guests of this job, remove its stage, conclude with code `NOT_DONE` and no files; or do not even begin it."""

    epoch: Count
    job_id: Count


class PrepareEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """Have an environment ready, from the wheelhouse and nowhere else; `requirements` are canonical lines of a lock."""

    epoch: Count = 0
    env_hash: str
    requirements: tuple[str, ...]


class EnvironmentReady(msgspec.Struct, frozen=True, kw_only=True):
    """How it goes with an environment: `building` at least every second, and at the end `ready` or `failed`."""

    epoch: Count = 0
    env_hash: str
    state: Literal["building", "ready", "failed"]
    message: str = ""  # what is being done, or why it failed
    code: str | None = None
    size_bytes: Count = 0


class SourceProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is."""

    sources_done: Count = 0
    bytes_done: Count = 0
    rows: Count = 0
    quarantined: Count = 0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sent at least every second. The first one of a job acknowledges the dispatch."""

    epoch: Count
    job_id: Count
    progress: SourceProgress = SourceProgress()


class StagedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One complete, fsynced file in the stage. `sources` are the indexes whose rows it holds."""

    table: str
    sink: Sink
    path: str  # absolute, inside the stage directory that the dispatch named
    size_bytes: Count
    blake3: str
    rows: Count
    sources: tuple[Count, ...]


class SourceReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one source. A source with a `code` is excluded: none of its rows are in any staged file."""

    index: Count
    code: str | None = None  # why it was excluded: `source.changed`, `guest.crash`, `limit.cpu`, …
    message: str = ""
    transient: bool = False  # may succeed if tried again unchanged
    rows: dict[str, Count] = {}  # by table
    quarantined: Count = 0
    ledger: Ledger | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's account of a job. Nothing in it is trusted before the epoch is checked."""

    sources: tuple[SourceReceipt, ...]
    files: tuple[StagedFile, ...]
    isolation: dict[str, str]
    trust: TrustRecord | None = None  # the worker's own verdict on the parser that it loaded
    guest_log: str = ""
    code: str | None = (
        None  # the job as a whole: policy verdict (`quarantine.limit`) or a fault before any source
    )
    message: str = ""
    transient: bool = False


class Conclude(msgspec.Struct, frozen=True, kw_only=True):
    """The job is over as far as the worker is concerned; the guest is reaped, files and stage are fsynced."""

    epoch: Count
    job_id: Count
    receipt: Receipt


class WorkerError(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of the worker itself, or an answer to a message it cannot read."""

    epoch: Count
    job_id: Count
    code: str
    message: str


T = TypeVar("T")


def encode(message: msgspec.Struct) -> bytes:
    """MessagePack of a message."""
    return msgspec.msgpack.encode(message)


def decode(payload: bytes, kind: type[T]) -> T:
    """Read a message of a known kind; anything else is a `ProtocolError`."""
    known: Any = kind
    message: T = decode_payload(_decoder(known), payload, kind.__name__)
    return message


@cache
def _decoder(kind: Any) -> Any:
    return msgspec.msgpack.Decoder(kind)
