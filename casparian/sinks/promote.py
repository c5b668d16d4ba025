"""Bring staged files to where readers look, so that a crash at any moment can be made good.

The sentinel records its intents before (T1), calls `promote` (P1, P2), and records the outcome
after (T2). `promote` may be called again after any crash, any number of times; for each intent it
finds one of:

    final has the promised content                   kept (what is left of the staged file is removed)
    staged has it, final is absent                   promoted, never over an existing file
    staged has it, final holds something else        the stranger is set aside under another name, then promoted
    neither has it                                   `PromoteLost`; nothing more is done, the sentinel requeues

Nothing outside `.casparian-stage/<home_id>/` is ever removed here, but files that an intent names
(`withdraw`).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import blake3 as blake3_package
import msgspec

from casparian import _native
from casparian.domain.outputs import Sink, SinkKind
from casparian.errors import IntegrityError, SinkFault
from casparian.sinks.durable import make_directories, remove_file, sync_directory
from casparian.sinks.faults import StagingFault, staging_errors
from casparian.sinks.staging import STAGE_DIRECTORY, stage_root

__all__ = [
    "REWRITE_STAGE",
    "Intent",
    "PromoteLost",
    "Promotion",
    "final_path",
    "prepare",
    "promote",
    "remove_file",
    "remove_stage",
    "sweep_stages",
    "verify",
    "withdraw",
]

FREE_BYTES_MIN: Final = 64 << 20  # below it a sink is refused before any work is done
_READ_BYTES: Final = 1 << 20
_HOME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}\Z")
REWRITE_STAGE: Final = "rewrite"  # beside the jobs' stages: files that take the place of others
_JOB: Final = re.compile(rf"(\d+\.\d+|{REWRITE_STAGE})\Z")


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """One file that is to be moved from its stage to its final name. Recorded before anything is moved."""

    table: str
    sink: Sink
    staged: str
    final: str
    blake3: str
    size_bytes: int
    rows: int
    sources: tuple[int, ...] = ()


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """What `promote` did for one intent."""

    intent: Intent
    how: str  # `kept`, `rename`, `link`
    set_aside: str | None = None  # where a stranger under the final name went: worth a finding


class PromoteLost(IntegrityError):
    """Neither the staged nor the final file holds what was promised: tampering, or a disk that lied."""

    code = "promote.lost"

    def __init__(self, paths: Sequence[str], lost: tuple[Intent, ...] = ()) -> None:
        names = ", ".join(f"`{os.path.basename(path)}`" for path in paths[:3])
        super().__init__(
            f"{len(paths)} staged file(s) are gone or altered: {names}",
            hint="the batch is queued again; the evidence is still there",
            path=paths[0],
        )
        self.lost = lost


def prepare(sink: Sink, home_id: str) -> None:
    """Make a sink's directories and prove that files can be promoted there, by doing it.

    Raises:
        SinkFault: not a directory, not writable, no space, a file system that can neither rename
            without replacing nor link, or a database that another program holds open.
    """
    directory = _output_directory(sink)
    stages = stage_root(sink, home_id)
    make_directories(directory)
    make_directories(stages)
    free = os.statvfs(directory)
    if free.f_bavail * free.f_frsize < FREE_BYTES_MIN:
        raise SinkFault(
            f"less than {FREE_BYTES_MIN >> 20} MiB are free in `{directory}`",
            code="sink.no_space",
            hint="free space or choose another sink",
            path=directory,
        )
    for place in (stages, directory):
        _remove_probes(place, home_id)
    _probe(stages, directory, home_id)
    if sink.kind is SinkKind.DUCKDB:
        from casparian.sinks.duckdb import (
            DuckDbSink,
        )  # lazily: it is large, and file sinks do without

        # Past the point of no return a held file can only be waited for: it is found out before any work is done.
        DuckDbSink(sink).check()


def final_path(sink: Sink, staged_name: str) -> str:
    """Where a staged file ends: its own name in the sink's directory."""
    if sink.kind is SinkKind.DUCKDB:
        raise ValueError("rows of a duckdb sink are loaded, not promoted")
    name = os.path.basename(staged_name)
    if not name or name.startswith("."):
        raise ValueError(f"not an output's name: {staged_name!r}")
    return os.path.join(sink.location, name)


def promote(intents: Iterable[Intent]) -> tuple[Promotion, ...]:
    """Roll intents forward; idempotent. Output directories are durable when it returns.

    Raises:
        PromoteLost: for at least one intent neither file has the promised content. Found out before
            anything is moved; `withdraw` then takes back what an earlier attempt had promoted.
        SinkFault: a file system error; calling again later is safe.
    """
    todo = tuple(intents)
    states = [
        (intent, _holds(intent.final, intent), _holds(intent.staged, intent)) for intent in todo
    ]
    lost = tuple(intent for intent, final, staged in states if not final and not staged)
    if lost:
        raise PromoteLost([intent.final for intent in lost], lost)
    done = []
    for intent, final_ok, _ in states:
        if final_ok:
            done.append(Promotion(intent=intent, how="kept"))
        else:
            done.append(_promote_one(intent))
    for directory in dict.fromkeys(os.path.dirname(intent.final) for intent in todo):
        sync_directory(directory)
    # Only now: until its final name is durable, the staged name may be the one that a power cut leaves.
    for intent in todo:
        _remove_staged(intent)
    return tuple(done)


def withdraw(intents: Iterable[Intent]) -> tuple[str, ...]:
    """Take back everything of a commit that cannot be completed; the final files that were removed."""
    removed = []
    for intent in intents:
        if remove_file(intent.final):
            removed.append(intent.final)
        _remove_staged(intent)
    return tuple(removed)


def verify(path: str, blake3: str, size_bytes: int) -> None:
    """Check a file against its recorded hash and size.

    Raises:
        IntegrityError: missing, of another size, or altered.
    """
    try:
        found = _digest(path, size_bytes)
    except FileNotFoundError:
        raise IntegrityError(f"`{path}` is missing", code="output.missing", path=path) from None
    except OSError as error:
        raise IntegrityError(
            f"`{path}` cannot be read: {error.strerror}", code="output.unreadable", path=path
        ) from error
    if found != blake3:
        raise IntegrityError(
            f"`{path}` is not what was committed",
            code="output.altered",
            hint="run the evidence again into a new sink and compare",
            path=path,
        )


def remove_stage(directory: str) -> None:
    """Remove one job's stage directory, or that of rewrites; nothing when it is gone.

    Raises:
        SinkFault: `stage.refused`, the path is not `…/.casparian-stage/<home_id>/<job>.<epoch>` (or
            `…/rewrite`), or a link.
    """
    parent, job = os.path.split(directory)
    stages, home_id = os.path.split(parent)
    if not (
        os.path.isabs(directory)
        and os.path.normpath(directory) == directory
        and os.path.basename(stages) == STAGE_DIRECTORY
        and _HOME.match(home_id)
        and _JOB.match(job)
    ):
        raise _refuse(directory)
    for place in (stages, parent, directory):
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):  # a link could lead anywhere
            raise _refuse(place)
    with staging_errors(directory):
        shutil.rmtree(directory)


def sweep_stages(sink: Sink, home_id: str, keep: set[str]) -> tuple[str, ...]:
    """Remove this home's stage directories but those to keep, and its probes; which stages were removed.

    Args:
        sink: whose stages; other homes' stages in it are not touched.
        home_id: this home.
        keep: absolute stage directories, as `stage_directory` gives them.
    """
    root = stage_root(sink, home_id)
    if not os.path.isdir(root) or os.path.islink(root):
        return ()
    for place in (root, _output_directory(sink)):
        _remove_probes(place, home_id)
    removed = []
    for name in sorted(os.listdir(root)):
        path = os.path.join(root, name)
        if path in keep:
            continue
        if _JOB.match(name):
            remove_stage(path)
            removed.append(path)
    return tuple(removed)


def _output_directory(sink: Sink) -> str:
    return os.path.dirname(sink.location) if sink.kind is SinkKind.DUCKDB else sink.location


def _refuse(path: str) -> SinkFault:
    return SinkFault(
        f"`{path}` is not a stage directory; it is left alone", code="stage.refused", path=path
    )


# promotion of one file


def _promote_one(intent: Intent) -> Promotion:
    set_aside = None
    with staging_errors(intent.final):
        if os.path.lexists(intent.final):
            set_aside = f"{intent.final}.set-aside-{secrets.token_hex(4)}"
            _set_aside(intent.final, set_aside)
        how = move_without_replacing(intent.staged, intent.final)
    return Promotion(intent=intent, how=how, set_aside=set_aside)


def _set_aside(path: str, aside: str) -> None:
    """Give a file that is in the way another name, durably, before its own is taken.

    By `link`, because after a rename that a kill kept from being synced nobody would know that something is still to be synced.
    """
    try:
        os.link(path, aside, follow_symlinks=False)
    except OSError:  # a directory, or a file system without links
        os.rename(path, aside)
        sync_directory(os.path.dirname(aside))
    else:
        sync_directory(os.path.dirname(aside))
        os.unlink(path)


def move_without_replacing(source: str, target: str) -> str:
    """Give a file its final name; `FileExistsError` when the target exists.

    Returns:
        `rename`, or `link`: then the old name is still there.
    """
    return _native.promote_noreplace(os.fsencode(source), os.fsencode(target))


def _remove_staged(intent: Intent) -> None:
    """Remove what is left in the stage; only ever inside a stage. Not synced: if it comes back, it is swept."""
    if f"/{STAGE_DIRECTORY}/" in intent.staged:
        with staging_errors(intent.staged), suppress(FileNotFoundError):
            os.unlink(intent.staged)


def _holds(path: str, intent: Intent) -> bool:
    try:
        return _digest(path, intent.size_bytes) == intent.blake3
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link is not the file that was promised
            return False
        raise StagingFault(
            f"`{path}` cannot be read: {error.strerror or error}",
            transient=True,
            code="sink.unreadable",
            path=path,
        ) from error


def _digest(path: str, size_bytes: int) -> str | None:
    """BLAKE3 of a regular file of this size; `None` for any other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size_bytes:
            return None
        hasher = blake3_package.blake3()
        while block := os.read(descriptor, _READ_BYTES):
            hasher.update(block)
        return str(hasher.hexdigest())
    finally:
        os.close(descriptor)


# probe of the file system

_PROBE: Final = ".casparian-probe-"


def _probe(stages: str, directory: str, home_id: str) -> None:
    name = f"{_PROBE}{home_id}-" + secrets.token_hex(8)
    first, second = os.path.join(stages, name), os.path.join(stages, name + "-2")
    target = os.path.join(directory, name)
    with staging_errors(directory):
        try:
            for path in (first, second):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            try:
                move_without_replacing(first, target)
                replaced = _replaces(second, target)
            except OSError as error:
                raise SinkFault(
                    f"`{directory}` can neither rename without replacing nor link: {error.strerror}",
                    code="sink.file_system",
                    hint="choose a sink on ext4, xfs, btrfs or tmpfs",
                    path=directory,
                ) from error
            if replaced:
                raise SinkFault(
                    f"`{directory}` replaces files where it must not",
                    code="sink.file_system",
                    hint="choose a sink on ext4, xfs, btrfs or tmpfs",
                    path=directory,
                )
        finally:
            for path in (first, second, target):
                if os.path.lexists(path):
                    os.unlink(path)


def _remove_probes(directory: str, home_id: str) -> None:
    """Remove what a crash in the middle of this home's `_probe` has left. Only one thread of one sentinel makes probes."""
    for name in os.listdir(directory):
        if name.startswith(f"{_PROBE}{home_id}-"):
            remove_file(os.path.join(directory, name))


def _replaces(source: str, target: str) -> bool:
    try:
        move_without_replacing(source, target)
    except FileExistsError:
        return False
    return True
