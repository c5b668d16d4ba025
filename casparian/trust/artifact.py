"""Read a parser folder once, whole, and name it by the hash of what was read.

Rules:
  * A file counts when neither its name nor that of a folder above it is hidden (`.x`),
    `__pycache__` or `*.pyc`. The build lists the first-party parsers by the same rule.
  * `statement.dsse.json` at the top is what was signed about the folder, and no part of it.
  * What is hashed is what runs: callers keep the bytes, nobody opens the folder a second time.
  * A link, a device, a FIFO or a name that is not UTF-8 refuses the folder: it could be read as
    something else later.
  * Number and size of the files are bounded, so that naming the wrong folder (`/`) ends quickly.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Final

import blake3

from casparian.errors import ContractError, Refused
from casparian.protocol import identity

FILES_MAX: Final = 1_000
BYTES_MAX: Final = 64 * 1024 * 1024
STATEMENT_FILE: Final = "statement.dsse.json"
_DEPTH_MAX: Final = 32
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_artifact(directory: str) -> dict[str, bytes]:
    """Bytes of every file of a parser folder by relative path (`a/b.py`), sorted by path.

    Args:
        directory: the parser's folder; it may itself be named through a link, nothing inside it may
            be one.

    Raises:
        Refused: `artifact.special_file`, `artifact.name`, `artifact.too_large`.
        ContractError: `artifact.missing`: no such folder, or it cannot be read.
    """
    return read_signed(directory)[0]


def read_signed(directory: str) -> tuple[dict[str, bytes], bytes | None]:
    """Bytes of a parser folder as `read_artifact` gives them, and its statement if there is one.

    Raises:
        Refused, ContractError: as `read_artifact`.
    """
    files: dict[str, bytes] = {}
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _collect(root, "", files, directory)
        finally:
            os.close(root)
    except OSError as error:
        raise ContractError(
            f"the parser folder `{directory}` cannot be read: {error.strerror}",
            code="artifact.missing",
            hint="name a folder that holds a `parser.toml`",
            path=directory,
        ) from error
    statement = files.pop(STATEMENT_FILE, None)
    return dict(sorted(files.items(), key=lambda item: item[0].encode())), statement


def hash_artifact(files: Mapping[str, bytes]) -> str:
    """`artifact_hash` of files as `read_artifact` returns them."""
    return identity.artifact_hash(
        (path.encode(), blake3.blake3(content).hexdigest()) for path, content in files.items()
    )


def is_part(name: str) -> bool:
    """Whether a file or folder of this name belongs to an artifact."""
    return not (name.startswith(".") or name == "__pycache__" or name.endswith(".pyc"))


def _collect(folder: int, prefix: str, files: dict[str, bytes], directory: str) -> None:
    if prefix.count("/") > _DEPTH_MAX:
        raise _too_large(directory, f"folders nest deeper than {_DEPTH_MAX}")
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if is_part(entry.name))
    for name in names:
        path = prefix + name
        try:
            path.encode()
        except UnicodeEncodeError:
            raise Refused(
                f"a file name in the parser folder `{directory}` is not UTF-8",
                code="artifact.name",
                path=directory,
            ) from None
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            child = _open(name, _DIRECTORY_FLAGS, folder, path, directory)
            try:
                _collect(child, f"{path}/", files, directory)
            finally:
                os.close(child)
        elif stat.S_ISREG(mode):
            if len(files) >= FILES_MAX:
                raise _too_large(directory, f"more than {FILES_MAX} files")
            left = BYTES_MAX - sum(map(len, files.values()))
            files[path] = _read(name, folder, path, directory, left)
        else:
            raise _special(path, directory)


def _open(name: str, flags: int, folder: int, path: str, directory: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (
            errno.ELOOP,
            errno.ENOTDIR,
            errno.ENXIO,
        ):  # swapped since it was looked at
            raise _special(path, directory) from error
        raise


def _read(name: str, folder: int, path: str, directory: str, bytes_max: int) -> bytes:
    descriptor = _open(name, _FILE_FLAGS, folder, path, directory)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _special(path, directory)
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise _too_large(directory, f"more than {BYTES_MAX} bytes")
    return content


def _special(path: str, directory: str) -> Refused:
    return Refused(
        f"`{path}` in the parser folder `{directory}` is not a regular file",
        code="artifact.special_file",
        hint="replace the link by the file it points to",
        path=path,
    )


def _too_large(directory: str, why: str) -> Refused:
    return Refused(
        f"`{directory}` is too large for a parser: {why}",
        code="artifact.too_large",
        hint="name the folder that holds `parser.toml`",
        path=directory,
    )
