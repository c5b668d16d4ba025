"""Files as discovered, and what was decided about each."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FileStatus(StrEnum):
    """What the last scan made of a path."""

    CATALOGUED = "catalogued"  # read, hashed, identified
    UNREADABLE = "unreadable"  # could not be opened or read; `message` says why
    LINK = "link"  # symbolic link: recorded with its target, never followed
    SPECIAL = "special"  # FIFO, socket, device: recorded, never opened
    CHANGED = "changed"  # changed while it was hashed


class Companion(msgspec.Struct, frozen=True, kw_only=True):
    """A file that belongs to another one beside it: a hive's transaction log, a database's journal.

    It lies in the same directory as the file it belongs to, so its name says where it is.
    """

    role: str  # the declared suffix without its dot or dash, in upper case: `LOG1`, `WAL`
    name: bytes  # byte-exact
    display_path: str  # relative to the evidence root, as text
    size_bytes: int
    source_hash: str
    sha256: str


class CataloguedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One path under an evidence root."""

    root: str  # absolute path of the evidence root
    path: bytes  # relative to the root, byte-exact; empty when the root is a single file
    display_path: str  # the same as text, bytes that are not UTF-8 as \\xNN
    status: FileStatus
    size_bytes: int = 0
    mtime_ns: int = 0
    device: int = 0
    inode: int = 0
    link_target: bytes | None = None
    source_hash: str | None = None
    sha256: str | None = None
    source_id: str | None = None  # of the content and its companions
    companions: tuple[Companion, ...] = ()  # by role
    companion_of: str | None = None  # display path of the file that this one belongs to
    tags: tuple[str, ...] = ()
    tag_reasons: tuple[str, ...] = ()  # why each tag: `content: …`, `rule 3: …`, `by hand`
    message: str | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A tagging rule: paths that match the glob get the tag (seed ADR 002)."""

    rule_id: int
    pattern: str
    tag: str


class Decision(StrEnum):
    """What the plan did with a (file, parser) pair, or with a file that no parser takes."""

    SELECTED = "selected"  # a job reads it
    IN_PROGRESS = "in_progress"  # a live job already reads it; the run waits for that job
    SKIPPED = "skipped"  # nothing to do; the reason says why
    REJECTED = "rejected"  # trust, contract or sink mode refuses
    UNMATCHED = "unmatched"  # no parser takes its tags
    UNREADABLE = "unreadable"  # could not be read
    IGNORED = "ignored"  # link or special file


class PlanReason(StrEnum):
    """Why: stable words for `explain`, `--json` and tests."""

    NEW = "new"  # never materialized by this parser into this dataset
    PARSER_CHANGED = "parser_changed"
    ENGINE_CHANGED = "engine_changed"
    ENVIRONMENT_CHANGED = "environment_changed"
    CONFIG_CHANGED = "config_changed"
    CONTRACT_CHANGED = "contract_changed"
    SCHEMA_CHANGED = "schema_changed"
    SINK_SETTING_CHANGED = "sink_setting_changed"
    MODE_CHANGED = "mode_changed"
    LINEAGE_CHANGED = "lineage_changed"
    RETRY = "retry"  # failed before, and `--retry-failed` was given
    FORCED = "forced"  # the very same key is recorded, and it was asked for all the same
    DONE = "done"  # the very same key is recorded
    ENGINE_ACCEPTED = (
        "engine_accepted"  # only the engine differs, and `--accept-engine` keeps the rows
    )
    DUPLICATE_CONTENT = "duplicate_content"  # equal content is read once, at the first path
    FAILED_BEFORE = "failed_before"
    NOT_SELECTED = "not_selected"  # excluded by --tag, --parser, a pattern or --since
    EXISTS = "exists"  # error mode: the dataset holds this source
    UNTRUSTED = "untrusted"
    CONTRACT_CONFLICT = "contract_conflict"  # several contracts take the file, and do not share it
    CIRCUIT_OPEN = "circuit_open"  # the parser failed too often in a row
    NO_PARSER = "no_parser"
    COMPANION = "companion"  # belongs to another file, which is read with it
    READ_ERROR = "read_error"
    LINK = "link"
    SPECIAL = "special"
    RUNNING = "running"


class PlanItem(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `casparian explain`."""

    root: str
    path: bytes
    display_path: str
    parser: str | None
    decision: Decision
    reason: PlanReason
    detail: str = ""
    source_id: str | None = None
    job_id: int | None = None
