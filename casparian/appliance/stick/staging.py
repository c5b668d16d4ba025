"""Make a version's folder, private and complete, from a verified stick: archive, wheels, the documents it came by.

What is written is what was hashed: the stick is read once, and may change afterwards.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from casparian.appliance.stick import layout, tree, verify
from casparian.appliance.stick.archive import Archive, new_file, unpack, write_all
from casparian.appliance.stick.folder import BLOCK_BYTES, StickFolder
from casparian.appliance.stick.refusals import reading, refused, writing
from casparian.appliance.stick.verify import Signed
from casparian.display import show

Progress = Callable[[int, int], None]
FILES: str = "files.json"


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
    files = signed.files[payload.platform].files
    hasher = hashlib.sha256()
    with folder.open(payload.archive) as descriptor:

        def read(count: int) -> bytes:
            with reading(payload.archive):
                block = os.read(descriptor, count)
            hasher.update(block)
            return block

        unpack(Archive(read, files), into, sum(file.size for file in files), progress)
        while read(BLOCK_BYTES):
            pass
    verify.check_sum(payload.archive, hasher.hexdigest(), signed)


def stage_wheels(folder: StickFolder, signed: Signed, payload: layout.Payload, into: str) -> None:
    """Copy the wheelhouse of the platform; it is small enough to be hashed as it is written."""
    inside = os.path.join(into, layout.WHEELS)
    with writing(layout.WHEELS):
        os.mkdir(inside, 0o755)
    for path in wheels_of(signed, payload.platform):
        target = os.path.join(inside, path.rpartition("/")[2])
        copy_verified(folder, signed, path, target)


def stage_documents(
    folder: StickFolder, signed: Signed, payload: layout.Payload, into: str
) -> None:
    """Keep what `casparian bundle verify` compares with later."""
    inside = os.path.join(into, layout.PROVENANCE_OF_VERSION)
    with writing(layout.PROVENANCE_OF_VERSION):
        os.mkdir(inside, 0o755)
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
    """Refuse what stock `tar` unpacked when it is not exactly what was signed.

    Raises:
        Refused: `stick.staged`, `stick.permission`.
    """
    with writing(staged):
        found = os.lstat(staged)
    if found.st_uid != os.geteuid():
        raise refused("stick.permission", f"`{show(staged)}` belongs to another user")
    with writing(staged):
        compared = tree.compare(
            staged, tree.of_archive(signed.files[payload.platform]), progress=progress
        )
    if compared.differences:
        first = compared.differences[0]
        raise refused(
            "stick.staged",
            f"`{show(first.path)}` {first.message}, and {len(compared.differences) - 1} more differences",
            path=first.path,
        )
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
