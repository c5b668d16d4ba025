"""Copies of the control database, and the way back to one of them.

A copy is taken while nothing writes: either no connection is open, or the sentinel has checkpointed, holds its writer still and
waits for the child process that copies (DuckDB's lock is lost when its own process opens the file by another path). The log is
copied with the database and taken in by the copy: a database without its log opens silently stale.

    backups/casparian_flow.<schema>.<UTC>.duckdb        one file, checkpointed, opened once to prove that it opens
    backups/casparian_flow.<schema>.<UTC>.duckdb.json   what it is, and its BLAKE3; written before the copy gets its name
    backups/aside-<UTC>/                                what a restore took the place of; never removed by us

A restore writes `restore.json` before it moves anything. Whoever opens the database next finishes what that file says, so that
a crash at any step leaves either the old pair of database and log or the restored database, never a mixture.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import blake3
import duckdb
import msgspec

import casparian
from casparian import clock
from casparian.db.program_writer import KIND
from casparian.db.rows import first_row, scalar
from casparian.errors import CasparianError, IntegrityError, UsageError
from casparian.paths import Home

_TAPE: Final = "SELECT seq, hash FROM cf_tape"
KEPT: Final = 3  # snapshots before migrations
_FICLONE: Final = 0x40049409
_BLOCK_BYTES: Final = 1 << 20
_TEMPORARY: Final = ".new-"
JOBS_FILE: Final = "jobs.json"  # in the directory of a former database


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside a copy."""

    file: str  # name, without directory
    schema: int
    home_id: str
    taken_at_ns: int
    reason: str  # `migration`, or `asked`
    size_bytes: int
    blake3: str
    tape_seq: int
    tape_hash: str
    version: str
    # Where the tape ends without changes of the program, which a restored copy takes up again by itself. Not in older copies.
    work_seq: int | None = None
    work_hash: str | None = None


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A restore that happened; `aside` is where the former database is now."""

    snapshot: Snapshot
    aside: str


class _Pending(msgspec.Struct, frozen=True, kw_only=True):
    """`restore.json`: a restore that has begun. Names are relative to the home."""

    restoring: str
    aside: str


def utc_name(ns: int) -> str:
    """`20240305T080000Z`, for names of files."""
    return clock.iso(ns)[:19].replace("-", "").replace(":", "") + "Z"


def take(
    home: Home,
    *,
    reason: str,
    to: Path | None = None,
    still_valid: Callable[[], bool] = lambda: True,
) -> Snapshot:
    """Copy the control database. The caller sees to it that nothing writes meanwhile.

    Args:
        home: whose database; it holds the home's lock, or works for the process that does.
        reason: `migration` copies are pruned to the newest three; others are kept.
        to: another place than `HOME/backups`; nothing may be there.
        still_valid: asked after the bytes were copied; false means that the writer was not held still until then.

    Raises:
        UsageError: `backup.exists`, `backup.nothing`.
        IntegrityError: `backup.broken`, the copy does not open.
        CasparianError: `backup.failed`, it could not be written.
    """
    if not home.control_database.exists():
        raise UsageError(f"`{home.root}` has no control database yet", code="backup.nothing")
    if to is not None and (os.path.lexists(to) or os.path.lexists(_sidecar(to))):
        raise UsageError(f"`{to}` exists", code="backup.exists", hint="name a new file")
    directory = home.backups if to is None else to.parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if to is None:
            _remove_leftovers(directory)
        return _take(home, directory, reason, to, still_valid)
    except OSError as error:
        raise CasparianError(
            f"the control database could not be copied to `{directory}`: {error.strerror or error}",
            code="backup.failed",
            hint="the database itself is untouched; make room, or name another place with `--to`",
            path=str(directory),
        ) from error


def restore(home: Home, file: Path, *, why: str = "asked") -> Restored:
    """Put a copy in the place of the control database, which is moved aside. The home's lock is held, no connection is open.

    Raises:
        UsageError: `backup.missing`, `backup.unverified` (nothing says what its hash should be), `backup.foreign`.
        IntegrityError: `backup.altered`, `backup.broken`.
        CasparianError: `backup.failed`.
    """
    finish_restore(home)
    snapshot = _recorded(file)
    _check_is_ours(home, snapshot, file)
    fresh = home.root / f"{home.control_database.name}{_TEMPORARY}{secrets.token_hex(6)}"
    try:
        _remove_leftovers(home.root)
        if _copy(file, fresh) != snapshot.blake3:
            fresh.unlink()
            raise IntegrityError(
                f"`{file}` is not the copy that was made",
                code="backup.altered",
                hint="`casparian sentinel backups` lists others",
                path=str(file),
            )
        aside = _aside_directory(home)
        _keep_job_numbers(home, aside)
        _record_restore(fresh, snapshot, aside, why)
        _sync(fresh)
        pending = _Pending(restoring=fresh.name, aside=str(aside.relative_to(home.root)))
        _write_durably(_pending_file(home), msgspec.json.format(msgspec.json.encode(pending)))
    except OSError as error:
        raise CasparianError(
            f"`{file}` could not be restored: {error.strerror or error}",
            code="backup.failed",
            hint="the present database is untouched",
            path=str(file),
        ) from error
    finish_restore(home)
    return Restored(snapshot=snapshot, aside=str(aside))


def finish_restore(home: Home) -> bool:
    """Carry a begun restore to its end; whether there was one. Idempotent: a crash anywhere is made good by the next call.

    The database goes before its log: a database without its log would open, stale; a log without its database does not.
    """
    try:
        pending = msgspec.json.decode(_pending_file(home).read_bytes(), type=_Pending)
    except FileNotFoundError:
        return False
    fresh, aside = home.root / pending.restoring, home.root / pending.aside
    if fresh.exists():  # until it has its name, what lies under that name is the former one
        aside.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(aside.parent)
        for present in (home.control_database, home.control_log):
            if present.exists():
                os.rename(present, aside / present.name)
        _sync(aside)
        _sync(home.root)
        os.rename(fresh, home.control_database)
        _sync(home.root)
    _pending_file(home).unlink()
    _sync(home.root)
    return True


def snapshots(home: Home) -> list[Snapshot]:
    """The copies in `HOME/backups`, newest first."""
    found = []
    for path in home.backups.glob("*.duckdb.json") if home.backups.is_dir() else ():
        try:
            snapshot = msgspec.json.decode(path.read_bytes(), type=Snapshot)
        except (OSError, msgspec.DecodeError):
            continue
        if (home.backups / snapshot.file).is_file() and path.name == f"{snapshot.file}.json":
            found.append(snapshot)
    return sorted(found, key=lambda s: (s.taken_at_ns, s.file), reverse=True)


def _take(
    home: Home, directory: Path, reason: str, to: Path | None, still_valid: Callable[[], bool]
) -> Snapshot:
    fresh = directory / f"{_TEMPORARY}{secrets.token_hex(6)}.duckdb"
    fresh_log = fresh.with_name(fresh.name + ".wal")
    try:
        _copy(home.control_database, fresh)
        if home.control_log.exists():
            _copy(home.control_log, fresh_log)
        if not still_valid():
            raise CasparianError(
                "the sentinel ended while its database was copied", code="backup.interrupted"
            )
        schema, home_id, (tape_seq, tape_hash), (work_seq, work_hash) = _prove(fresh)
        if fresh_log.exists():
            raise IntegrityError(
                "the copy did not take its log in", code="backup.broken", path=str(fresh)
            )
        _sync(fresh)
        now = clock.now_ns()
        target = to or _unused(
            directory, f"{home.control_database.stem}.{schema}.{utc_name(now)}", ".duckdb"
        )
        snapshot = Snapshot(
            file=target.name,
            schema=schema,
            home_id=home_id,
            taken_at_ns=now,
            reason=reason,
            size_bytes=fresh.stat().st_size,
            blake3=_hash(fresh),
            tape_seq=tape_seq,
            tape_hash=tape_hash,
            version=casparian.__version__,
            work_seq=work_seq,
            work_hash=work_hash,
        )
        _write_durably(_sidecar(target), msgspec.json.format(msgspec.json.encode(snapshot)))
        os.rename(fresh, target)
        _sync(directory)
    finally:
        for leftover in (fresh, fresh_log):
            leftover.unlink(missing_ok=True)
    if reason == "migration" and to is None:
        _prune(home)
    return snapshot


def _prune(home: Home) -> None:
    """Keep the newest copies made before migrations; the copy goes before what describes it."""
    old = [s for s in snapshots(home) if s.reason == "migration"][KEPT:]
    for snapshot in old:
        path = home.backups / snapshot.file
        path.unlink(missing_ok=True)
        _sidecar(path).unlink(missing_ok=True)
    if old:
        _sync(home.backups)


def _remove_leftovers(directory: Path) -> None:
    for leftover in directory.glob(f"*{_TEMPORARY}*"):
        leftover.unlink()


def _recorded(file: Path) -> Snapshot:
    if not file.is_file():
        raise UsageError(
            f"there is no `{file}`",
            code="backup.missing",
            hint="`casparian sentinel backups` lists the copies of this home",
        )
    try:
        return msgspec.json.decode(_sidecar(file).read_bytes(), type=Snapshot)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(
            f"`{_sidecar(file)}` does not say what `{file.name}` is",
            code="backup.unverified",
            hint="a copy is restored only with the record that was made beside it",
        ) from error


def _check_is_ours(home: Home, snapshot: Snapshot, file: Path) -> None:
    try:
        present = home.home_id_file.read_text(encoding="ascii").strip()
    except OSError:
        return
    if present and snapshot.home_id != present:
        raise UsageError(
            f"`{file}` is a copy of another home ({snapshot.home_id})",
            code="backup.foreign",
            hint="restore it where it was made, or into a new `--home`",
        )


def _keep_job_numbers(home: Home, aside: Path) -> None:
    """Write beside the former database which jobs it knew: their outputs are still this home's, and `doctor` looks for them.

    A former database that cannot be read knows none.
    """
    aside.mkdir(mode=0o700, parents=True)
    _sync(aside.parent)
    try:
        with duckdb.connect(str(home.control_database), read_only=True) as connection:
            rows = connection.execute(
                "SELECT job_id FROM cf_processing_queue ORDER BY 1"
            ).fetchall()
    except duckdb.Error:
        rows = []
    _write_durably(aside / JOBS_FILE, msgspec.json.encode([job_id for (job_id,) in rows]))


def _record_restore(fresh: Path, snapshot: Snapshot, aside: Path, why: str) -> None:
    """Write into the tape of the copy itself that it was restored: no restore without its record."""
    from casparian.db.operations import RecordDecision
    from casparian.db.writer import DatabaseWriter

    fields: dict[str, str | int] = {
        "file": snapshot.file,
        "blake3": snapshot.blake3,
        "aside": str(aside),
        "why": why,
    }
    connection = _connect(fresh)
    try:
        (outcome,) = DatabaseWriter(connection).apply(
            [[RecordDecision(at_ns=clock.now_ns(), kind="db.restored", fields=fields)]]
        )
        if isinstance(outcome, Exception):
            raise outcome
        connection.execute("CHECKPOINT")
    except duckdb.Error as error:
        raise _broken(fresh, error) from error
    finally:
        connection.close()


def _prove(path: Path) -> tuple[int, str, tuple[int, str], tuple[int, str]]:
    """Open a copy, take its log in, and read what it is: schema, home, end of the tape, and of the work on it."""
    connection = _connect(path)
    try:
        connection.execute("CHECKPOINT")
        schema = scalar(connection, "SELECT max(number) FROM cf_schema_version")
        home = first_row(connection, "SELECT value FROM cf_meta WHERE name = 'home_id'")
        end = first_row(connection, f"{_TAPE} ORDER BY seq DESC LIMIT 1")
        work = first_row(
            connection,
            f"{_TAPE} WHERE NOT contains(entry, ?) ORDER BY seq DESC LIMIT 1",
            [f'"kind":"{KIND}"'],
        )
    except duckdb.Error as error:
        raise _broken(path, error) from error
    finally:
        connection.close()
    ends = [(int(row[0]), str(row[1])) if row else (0, "") for row in (end, work)]
    return schema, str(home[0]) if home else "", ends[0], ends[1]


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(
            str(path),
            config={
                "memory_limit": "96MB",
                "threads": 1,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
    except duckdb.Error as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: duckdb.Error) -> IntegrityError:
    reason = str(error).splitlines()[0]
    return IntegrityError(
        f"the copy of the control database does not open: {reason}",
        code="backup.broken",
        hint="`casparian sentinel backups` lists others",
        path=str(path),
    )


def _aside_directory(home: Home) -> Path:
    return _unused(home.backups, f"aside-{utc_name(clock.now_ns())}", "")


def _unused(directory: Path, stem: str, suffix: str) -> Path:
    """A name that nothing has, nor had a record."""
    number = 0
    while True:
        path = directory / f"{stem}{f'-{number}' if number else ''}{suffix}"
        if not os.path.lexists(path) and not os.path.lexists(_sidecar(path)):
            return path
        number += 1


def _pending_file(home: Home) -> Path:
    return home.root / "restore.json"


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _copy(source: Path, target: Path) -> str:
    """Copy a file durably, sharing its blocks where the file system can; BLAKE3 of what was copied."""
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        os.fchmod(writer.fileno(), 0o600)
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            while block := reader.read(_BLOCK_BYTES):
                view = memoryview(block)
                while view:
                    view = view[writer.write(view) :]
        os.fsync(writer.fileno())
    return _hash(target)


def _hash(path: Path) -> str:
    hasher = blake3.blake3()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def _write_durably(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
