"""The environments of a home: which are there, who uses one, and which go when there is no room.

HOME/environments/<env_hash>/environment.json    what it is and what was installed; written last, so that it means: whole
HOME/environments/<env_hash>/site/               the packages, as an interpreter finds them
HOME/environments/.<env_hash>.lock               held shared by who uses it, exclusively by who makes or removes it
HOME/environments/.work-<env_hash>-…             being made or removed; whoever next has the exclusive lock removes it

Locks are the kernel's (`flock`): a process that dies lets go of its own. The lock file's time says when it was last used.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from typing import Final, Self

import blake3
import msgspec

from casparian.paths import Home

RECORD_FILE: Final = "environment.json"
SITE: Final = "site"
_NAME: Final = re.compile(r"[0-9a-f]{64}\Z")
_WORK: Final = ".work-"
_READ_BYTES: Final = 1 << 20


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """One installed package, and the wheel that it came from."""

    name: str
    version: str
    wheel: str
    sha256: str


class EnvironmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`environment.json`. `files` are size and BLAKE3 by path below `site`."""

    schema_version: int = 1
    env_hash: str
    interpreter: str
    packages: tuple[Package, ...]
    modules: tuple[str, ...]  # names that can be imported, top level
    size_bytes: int
    files: dict[str, tuple[int, str]]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One environment as `env list` shows it."""

    env_hash: str
    directory: str
    size_bytes: int
    used_at_ns: int
    in_use: bool
    usable: bool  # by this interpreter
    packages: tuple[str, ...]


def interpreter() -> str:
    """What compiled modules are made for; another one needs the environment made anew."""
    abi = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
    return f"{platform.python_version()} {abi} {platform.system()} {platform.machine()}"


def directory_of(home: Home, env_hash: str) -> str:
    """Where an environment is, or will be."""
    return str(home.environments / env_hash)


class Lock:
    """The lock of one environment. It is held until it is closed, or the process ends."""

    def __init__(self, home: Home, env_hash: str) -> None:
        os.makedirs(home.environments, exist_ok=True)
        path = home.environments / f".{env_hash}.lock"
        self._descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )

    def share(self) -> bool:
        """Use it, so that nobody removes it meanwhile; not while it is made or removed."""
        if not self._lock(fcntl.LOCK_SH):
            return False
        os.utime(self._descriptor)
        return True

    def take(self) -> bool:
        """Have it alone, if nobody else uses or makes it."""
        return self._lock(fcntl.LOCK_EX)

    def _lock(self, how: int) -> bool:
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def used_at_ns(self) -> int:
        """When it was last shared."""
        return os.fstat(self._descriptor).st_mtime_ns

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_record(directory: str) -> EnvironmentRecord | None:
    """What an environment says of itself; `None` when it is not whole."""
    try:
        with open(os.path.join(directory, RECORD_FILE), "rb") as file:
            return msgspec.json.decode(file.read(), type=EnvironmentRecord)
    except (OSError, msgspec.DecodeError, ValueError):
        return None


def usable(directory: str) -> EnvironmentRecord | None:
    """The record of an environment that is whole, of this interpreter, and as it was installed; reads all of it."""
    record = read_record(directory)
    if record is None or record.interpreter != interpreter():
        return None
    return record if files_of(os.path.join(directory, SITE)) == record.files else None


def files_of(site: str) -> Mapping[str, tuple[int, str]]:
    """Size and BLAKE3 of every file by path; anything that is not a regular file has the size -1."""
    found: dict[str, tuple[int, str]] = {}
    for folder, folders, names in os.walk(site):
        for name in (
            *names,
            *(one for one in folders if os.path.islink(os.path.join(folder, one))),
        ):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, site)
            if os.path.islink(path) or not os.path.isfile(path):
                found[relative] = (-1, "")
                continue
            digest = blake3.blake3()
            size = 0
            with open(path, "rb") as file:
                while data := file.read(_READ_BYTES):
                    size += len(data)
                    digest.update(data)
            found[relative] = (size, digest.hexdigest())
    return dict(sorted(found.items()))


def listed(home: Home) -> list[Listed]:
    """Every environment, the last used one first."""
    found = []
    for env_hash in _hashes(home):
        directory = directory_of(home, env_hash)
        record = read_record(directory)
        with Lock(home, env_hash) as lock:
            used_at_ns = lock.used_at_ns()
            in_use = not lock.take()
        found.append(
            Listed(
                env_hash=env_hash,
                directory=directory,
                size_bytes=0 if record is None else record.size_bytes,
                used_at_ns=used_at_ns,
                in_use=in_use,
                usable=record is not None and record.interpreter == interpreter(),
                packages=()
                if record is None
                else tuple(f"{one.name}=={one.version}" for one in record.packages),
            )
        )
    return sorted(found, key=lambda one: -one.used_at_ns)


def prune(home: Home, keep_bytes: int, *, dry_run: bool = False) -> list[Listed]:
    """Remove environments, those used longest ago first, until the others fit; never one in use. Returns the removed ones.

    What a crash left half made or half removed goes as well.
    """
    everything = listed(home)
    total = sum(one.size_bytes for one in everything)
    removed = []
    for one in reversed(everything):
        if total <= keep_bytes and one.usable:
            continue
        if one.in_use:
            continue
        if dry_run or remove(home, one.env_hash):
            total -= one.size_bytes
            removed.append(one)
    return removed


def remove(home: Home, env_hash: str) -> bool:
    """Remove an environment that nobody uses; whether that was so."""
    with Lock(home, env_hash) as lock:
        if not lock.take():
            return False
        set_aside(home, env_hash)
        sweep(home, env_hash)
    return True


def set_aside(home: Home, env_hash: str) -> None:
    """Take an environment away by one rename; for who holds its lock alone."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(directory_of(home, env_hash), work_directory(home, env_hash))


def work_directory(home: Home, env_hash: str) -> str:
    """A new name for what is not whole."""
    return str(home.environments / f"{_WORK}{env_hash}-{secrets.token_hex(4)}")


def sweep(home: Home, env_hash: str) -> None:
    """Remove what was left half made; for who holds the lock of the environment alone."""
    for name in os.listdir(home.environments):
        if name.startswith(f"{_WORK}{env_hash}-"):
            shutil.rmtree(home.environments / name, ignore_errors=True)


def _hashes(home: Home) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(name for name in os.listdir(home.environments) if _NAME.match(name))
