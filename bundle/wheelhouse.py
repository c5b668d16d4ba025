"""Check a wheelhouse: lock, files and checksums say the same, nothing else lies there, and each wheel is what its name says.

    DIR/*.whl         one a line of the lock; our own wheel where it could be built
    DIR/lock.txt      as pip reads it: the platform's lock of the source tree, and our own wheel
    DIR/parsers.txt   wheels that only first-party parsers' locks name; there when there are such
    DIR/SHA256SUMS    every other file, as `sha256sum -c` reads it

All problems are found, not the first alone. Needs the standard library (Python 3.11 or newer) and this source tree, no network.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bundle import licences, locks, platforms, spdx, wheelfile
from bundle.licences import Licence
from bundle.locks import BadLock, Locked
from bundle.platforms import FOLDER, ROOT, Platform
from bundle.wheelfile import BadWheel, Wheel

LOCK: Final = "lock.txt"
PARSERS: Final = "parsers.txt"
SUMS: Final = "SHA256SUMS"
OWN: Final = "casparian"
NEEDS_BUILDER: Final = "needs native builder"
_SDISTS: Final = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz")
_SUM: Final = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._+!-]*)")


@dataclass(frozen=True, kw_only=True)
class Held:
    """One wheel of a wheelhouse."""

    wheel: Wheel
    sha256: str
    size_bytes: int
    licence: Licence


@dataclass(kw_only=True)
class Report:
    """What a check found."""

    platform: str
    directory: Path | None
    wheels: list[Held] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Nothing is wrong; there may be notes."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "platform": self.platform,
            "directory": None if self.directory is None else str(self.directory),
            "ok": self.ok,
            "problems": self.problems,
            "notes": self.notes,
            "size_bytes": self.size_bytes,
            "wheels": [
                {
                    "name": held.wheel.name,
                    "version": held.wheel.version,
                    "file": held.wheel.path.name,
                    "sha256": held.sha256,
                    "size_bytes": held.size_bytes,
                    "licence": held.licence.taken,
                }
                for held in self.wheels
            ],
        }


def own_version(root: Path = ROOT) -> str:
    """The version of our own wheel."""
    document = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    version: str = document["project"]["version"]
    return version


def verify(
    directory: Path, platform: Platform, folder: Path = FOLDER, *, strict: bool = False
) -> Report:
    """Check the wheelhouse of a platform.

    Args:
        directory: the wheelhouse.
        platform: whose wheels it must hold.
        folder: where `locks/` is.
        strict: our own wheel must be there, and keep to the floor as the others do.
    """
    report = Report(platform=platform.name, directory=directory)
    try:
        files = _files(directory, report)
        expected = locks.of_platform(platform, folder)
        parsers = of_parsers_alone(expected)
        allowed = _check_locks(directory, files, platform, expected, parsers, report)
    except (OSError, BadLock, UnicodeDecodeError) as error:
        report.problems.append(_said(error))
        return report
    sums = {name: wheelfile.sha256(path) for name, path in files.items()}
    report.size_bytes = sum(path.stat().st_size for path in files.values())
    _check_sums(files, sums, report)
    _check_wheels(files, sums, allowed, platform, report)
    _check_own(platform, report, strict=strict)
    return report


def verify_locks(platform: Platform, folder: Path = FOLDER, root: Path = ROOT) -> Report:
    """Check a platform's lock by itself: whole, in one version with what is tested, one hash a line."""
    report = Report(platform=platform.name, directory=None)
    try:
        locked = {each.name: each for each in locks.of_platform(platform, folder)}
        tested = {
            each.name: each
            for name in ("runtime", "second-opinion", "tokens")
            for each in locks.read(root / "requirements" / f"{name}.txt")
        }
    except (OSError, BadLock, UnicodeDecodeError) as error:
        report.problems.append(_said(error))
        return report
    for name, each in tested.items():
        if name not in locked:
            report.problems.append(f"the lock lacks `{name}`, which `requirements/` names")
        elif locked[name].version != each.version:
            report.problems.append(
                f"the lock has `{name}` {locked[name].version}, and {each.version} is what is tested"
            )
        elif not set(locked[name].hashes) <= set(each.hashes):
            report.problems.append(f"the lock's hash of `{name}` is not among the tested ones")
    if "pip" not in locked:
        report.problems.append("the lock lacks `pip`, which makes the environments of parsers")
    report.problems += [
        f"the lock has {len(each.hashes)} hashes of `{name}`: one wheel fits a platform"
        for name, each in locked.items()
        if len(each.hashes) != 1
    ]
    return report


def of_parsers_alone(expected: list[Locked]) -> list[Locked]:
    """What first-party parsers' locks name and the platform's lock, `expected`, does not."""
    known = {(each.name, each.version) for each in expected}
    found: dict[str, Locked] = {}
    for lock in locks.of_parsers().values():
        for each in lock:
            if (each.name, each.version) not in known:
                found[each.line()] = each
    return list(found.values())


def write_lists(
    directory: Path, platform: Platform, locked: list[Locked], alone: list[Locked]
) -> None:
    """Write lock and checksums of a wheelhouse whose wheels are there.

    Args:
        directory: the wheelhouse.
        platform: said in the first line of the lock.
        locked: the platform's lock and our own wheel.
        alone: what only first-party parsers' locks name.
    """
    (directory / LOCK).write_text(locks.write(locked, floor_of(platform)), "utf-8")
    if alone:
        (directory / PARSERS).write_text(locks.write(alone, "of parsers alone"), "utf-8")
    else:
        (directory / PARSERS).unlink(missing_ok=True)
    listed = [path for path in sorted(directory.iterdir()) if path.name != SUMS]
    (directory / SUMS).write_text(
        "".join(f"{wheelfile.sha256(path)}  {path.name}\n" for path in listed), "utf-8"
    )


def _files(directory: Path, report: Report) -> dict[str, Path]:
    """The regular files; anything else is a problem."""
    found = {}
    folded: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        if not stat.S_ISREG(path.lstat().st_mode):
            report.problems.append(f"`{path.name}` is no regular file")
        elif path.name.endswith(_SDISTS):
            report.problems.append(f"`{path.name}` is source code: a wheelhouse holds wheels alone")
        elif path.suffix == ".whl" or path.name in {LOCK, PARSERS, SUMS}:
            found[path.name] = path
        else:
            report.problems.append(f"`{path.name}` does not belong here")
        other = folded.setdefault(path.name.lower(), path.name)
        if other != path.name:
            report.problems.append(f"`{path.name}` and `{other}` differ in case alone")
    return found


def _check_locks(
    directory: Path,
    files: dict[str, Path],
    platform: Platform,
    expected: list[Locked],
    parsers: list[Locked],
    report: Report,
) -> list[Locked]:
    """Compare the locks that lie there with those of the source tree, and give all that may lie there."""
    if LOCK not in files:
        raise FileNotFoundError(2, "there is no lock", str(directory / LOCK))
    here = {each.name: each for each in locks.read(files[LOCK])}
    wanted = {each.name: each for each in expected}
    for name, each in wanted.items():
        if name not in here:
            report.problems.append(
                f"{LOCK} lacks `{name}`, which the lock of {platform.name} names"
            )
        elif here[name] != each:
            report.problems.append(
                f"{LOCK} has `{here[name].line()}` and the lock of {platform.name} `{each.line()}`"
            )
    report.problems += [
        f"{LOCK} names `{name}`, and the lock of {platform.name} does not"
        for name in here
        if name not in wanted and name != OWN
    ]
    named = [_one_line(line) for line in _lines(files[PARSERS])] if PARSERS in files else []
    if sorted(each.line() for each in named) != sorted(each.line() for each in parsers):
        report.problems.append(f"{PARSERS} and the locks of the first-party parsers differ")
    return [*here.values(), *named]


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line


def _one_line(line: str) -> Locked:
    return locks.parse(line, PARSERS)[0]


def _check_sums(files: dict[str, Path], sums: dict[str, str], report: Report) -> None:
    if SUMS not in files:
        report.problems.append(f"there is no {SUMS}")
        return
    listed: dict[str, str] = {}
    for line in files[SUMS].read_text("utf-8").splitlines():
        match = _SUM.fullmatch(line)
        if match is None or match[2] in listed:
            report.problems.append(f"{SUMS} has the line `{line[:100]}`")
            continue
        listed[match[2]] = match[1]
    for name in sorted((set(files) - {SUMS}) | set(listed)):
        if name not in listed:
            report.problems.append(f"{SUMS} does not list `{name}`")
        elif name not in files:
            report.problems.append(f"{SUMS} lists `{name}`, which is not there")
        elif listed[name] != sums[name]:
            report.problems.append(f"`{name}` is not the file that {SUMS} lists")


def _check_wheels(
    files: dict[str, Path],
    sums: dict[str, str],
    allowed: list[Locked],
    platform: Platform,
    report: Report,
) -> None:
    present = set()
    for name, path in files.items():
        if path.suffix != ".whl":
            continue
        try:
            wheel = wheelfile.read(path)
            named = [each for each in allowed if each.name == wheel.named.name]
            locked = [each for each in named if sums[name] in each.hashes]
            if not named:
                report.problems.append(f"`{name}`: the lock does not name it")
                continue
            if not locked:
                report.problems.append(
                    f"`{name}` is not the wheel that the lock names"
                    f" ({' or '.join(each.version for each in named)}): its hash is another"
                )
                continue
            present.add(locked[0])
            report.problems += _contradictions(wheel, locked[0], platform)
            licence = licences.of_wheel(wheel)
        except (BadWheel, spdx.NotAllowed, OSError) as error:
            report.problems.append(_said(error))
            continue
        report.wheels.append(
            Held(wheel=wheel, sha256=sums[name], size_bytes=path.stat().st_size, licence=licence)
        )
    report.problems += [
        f"there is no wheel of `{each.name}` {each.version}, which the lock names"
        for each in allowed
        if each not in present
    ]


def _contradictions(wheel: Wheel, locked: Locked, platform: Platform) -> Iterator[str]:
    file = wheel.path.name
    if locks.canonical(wheel.name) != locked.name or wheel.named.name != locked.name:
        yield f"`{file}` says that it is `{wheel.name}`, the lock names `{locked.name}`"
    if not wheel.version == wheel.named.version == locked.version:
        yield f"`{file}` says that it has version {wheel.version}, the lock names {locked.version}"
    if wheel.tags != wheel.named.tags:
        yield f"`{file}` is tagged otherwise within than by its name"
    if locked.name != OWN and not any(platform.takes(*tag) for tag in wheel.named.tags):
        yield f"`{file}` is not for {floor_of(platform)}"


def _check_own(platform: Platform, report: Report, *, strict: bool) -> None:
    """Our own wheel is judged by itself: what it was linked with decides its tag, and every platform needs a builder."""
    own = [each.wheel for each in report.wheels if locks.canonical(each.wheel.name) == OWN]
    if not own:
        said = f"{OWN} {own_version()}: {NEEDS_BUILDER} ({platform.name})"
        missing = strict or platform.name == platforms.host()
        (report.problems if missing else report.notes).append(said)
        return
    wheel = own[0]
    if wheel.version != own_version():
        report.problems.append(
            f"`{wheel.path.name}` is version {wheel.version}, the source is {own_version()}"
        )
    if any(platform.takes(*tag) for tag in wheel.named.tags):
        return
    needed = [platforms.glibc_of(tag[2], platform.machine) for tag in wheel.named.tags]
    above = [each for each in needed if each is not None]
    said = f"`{wheel.path.name}` is not for {floor_of(platform)}"
    if platform.glibc is None or not above:
        report.problems.append(said)
        return
    said += (
        f": it was linked on a newer system and needs glibc {platforms.dotted(min(above))}"
        " (`make.py --zig` links for the floor)"
    )
    (report.problems if strict else report.notes).append(said)


def floor_of(platform: Platform) -> str:
    """The platform in words: `linux-x86_64, Python 3.11, glibc 2.28`."""
    words = [platform.name, f"Python {platforms.dotted(platform.python)}"]
    if platform.glibc is not None:
        words.append(f"glibc {platforms.dotted(platform.glibc)}")
    return ", ".join(words)


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"`{error.filename}`: {error.strerror}"
    return str(error)
