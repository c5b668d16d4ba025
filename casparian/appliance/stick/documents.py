"""The documents of a stick as values: strict JSON, and the signed list of files.

A key that stands twice, an unknown field, a float or a number beyond 63 bits refuses a document: two readers could understand
two things.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from casparian import plain_json
from casparian.appliance.stick import layout
from casparian.appliance.stick.names import check_archive_paths, check_stick_paths
from casparian.appliance.stick.refusals import refused

SUMS_BYTES_MAX: Final = 4 << 20
SIGNATURE_BYTES_MAX: Final = 8 << 10
KEY_BYTES_MAX: Final = 4 << 10
MANIFEST_BYTES_MAX: Final = 1 << 20
FILES_BYTES_MAX: Final = 32 << 20
FILES_MAX: Final = 100_000
VERSION_BYTES_MAX: Final = 4 << 30  # of one version: what FAT holds as one file

_SUM: Final = re.compile(r"([0-9a-f]{64})  ([^\n]+)\Z")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+]{0,63}\Z")
_DOTTED: Final = re.compile(r"\d{1,9}(\.\d{1,9}){0,4}\Z", re.ASCII)
_HEX64: Final = re.compile(r"[0-9a-f]{64}\Z")

T = TypeVar("T")


def read_sums(raw: bytes) -> dict[str, str]:
    """SHA-256 by path of `SHA256SUMS`; lines that begin with `#` are remarks.

    Raises:
        Refused: `stick.malformed`, `stick.name`.
    """
    what = f"`{layout.SUMS}`"
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise _malformed(what, "it is not plain ASCII") from error
    if not text.endswith("\n") or "\r" in text or "\0" in text:
        raise _malformed(what, "its lines do not end as they should")
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if line.startswith("#"):
            continue
        match = _SUM.match(line)
        if match is None:
            raise _malformed(what, f"line {number} is not a hash, two spaces and a path")
        if match[2] in found:
            raise _malformed(what, f"line {number} names a file a second time")
        found[match[2]] = match[1]
    check_stick_paths(found)
    if {layout.SUMS, layout.SIGNATURE} & found.keys():
        raise _malformed(what, "it lists itself")
    return found


def read_stick(raw: bytes) -> layout.Stick:
    """`stick.json`.

    Raises:
        Refused: `stick.malformed`.
    """
    what = f"`{layout.MANIFEST}`"
    stick = _shaped(raw, layout.Stick, what)
    if not _VERSION.match(stick.version) or not 0 < stick.release <= plain_json.INTEGER_MAX:
        raise _malformed(what, "its version or release is not one")
    if (stick.kind == "appliance") != bool(stick.payloads):
        raise _malformed(what, "its kind does not fit what it holds")
    if len({payload.platform for payload in stick.payloads}) != len(stick.payloads):
        raise _malformed(what, "two programs are for the same platform")
    for payload in stick.payloads:
        for path in (payload.archive, payload.files):
            check_stick_paths([path])
            if path.split("/")[:-1] != [layout.PAYLOAD]:
                raise _malformed(what, "a program is not in its folder")
        for version in (payload.needs.glibc, payload.needs.kernel):
            dotted(version, what)
        if not 0 <= payload.needs.disk_bytes <= VERSION_BYTES_MAX:
            raise _malformed(what, "the size of a version is not one")
    return stick


def read_files(raw: bytes) -> layout.PayloadFiles:
    """`NAME.files.json`: paths that lead nowhere else, sizes within limits.

    Raises:
        Refused: `stick.malformed`, `stick.archive_path`, `stick.archive_duplicate`, `stick.archive_size`.
    """
    what = "the list of the program's files"
    files = _shaped(raw, layout.PayloadFiles, what)
    if not 0 < len(files.files) <= FILES_MAX:
        raise refused(
            "stick.archive_size", f"a version has 1 to {FILES_MAX} files, not {len(files.files)}"
        )
    check_archive_paths(file.path for file in files.files)
    for file in files.files:
        if file.size < 0 or not _HEX64.match(file.sha256):
            raise _malformed(what, f"size or hash of {file.path!a} is not one")
        if file.path.split("/")[0] in (layout.PROVENANCE_OF_VERSION, layout.WHEELS):
            raise refused("stick.archive_path", f"{file.path!a} is not the archive's to bring")
    if sum(file.size for file in files.files) > VERSION_BYTES_MAX:
        raise refused("stick.archive_size", f"a version has at most {VERSION_BYTES_MAX} bytes")
    return files


def read_installation(raw: bytes) -> layout.Installation:
    """`installation.json`.

    Raises:
        Refused: `stick.malformed`.
    """
    return _shaped(raw, layout.Installation, f"`{layout.INSTALLATION}`")


def encode(document: layout.Document) -> bytes:
    """A document as a file holds it: sorted, indented, for people."""
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1) + b"\n"


def dotted(text: str, what: str) -> tuple[int, ...]:
    """A dotted version number, to compare."""
    if not _DOTTED.match(text):
        raise _malformed(what, f"{text[:40]!a} is not a dotted number")
    return tuple(map(int, text.split(".")))


def _shaped(raw: bytes, kind: type[T], what: str) -> T:
    try:
        document = plain_json.read(raw.decode("utf-8"))
        return msgspec.convert(document, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _malformed(what, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _malformed(what, f"it is no plain JSON ({type(error).__name__})") from error


def _malformed(what: str, why: str) -> Exception:
    return refused("stick.malformed", f"{what} cannot be used: {why}")
