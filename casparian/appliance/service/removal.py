"""Take an installation, or one version of it, off a machine.

Rules:
  * Removed is what a stick has brought: versions, links, `installation.json`, and units that call this installation. Whatever
    else lies in the folder stays, and the folder with it.
  * Homes, tables, tape, evidence and trust are never touched.
  * Nothing is removed under a sentinel that runs: it is drained first, by whoever may speak to it. Whoever calls keeps the
    locks of the homes that it knows; for the rest a version is set aside by one rename before sentinels are looked for. From
    then on none can start from it, and one that was quicker is found: the version gets its name back, and works on.
  * The order lets a removal that was cut off be repeated: other versions, then the version that runs this, then links. What can
    be left of a version is a folder `versions/.gone-…`, which the next removal or installation there takes away.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from casparian.appliance.service.manager import Manager, Outcome
from casparian.appliance.service.unit import Scope
from casparian.appliance.stick import layout
from casparian.appliance.stick.installation_store import GONE, InstallationStore, remove_tree
from casparian.errors import CasparianError, Conflict, UsageError

_LOCK: Final = ".lock"
_ENDING_SECONDS: Final = 3.0  # a sentinel that cannot begin has ended by then
Step = Callable[[str], None]


class FoundUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A service that calls the installation."""

    name: str
    scope: Scope
    home: str


class RunningSentinel(msgspec.Struct, frozen=True, kw_only=True):
    """A sentinel that runs from the installation."""

    pid: int
    home: str


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What is going to be removed, in order, and what is in the way."""

    installation: str
    everything: bool
    units: tuple[FoundUnit, ...]
    sentinels: tuple[RunningSentinel, ...]
    versions: tuple[str, ...]
    links: tuple[str, ...]


def plan(
    store: InstallationStore, *, version: str | None, managers: tuple[Manager, ...]
) -> Removal:
    """What removing the installation, or one version of it, comes to; nothing is changed.

    Raises:
        UsageError: `uninstall.no_version`.
        Conflict: `uninstall.in_use`.
        CasparianError: `uninstall.permission`.
    """
    names = store.names()
    if version is None:
        links = [layout.PREVIOUS, layout.CURRENT, os.path.join("bin", "casparian")]
        removal = Removal(
            installation=store.path,
            everything=True,
            units=tuple(_units(store.path, managers)),
            sentinels=tuple(running_from(store.versions)),
            versions=tuple(names),
            links=tuple(name for name in links if os.path.islink(os.path.join(store.path, name))),
        )
    else:
        if version not in names:
            raise UsageError(
                f"`{store.path}` has no version `{version}`",
                code="uninstall.no_version",
                hint="`casparian bundle list` shows what is installed",
            )
        if version == store.current:
            raise Conflict(
                f"`{version}` is the version in use",
                code="uninstall.in_use",
                hint="`casparian bundle rollback` first, or `casparian uninstall` without a version",
            )
        removal = Removal(
            installation=store.path,
            everything=False,
            units=(),
            sentinels=tuple(running_from(store.version_path(version))),
            versions=(version,),
            links=(layout.PREVIOUS,) if version == store.previous else (),
        )
    _check_writable(store)
    return removal


def remove_units(removal: Removal, managers: tuple[Manager, ...]) -> list[Outcome]:
    """Stop the installation's services, whose jobs finish first, and remove their units."""
    by_scope = {manager.scope: manager for manager in managers}
    return [by_scope[unit.scope].remove(unit.name) for unit in removal.units]


def carry_out(
    store: InstallationStore, removal: Removal, *, running: str | None, step: Step = lambda _: None
) -> None:
    """Remove files; no sentinel runs from them any more.

    Args:
        store: the installation.
        removal: as planned.
        running: name of the version that this program runs from; it goes last.
        step: told the path of each thing before it goes.

    Raises:
        Conflict: `stick.busy`, or `uninstall.running` when a sentinel was started meanwhile.
        CasparianError: `uninstall.permission`.
    """
    with _removing(store.path):
        with store.locked():
            store.sweep()
            last = [name for name in removal.versions if name == running]
            others = [name for name in removal.versions if name != running]
            _remove_versions(store, others, step)
            if not removal.everything:
                for link in removal.links:
                    _unlink(store.path, link, step)
                change = store.change("remove", removal.versions[0], None, "")
                store.record(floor=0, change=change)
                return
            aside = _set_aside(store, last)
            for link in (*removal.links, layout.INSTALLATION):
                _unlink(store.path, link, step)
            _remove_set_aside(store, aside, step)
        _unlink(store.path, _LOCK, step)
        for folder in (os.path.join(store.path, "bin"), store.versions, store.path):
            with contextlib.suppress(OSError):  # somebody else's files are in it, or it is gone
                os.rmdir(folder)


def running_from(folder: str) -> Iterator[RunningSentinel]:
    """Sentinels whose program lies below a folder; of another user's, what its command line says must do."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = [os.fsdecode(w) for w in (entry / "cmdline").read_bytes().split(b"\0")]
        except OSError:
            continue
        if "casparian.sentinel" not in words or "--home" not in words[:-1]:
            continue
        if _program(entry, words[0]).startswith(os.path.realpath(folder) + os.sep):
            home = words[words.index("--home") + 1]
            yield RunningSentinel(pid=int(entry.name), home=home)


def _program(process: Path, named: str) -> str:
    try:
        return os.readlink(process / "exe")
    except PermissionError:
        return os.path.join(os.path.realpath(os.path.dirname(named)), os.path.basename(named))
    except OSError:
        return ""  # it has ended


def _units(installation: str, managers: tuple[Manager, ...]) -> Iterator[FoundUnit]:
    for manager in managers:
        for unit in manager.units():
            if unit.installation and os.path.realpath(unit.installation) == os.path.realpath(
                installation
            ):
                yield FoundUnit(name=unit.name, scope=manager.scope, home=unit.home)


def _remove_versions(store: InstallationStore, names: list[str], step: Step) -> None:
    _remove_set_aside(store, _set_aside(store, names), step)


def _set_aside(store: InstallationStore, names: list[str]) -> dict[str, str]:
    """Rename versions so that nothing starts from them any more; name -> where it is now.

    Raises:
        Conflict: `uninstall.running`: a sentinel runs from one; all have their names back.
    """
    aside: dict[str, str] = {}
    try:
        for name in names:
            gone = os.path.join(store.versions, f"{GONE}{secrets.token_hex(8)}")
            os.rename(store.version_path(name), gone)
            aside[name] = gone
        started = [found for gone in aside.values() for found in running_from(gone)]
        # Another user's is known by its command line only, which keeps the old name.
        started += [f for name in names for f in running_from(store.version_path(name))]
        for found in started:
            if not _ends_by_itself(found.pid):
                raise _running(found)
    except BaseException:
        for name, gone in aside.items():
            os.rename(gone, store.version_path(name))
        raise
    return aside


def _ends_by_itself(pid: int) -> bool:
    """Whether a process that has begun ends: its home's lock is held by somebody else, or its own files are gone."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], _ENDING_SECONDS)[0])
    finally:
        os.close(watched)


def _remove_set_aside(store: InstallationStore, aside: dict[str, str], step: Step) -> None:
    for name, gone in aside.items():
        step(store.version_path(name))
        remove_tree(gone)


def _unlink(folder: str, name: str, step: Step) -> None:
    path = os.path.join(folder, name)
    if os.path.lexists(path):
        step(path)
        os.unlink(path)


def _check_writable(store: InstallationStore) -> None:
    for folder in (store.path, store.versions):
        if not os.access(folder, os.W_OK):
            raise _refused(folder, "it belongs to another user")


@contextlib.contextmanager
def _removing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error


def _running(found: RunningSentinel) -> Conflict:
    return Conflict(
        f"process {found.pid}, a sentinel of `{found.home}`, was started from what is to be removed",
        code="uninstall.running",
        hint=f"`casparian --home {found.home} sentinel drain`, then again",
    )


def _refused(path: str, why: str) -> CasparianError:
    return CasparianError(
        f"`{path}` cannot be changed: {why}",
        code="uninstall.permission",
        hint="as the user who installed it",
    )
