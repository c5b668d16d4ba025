"""What a wheel says of itself: its file name (PEP 427), METADATA, WHEEL, licences and bills of materials (PEP 639, 770).

Nothing is unpacked to disk and nothing of a wheel is run.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path
from typing import Any, Final

from bundle.locks import canonical

_NAME: Final = re.compile(
    r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[A-Za-z0-9_.!+]+)(?:-(?P<build>[0-9][A-Za-z0-9_.]*))?"
    r"-(?P<python>[a-z0-9_.]+)-(?P<abi>[a-z0-9_.]+)-(?P<system>[a-z0-9_.]+)\.whl"
)
# What may be read of a document in a wheel; the largest known bill of materials has 0.3 MB.
_DOCUMENT_BYTES_MAX: Final = 16 << 20
_LICENCE: Final = re.compile(r"(licen[cs]es?|copying|copyright|notice|authors)", re.IGNORECASE)
_CHUNK: Final = 1 << 20


class BadWheel(ValueError):
    """A file that is no wheel, or one that contradicts itself."""


@dataclass(frozen=True, kw_only=True)
class WheelName:
    """A wheel's file name, taken apart."""

    name: str  # canonical
    version: str
    tags: tuple[tuple[str, str, str], ...]  # python, abi, platform: each combination


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """What is known of a wheel."""

    path: Path
    named: WheelName
    name: str  # as its METADATA spells it
    version: str
    tags: tuple[tuple[str, str, str], ...]  # of its WHEEL document
    requires: tuple[str, ...]
    expression: str  # of its licence, in SPDX's words; empty when it has none
    licence: str  # what `License` says
    classifiers: tuple[str, ...]  # those of licences
    licence_files: dict[str, bytes]  # path within the wheel's own information -> content
    sboms: dict[str, Any]  # path -> CycloneDX document


def parse_name(file: str) -> WheelName:
    """Take a wheel's file name apart.

    Raises:
        BadWheel: it is no wheel's name.
    """
    match = _NAME.fullmatch(file)
    if match is None:
        raise BadWheel(f"`{file}` is not the name of a wheel")
    return WheelName(
        name=canonical(match["name"]),
        version=match["version"],
        tags=_combinations(match["python"], match["abi"], match["system"]),
    )


def read(path: Path) -> Wheel:
    """What a wheel says of itself.

    Raises:
        BadWheel: it is no wheel, lacks a document, or holds a name that leaves its folder.
    """
    named = parse_name(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, named, archive)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, BadWheel):
            raise
        raise BadWheel(f"`{path.name}` is no wheel: {error}") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read(path: Path, named: WheelName, archive: zipfile.ZipFile) -> Wheel:
    for entry in archive.infolist():
        parts = entry.filename.split("/")
        if entry.filename.startswith("/") or "\\" in entry.filename or ".." in parts:
            raise BadWheel(f"`{path.name}` holds `{entry.filename!r}`, which leaves its folder")
    folders = {
        name.partition("/")[0]
        for name in archive.namelist()
        if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
    }
    if len(folders) != 1:
        raise BadWheel(f"`{path.name}` has {len(folders)} METADATA documents instead of one")
    info = folders.pop()
    metadata = _document(archive, f"{info}/METADATA")
    about = _document(archive, f"{info}/WHEEL")
    return Wheel(
        path=path,
        named=named,
        name=_one(metadata, "Name", path),
        version=_one(metadata, "Version", path),
        tags=tuple(
            sorted(tag for text in about.get_all("Tag", []) for tag in _tags(str(text), path))
        ),
        requires=tuple(str(each) for each in metadata.get_all("Requires-Dist", [])),
        expression=str(metadata["License-Expression"] or "").strip(),
        licence=str(metadata["License"] or "").strip(),
        classifiers=tuple(
            str(each)
            for each in metadata.get_all("Classifier", [])
            if str(each).startswith("License :: ")
        ),
        licence_files=dict(_licence_files(archive, info)),
        sboms={
            name.removeprefix(f"{info}/"): json.loads(_content(archive, name))
            for name in sorted(archive.namelist())
            if name.startswith(f"{info}/sboms/") and name.endswith(".json")
        },
    )


def _document(archive: zipfile.ZipFile, name: str) -> Message:
    return BytesParser(policy=compat32).parsebytes(_content(archive, name), headersonly=True)


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        entry = archive.getinfo(name)
    except KeyError as error:
        raise BadWheel(f"`{archive.filename}` has no `{name}`") from error
    if entry.file_size > _DOCUMENT_BYTES_MAX:
        raise BadWheel(f"`{name}` in `{archive.filename}` has {entry.file_size} bytes")
    return archive.read(entry)


def _licence_files(archive: zipfile.ZipFile, info: str) -> Iterator[tuple[str, bytes]]:
    """Beside METADATA, in the folders that PEP 639 and its forerunners use, and of what a package carries within."""
    for name in sorted(archive.namelist()):
        inside = name.removeprefix(f"{info}/")
        own = name.startswith(f"{info}/") and (
            inside.startswith("licenses/")
            or ("/" not in inside and _LICENCE.match(inside) is not None)
        )
        carried = re.search(r"/licen[cs]e[^/]*$|/copying[^/]*$|/notice[^/]*$", name, re.IGNORECASE)
        if name.endswith((".py", ".pyc", ".pyi", ".so", "/")):
            continue
        if own:
            yield inside, _content(archive, name)
        elif carried is not None and not name.startswith(f"{info}/"):
            yield f"within/{name}", _content(archive, name)


def _one(document: Message, field: str, path: Path) -> str:
    values = document.get_all(field, [])
    if len(values) != 1:
        raise BadWheel(f"`{path.name}` states `{field}` {len(values)} times instead of once")
    return str(values[0]).strip()


def _tags(text: str, path: Path) -> tuple[tuple[str, str, str], ...]:
    parts = text.strip().split("-")
    if len(parts) != 3:
        raise BadWheel(f"`{path.name}` has the tag `{text}`")
    return _combinations(*parts)


def _combinations(python: str, abi: str, system: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        sorted(
            (one, two, three)
            for one in python.split(".")
            for two in abi.split(".")
            for three in system.split(".")
        )
    )
