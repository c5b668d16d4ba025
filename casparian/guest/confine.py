"""Lock a freshly forked guest down, step by step, and say what is in force.

The order matters: each step still has the rights it needs.
  1. new session, death signal of the parent, and a look whether the parent is already gone
  2. close every descriptor but its own
  3. resource limits
  4. no_new_privs
  5. not dumpable: no core file, no ptrace by the same user, /proc entries belong to root
  (6. Landlock, 7. seccomp: their place is here, in this order)

The record is read back from the kernel where the kernel can be asked. A step that fails is named in the record with its error;
closing descriptors, limits and no_new_privs may not fail: without them there is no guest.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from typing import Final

BRIDGE_FD: Final = 3  # after `keep_only`: 0 is /dev/null, 1 and 2 are the log pipe
DESCRIPTORS_MAX: Final = 64
_DESCRIPTORS_CLOSED: Final = 65_536

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_GET_NO_NEW_PRIVS: Final = 39

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int = 0) -> int:
    result: int = _libc.prctl(
        ctypes.c_int(option),
        ctypes.c_ulong(argument),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl {option}")
    return result


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the parent dies; end at once when it died before this call.

    The signal is tied to the parent's *thread* that forked: it must live as long as the parent.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)


def keep_only(bridge_fd: int, log_fd: int) -> None:
    """Close every descriptor but the bridge (which becomes 3) and the log (which becomes 1 and 2); 0 reads nothing."""
    bridge = os.dup(bridge_fd) if bridge_fd < 4 else bridge_fd
    log = os.dup(log_fd) if log_fd < 4 else log_fd
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(bridge, BRIDGE_FD)
    os.closerange(BRIDGE_FD + 1, _DESCRIPTORS_CLOSED)


def confine(*, parent_pid: int, memory_bytes: int, cpu_seconds: int) -> dict[str, str]:
    """Take every step that this machine allows; descriptors must be closed before.

    Args:
        parent_pid: the zygote.
        memory_bytes: private writable memory (heap, anonymous maps), inherited pages included.
        cpu_seconds: processor time of the whole guest; one second later the kernel kills it.

    Returns:
        The isolation record: what is in force, by name.
    """
    # Before the process stops being dumpable: afterwards its /proc entries belong to root.
    record = {"level": "reduced"}
    record["session"] = _attempt(_new_session)
    die_with_parent(parent_pid)
    record["parent_death_signal"] = "SIGKILL"
    record["descriptors"] = "closed"
    record["oom_score_adj"] = _attempt(_prefer_as_oom_victim)
    record["rlimits"] = _limit(memory_bytes, cpu_seconds)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    record["no_new_privs"] = "yes" if _prctl(_PR_GET_NO_NEW_PRIVS) == 1 else "no"
    record["dumpable"] = _attempt(_undumpable)
    record["landlock"] = "no"
    record["seccomp"] = "no"
    record["namespaces"] = "no"
    record["user"] = "root" if os.geteuid() == 0 else "unprivileged"
    return record


def _attempt(step: Callable[[], str]) -> str:
    try:
        return step()
    except OSError as error:
        return f"failed: {error.strerror}"


def _new_session() -> str:
    os.setsid()
    return "own"


def _prefer_as_oom_victim() -> str:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    return "1000"


def _undumpable() -> str:
    _prctl(_PR_SET_DUMPABLE, 0)
    return "no" if _prctl(_PR_GET_DUMPABLE) == 0 else "yes"


def _limit(memory_bytes: int, cpu_seconds: int) -> str:
    """Set the limits; a limit that is lower already stays."""
    wanted = {
        "data": (resource.RLIMIT_DATA, memory_bytes, memory_bytes),
        "cpu": (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),
        "fsize": (resource.RLIMIT_FSIZE, 0, 0),
        "core": (resource.RLIMIT_CORE, 0, 0),
        "nofile": (resource.RLIMIT_NOFILE, DESCRIPTORS_MAX, DESCRIPTORS_MAX),
        "memlock": (resource.RLIMIT_MEMLOCK, 0, 0),
        "msgqueue": (resource.RLIMIT_MSGQUEUE, 0, 0),
    }
    in_force = []
    for name, (kind, soft, hard) in wanted.items():
        allowed = resource.getrlimit(kind)[1]
        if allowed != resource.RLIM_INFINITY:
            soft, hard = min(soft, allowed), min(hard, allowed)
        resource.setrlimit(kind, (soft, hard))
        in_force.append(f"{name}={resource.getrlimit(kind)[0]}")
    return " ".join(in_force)
