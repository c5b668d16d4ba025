"""Put the wheels of a lock into a site-packages folder: plain, every byte as its wheel's RECORD has it.

A wheel is a ZIP file whose RECORD lists each file with its SHA-256 (PyPA "Binary distribution format"). Nothing of a wheel runs,
no scripts are made, RECORD stays as it was, so that the folder can be compared with what the index has.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bundle import pruning
from bundle.pruning import Pruned

LOCK: Final = "lock.txt"
_REQUIREMENT: Final = re.compile(
    r"([A-Za-z0-9._-]+)==([^\s;]+)((?:\s+--hash=sha256:[0-9a-f]{64})+)\Z"
)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_SAFE: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_+@.][A-Za-z0-9_.+@ ,=()~-]*\Z")


class BadWheelError(Exception):
    """A wheel, or the lock, is not what it must be."""


def install_wheels(wheels: Path, site: Path, pruned: Pruned) -> list[str]:
    """Unpack every wheel of `wheels/lock.txt`; returns `name==version` of each.

    Raises:
        BadWheelError: a wheel is missing, is not the locked one, or holds what its RECORD does not list.
    """
    by_hash = {_sha256(path.read_bytes()): path for path in sorted(wheels.glob("*.whl"))}
    installed = []
    seen: list[str] = []
    for name, version, hashes in locked(wheels / LOCK):
        found = [by_hash[digest] for digest in hashes if digest in by_hash]
        if len(found) != 1:
            raise BadWheelError(
                f"{len(found)} wheels in `{wheels}` are the locked {name} {version}"
            )
        seen += _unpack(found[0], site, pruned)
        installed.append(f"{name}=={version}")
    left = pruning.unused("wheels", seen)
    if left:
        raise BadWheelError("bundle/prune.toml names what no wheel has: " + "; ".join(left))
    check_records(site, pruned)
    return installed


def locked(lock: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(name, version, SHA-256 digests) of each requirement of a lock, without markers: it is one platform's.

    Raises:
        BadWheelError: a line is something else.
    """
    text = re.sub(r"\s*\\\n\s*", " ", lock.read_text("ascii"))
    for line in text.splitlines():
        bare = line.partition(" #")[0].strip()
        if not bare or bare.startswith("#"):
            continue
        match = _REQUIREMENT.match(bare)
        if match is None:
            raise BadWheelError(f"`{lock}` has a line that locks nothing: {bare}")
        yield match[1], match[2], _HASH.findall(match[3])


def check_records(site: Path, pruned: Pruned) -> int:
    """Check every file against the RECORDs, and that there is none besides; returns how many there are.

    Raises:
        BadWheelError: a file is missing, extra or another one.
    """
    gone = {one["path"] for one in pruned.files}
    listed: set[str] = set()
    for record in sorted(site.glob("*.dist-info/RECORD")):
        for name, digest in read_record(record.read_text("utf-8")).items():
            path = site / name
            listed.add(name)
            if f"site-packages/{name}" in gone or _is_data(name):
                if path.exists():
                    raise BadWheelError(f"`{name}` is there although it was left out")
                continue
            if not path.is_file():
                raise BadWheelError(f"`{name}` is missing")
            if digest is not None and _sha256(path.read_bytes()) != digest:
                raise BadWheelError(f"`{name}` is not what {record.parent.name} lists")
    there = {
        path.relative_to(site).as_posix()
        for path in site.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    extra = there - listed
    if extra:
        raise BadWheelError(f"`{min(extra)}` belongs to no wheel ({len(extra)} such files)")
    return len(there)


def read_record(text: str) -> dict[str, str | None]:
    """Path to SHA-256 in hexadecimal; RECORD itself and its signatures have none.

    Raises:
        BadWheelError: a row is malformed, or another hash was used.
    """
    found: dict[str, str | None] = {}
    for row in csv.reader(text.splitlines()):
        if len(row) != 3 or row[0] in found:
            raise BadWheelError(f"a RECORD has the row {row}")
        if not row[1]:
            if not row[0].endswith((".dist-info/RECORD", ".jws", ".p7s")):
                raise BadWheelError(f"a RECORD has no hash of `{row[0]}`")
            found[row[0]] = None
            continue
        kind, _, digest = row[1].partition("=")
        if kind != "sha256":
            raise BadWheelError(f"a RECORD has a {kind} hash of `{row[0]}`")
        found[row[0]] = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
    return found


def _unpack(wheel: Path, site: Path, pruned: Pruned) -> list[str]:
    """All names in the wheel that could be installed."""
    names = []
    with zipfile.ZipFile(wheel) as archive:
        members = [one for one in archive.infolist() if not one.is_dir()]
        records = [one.filename for one in members if one.filename.endswith(".dist-info/RECORD")]
        if len(records) != 1 or records[0].count("/") != 1:
            raise BadWheelError(f"`{wheel.name}` has {len(records)} RECORDs")
        listed = read_record(archive.read(records[0]).decode("utf-8"))
        for member in sorted(members, key=lambda one: one.filename):
            name = member.filename
            if not all(_SAFE.match(part) for part in name.split("/")):
                raise BadWheelError(f"`{wheel.name}` holds the name {name!r}")
            if name not in listed:
                raise BadWheelError(
                    f"`{wheel.name}` holds `{name}`, which its RECORD does not list"
                )
            data = archive.read(member)
            digest = _sha256(data)
            if listed[name] not in (None, digest):
                raise BadWheelError(f"`{name}` in `{wheel.name}` is not what its RECORD lists")
            if _is_data(name):  # manual pages, headers, scripts: none is for a site-packages folder
                continue
            names.append(name)
            why = pruning.reason("wheels", name)
            if why is not None:
                pruned.add(f"site-packages/{name}", why, digest)
                continue
            target = site / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and target.read_bytes() != data:
                raise BadWheelError(f"`{name}` is in two wheels, and not the same")
            target.write_bytes(data)
            os.chmod(target, 0o644)
    return names


def _is_data(name: str) -> bool:
    return name.partition("/")[0].endswith(".data")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
