"""`casparian doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from casparian.cli.app import App, read
from casparian.cli.framework import Command, pass_app
from casparian.cli.output import plural
from casparian.display import show, size_text
from casparian.errors import Conflict, ExitCode, SentinelUnreachable, UsageError
from casparian.protocol import control

if TYPE_CHECKING:
    from casparian.appliance.doctor_check import Check
    from casparian.appliance.output_check import Progress
    from casparian.control.client import Client

_MARKS: Final = {"ok": ("ok  ", "good"), "warn": ("warn", "warn"), "fail": ("FAIL", "bad")}


@click.command("doctor", cls=Command)
@click.option("--verify", is_flag=True, help="Hash every committed output file again")
@click.option("--repair", is_flag=True, help="Move aside what nothing needs, and record it")
@click.option("--dry-run", is_flag=True, help="With --repair: only say what would be done")
@pass_app
def command(app: App, *, verify: bool, repair: bool, dry_run: bool) -> int:
    """Check this machine, this home and its outputs.

    What is recorded is asked from the sentinel, which is started if need be; when none can be,
    the catalog of outputs is believed instead. Exit code 1 when a check fails.

    `--repair` deletes nothing: files without a record, stages left over and altered outputs go to
    `.casparian-aside` beside them, leftover commit intents to the tape, and a broken catalog is
    written again.
    """
    from casparian.appliance.doctor import machine_checks
    from casparian.appliance.doctor_check import repair_request

    if dry_run and not repair:
        raise UsageError("`--dry-run` belongs to `--repair`", code="usage.doctor")
    examination = _Examination(app, verify=verify)
    with ThreadPoolExecutor(1) as beside:  # most of it is waiting for a confined process
        machine = beside.submit(lambda: list(machine_checks(app.home, verify=verify)))
        found = examination.make()
    planned = repair_request(found, "")
    repaired: control.Done | None = None
    if repair and not dry_run:
        repaired = examination.repair(planned)
        if repaired is not None:
            found = examination.make()
    found = [*machine.result(), *found]
    failed = any(check.status == "fail" for check in found)
    document: dict[str, Any] = {"healthy": not failed, "checks": [_document(c) for c in found]}
    if repair:
        document["repair"] = _repair_document(planned, repaired, dry_run=dry_run)

    def human() -> None:
        _show(app, found)
        if repair:
            _show_repair(app, planned, repaired, dry_run=dry_run)

    app.out.emit(document, human)
    return int(ExitCode.FAILED if failed else ExitCode.DONE)


class _Examination:
    """The checks of one home, with the sentinel when it can be asked."""

    def __init__(self, app: App, *, verify: bool) -> None:
        self._app = app
        self._verify = verify
        self._unreachable: SentinelUnreachable | None = None

    def make(self) -> list[Check]:
        """All checks that concern what was committed."""
        from casparian.appliance.doctor import catalog_problem, home_checks
        from casparian.appliance.doctor_check import Check
        from casparian.appliance.doctor_processes import check_holders, sentinel_runs

        app, home = self._app, self._app.home
        if app.is_new and not home.home_id_file.exists():
            return [*home_checks(home, verify=self._verify), _sentinel_check("none is needed yet")]
        holder = check_holders(home)
        found = [] if holder is None else [holder]
        ran_before = sentinel_runs(home)
        before = catalog_problem(home)
        try:
            with app.client() as client:
                found += self._ask(client)
        except SentinelUnreachable as error:
            self._unreachable = error
            found += home_checks(home, verify=self._verify, progress=self._progress())
            message = f"{error.message}; outputs were compared with what the catalog says"
            return [
                *found,
                Check(check="sentinel", status="fail", message=message, hint=error.hint),
            ]
        if before is not None and not ran_before and _status(found, "catalog") == "ok":
            message = f"{before.message}; the sentinel that was started has written it again"
            found.append(Check(check="catalog as found", status="warn", message=message))
        return found

    def repair(self, planned: control.Repair) -> control.Done | None:
        """Have the sentinel do it; `None` when there is nothing to do.

        Raises:
            Conflict: `doctor.busy`: something is under way in this home.
            SentinelUnreachable: none can be started, and only a sentinel may record a repair.
        """
        from casparian import ids

        if self._unreachable is not None:
            raise self._unreachable
        if not (planned.asides or planned.intents or planned.catalog):
            return None
        request = msgspec.structs.replace(planned, request_id=ids.new_request_id())
        with self._app.client() as client:
            if not _rested(client).at_rest:
                raise Conflict(
                    "work is under way in this home: nothing is repaired meanwhile",
                    code="doctor.busy",
                    hint="`casparian jobs` shows it; repair when it is done",
                )
            done = client.ask(request, control.Done)
            _rested(client)  # the catalog is written after the answer
        return done

    def _ask(self, client: Client) -> list[Check]:
        from casparian.appliance import doctor_truth
        from casparian.appliance.doctor import home_checks
        from casparian.appliance.doctor_check import from_sentinel

        status = _rested(client)
        truth = doctor_truth.of_sentinel(
            self._app.home,
            lambda view, filters, limit: read(client, view, filters, limit=limit),
            home_id=status.home_id,
            at_rest=status.at_rest,
        )
        found = list(
            home_checks(self._app.home, truth, verify=self._verify, progress=self._progress())
        )
        reply = client.ask(control.Doctor(), control.Rows)
        found += [from_sentinel(dict(zip(reply.columns, row, strict=True))) for row in reply.rows]
        return [*found, _sentinel_check(f"process {status.pid} answers")]

    def _progress(self) -> Progress | None:
        if not self._verify or self._app.out.quiet:
            return None
        told = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= 1 or (done == total and self._app.out.live):
                told = now
                share = 100 * done // total if total else 100
                self._app.out.say(f"hashing  {share:3}%  {size_text(done)} of {size_text(total)}")

        return report


def _rested(client: Client) -> control.SentinelStatus:
    """Wait until a sentinel that was just started shows what it recovered; jobs are not waited for."""
    return client.ask(control.Hello(when_at_rest=True), control.SentinelStatus)


def _sentinel_check(message: str) -> Check:
    from casparian.appliance.doctor_check import Check

    return Check(check="sentinel", status="ok", message=message)


def _status(found: Sequence[Check], name: str) -> str | None:
    return next((check.status for check in found if check.check == name), None)


def _document(check: Check) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(check)
    for name in ("asides", "rewrite"):  # `repair` has them
        document.pop(name)
    return document


def _repair_document(
    planned: control.Repair, done: control.Done | None, *, dry_run: bool
) -> dict[str, Any]:
    places = {} if done is None else done.fields
    return {
        "dry_run": dry_run,
        "aside": [
            {"path": aside.path, "why": aside.why, "to": places.get(aside.path)}
            for aside in planned.asides
        ],
        "intents": planned.intents,
        "catalog": planned.catalog,
        "message": None if done is None else done.message,
    }


def _show(app: App, found: Sequence[Check]) -> None:
    width = max(len(check.check) for check in found)
    for check in found:
        mark, style = _MARKS[check.status]
        painted = app.out.paint(mark, style)
        app.out.line(f"{painted}  {check.check:<{width}}  {show(check.message)}")
        if check.hint and check.status != "ok":
            app.out.line(f"      hint: {show(check.hint)}")


def _show_repair(
    app: App, planned: control.Repair, done: control.Done | None, *, dry_run: bool
) -> None:
    verb = "would move aside" if dry_run else "moved aside"
    for aside in planned.asides:
        to = "" if done is None else f" -> {show(str(done.fields.get(aside.path, '?')))}"
        app.out.line(f"{verb}  {show(aside.path)} ({aside.why}){to}")
    if planned.intents:
        app.out.line(("would take" if dry_run else "took") + " leftover commit intents away")
    if planned.catalog:
        app.out.line(("would write" if dry_run else "wrote") + " the catalog again")
    if not (planned.asides or planned.intents or planned.catalog):
        app.out.line("nothing to repair")
    elif done is not None:
        app.out.say(f"{plural(len(done.fields), 'file')} moved; the tape has the record")
