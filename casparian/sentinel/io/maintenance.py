"""Repairs and backups, on a thread beside the loop.

A repair only ever moves aside: into `.casparian-aside/<UTC>-<n>/` of the sink's own directory, on the same file system, over
nothing. What will be moved is on the tape, and in `RECORD.json` in the new place, before it is moved. What a client names is
checked against committed truth here: a client's error cannot move what is recorded; only `altered` may name a
recorded file.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
from typing import TYPE_CHECKING, Final

import msgspec

from casparian import clock, processes
from casparian.db import reads
from casparian.db.operations import Operation, RecordDecision, RemoveIntents
from casparian.db.rows import scalar
from casparian.db.snapshot import utc_name
from casparian.db.writer import DatabaseWriter
from casparian.display import show
from casparian.domain.outputs import Sink, SinkKind, job_of_output_name
from casparian.errors import CasparianError, Conflict, UsageError
from casparian.paths import Home
from casparian.protocol import control
from casparian.sentinel import candidates
from casparian.sentinel.effects import Maintain
from casparian.sentinel.events import Maintained
from casparian.sentinel.io.writer import Writer
from casparian.sentinel.planner import failure_of
from casparian.sinks.durable import make_directories, sync_directory
from casparian.sinks.promote import move_without_replacing
from casparian.sinks.staging import stage_root

if TYPE_CHECKING:
    import duckdb

ASIDE_DIRECTORY: Final = ".casparian-aside"
_WHY: Final = frozenset({"orphan", "stage", "altered"})
_LOG = logging.getLogger(__name__)


class Maintenance:
    """Belongs to one thread."""

    def __init__(
        self,
        home: Home,
        home_id: str,
        reader: duckdb.DuckDBPyConnection,
        database_writer: DatabaseWriter,
        writer: Writer,
    ) -> None:
        self._home = home
        self._home_id = home_id
        self._reader = reader
        self._database_writer = database_writer
        self._writer = writer

    def carry_out(self, effect: Maintain) -> Maintained:
        """Do what was asked; a fault is the client's answer."""
        request = effect.request
        reply: control.Done | control.Failure
        catalog = False
        try:
            if isinstance(request, control.Repair):
                reply, catalog = self._repair(request, effect.actor), request.catalog
            else:
                reply = self._backup(request, effect.actor)
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            _LOG.warning("maintenance failed", exc_info=error)
            reply = failure_of(error)
        return Maintained(
            client_id=effect.client_id,
            number=effect.number,
            request_id=request.request_id,
            reply=reply,
            catalog=catalog,
        )

    # -- backups

    def _backup(self, request: control.Backup, actor: str) -> control.Done | control.Failure:
        """Copy in a child, with the writer held still: its lock would be lost if this process opened the file."""
        arguments = ["copy", "--parent", str(os.getpid())]
        if request.to is not None:
            if not os.path.isabs(request.to) or "\0" in request.to:
                raise UsageError(
                    f"`{show(request.to, width=200)}` is no absolute path",
                    code="backup.path",
                    hint="a relative one would mean the sentinel's directory, not yours",
                )
            arguments.append(f"--file={request.to}")
        with self._database_writer.standstill:
            self._reader.execute("CHECKPOINT")  # what it leaves in the log is copied as well
            done = subprocess.run(
                processes.command("db", self._home, *arguments),
                env=processes.host_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
            reason = lines[-1] if lines else f"it ended with code {done.returncode}"
            raise CasparianError(
                f"the control database could not be copied: {reason}", code="backup.failed"
            ) from None
        if "error" in answer:
            return control.Failure(**answer["error"])
        fields: dict[str, str | int] = answer["done"]
        self._writer.apply(
            [
                RecordDecision(
                    at_ns=clock.now_ns(),
                    kind="db.backup",
                    fields={"file": fields["file"], "blake3": fields["blake3"], "actor": actor},
                )
            ]
        )
        return control.Done(message="the control database was copied", count=1, fields=fields)

    # -- repairs

    def _repair(self, request: control.Repair, actor: str) -> control.Done:
        sinks = self._sinks()
        now = clock.now_ns()
        moves = self._moves(request, sinks, now)
        operations: list[Operation] = [
            RecordDecision(
                at_ns=now,
                kind="repair.moved_aside",
                fields={"path": aside.path, "to": target, "why": aside.why, "actor": actor},
            )
            for aside, target in moves
        ]
        if request.intents:
            operations.append(RemoveIntents(at_ns=now, actor=actor))
        if request.catalog:
            operations.append(
                RecordDecision(at_ns=now, kind="repair.catalog_written", fields={"actor": actor})
            )
        results = self._writer.apply(operations) if operations else []
        intents = sum(result for result in results if isinstance(result, int))
        done: dict[str, str | int] = {}
        failed: list[str] = []
        for directory in dict.fromkeys(os.path.dirname(target) for _, target in moves):
            here = [(a, t) for a, t in moves if os.path.dirname(t) == directory]
            self._write_record(directory, here, actor, now)
            for aside, target in here:
                try:
                    move_without_replacing(aside.path, target)
                    done[aside.path] = target
                except OSError as error:
                    failed.append(f"`{aside.path}`: {error.strerror or error}")
                    self._note_failure(aside, target, error)
            for touched in {os.path.dirname(aside.path) for aside, _ in here} | {directory}:
                sync_directory(touched)
        message = f"{len(done)} moved aside"
        if intents:
            message += f", {intents} commit intents taken away"
        if failed:
            raise CasparianError(
                f"{message}; not moved: {'; '.join(failed[:3])}",
                code="doctor.repair",
                hint="`casparian doctor` shows what remains",
            )
        return control.Done(message=message, count=len(done) + intents, fields=done)

    def _note_failure(self, aside: control.Aside, target: str, error: OSError) -> None:
        fields: dict[str, str | int] = {
            "path": aside.path,
            "to": target,
            "reason": error.strerror or str(error),
        }
        self._writer.apply(
            [RecordDecision(at_ns=clock.now_ns(), kind="repair.not_moved", fields=fields)]
        )

    def _moves(
        self, request: control.Repair, sinks: dict[str, list[Sink]], now: int
    ) -> list[tuple[control.Aside, str]]:
        """Each thing with its new place, all checked before anything is done."""
        moves: list[tuple[control.Aside, str]] = []
        places: dict[str, str] = {}
        for aside in request.asides:
            directory = self._checked(aside, sinks)
            if directory not in places:
                places[directory] = _new_place(directory, now)
            moves.append((aside, os.path.join(places[directory], os.path.basename(aside.path))))
        return moves

    def _checked(self, aside: control.Aside, sinks: dict[str, list[Sink]]) -> str:
        """The sink directory that a path belongs to.

        Raises:
            UsageError: `doctor.refused`, it is not what a repair may move.
        """
        path = aside.path
        parent, name = os.path.split(path)
        if aside.why not in _WHY or not name or os.path.normpath(path) != path:
            raise _refused(path, "is not a file of a sink")
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            raise Conflict(
                f"`{path}` is gone already", code="doctor.changed", hint="ask `doctor` again"
            ) from None
        if aside.why == "stage":
            for directory, here in sinks.items():
                if parent in {stage_root(sink, self._home_id) for sink in here}:
                    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                        raise _refused(path, "is neither a directory nor a file")
                    return directory
            raise _refused(path, "is not a stage of this home")
        if parent not in sinks or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise _refused(path, "is not a file of a sink of this home")
        if job_of_output_name(name) is None and not _is_copy(name, sinks[parent]):
            raise _refused(path, "is not named as we name files")
        recorded = scalar(
            self._reader,
            "SELECT count(*) FROM cf_outputs WHERE path = ? AND removed_at_ns IS NULL",
            [path],
        )
        if bool(recorded) != (aside.why == "altered"):
            raise _refused(path, "is recorded" if recorded else "is not recorded")
        return parent

    def _sinks(self) -> dict[str, list[Sink]]:
        """Sinks of this home by their directory."""
        found = [candidates.default_sink(self._home), candidates.quarantine_sink(self._home)]
        for uri in reads.known_sinks(self._reader):
            kind, _, location = uri.partition(":")
            found.append(Sink(kind=SinkKind(kind), location=location))
        sinks: dict[str, list[Sink]] = {}
        for sink in found:
            directory = (
                os.path.dirname(sink.location) if sink.kind is SinkKind.DUCKDB else sink.location
            )
            sinks.setdefault(directory, []).append(sink)
        return sinks

    def _write_record(
        self, directory: str, moves: list[tuple[control.Aside, str]], actor: str, now: int
    ) -> None:
        make_directories(directory, mode=0o700)
        record = {
            "home_id": self._home_id,
            "moved_at": clock.iso(now),
            "actor": actor,
            "moved": [{"from": a.path, "to": t, "why": a.why} for a, t in moves],
        }
        path = os.path.join(directory, "RECORD.json")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
            file.flush()
            os.fsync(descriptor)
        sync_directory(directory)


def _is_copy(name: str, sinks: list[Sink]) -> bool:
    """Whether a crash left it beside a database sink while that was published."""
    return any(
        sink.kind is SinkKind.DUCKDB
        and name.startswith(os.path.basename(sink.location) + ".publish-")
        for sink in sinks
    )


def _new_place(directory: str, now: int) -> str:
    """`<sink directory>/.casparian-aside/<UTC>-<n>`, one that is not there yet."""
    number = 1
    while True:
        place = os.path.join(directory, ASIDE_DIRECTORY, f"{utc_name(now)}-{number}")
        if not os.path.lexists(place):
            return place
        number += 1


def _refused(path: str, why: str) -> UsageError:
    return UsageError(
        f"`{path}` {why}; it is left alone", code="doctor.refused", hint="ask `doctor` again"
    )
