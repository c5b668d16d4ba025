"""System-call filters as systemd makes them from a unit's words: classic BPF, put together here.

Only for x86_64. Sources: seccomp(2), the sources' names of the options in systemd.exec(5), asm/unistd_64.h for numbers.
"""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
from pathlib import Path
from typing import Final

HEADER: Final = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_ARCHITECTURE: Final = 0xC000003E  # AUDIT_ARCH_X86_64
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN, _AND = 0x20, 0x15, 0x45, 0x06, 0x54
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
Line = tuple[int, int, int, int]
NAMESPACES: Final = {
    "mnt": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000,
}  # fmt: skip
FAMILIES: Final = {"AF_UNIX": 1, "AF_INET": 2}


def numbers() -> dict[str, int]:
    """Numbers of all system calls that the C library's headers know."""
    found = re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())
    return {name: int(number) for name, number in found}


def expand(words: list[str]) -> set[str]:
    """Names of calls behind names of groups, as this machine's systemd has them."""
    names: set[str] = set()
    for word in words:
        if not word.startswith("@"):
            names.add(word)
            continue
        said = subprocess.run(
            ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
        ).stdout
        lines = (line.strip() for line in said.splitlines()[1:])
        names |= expand([line for line in lines if line and not line.startswith("#")])
    return names


def allow_list(values: list[str]) -> list[Line]:
    """`SystemCallFilter=`, in the order of its lines; everything else answers EPERM."""
    allowed = expand(["@default"])
    for value in values:
        words = value.removeprefix("~").split()
        allowed = allowed - expand(words) if value.startswith("~") else allowed | expand(words)
    known = numbers()
    lines: list[Line] = []
    for name in sorted(allowed & known.keys()):
        lines += [(_JUMP_EQUAL, 0, 1, known[name]), (_RETURN, 0, 0, _ALLOW)]
    return _program([*lines, (_RETURN, 0, 0, _ERRNO | EPERM)])


def address_families(names: list[str]) -> list[Line]:
    """`RestrictAddressFamilies=`."""
    tests = [(_LOAD, 0, 0, _ARGUMENTS)]
    for name in names:
        tests += [(_JUMP_EQUAL, 0, 1, FAMILIES[name]), (_RETURN, 0, 0, _ALLOW)]
    tests.append((_RETURN, 0, 0, _ERRNO | EAFNOSUPPORT))
    return _program([*_for("socket", tests), (_RETURN, 0, 0, _ALLOW)])


def namespaces(names: list[str]) -> list[Line]:
    """`RestrictNamespaces=`: flags of those that are not named are refused; `clone3` hides them, so it is not there."""
    refused = sum(flag for name, flag in NAMESPACES.items() if name not in names)
    look = [(_LOAD, 0, 0, _ARGUMENTS), (_JUMP_SET, 0, 1, refused), (_RETURN, 0, 0, _ERRNO | EPERM)]
    look.append((_RETURN, 0, 0, _ALLOW))
    lines = [*_for("unshare", look), *_for("clone", look)]
    lines += _for("clone3", [(_RETURN, 0, 0, _ERRNO | ENOSYS)])
    return _program([*lines, (_RETURN, 0, 0, _ALLOW)])


def no_executable_memory() -> list[Line]:
    """`MemoryDenyWriteExecute=`: nothing becomes executable that can be or was written."""
    deny, allow = (_RETURN, 0, 0, _ERRNO | EPERM), (_RETURN, 0, 0, _ALLOW)
    protection = (_LOAD, 0, 0, _ARGUMENTS + 2 * 8)
    both = [protection, (_AND, 0, 0, 0x6), (_JUMP_EQUAL, 0, 1, 0x6), deny, allow]
    executable = [protection, (_JUMP_SET, 0, 1, 0x4), deny, allow]
    lines = _for("mmap", both)
    for name in ("mprotect", "pkey_mprotect"):
        lines += _for(name, executable)
    lines += _for("shmat", [protection, (_JUMP_SET, 0, 1, 0o100000), deny, allow])
    return _program([*lines, allow])


def no_realtime() -> list[Line]:
    """`RestrictRealtime=`."""
    deny, allow = (_RETURN, 0, 0, _ERRNO | EPERM), (_RETURN, 0, 0, _ALLOW)
    policy = (_LOAD, 0, 0, _ARGUMENTS + 8)
    tests = [policy, *[line for p in (1, 2, 6) for line in ((_JUMP_EQUAL, 0, 1, p), deny)], allow]
    return _program([*_for("sched_setscheduler", tests), allow])


def install(lines: list[Line]) -> None:
    """Put a filter in force for this process and all that it becomes."""
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(len(lines), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, ctypes.byref(program), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")


def _for(name: str, body: list[Line]) -> list[Line]:
    """Lines for one call: the body, which ends in answers, is passed over by all others."""
    return [(_LOAD, 0, 0, _NUMBER), (_JUMP_EQUAL, 0, len(body), numbers()[name]), *body]


def _program(lines: list[Line]) -> list[Line]:
    """`SystemCallArchitectures=native`, then the lines."""
    head = [(_LOAD, 0, 0, _ARCH), (_JUMP_EQUAL, 1, 0, _ARCHITECTURE), (_RETURN, 0, 0, _KILL)]
    return [*head, (_LOAD, 0, 0, _NUMBER), *lines]
