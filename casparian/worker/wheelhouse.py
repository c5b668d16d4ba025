"""Take the wheels of a lock out of the wheelhouse: the directories of the setting `wheelhouse`, and nothing else.

A file is looked at when its name is that of the locked package and version; it is taken when its SHA-256 is in the lock. So
another file of that name, or a newer version beside it, is no more than clutter, whichever directory it lies in.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Sequence
from typing import Final

from casparian import installation
from casparian.contracts.requirements import Requirement, canonical_name
from casparian.display import show
from casparian.worker.environment_cache import Package
from casparian.worker.faults import JobFault

_WHEEL: Final = ".whl"
_SDISTS: Final = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz")
_PARTS: Final = (5, 6)  # of a wheel's name: name, version, (build,) python, abi, platform
_NAMED_MAX: Final = 3
_READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def folders(setting: str) -> tuple[str, ...]:
    """The directories of the setting; without one, the wheels that came with an appliance.

    Raises:
        JobFault: `env.wheelhouse`: there are none.
    """
    found = tuple(os.path.expanduser(part) for part in setting.split(os.pathsep) if part)
    own = installation.wheelhouse()
    if not found and own is not None:
        return (str(own),)
    if not found:
        raise JobFault(
            "env.wheelhouse",
            "the parser needs packages and no wheelhouse is set:"
            " `casparian config set wheelhouse DIR` names where their wheels are",
        )
    return found


def take(
    requirement: Requirement, places: Sequence[str], into: str, bytes_max: int
) -> list[tuple[Package, int]]:
    """Copy the wheels of one locked package; each with the bytes that its files take once unpacked.

    Several are taken when the lock allows several and they are there: which one fits is for the installer to say.

    Raises:
        JobFault: `env.missing`, `env.hash`, `env.sdist`, `env.too_large` or `env.wheelhouse`.
    """
    taken: dict[str, tuple[Package, int]] = {}
    refused = []
    sources = []
    for place in places:
        for name in _names(place):
            path = os.path.join(place, name)
            if _is_sdist_of(name, requirement):
                sources.append(name)
            if not _is_wheel_of(name, requirement):
                continue
            content = _read(path, bytes_max)
            digest = hashlib.sha256(content).hexdigest()
            if digest not in requirement.hashes:
                refused.append(path)
            elif digest not in {package.sha256 for package, _ in taken.values()}:
                package = Package(
                    name=requirement.name, version=requirement.version, wheel=name, sha256=digest
                )
                taken[name] = (package, _expanded(content, path))
                with open(os.path.join(into, name), "xb") as file:
                    file.write(content)
    if not taken:
        raise _nothing(requirement, places, refused, sources)
    return list(taken.values())


def _nothing(
    requirement: Requirement, places: Sequence[str], refused: list[str], sources: list[str]
) -> JobFault:
    what = f"`{requirement.name}` {requirement.version}"
    if refused:
        named = ", ".join(f"`{show(path)}`" for path in refused[:_NAMED_MAX])
        return JobFault("env.hash", f"{named} is not the {what} that the parser's lock names")
    if sources:
        return JobFault(
            "env.sdist",
            f"the wheelhouse has {what} as source code (`{show(sources[0])}`) and no wheel of it; nothing is built here",
        )
    named = ", ".join(f"`{show(place)}`" for place in places)
    return JobFault("env.missing", f"there is no wheel of {what} in {named}")


def _names(place: str) -> list[str]:
    try:
        return sorted(os.listdir(place))
    except OSError as error:
        raise JobFault(
            "env.wheelhouse",
            f"the wheelhouse `{show(place)}` cannot be read: {error.strerror}",
        ) from error


def _is_wheel_of(name: str, requirement: Requirement) -> bool:
    parts = name.removesuffix(_WHEEL).split("-")
    return (
        name.endswith(_WHEEL)
        and len(parts) in _PARTS
        and canonical_name(parts[0]) == requirement.name
        and _version(parts[1]) == _version(requirement.version)
    )


def _is_sdist_of(name: str, requirement: Requirement) -> bool:
    for suffix in _SDISTS:
        stem, dash, version = name.removesuffix(suffix).rpartition("-")
        if name.endswith(suffix) and dash and canonical_name(stem) == requirement.name:
            return _version(version) == _version(requirement.version)
    return False


def _version(text: str) -> str:
    return text.replace("_", "-").replace("+", "-").lower()  # how file names spell a local version


def _read(path: str, bytes_max: int) -> bytes:
    try:
        descriptor = os.open(path, _READ_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise JobFault("env.wheelhouse", f"`{show(path)}` is not a regular file")
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise JobFault(
            "env.wheelhouse", f"`{show(path)}` cannot be read: {error.strerror}"
        ) from error
    if len(content) > bytes_max:
        raise JobFault(
            "env.too_large", f"`{show(path)}` is larger than `environment_mb_max` allows"
        )
    return content


def _expanded(content: bytes, path: str) -> int:
    """What the archive says its files take; whoever unpacks it writes no more of a file than that."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise JobFault("env.install", f"`{show(path)}` is no wheel: {error}") from error
