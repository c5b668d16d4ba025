"""Make a version's folder, private and complete, from a verified stick: archive, wheels, the documents it came by.

What is written is what was hashed: the stick is read once, and may change afterwards.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from casparian.appliance.stick import layout, tree, verify
from casparian.appliance.stick.archive import (
    FOLDER_MODE,
    Archive,
    file_mode,
    new_file,
    unpack,
    write_all,
)
from casparian.appliance.stick.folder import BLOCK_BYTES, StickFolder
from casparian.appliance.stick.refusals import reading, refused, writing
from casparian.appliance.stick.verify import Signed
from casparian.display import show

Progress = Callable[[int, int], None]
FILES: Final = "files.json"


def stage_archive(
    folder: StickFolder,
    signed: Signed,
    payload: layout.Payload,
    into: str,
    progress: Progress = lambda _done, _total: None,
) -> None:
    """Unpack the archive into an empty folder, and hash it whole while it is read.

    Raises:
        Refused: `stick.archive*`, `stick.sum`, `stick.unreadable`, `stick.space`, …
    """
    total = sum(file.size for file in signed.files[payload.platform].files)
    with _hashed_archive(folder, signed, payload) as archive:
        unpack(archive, into, total, progress)


def read_archive(folder: StickFolder, signed: Signed, payload: layout.Payload) -> None:
    """Read the archive as `stage_archive` does, and write nothing."""
    with _hashed_archive(folder, signed, payload) as archive:
        for _, content in archive.members():
            for _ in content:
                pass


@contextmanager
def _hashed_archive(
    folder: StickFolder, signed: Signed, payload: layout.Payload
) -> Iterator[Archive]:
    hasher = hashlib.sha256()
    with folder.open(payload.archive) as descriptor:

        def read(count: int) -> bytes:
            with reading(payload.archive):
                block = os.read(descriptor, count)
            hasher.update(block)
            return block

        yield Archive(read, signed.files[payload.platform].files)
        while read(BLOCK_BYTES):
            pass
    verify.check_sum(payload.archive, hasher.hexdigest(), signed)


def stage_wheels(folder: StickFolder, signed: Signed, payload: layout.Payload, into: str) -> None:
    """Copy the wheelhouse of the platform; it is small enough to be hashed as it is written."""
    inside = _new_folder(into, layout.WHEELS)
    for path in wheels_of(signed, payload.platform):
        target = os.path.join(inside, path.rpartition("/")[2])
        copy_verified(folder, signed, path, target)


def stage_documents(
    folder: StickFolder, signed: Signed, payload: layout.Payload, into: str
) -> None:
    """Keep what `casparian bundle verify` compares with later."""
    inside = _new_folder(into, layout.PROVENANCE_OF_VERSION)
    for name, content in signed.raw.items():
        path = os.path.join(inside, name)
        with new_file(None, path) as descriptor:
            write_all(descriptor, content, path)
    copy_verified(folder, signed, payload.files, os.path.join(inside, FILES))


def copy_verified(folder: StickFolder, signed: Signed, path: str, target: str) -> None:
    """Copy one file of the stick to a new one, and refuse it when what was copied is not what was signed."""
    with new_file(None, target) as descriptor:
        digest, _ = folder.pour(path, lambda block: write_all(descriptor, block, target))
    verify.check_sum(path, digest, signed)


def wheels_of(signed: Signed, platform: str) -> list[str]:
    """Paths on the stick of a platform's wheelhouse."""
    return verify.below(signed.sums, f"{layout.WHEELS}/{platform}")


def check_staged(
    signed: Signed,
    payload: layout.Payload,
    staged: str,
    progress: Progress = lambda _done, _total: None,
) -> tree.Compared:
    """Refuse what stock `tar` unpacked when it is not exactly what was signed; set the modes that a version has.

    Raises:
        Refused: `stick.staged`, `stick.permission`.
    """
    files = signed.files[payload.platform]
    with writing(staged):
        if os.lstat(staged).st_uid != os.geteuid():
            raise refused("stick.permission", f"`{show(staged)}` belongs to another user")
        compared = tree.compare(staged, tree.of_archive(files), progress=progress)
    differences = [found for found in compared.differences if found.problem != "mode"]
    if differences:
        more = f", and {len(differences) - 1} more differences" if len(differences) > 1 else ""
        raise refused(
            "stick.staged",
            f"`{show(differences[0].path)}` {differences[0].message}{more}",
            path=differences[0].path,
        )
    with writing(staged):  # plain files and folders only, as was just seen, in a folder of our own
        for folder, _, _ in os.walk(staged):
            if folder != staged:
                os.chmod(folder, FOLDER_MODE)
        for file in files.files:
            os.chmod(os.path.join(staged, file.path), file_mode(executable=file.executable))
    return compared


def expected_of_version(signed: Signed, payload: layout.Payload) -> dict[str, tree.Expected]:
    """Everything that a version's folder holds, with its hash."""
    expected = tree.of_archive(signed.files[payload.platform])
    for path in wheels_of(signed, payload.platform):
        name = f"{layout.WHEELS}/{path.rpartition('/')[2]}"
        expected[name] = tree.Expected(sha256=signed.sums[path])
    inside = layout.PROVENANCE_OF_VERSION
    for name, content in signed.raw.items():
        digest = hashlib.sha256(content).hexdigest()
        expected[f"{inside}/{name}"] = tree.Expected(sha256=digest, size=len(content))
    expected[f"{inside}/{FILES}"] = tree.Expected(sha256=signed.sums[payload.files])
    return expected


def _new_folder(into: str, name: str) -> str:
    path = os.path.join(into, name)
    with writing(name):
        os.mkdir(path, 0o700)
        os.chmod(path, FOLDER_MODE)  # whatever the umask is
    return path
