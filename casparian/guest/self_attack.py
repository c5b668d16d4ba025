"""Attacks on the host by our own code, from inside a guest that is confined as every guest is.

Each one is small, does no lasting harm when it works, and is undone or ends with the guest. What came
of it is told to the host, which looks for the effect from outside where there is one: `worker.self_attack`.
An attack that needs a system call for which Python has no function uses `ctypes` when the interpreter
can still load it; that it cannot is an answer as well.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import socket
from collections.abc import Callable, Mapping
from typing import Final

from casparian.domain.parsers import ConfigValue

DONE: Final = "done"
CHILD_EXIT_CODE: Final = 93
INPUT_BYTES: Final = b"casparian self-attack\n"
READABLE: Final = "readable"  # names in the directory that the host makes
VICTIM: Final = "victim"
PLANTED: Final = "planted"

# What a wall answers. Any other number says that the attack is broken, and proves nothing.
_WALLS: Final = frozenset(
    {
        errno.EPERM,
        errno.EACCES,
        errno.ENOSYS,
        errno.EBADF,
        errno.ENOMEM,
        errno.EFBIG,
        errno.ENOENT,  # a mount namespace without the path
        errno.EROFS,
        errno.EAGAIN,  # fork against RLIMIT_NPROC
        errno.ENETUNREACH,  # a network namespace without a way out
        errno.ECONNREFUSED,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
    }
)
_PTRACE_SEIZE: Final = 0x4206  # attaches without stopping the other; let go when this process ends
_PR_SET_PDEATHSIG: Final = 1
_LIMIT_FACTOR: Final = 4


class Aim:
    """What the host prepared: see `worker.self_attack`."""

    def __init__(self, config: Mapping[str, ConfigValue], descriptor: int) -> None:
        self.directory = str(config["directory"])
        self.tcp_port = int(config["tcp_port"])
        self.udp_port = int(config["udp_port"])
        self.unix_name = str(config["unix_name"])
        self.host_pid = int(config["host_pid"])
        self.memory_bytes = int(config["memory_bytes"])
        self.token = str(config["token"]).encode()
        self.input = descriptor

    def path(self, name: str) -> str:
        """A path in the directory that every user may write to."""
        return os.path.join(self.directory, name)


def attack(name: str, config: Mapping[str, ConfigValue], descriptor: int) -> str:
    """Try one attack: `done`, `denied ERRNO`, or why it could not be tried."""
    try:
        _ATTACKS[name](Aim(config, descriptor))
    except OSError as error:
        number = error.errno or 0
        word = "denied" if number in _WALLS else "unproven"
        return f"{word} {errno.errorcode.get(number, str(number))}"
    except MemoryError:
        return "denied ENOMEM"
    except ImportError:
        return "denied ctypes cannot be loaded"
    return DONE


def _open_file(aim: Aim) -> None:
    os.close(os.open(aim.path(READABLE), os.O_RDONLY))


def _list_directory(aim: Aim) -> None:
    os.listdir(aim.directory)


def _stat_path(aim: Aim) -> None:
    os.stat(aim.path(READABLE))


def _create_file(aim: Aim) -> None:
    os.close(os.open(aim.path(PLANTED), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _change_mode(aim: Aim) -> None:
    os.chmod(aim.path(READABLE), 0o600)


def _remove_file(aim: Aim) -> None:
    os.unlink(aim.path(VICTIM))


def _write_input(aim: Aim) -> None:
    os.write(aim.input, b"forged")


def _reopen_input(aim: Aim) -> None:
    os.close(os.open(f"/proc/self/fd/{aim.input}", os.O_WRONLY))


def _lock_input(aim: Aim) -> None:
    fcntl.flock(aim.input, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _tcp_connect(aim: Aim) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as channel:
        channel.connect(("127.0.0.1", aim.tcp_port))


def _udp_send(aim: Aim) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.sendto(aim.token, ("127.0.0.1", aim.udp_port))


def _unix_connect(aim: Aim) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.connect(f"\0{aim.unix_name}")


def _fork(aim: Aim) -> None:
    del aim
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _execute(aim: Aim) -> None:
    del aim
    os.execv("/bin/sh", ["sh", "-c", f"exit {CHILD_EXIT_CODE}"])  # noqa: S606 - the attack itself


def _spawn(aim: Aim) -> None:
    del aim
    os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 0"], {}), 0)


def _signal_parent(aim: Aim) -> None:
    del aim
    parent = os.getppid()
    if parent == 0:  # of another process namespace; 0 would mean this process's own group
        raise OSError(errno.ESRCH, "no parent")
    os.kill(parent, 0)


def _trace_parent(aim: Aim) -> None:
    del aim
    _call("ptrace", _PTRACE_SEIZE, os.getppid(), 0, 0)


def _read_process(aim: Aim) -> None:
    """The host's, then the zygote's: either is one too many."""
    try:
        _read_some(f"/proc/{aim.host_pid}/maps")
    except OSError:
        _read_some(f"/proc/{os.getppid()}/environ")


def _read_some(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.read(descriptor, 1)
    finally:
        os.close(descriptor)


def _set_user(aim: Aim) -> None:
    del aim
    os.setuid(0)


def _raise_limits(aim: Aim) -> None:
    del aim
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError as error:  # what Python makes of the kernel's EPERM
        raise PermissionError(errno.EPERM, str(error)) from error


def _outlive_parent(aim: Aim) -> None:
    del aim
    _call("prctl", _PR_SET_PDEATHSIG, 0, 0, 0)


def _allocate(aim: Aim) -> None:
    bytearray(_LIMIT_FACTOR * aim.memory_bytes)


def _share_memory(aim: Aim) -> None:
    mmap.mmap(-1, _LIMIT_FACTOR * aim.memory_bytes).close()


def _memory_file(aim: Aim) -> None:
    del aim
    descriptor = os.memfd_create("attack")
    try:
        os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


def _executable_memory(aim: Aim) -> None:
    del aim
    everything = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    mmap.mmap(-1, mmap.PAGESIZE, flags=flags, prot=everything).close()


def _call(function: str, *arguments: int) -> None:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    found = getattr(library, function)
    found.restype = (
        ctypes.c_int
    )  # of `prctl` the upper half means nothing; of `ptrace` the lower one is enough
    if found(*(ctypes.c_long(argument) for argument in arguments)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_ATTACKS: Final[dict[str, Callable[[Aim], None]]] = {
    "open_file": _open_file,
    "list_directory": _list_directory,
    "stat_path": _stat_path,
    "create_file": _create_file,
    "change_mode": _change_mode,
    "remove_file": _remove_file,
    "write_input": _write_input,
    "reopen_input": _reopen_input,
    "lock_input": _lock_input,
    "tcp_connect": _tcp_connect,
    "udp_send": _udp_send,
    "unix_connect": _unix_connect,
    "fork": _fork,
    "execute": _execute,
    "spawn": _spawn,
    "signal_parent": _signal_parent,
    "trace_parent": _trace_parent,
    "read_process": _read_process,
    "set_user": _set_user,
    "raise_limits": _raise_limits,
    "outlive_parent": _outlive_parent,
    "allocate": _allocate,
    "share_memory": _share_memory,
    "memory_file": _memory_file,
    "executable_memory": _executable_memory,
}
NAMES: Final = tuple(_ATTACKS)
