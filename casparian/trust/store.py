"""`HOME/artifacts`: deployed parsers, one folder an artifact hash, each file read-only; and the list of what is deployed.

    HOME/artifacts/<artifact_hash>/…               exactly the files that were verified, and `statement.dsse.json`
    HOME/artifacts/deployments.json                what the control database says is deployed, for who cannot ask it

A folder is complete once it has its name: it is written beside, fsynced and renamed. Nothing in it is believed because it lies
there: whoever runs a parser hashes its files and verifies its statement again. Only the sentinel writes here.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from casparian.domain.deployments import Deployment
from casparian.errors import ContractError, IntegrityError
from casparian.trust.artifact import STATEMENT_FILE, hash_artifact, read_artifact

INDEX_FILE: Final = "deployments.json"
_TEMPORARY: Final = ".new-"
_HASH_CHARACTERS: Final = 64


def put(
    directory: Path, artifact_hash: str, files: Mapping[str, bytes], statement: bytes | None
) -> Path:
    """Store one artifact durably; one that is there keeps its files and gets the new statement.

    Raises:
        ContractError: `artifact.altered`: another content lies under that hash.
        OSError: the store cannot be written; what was there is as it was.
    """
    assert hash_artifact(files) == artifact_hash
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = directory / artifact_hash
    if target.is_dir():
        _check(target, artifact_hash)
        if statement is not None:
            write_durably(target / STATEMENT_FILE, statement, mode=0o400)
        return target
    fresh = directory / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        fresh.mkdir(mode=0o700)
        contents = dict(files)
        if statement is not None:
            contents[STATEMENT_FILE] = statement
        for path, content in contents.items():
            _write(fresh / path, content)
        for folder in {fresh, *(parent for path in contents for parent in _folders(fresh, path))}:
            sync(folder)
        os.rename(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sync(directory)
    return target


def sweep(directory: Path, known: Collection[str]) -> list[str]:
    """Remove what a crash left: half-written folders, and artifacts that no deployment names. Names of what went."""
    if not directory.is_dir():
        return []
    gone = []
    for name in sorted(os.listdir(directory)):
        is_artifact = len(name) == _HASH_CHARACTERS and name not in known
        if name.startswith(_TEMPORARY) or is_artifact:
            path = directory / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            gone.append(name)
        elif name in known:
            for leftover in (directory / name).glob(f"{_TEMPORARY}*"):
                leftover.unlink()
    return gone


def write_index(directory: Path, deployments: Sequence[Deployment]) -> None:
    """Publish what is deployed; nothing is written while it is as it was, or empty in a home without a store."""
    raw = msgspec.json.format(msgspec.json.encode(list(deployments)))
    path = directory / INDEX_FILE
    try:
        if path.read_bytes() == raw:
            return
    except FileNotFoundError:
        if not deployments:
            return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, raw)


def read_index(directory: Path) -> tuple[Deployment, ...]:
    """What was deployed, oldest first.

    Raises:
        IntegrityError: `artifact.index`: the list is damaged; the sentinel writes it again when it starts.
    """
    try:
        raw = (directory / INDEX_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    try:
        return msgspec.json.decode(raw, type=tuple[Deployment, ...])
    except msgspec.DecodeError as error:
        raise IntegrityError(
            f"the list of deployed parsers `{directory / INDEX_FILE}` is damaged",
            code="artifact.index",
            hint="`casparian sentinel stop`, then start it: the list is written again",
        ) from error


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file by rename; the new content survives a power cut when this returns."""
    fresh = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    try:
        _write(fresh, content, mode=mode)
        os.rename(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(target: Path, artifact_hash: str) -> None:
    if hash_artifact(read_artifact(str(target))) != artifact_hash:
        raise ContractError(
            f"the stored parser `{target}` is not what was deployed",
            code="artifact.altered",
            hint="move that folder away and deploy the parser again",
            path=str(target),
        )


def _write(path: Path, content: bytes, *, mode: int = 0o400) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _folders(root: Path, path: str) -> list[Path]:
    """Folders between the root and a file."""
    folders, folder = [], (root / path).parent
    while folder != root:
        folders.append(folder)
        folder = folder.parent
    return folders
