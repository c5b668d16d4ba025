"""Go back to the version before: the links change places, and the control database goes back where it has to.

A newer version may have brought the home's database to a schema that the older one does not know. Then the newest copy that the
older one can read is restored, when nothing was recorded since it was made; otherwise the reason is said and nothing changes,
unless `discard_newer` says that what was recorded since may go. The newer database is moved aside, never removed.

The database goes back before the links: a newer version brings it forward again at its next start, an older one could not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import msgspec

from casparian.appliance.stick import acceptance, installed, layout
from casparian.appliance.stick.checklist import Checklist
from casparian.appliance.stick.home_side import HomeCopy, HomeSide
from casparian.appliance.stick.installation_store import InstallationStore
from casparian.appliance.stick.refusals import refused
from casparian.display import show
from casparian.errors import CasparianError

Progress = Callable[[str, int, int], None]
Step = Callable[[str], None]


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    version: str
    before: str
    restored: str | None = None  # the copy of the control database that took its place
    aside: str | None = None  # where the newer database is now
    lost: int = 0  # entries of the tape that are on record no longer


def roll_back(
    store: InstallationStore,
    side: HomeSide,
    checklist: Checklist,
    *,
    discard_newer: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda _what, _done, _total: None,
    step: Step = lambda _name: None,
) -> RolledBack:
    """Make the previous version current, and the current one previous.

    Args:
        store: the installation.
        side: the home whose control database is looked at; other homes are their users' own.
        checklist: told what was checked.
        discard_newer: what was recorded since the copy may go.
        dry_run: change nothing; the sentinel is not stopped, so what it records meanwhile is not counted.
        progress: told what is being read, bytes done and in all.
        step: called between steps; a test kills us there.

    Raises:
        CasparianError: `stick.no_previous`, `stick.newer_data`, `stick.altered`, `stick.revoked_key`, `stick.busy`.
    """
    with contextlib.ExitStack() as held:
        if not dry_run:
            held.enter_context(store.locked())
            store.sweep()
        current, previous = store.current, store.previous
        if not dry_run and current is not None and current == previous:
            before = _finished(store, current)
            if before is not None:
                checklist.passed("switched", f"`{before}` -> `{current}`, as was begun")
                return RolledBack(version=current, before=before)
        if current is None or previous is None or current == previous:
            raise refused("stick.no_previous", f"`{show(store.path)}` has no version to go back to")
        stick = _verified(store, side, previous, checklist, progress)
        if not dry_run and side.rest():
            held.callback(_wake, store, side, checklist)
        step("rested")
        with checklist.step("control database") as say:
            copy, lost, told = _way_back(side, stick, discard_newer=discard_newer)
            say(told)
        aside = None
        if not dry_run:
            if copy is not None:
                aside = side.restore(copy.file)
                step("restored")
            key = store.recorded().history
            fingerprint = next((c.key for c in reversed(key) if c.version == previous), "")
            store.record(floor=0, change=store.change("rollback", previous, current, fingerprint))
            step("recorded")
            store.swap()
            step("swapped")
            store.link_program()
            checklist.passed("switched", f"`{current}` -> `{previous}`")
        return RolledBack(
            version=previous,
            before=current,
            restored=None if copy is None else copy.file,
            aside=aside,
            lost=lost,
        )


def _finished(store: InstallationStore, current: str) -> str | None:
    """Put the second link right, after a rollback that was cut off between the two; the version it came from."""
    history = store.recorded().history
    if history and history[-1].action == "rollback" and history[-1].version == current:
        before = history[-1].before
        if before in store.names() and before is not None:
            store.set_previous(before)
            return before
    return None


def _verified(
    store: InstallationStore,
    side: HomeSide,
    name: str,
    checklist: Checklist,
    progress: Progress,
) -> layout.Stick:
    """Whole, and not by a key that was revoked since."""
    with checklist.step("previous version") as say:
        report = installed.verify_version(
            store, name, progress=lambda done, total: progress("comparing", done, total)
        )
        if not report.good:
            first = report.differences[0]
            raise refused(
                "stick.altered",
                f"`{show(name)}` is not what was installed: `{show(first.path)}` {first.message}",
                hint="stay with the current version; the stick of the older one is refused by the floor",
            )
        signed, _ = installed.signed_of(store, name)
        acceptance.check_revoked(signed.key, acceptance.load(side.home))
        say(f"`{name}`: {report.files} files are what was signed")
    return signed.stick


def _way_back(
    side: HomeSide, stick: layout.Stick, *, discard_newer: bool
) -> tuple[HomeCopy | None, int, str]:
    """The copy to restore if there must be one, entries lost by it, and what to say."""
    now = side.state()
    if now is None:
        return None, 0, "none in this home"
    if now.schema <= stick.database_schema:
        return None, 0, f"schema {now.schema}, which `{stick.version}` knows: it stays"
    usable = [copy for copy in side.copies() if copy.schema <= stick.database_schema]
    what = f"schema {now.schema}, and `{stick.version}` knows {stick.database_schema}"
    if not usable:
        raise refused(
            "stick.newer_data",
            f"the control database has {what}; no copy of an older one is here",
            hint="stay with the newer version, or use the older one with another `--home`",
        )
    copy = usable[0]
    if (copy.tape_seq, copy.tape_hash) == (now.tape_seq, now.tape_hash):
        return copy, 0, f"{what}: nothing was recorded since `{copy.file}`, which takes its place"
    lost = max(1, now.tape_seq - copy.tape_seq)
    if not discard_newer:
        raise refused(
            "stick.newer_data",
            f"the control database has {what}; {lost} entries were recorded since `{copy.file}`",
        )
    return copy, lost, f"{what}: `{copy.file}` takes its place, {lost} newer entries go with it"


def _wake(store: InstallationStore, side: HomeSide, checklist: Checklist) -> None:
    try:
        side.wake(os.path.join(store.path, layout.CURRENT, "bin", "casparian"))
    except CasparianError as error:
        checklist.failed("sentinel", error)
