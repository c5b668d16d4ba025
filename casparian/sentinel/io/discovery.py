"""Scan and plan: the parts of a run that read evidence and history, on a thread beside the loop."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from casparian import clock
from casparian.db import planning
from casparian.db.approvals import laboratory_limits
from casparian.db.operations import SaveReply, SaveScan
from casparian.display import path_text
from casparian.domain.files import CataloguedFile, FileStatus
from casparian.domain.outputs import SinkKind
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import control
from casparian.scout.companions import CompanionRule, rules_of
from casparian.scout.discover import check_root, discover
from casparian.sentinel import events as ev
from casparian.sentinel.candidates import PlanContext
from casparian.sentinel.contracting import known_datasets
from casparian.sentinel.effects import MakePlan, MakeScan
from casparian.sentinel.io.mailbox import Mailbox
from casparian.sentinel.io.writer import Writer
from casparian.sentinel.planner import failure_of, make_plan
from casparian.sinks.promote import prepare
from casparian.sinks.uri import check_sink
from casparian.trust import verdict
from casparian.trust.library import ParserLibrary, Standing

if TYPE_CHECKING:
    import duckdb

_PROBLEMS_MAX: Final = 1000
_REPORT_EVERY_NS: Final = 200_000_000
_LOG = logging.getLogger(__name__)


class Discovery:
    """Belongs to one thread: discoveries and plans are made one after the other."""

    def __init__(
        self,
        home: Home,
        home_id: str,
        engine_hash: str,
        *,
        workers: int,
        threads: int,
        reader: duckdb.DuckDBPyConnection,
        writer: Writer,
        mailbox: Mailbox,
    ) -> None:
        self._home = home
        self._home_id = home_id
        self._engine_hash = engine_hash
        self._workers = workers
        self._threads = threads
        self._reader = reader
        self._writer = writer
        self._mailbox = mailbox
        self._library = ParserLibrary.of(home)

    def plan(self, effect: MakePlan) -> ev.PlanReady | ev.PlanFailed:
        """Discover the evidence and plan the run."""
        request = effect.request
        try:
            for sink in request.sinks.values():
                check_sink(sink)
            root = check_root(request.evidence)
            report = self._reporter(effect.run_id, effect.client_id, effect.number)
            library = self._library.snapshot()
            if wanted := request.selection.sources:
                files = planning.catalogued(self._reader, path_text(root), wanted)
            else:
                files, _ = self._discover(root, report, _sink_directories(request), library)
                if not request.dry_run:
                    self._record_scan(root, files)
            context = PlanContext(
                home=self._home,
                engine_hash=self._engine_hash,
                library=library,
                workers=self._workers,
                history=lambda sources: planning.history(self._reader, sources),
                now_ns=clock.now_ns(),
                limits=laboratory_limits(self._reader),
                datasets=known_datasets(self._reader),
            )
            plan = make_plan(context, request, files, root)
            if plan.jobs and not request.dry_run:
                self._prepare_sinks(plan)
            own = self._own_files_problem(root, request)
            return msgspec.structs.replace(plan, problems=(*plan.problems, *own))
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            if not isinstance(error, CasparianError):
                _LOG.exception("a plan could not be made")
            return ev.PlanFailed(
                run_id=effect.run_id,
                client_id=effect.client_id,
                number=effect.number,
                failure=failure_of(error),
            )

    def scan(self, effect: MakeScan) -> ev.Scanned | ev.PlanFailed:
        """Discover only."""
        request = effect.request
        try:
            root = check_root(request.evidence)
            files, directories = self._discover(
                root, self._reporter("", effect.client_id, effect.number), [], self._library
            )
            result = _scan_result(root, files, directories)
            if not request.dry_run:
                reply = SaveReply(
                    at_ns=clock.now_ns(),
                    request_id=request.request_id,
                    kind="ScanResult",
                    reply=control.encode(result),
                )
                self._writer.apply([_scan_of(root, files), reply])
            return ev.Scanned(
                client_id=effect.client_id,
                number=effect.number,
                request_id=request.request_id,
                result=result,
            )
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            if not isinstance(error, CasparianError):
                _LOG.exception("a scan failed")
            return ev.PlanFailed(
                run_id=None,
                client_id=effect.client_id,
                number=effect.number,
                failure=failure_of(error),
            )

    def _discover(
        self,
        root: bytes,
        report: Callable[[int, int, int, int], None],
        excluded: list[bytes],
        library: ParserLibrary,
    ) -> tuple[list[CataloguedFile], int]:
        shown = path_text(root)
        return discover(
            root,
            tag_rules=planning.tag_rules(self._reader),
            tags_by_hand=planning.tags_by_hand(self._reader, shown),
            threads=self._threads,
            report=report,
            excluded=[os.path.realpath(path) for path in (os.fsencode(self._home.root), *excluded)],
            companion_rules=_companion_rules(library, self._home),
        )

    def _record_scan(self, root: bytes, files: Sequence[CataloguedFile]) -> None:
        self._writer.apply([_scan_of(root, files)])

    def _prepare_sinks(self, plan: ev.PlanReady) -> None:
        sinks = {uri: sink for job in plan.jobs for uri, sink in job.spec.sinks.items()}
        for sink in sinks.values():
            prepare(sink, self._home_id)

    def _own_files_problem(
        self, root: bytes, request: control.Run
    ) -> tuple[control.FileProblem, ...]:
        """Our own directories inside the evidence are left out, and that is said."""
        ours = [("home", os.fsencode(self._home.root))]
        ours += [("output", path) for path in _sink_directories(request)]
        return tuple(
            control.FileProblem(
                path=path_text(path),
                code=f"evidence.own_{what}",
                message=f"this {what} directory lies inside the evidence; its files were not taken for evidence",
            )
            for what, path in ((what, os.path.realpath(path)) for what, path in ours)
            if (path + b"/").startswith(root.rstrip(b"/") + b"/") and os.path.isdir(path)
        )

    def _reporter(
        self, run_id: str, client_id: int | None, number: int
    ) -> Callable[[int, int, int, int], None]:
        last = 0

        def report(files: int, files_total: int, size: int, size_total: int) -> None:
            nonlocal last
            now = clock.monotonic_ns()
            if now - last < _REPORT_EVERY_NS and files < files_total:
                return
            last = now
            progress = control.Discovering(
                files=files, files_total=files_total, size_bytes=size, size_bytes_total=size_total
            )
            self._mailbox.post(
                ev.Discovering(run_id=run_id, client_id=client_id, number=number, progress=progress)
            )

        return report


def _companion_rules(library: ParserLibrary, home: Home) -> tuple[CompanionRule, ...]:
    """What the parsers ask for that may run here: others have no say in what a source is."""
    manifests = []
    for entry in library.list():
        if entry.standing is not Standing.CURRENT:
            continue
        if entry.artifact is not None and entry.artifact.manifest.companions:
            with suppress(CasparianError):
                verdict.verify(entry.artifact, home)
                manifests.append(entry.artifact.manifest)
    return rules_of(manifests)


def _scan_of(root: bytes, files: Sequence[CataloguedFile]) -> SaveScan:
    return SaveScan(at_ns=clock.now_ns(), root=path_text(root), files=tuple(files))


def _sink_directories(request: control.Run) -> list[bytes]:
    """Directories of this run's own outputs: they may lie under the evidence root, and are not evidence."""
    return [
        os.fsencode(sink.location)
        for sink in request.sinks.values()
        if sink.kind is not SinkKind.DUCKDB
    ]


def _scan_result(
    root: bytes, files: Sequence[CataloguedFile], directories: int
) -> control.ScanResult:
    catalogued = [f for f in files if f.status is FileStatus.CATALOGUED]
    contents = Counter(f.source_id for f in catalogued)
    by_tag = Counter(tag for f in catalogued for tag in f.tags)
    problems = [
        (f.display_path, f.message or f.status.value)
        for f in files
        if f.status in (FileStatus.UNREADABLE, FileStatus.CHANGED)
    ]
    return control.ScanResult(
        root=path_text(root),
        files=sum(f.status not in (FileStatus.LINK, FileStatus.SPECIAL) for f in files),
        size_bytes=sum(f.size_bytes for f in catalogued),
        unreadable=len(problems),
        links=sum(f.status is FileStatus.LINK for f in files),
        special=sum(f.status is FileStatus.SPECIAL for f in files),
        directories=directories,
        duplicates=sum(count - 1 for count in contents.values()),
        by_tag=dict(sorted(by_tag.items())),
        untagged=sum(not f.tags for f in catalogued),
        problems=tuple(problems[:_PROBLEMS_MAX]),
    )
