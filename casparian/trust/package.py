"""A parser as one file that travels: `NAME-VERSION.casparian`.

An uncompressed tar with one spelling: `statement.dsse.json` first, then the files in order; every header is exactly what
`pack` writes for a name and a size. A link, a device, a folder, an owner, a second name, padding that is not zero or a
byte after the end is another spelling, so none of them can be read. There is no compression, so there are no bombs.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from typing import BinaryIO, Final

from casparian.contracts.load import MANIFEST_FILE, load_manifest
from casparian.trust import documents
from casparian.trust.artifact import BYTES_MAX, FILES_MAX, STATEMENT_FILE, read_signed
from casparian.trust.refusals import refused

SUFFIX: Final = ".casparian"
_BLOCK: Final = 512
_END: Final = bytes(2 * _BLOCK)
PACKAGE_BYTES_MAX: Final = (
    BYTES_MAX + documents.DOCUMENT_BYTES_MAX + (FILES_MAX + 1) * 2 * _BLOCK + len(_END)
)


def pack(directory: str, out: str, *, unsigned: bool = False) -> str:
    """Write a parser folder as a package.

    Args:
        directory: the parser's folder, with its statement.
        out: a file, or a folder to put `NAME-VERSION.casparian` into.
        unsigned: pack it although it has no statement.

    Returns:
        Path of the package.

    Raises:
        Refused: `trust.unsigned`, `trust.path`, `artifact.*`.
        ContractError: the manifest is malformed.
        OSError: the package cannot be written.
    """
    files, statement = read_signed(directory)
    if statement is None and not unsigned:
        raise refused("trust.unsigned", f"`{directory}` has no `{STATEMENT_FILE}`")
    if MANIFEST_FILE not in files:
        raise refused("trust.missing_file", f"`{directory}` has no `{MANIFEST_FILE}`")
    manifest = load_manifest(files[MANIFEST_FILE])
    path = out
    if os.path.isdir(out):
        path = os.path.join(out, f"{manifest.name}-{manifest.version}{SUFFIX}")
    raw = pack_bytes(files, statement)
    beside = f"{path}.part"
    with open(beside, "wb") as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)
    return path


def pack_bytes(files: Mapping[str, bytes], statement: bytes | None) -> bytes:
    """The one spelling of a package.

    Raises:
        Refused: `trust.path`, `trust.too_large`.
    """
    _check(files)
    parts: list[bytes] = []
    entries = [] if statement is None else [(STATEMENT_FILE, statement)]
    for name, content in (*entries, *sorted(files.items())):
        parts += [_header(name, len(content)), content, bytes(-len(content) % _BLOCK)]
    return b"".join((*parts, _END))


def read_package(
    source: str | os.PathLike[str] | BinaryIO,
) -> tuple[dict[str, bytes], bytes | None]:
    """Read a package whole, once.

    Args:
        source: its path, or a stream.

    Returns:
        Files by relative path, and the statement (not verified).

    Raises:
        Refused: `trust.package`, `trust.path`, `trust.too_large`.
        OSError: it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        # A FIFO or device under that name must not hold us up; a link is followed, its bytes are what counts.
        with open(source, "rb", opener=_without_waiting) as stream:
            raw = stream.read(PACKAGE_BYTES_MAX + 1)
    else:
        raw = source.read(PACKAGE_BYTES_MAX + 1)
    return parse_package(raw)


def parse_package(raw: bytes) -> tuple[dict[str, bytes], bytes | None]:
    """Files and statement of a package's bytes; as `read_package`."""
    if len(raw) > PACKAGE_BYTES_MAX:
        raise refused("trust.too_large", f"the package has more than {PACKAGE_BYTES_MAX} bytes")
    if len(raw) % _BLOCK or not raw.endswith(_END):
        raise refused("trust.package", "the package is cut off")
    files: dict[str, bytes] = {}
    names: list[str] = []
    position, end = 0, len(raw) - len(_END)
    while position < end:
        header = raw[position : position + _BLOCK]
        name, size = _entry(header)
        start = position + _BLOCK
        position = start + size + (-size % _BLOCK)
        if position > end or any(raw[start + size : position]):
            raise refused("trust.package", "a file in the package is cut off, or padded with data")
        if len(names) > FILES_MAX:
            raise refused("trust.too_large", f"the package has more than {FILES_MAX} files")
        if name in files:
            raise refused("trust.package", f"{name[:100]!a} stands twice in the package")
        names.append(name)
        files[name] = raw[start : start + size]
    statement = files.pop(STATEMENT_FILE, None)
    expected = sorted(files) if statement is None else [STATEMENT_FILE, *sorted(files)]
    if names != expected:
        raise refused("trust.package", "the files of the package are not in order")
    _check(files)
    return files, statement


def _check(files: Mapping[str, bytes]) -> None:
    documents.check_paths([*files, STATEMENT_FILE])
    if not files or len(files) > FILES_MAX:
        raise refused("trust.too_large", f"a parser has 1 to {FILES_MAX} files")
    if sum(map(len, files.values())) > BYTES_MAX:
        raise refused("trust.too_large", f"a parser has at most {BYTES_MAX} bytes")


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")


def _entry(header: bytes) -> tuple[str, int]:
    """Name and size of a header, when it is the very one that we would write for them."""
    try:
        found = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        same = _header(found.name, found.size) == header
    except (tarfile.HeaderError, ValueError):
        same = False
    if not same:
        raise refused("trust.package", "a header in the package is not what `parser pack` writes")
    return found.name, found.size


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def as_stream(raw: bytes) -> BinaryIO:
    """A package's bytes as a stream."""
    return io.BytesIO(raw)
