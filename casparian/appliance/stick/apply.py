"""Take an installation to the version of a stick, in steps that are each durable before the next.

    lock       one command at a time; leftovers of a cut-off one are removed
    verify     signature, newer roots and policy, whether the key counts, every file of the stick
    floor      not older than what was installed here already
    preflight  this machine, this place
    stage      a private folder beside the versions, from bytes that were hashed as they were written
    self-test  of the staged program, in a home of its own
    rest       jobs finish, the home's sentinel stops; its control database is copied
    name       the staged folder becomes `versions/X`
    record     floor and history
    switch     `previous`, then `current`
    after      parsers of the stick are deployed by the new program; versions beyond those to keep go; the sentinel starts again

Killed at any moment the version in use is whole and current, the old or the new one; the same command again goes on from there.
`install.sh` comes in with a folder that stock tools unpacked: it is compared file by file instead of being made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import msgspec

from casparian.appliance.stick import (
    installed,
    layout,
    parsers,
    selftest,
    staging,
    verify,
)
from casparian.appliance.stick.checklist import Checklist
from casparian.appliance.stick.folder import StickFolder
from casparian.appliance.stick.home_side import HomeCopy, HomeSide, ParserOutcome
from casparian.appliance.stick.installation_store import InstallationStore, remove_tree
from casparian.appliance.stick.judge import Judge
from casparian.appliance.stick.preflight import Machine
from casparian.appliance.stick.refusals import refused
from casparian.appliance.stick.verify import Signed
from casparian.display import show
from casparian.errors import CasparianError

Progress = Callable[[str, int, int], None]
Step = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked for.

    Args:
        fingerprint: of the release key, typed from the card.
        staged: the folder that `install.sh` unpacked.
        keep: versions that stay, current and previous among them.
        without_trust: leave the stick's roots, policy and parsers.
        running: the version that this very program runs from: it is never removed.
    """

    fingerprint: str | None = None
    staged: str | None = None
    keep: int = 2
    without_trust: bool = False
    running: str | None = None


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    kind: str
    version: str | None
    before: str | None
    changed: bool  # another version is current now
    release: int
    key: str
    trust: str
    copy: HomeCopy | None = None
    parsers: tuple[ParserOutcome, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def refused_parsers(self) -> tuple[ParserOutcome, ...]:
        """Packages of the stick that this home does not take."""
        return tuple(parser for parser in self.parsers if parser.outcome == "refused")


class Applying:
    """One update.

    Args:
        stick: path of the stick.
        store: the installation; `None` for parsers, roots and policy alone.
        side: the home that goes with it.
        options: what was asked for.
        checklist: told what was checked.
        progress: told what is being read, bytes done and in all.
        step: called between steps; a test kills us there.
        machine: what we run on.
    """

    def __init__(
        self,
        stick: str,
        store: InstallationStore | None,
        side: HomeSide,
        options: Options,
        checklist: Checklist,
        *,
        progress: Progress = lambda _what, _done, _total: None,
        step: Step = lambda _name: None,
        machine: Machine | None = None,
    ) -> None:
        self._stick = stick
        self._store = store
        self._side = side
        self._options = options
        self._list = checklist
        self._progress = progress
        self._step = step
        self._judge = Judge(
            stick,
            store,
            side.home,
            checklist,
            machine or Machine.this(),
            fingerprint=options.fingerprint,
            unpacked=options.staged is not None,
            take_trust=None if options.without_trust else side.import_trust,
        )

    def check(self) -> Signed:
        """Verify everything and look at machine and place; nothing is written. What failed is in the checklist.

        Raises:
            CasparianError: the stick is refused; a machine or place that does not fit is told by the checklist alone.
        """
        with StickFolder(self._stick) as folder:
            signed, _ = self._judge.accept(folder, dry_run=True)
            payload = self._judge.payload(signed)
            with self._list.step("every file") as say:
                read = verify.check_files(folder, signed, progress=self._counted("reading"))
                say(f"{len(signed.sums)} files, {read} bytes are what was signed")
            if payload is not None:
                with self._list.step("archive") as say:
                    files = signed.files[payload.platform].files
                    staging.read_archive(folder, signed, payload)
                    say(f"{len(files)} plain files, nothing else")
                self._judge.fit(signed, payload)
            return signed

    def apply(self) -> Applied:
        """Do it.

        Raises:
            CasparianError: `stick.…`; the version that was current is current still.
        """
        with StickFolder(self._stick) as folder:
            if self._store is None:
                return self._trust_alone(folder)
            with self._store.locked():
                self._store.sweep(keep=self._options.staged)
                self._step("locked")
                return self._apply(folder, self._store)

    # -- the steps

    def _apply(self, folder: StickFolder, store: InstallationStore) -> Applied:
        signed, told = self._judge.accept(folder, dry_run=False)
        self._step("accepted")
        payload = self._judge.payload(signed)
        if payload is None:
            return self._trust_of(folder, signed, told)
        name, before = layout.version_folder(signed.stick), store.current
        copied = {payload.archive, *staging.wheels_of(signed, payload.platform)}
        with self._list.step("every other file") as say:
            read = verify.check_files(
                folder, signed, leave_out=copied, progress=self._counted("reading")
            )
            say(f"{len(signed.sums) - len(copied)} files, {read} bytes are what was signed")
        self._judge.fit(signed, payload)
        if failed := [item for item in self._list.items if not item.passed]:
            raise refused(failed[0].code or "stick.failed", failed[0].message, hint=failed[0].hint)
        self._step("checked")
        copy = self._replace(folder, signed, payload, store, before)
        outcomes = self._deploy(folder, signed, self._program(store))
        self._step("deployed")
        removed = store.prune(self._options.keep, self._options.running)
        return Applied(
            kind=signed.stick.kind,
            version=name,
            before=before,
            changed=before != name,
            release=signed.stick.release,
            key=signed.fingerprint,
            trust=told,
            copy=copy,
            parsers=tuple(outcomes),
            removed=tuple(removed),
        )

    def _replace(
        self,
        folder: StickFolder,
        signed: Signed,
        payload: layout.Payload,
        store: InstallationStore,
        before: str | None,
    ) -> HomeCopy | None:
        """From the stage to the switch; nothing when the very version is whole and in use."""
        name, copy = layout.version_folder(signed.stick), None
        complete = self._is_complete(store, name, signed)
        with contextlib.ExitStack() as after:
            stage = None
            if not complete:
                stage = self._stage(folder, signed, payload, store, after)
            self._step("staged")
            if not complete or before != name:
                self._self_test(stage or store.version_path(name))
                self._step("tested")
                copy = self._rest(store, after)
            if stage is not None:
                store.adopt(stage, name)
                self._step("named")
            self._switch(store, signed, name, before)
        return copy

    def _switch(
        self, store: InstallationStore, signed: Signed, name: str, before: str | None
    ) -> None:
        if before == name:
            store.link_program()
            return
        action: layout.Action = "apply" if before is not None else "install"
        change = store.change(action, name, before, signed.fingerprint)
        store.record(floor=signed.stick.release, change=change)
        self._step("recorded")
        store.switch(name)
        self._step("switched")
        store.link_program()
        self._list.passed("switched", f"`{before or 'nothing'}` -> `{name}`")

    def _rest(self, store: InstallationStore, after: contextlib.ExitStack) -> HomeCopy | None:
        """Stop the sentinel, which starts again whatever happens, and copy its database."""
        if store.current is None:
            return None
        with self._list.step("control database") as say:
            if self._side.rest():
                after.callback(self._wake, store)
            self._step("rested")
            copy = self._side.copy()
            say("none in this home yet" if copy is None else f"copied to `{show(copy.file)}`")
        self._step("copied")
        return copy

    def _wake(self, store: InstallationStore) -> None:
        """Start the sentinel again by whatever is current; that it does not is told, and changes nothing else."""
        try:
            self._side.wake(self._program(store))
        except CasparianError as error:
            self._list.failed("sentinel", error)

    def _stage(
        self,
        folder: StickFolder,
        signed: Signed,
        payload: layout.Payload,
        store: InstallationStore,
        after: contextlib.ExitStack,
    ) -> str:
        with self._list.step("staged") as say:
            if self._options.staged is not None:
                stage = self._own_stage(store, self._options.staged)
                compared = staging.check_staged(signed, payload, stage, self._counted("comparing"))
                say(f"{compared.files} unpacked files are what was signed")
            else:
                stage = store.new_stage()
                after.callback(_drop, stage)
                self._step("stage made")
                staging.stage_archive(folder, signed, payload, stage, self._counted("unpacking"))
                say(f"{len(signed.files[payload.platform].files)} files")
            self._step("unpacked")
            staging.stage_wheels(folder, signed, payload, stage)
            self._step("wheels")
            staging.stage_documents(folder, signed, payload, stage)
        return stage

    def _own_stage(self, store: InstallationStore, staged: str) -> str:
        """The folder of `install.sh`: ours, and below the installation, so that a rename suffices."""
        path = os.path.abspath(staged)
        inside = os.path.realpath(path) == path and path.startswith(
            f"{os.path.realpath(store.path)}/"
        )
        if not inside or path.startswith(f"{store.versions}/"):
            raise refused("stick.staged", f"`{show(path)}` is no folder below `{show(store.path)}`")
        return path

    def _self_test(self, version: str) -> None:
        with self._list.step("self-test") as say:
            found = selftest.run(version)
            say(str(found.get("message") or "passed"))

    def _is_complete(self, store: InstallationStore, name: str, signed: Signed) -> bool:
        """Whether the very version is there, whole: a command that was cut off has left it, or it is in use."""
        if name not in store.names():
            return False
        try:
            there, _ = installed.signed_of(store, name)
        except CasparianError:
            return False  # damaged: it is made again
        if there.raw[layout.SUMS] != signed.raw[layout.SUMS]:
            raise refused("stick.fork", f"another build of `{name}` is installed")
        report = installed.verify_version(
            store, name, fingerprint=signed.fingerprint, progress=self._counted("comparing")
        )
        word = "is here already" if report.good else "is here, altered: it is made again"
        self._list.passed("version", f"`{name}` {word}")
        return report.good

    # -- parsers

    def _trust_alone(self, folder: StickFolder) -> Applied:
        signed, told = self._judge.accept(folder, dry_run=False)
        if signed.stick.kind != "trust":
            raise refused("stick.no_installation", "the stick brings a program")
        return self._trust_of(folder, signed, told)

    def _trust_of(self, folder: StickFolder, signed: Signed, told: str) -> Applied:
        with self._list.step("every file") as say:
            read = verify.check_files(folder, signed, progress=self._counted("reading"))
            say(f"{len(signed.sums)} files, {read} bytes are what was signed")
        outcomes = self._deploy(folder, signed, "")
        return Applied(
            kind=signed.stick.kind,
            version=None,
            before=None,
            changed=False,
            release=signed.stick.release,
            key=signed.fingerprint,
            trust=told,
            parsers=tuple(outcomes),
        )

    def _deploy(self, folder: StickFolder, signed: Signed, program: str) -> list[ParserOutcome]:
        """Have the stick's parsers deployed; by ourselves when no program is named."""
        if self._options.without_trust:
            return []
        return parsers.deploy(folder, signed, self._side, self._list, program)

    def _program(self, store: InstallationStore) -> str:
        return os.path.join(store.path, layout.CURRENT, "bin", "casparian")

    def _counted(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress(what, done, total)


def _drop(stage: str) -> None:
    """Give back the room of a stage that came to nothing; one that became a version has another name by now."""
    if os.path.isdir(stage):
        remove_tree(stage)
