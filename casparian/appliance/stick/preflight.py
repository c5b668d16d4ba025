"""Whether a version can work on this machine, looked at before anything is written.

Each check is made, whatever the others say: a person mends all of them at once.
"""

from __future__ import annotations

import os
import platform
import stat
import sys
from typing import Final

import msgspec

from casparian import clock
from casparian.appliance import doctor_isolation
from casparian.appliance.stick import layout
from casparian.appliance.stick.checklist import Checklist
from casparian.appliance.stick.documents import dotted
from casparian.appliance.stick.refusals import refused
from casparian.display import show, size_text
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.trust.documents import DAY_NS, time_ns

_BLOCK_BYTES: Final = 4096
_SPARE_BYTES: Final = 1 << 20
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine is, as far as a version asks."""

    platform: str
    glibc: str | None
    kernel: str

    @classmethod
    def this(cls) -> Machine:
        """The machine that we run on."""
        return cls(platform=platform_name(), glibc=glibc_version(), kernel=os.uname().release)


def platform_name() -> str:
    """`linux-x86_64`: what a stick calls this kind of machine."""
    return f"{sys.platform}-{platform.machine().lower()}"


def glibc_version() -> str | None:
    """Version of the C library, as it says itself; `None` where there is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return None
    return version if name == "glibc" else None


def room_needed(files: layout.PayloadFiles | None, others: int, needs_bytes: int) -> int:
    """Bytes that a version takes on the disk: each file fills its last block."""
    sizes = [] if files is None else [file.size for file in files.files]
    return max(needs_bytes, sum(size + (-size % _BLOCK_BYTES) for size in sizes) + others)


def check_machine(
    checklist: Checklist, payload: layout.Payload, stick: layout.Stick, machine: Machine
) -> None:
    """C library, kernel, what confines guests, clock."""
    for check, refuse in (
        ("C library", lambda: _glibc(payload.needs.glibc, machine.glibc)),
        ("kernel", lambda: _kernel(payload.needs.kernel, machine.kernel)),
        ("confinement", _confinement),
        ("clock", lambda: _clock(stick.built)),
    ):
        _made(checklist, check, refuse)


def check_place(
    checklist: Checklist, into: str, *, bytes_needed: int, files_needed: int, home: Home | None
) -> None:
    """Room, permissions and `noexec` where the installation lies or will lie."""
    place = existing(into)
    for check, refuse in (
        ("permission", lambda: _permission(place, into)),
        ("programs may start", lambda: _noexec(place)),
        ("room", lambda: _room(place, bytes_needed, files_needed, home)),
    ):
        _made(checklist, check, refuse)


def existing(path: str) -> str:
    """The nearest folder above a path that is there."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _made(checklist: Checklist, check: str, refuse: object) -> None:
    assert callable(refuse)
    try:
        checklist.passed(check, refuse())
    except CasparianError as error:
        checklist.failed(check, error)


def _glibc(needed: str, found: str | None) -> str:
    if found is None:
        raise refused("stick.glibc", f"it needs glibc {needed}, this machine has another C library")
    if _leading(found) < dotted(needed, "the stick"):
        raise refused("stick.glibc", f"it needs glibc {needed}, this machine has {found}")
    return f"glibc {found}, needed {needed}"


def _kernel(needed: str, found: str) -> str:
    if _leading(found) < dotted(needed, "the stick"):
        raise refused("stick.kernel", f"it needs Linux {needed}, this machine runs {found}")
    return f"Linux {found}, needed {needed}"


def _leading(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    numbers: list[int] = []
    for part in version.replace("-", ".").replace("+", ".").split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _confinement() -> str:
    found = doctor_isolation.kernel()
    if found.status == "fail":
        raise refused("stick.kernel", found.message, hint=found.hint)
    note = f"; {found.hint}" if found.hint else ""
    return found.message + note


def _clock(built: str) -> str:
    now_ns = clock.now_ns()
    if now_ns + DAY_NS < time_ns(built, "`stick.json`"):
        raise refused(
            "stick.clock", f"it is {clock.iso(now_ns)[:10]} here, the stick is of {built}"
        )
    return f"{clock.iso(now_ns)[:19]}Z, the stick is of {built}"


def _permission(place: str, into: str) -> str:
    if not os.access(place, os.W_OK | os.X_OK):
        raise refused("stick.permission", f"`{show(place)}` cannot be written by this user")
    if os.path.isdir(into):
        for folder in (into, os.path.join(into, layout.VERSIONS)):
            mode = os.stat(folder).st_mode if os.path.isdir(folder) else 0
            if mode & _WRITABLE_BY_OTHERS and not mode & stat.S_ISVTX:
                raise refused("stick.permission", f"`{show(folder)}` can be written by other users")
    return f"`{show(place)}` can be written"


def _noexec(place: str) -> str:
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise refused("stick.noexec", f"`{show(place)}` lies on a file system mounted `noexec`")
    return f"`{show(place)}` is not mounted `noexec`"


def _room(place: str, bytes_needed: int, files_needed: int, home: Home | None) -> str:
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    needed = bytes_needed + _SPARE_BYTES
    copy = 0
    if home is not None:
        copy = sum(
            path.stat().st_size
            for path in (home.control_database, home.control_log)
            if path.exists()
        )
        spare = os.statvfs(existing(str(home.backups)))
        if spare.f_fsid == disk.f_fsid:
            needed += copy
        elif spare.f_bavail * spare.f_frsize < copy:
            raise refused(
                "stick.space",
                f"a copy of the control database needs {size_text(copy)} in `{show(str(home.root))}`",
            )
    if free < needed:
        raise refused(
            "stick.space",
            f"`{show(place)}` has {size_text(free)} free, {size_text(needed)} are needed",
        )
    if disk.f_files and disk.f_favail < files_needed:
        raise refused(
            "stick.space",
            f"`{show(place)}` can hold {disk.f_favail} more files, not {files_needed}",
        )
    return f"{size_text(free)} free at `{show(place)}`, {size_text(needed)} needed"
