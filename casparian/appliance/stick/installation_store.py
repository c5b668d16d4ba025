"""An installation on the disk: its versions, which one is current, its floor and history, and the lock.

The links `current` and `previous` are the truth about what runs; `installation.json` remembers the floor and who did what.
Whoever changes anything holds the lock; leftovers of a change that was cut off are removed by the next holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import secrets
import shutil
from collections.abc import Iterator
from typing import Final

import msgspec

from casparian import clock
from casparian.appliance.stick import documents, durable, layout
from casparian.appliance.stick.archive import FOLDER_MODE
from casparian.appliance.stick.refusals import refused, writing
from casparian.display import show

HISTORY_MAX: Final = 1_000
STAGE: Final = ".stage-"
GONE: Final = ".gone-"
_FOLDER_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+]{0,63}-\d{1,19}\Z", re.ASCII)
_LEFTOVER: Final = re.compile(r"(\.stage-|\.gone-)|.+\.new-[0-9a-f]{12}\Z")
_FILE_BYTES_MAX: Final = 4 << 20


class InstallationStore:
    """One installation's folder; it need not exist yet."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self.versions = os.path.join(self.path, layout.VERSIONS)

    def version_path(self, name: str) -> str:
        """Folder of a version."""
        return os.path.join(self.versions, name)

    @property
    def current(self) -> str | None:
        """Name of the version in use."""
        return self._linked(layout.CURRENT)

    @property
    def previous(self) -> str | None:
        """Name of the version before it."""
        return self._linked(layout.PREVIOUS)

    def names(self) -> list[str]:
        """Versions that are there, as folders' names, sorted."""
        try:
            found = os.listdir(self.versions)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if _FOLDER_NAME.match(name))

    def recorded(self) -> layout.Installation:
        """Floor and history; the floor of a new installation is 0.

        Raises:
            Refused: `stick.malformed`.
        """
        try:
            with open(os.path.join(self.path, layout.INSTALLATION), "rb") as file:
                raw = file.read(_FILE_BYTES_MAX)
        except FileNotFoundError:
            return layout.Installation(floor=0)
        return documents.read_installation(raw)

    def stick_of(self, name: str) -> layout.Stick:
        """What a version was made from.

        Raises:
            Refused: `stick.malformed`.
            OSError: its documents cannot be read.
        """
        folder = os.path.join(self.version_path(name), layout.PROVENANCE_OF_VERSION)
        with open(os.path.join(folder, layout.MANIFEST), "rb") as file:
            return documents.read_stick(file.read(documents.MANIFEST_BYTES_MAX))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Change the installation alone; what a change that was cut off has left is removed.

        Raises:
            Conflict: `stick.busy`.
            Refused: `stick.permission`.
        """
        path = os.path.join(self.path, ".lock")
        with writing(path):
            os.makedirs(self.versions, mode=0o755, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise refused(
                    "stick.busy", f"`{show(self.path)}` is being changed by another command"
                ) from error
            yield
        finally:
            os.close(descriptor)

    def sweep(self, keep: str | None = None) -> None:
        """Remove what a change that was cut off has left. The lock is held.

        Args:
            keep: a staged folder that is about to be used.
        """
        with writing(self.path):
            for folder in (self.path, self.versions, os.path.join(self.path, "bin")):
                for name in os.listdir(folder) if os.path.isdir(folder) else ():
                    path = os.path.join(folder, name)
                    if _LEFTOVER.match(name) and path != keep:
                        remove_tree(path)

    def new_stage(self) -> str:
        """A new private folder beside the versions, on their file system."""
        path = os.path.join(self.path, f"{STAGE}{secrets.token_hex(8)}")
        with writing(path):
            os.mkdir(path, 0o700)
        return path

    def adopt(self, stage: str, name: str) -> None:
        """Give a staged version its name; a folder that has the name already is swapped out and removed."""
        path = self.version_path(name)
        with writing(path):
            os.chmod(stage, FOLDER_MODE)
            durable.sync_everything_at(stage)
            if not os.path.lexists(path):
                os.rename(stage, path)
            else:
                if not durable.exchange(stage, path):
                    gone = os.path.join(self.versions, f"{GONE}{secrets.token_hex(8)}")
                    os.rename(path, gone)
                    os.rename(stage, path)
                    stage = gone
                remove_tree(stage)
            durable.sync_folder(self.versions)
            durable.sync_folder(self.path)

    def record(self, *, floor: int, change: layout.Change) -> None:
        """Raise the floor and append to the history; the same change twice in a row is one."""
        before = self.recorded()
        history = before.history
        if not history or _same(history[-1], change) is False:
            history = (*history, change)[-HISTORY_MAX:]
        after = layout.Installation(floor=max(floor, before.floor), history=history)
        if after != before:
            with writing(layout.INSTALLATION):
                durable.replace_file(
                    os.path.join(self.path, layout.INSTALLATION), documents.encode(after)
                )

    def switch(self, name: str) -> None:
        """Have `current` point to a version, and `previous` to the one it took the place of."""
        with writing(layout.CURRENT):
            before = self.current
            if before == name:
                return
            if before is not None:
                self._link(layout.PREVIOUS, before)
            self._link(layout.CURRENT, name)

    def swap(self) -> None:
        """Exchange `current` and `previous`, in one step where the file system can."""
        current, previous = self.current, self.previous
        assert current is not None
        assert previous is not None
        links = [os.path.join(self.path, name) for name in (layout.CURRENT, layout.PREVIOUS)]
        with writing(layout.CURRENT):
            if not durable.exchange(*links):
                self._link(layout.CURRENT, previous)
                self._link(layout.PREVIOUS, current)

    def set_previous(self, name: str) -> None:
        """Have `previous` point to a version."""
        with writing(layout.PREVIOUS):
            self._link(layout.PREVIOUS, name)

    def link_program(self) -> None:
        """`bin/casparian`, for a search path: it follows `current`."""
        folder = os.path.join(self.path, "bin")
        path = os.path.join(folder, "casparian")
        target = f"../{layout.CURRENT}/bin/casparian"
        with writing(path):
            os.makedirs(folder, mode=0o755, exist_ok=True)
            if not (os.path.islink(path) and os.readlink(path) == target):
                durable.replace_link(path, target)

    def prune(self, keep: int, running: str | None = None) -> list[str]:
        """Remove all but the newest versions; current, previous and the one that runs always stay. Names removed."""
        kept = {self.current, self.previous, running}
        others = [name for name in self.names() if name not in kept]
        others.sort(key=lambda name: int(name.rpartition("-")[2]))
        surplus = len(others) + len(kept - {None, running}) - max(keep, 2)
        removed = others[: max(0, surplus)]
        for name in removed:
            gone = os.path.join(self.versions, f"{GONE}{secrets.token_hex(8)}")
            with writing(name):
                os.rename(self.version_path(name), gone)
                remove_tree(gone)
        return removed

    def change(
        self, action: layout.Action, version: str, before: str | None, key: str
    ) -> layout.Change:
        """An entry of the history: now, by whoever we are."""
        return layout.Change(
            at=clock.iso(clock.now_ns() // 1_000_000_000 * 1_000_000_000),
            action=action,
            version=version,
            before=before,
            key=key,
            by=_actor(),
        )

    def _linked(self, name: str) -> str | None:
        try:
            folder, _, version = os.readlink(os.path.join(self.path, name)).rpartition("/")
        except OSError:
            return None
        good = folder == layout.VERSIONS and _FOLDER_NAME.match(version)
        return version if good and os.path.isdir(self.version_path(version)) else None

    def _link(self, name: str, version: str) -> None:
        durable.replace_link(os.path.join(self.path, name), f"{layout.VERSIONS}/{version}")


def remove_tree(path: str) -> None:
    """Remove a file, a link or a folder with all that is in it."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _same(one: layout.Change, other: layout.Change) -> bool:
    leave = {"at": "", "by": ""}
    return msgspec.structs.replace(one, **leave) == msgspec.structs.replace(other, **leave)


def _actor() -> str:
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "?"
    return f"{name} (uid {uid})"
