"""Take an installation, or one version of it, off a machine.

Rules:
  * Removed is what a stick has brought: versions, links, `installation.json`, and units that call this installation. Whatever
    else lies in the folder stays, and the folder with it.
  * Homes, tables, tape, evidence and trust are never touched.
  * Nothing is removed under a sentinel that runs: it is drained first, by whoever may speak to it.
  * The order lets a removal that was cut off be repeated: other versions, then links, then the version that runs this. That
    one goes by one rename, so that it is whole or gone; what can be left of it is a folder `versions/.gone-…`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
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
            left = running_from(store.versions)
            wanted = [store.version_path(name) for name in removal.versions]
            if any(_is_below(_program(found.pid), wanted) for found in left):
                raise Conflict(
                    "a sentinel was started from what is to be removed",
                    code="uninstall.running",
                    hint="`casparian sentinel drain`, then again",
                )
            store.sweep()
            last = [name for name in removal.versions if name == running]
            if not removal.everything:
                for link in removal.links:
                    _unlink(store.path, link, step)
            for name in removal.versions:
                if name not in last:
                    _remove_version(store, name, step)
            if not removal.everything:
                change = store.change("remove", removal.versions[0], None, "")
                store.record(floor=0, change=change)
                return
            for link in removal.links:
                _unlink(store.path, link, step)
            _unlink(store.path, layout.INSTALLATION, step)
            for name in last:
                _remove_version(store, name, step)
        _unlink(store.path, _LOCK, step)
        for folder in (os.path.join(store.path, "bin"), store.versions, store.path):
            with contextlib.suppress(OSError):  # somebody else's files are in it, or it is gone
                os.rmdir(folder)


def running_from(folder: str) -> Iterator[RunningSentinel]:
    """Sentinels whose program lies below a folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = [os.fsdecode(w) for w in (entry / "cmdline").read_bytes().split(b"\0")]
        except OSError:
            continue
        if "casparian.sentinel" not in words or "--home" not in words[:-1]:
            continue
        if _is_below(_program(int(entry.name)), [folder]):
            home = words[words.index("--home") + 1]
            yield RunningSentinel(pid=int(entry.name), home=home)


def _program(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _is_below(path: str, folders: list[str]) -> bool:
    return any(path.startswith(os.path.realpath(folder) + os.sep) for folder in folders)


def _units(installation: str, managers: tuple[Manager, ...]) -> Iterator[FoundUnit]:
    for manager in managers:
        for unit in manager.units():
            if unit.installation and os.path.realpath(unit.installation) == os.path.realpath(
                installation
            ):
                yield FoundUnit(name=unit.name, scope=manager.scope, home=unit.home)


def _remove_version(store: InstallationStore, name: str, step: Step) -> None:
    path = store.version_path(name)
    step(path)
    gone = os.path.join(store.versions, f"{GONE}{secrets.token_hex(8)}")
    os.rename(path, gone)
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


def _refused(path: str, why: str) -> CasparianError:
    return CasparianError(
        f"`{path}` cannot be changed: {why}",
        code="uninstall.permission",
        hint="as the user who installed it",
    )
