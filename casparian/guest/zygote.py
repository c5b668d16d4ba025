"""The zygote: a fresh, single-threaded interpreter that has everything loaded and forks one guest a request.

It never reads evidence and never decodes a batch. Before its first fork it gives up what no guest may have: root, by becoming
another user; every capability; and, where the host allows it, the host's namespaces. It dies with the worker that started it (end
of its channel, and the kernel's death signal); its guests die with it. A second thread would make a fork unsafe: then it refuses,
and the worker replaces it.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from typing import Final, NoReturn

from casparian import _native
from casparian.guest import descriptors, messages, programs
from casparian.guest.bridge import Bridge, HostGone
from casparian.guest.confine import BRIDGE_FD, confine
from casparian.guest.job import leave, run_job
from casparian.guest.messages import (
    ForkFailed,
    ForkGuest,
    GuestExited,
    GuestForked,
    ZygoteFailed,
    ZygoteReady,
)
from casparian.guest.preload import (
    PreloadError,
    of_environment,
    preload,
    preload_environment,
    preload_lean,
    threads,
)

_PEER_CREDENTIALS: Final = struct.Struct("3i")
# `os.wait4` imports it when it is first called, and by then this process may not be able to read its own files.
_WAIT_NEEDS: Final = resource
# What compiled modules are linked with, where the dynamic loader looks for it.
_LIBRARIES: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
)
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GUEST_FAILED: Final = 70
_ZYGOTE_FAILED: Final = 71


class Zygote:
    """Serves fork requests on one channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._guests: dict[int, int] = {}  # pidfd -> pid
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)

    def serve(self) -> None:
        """Run until the worker closes the channel."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._guests:
                    self._reap(descriptor)
                elif not self._answer():
                    return

    def _answer(self) -> bool:
        packet, received = descriptors.receive(self._channel, messages.PACKET_BYTES_MAX, 3)
        if not packet:
            return False
        request = messages.decode_fork(packet)
        try:
            if len(received) not in ((2, 3) if request.program else (2,)):
                raise RuntimeError(f"{len(received)} descriptors for a guest")
            self._fork(request, *received)
        except (OSError, RuntimeError) as error:
            self._channel.send(
                messages.encode(ForkFailed(request=request.request, message=str(error)))
            )
        finally:
            descriptors.close_all(received)
        return True

    def _fork(
        self, request: ForkGuest, bridge_fd: int, log_fd: int, program_fd: int | None = None
    ) -> None:
        if threads() != 1:
            raise RuntimeError(f"the zygote has {threads()} threads: a fork would not be safe")
        zygote = os.getpid()
        launch = programs.Launch(program_fd) if request.program else None
        pid = os.fork()
        if pid == 0:
            become_guest(request, bridge_fd, log_fd, zygote, launch)
        pidfd = os.pidfd_open(pid)
        self._guests[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)
        record = {} if launch is None else launch.supervise(pid, pidfd)
        forked = messages.encode(GuestForked(request=request.request, pid=pid, isolation=record))
        socket.send_fds(self._channel, [forked], [pidfd])

    def _reap(self, pidfd: int) -> None:
        pid = self._guests.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        exited = GuestExited(
            pid=pid,
            status=status,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            memory_peak_bytes=usage.ru_maxrss * 1024,
        )
        self._channel.send(messages.encode(exited))


def become_guest(
    request: ForkGuest,
    bridge_fd: int,
    log_fd: int,
    zygote: int,
    launch: programs.Launch | None = None,
) -> NoReturn:
    """All that a guest does, from its first instruction to its last. Never returns into the zygote's loop."""
    status = _GUEST_FAILED
    try:
        isolation = confine(
            parent_pid=zygote,
            bridge_fd=bridge_fd,
            log_fd=log_fd,
            memory_bytes=request.memory_bytes,
            cpu_seconds=request.cpu_seconds,
            supervisor_fd=None if launch is None else launch.supervisor_fd,
            program_fd=None if launch is None else launch.program_fd,
        )
        if launch is not None:
            launch.go(isolation)
        with socket.socket(fileno=BRIDGE_FD) as channel:
            run_job(Bridge(channel), isolation)
        status = 0
    except HostGone:
        status = 0
    except BaseException:  # noqa: BLE001 - the last border of the process: it goes to the log, and the host sees the exit code
        traceback.print_exc()
    finally:
        leave(status)
    raise AssertionError("unreachable")


def main(
    channel_fd: int,
    user: tuple[int, int] | None,
    modules: tuple[str, ...],
    *,
    environment: str = "",
    lean: bool = False,
) -> None:
    """Load everything, give up every right, say so, and serve.

    Args:
        channel_fd: SEQPACKET socket to the worker.
        user: uid and gid to become; needed by root, refused to everybody else.
        modules: what parsers ask for beyond what every guest has.
        environment: folder of the packages that some of them are in.
        lean: its guests run no parser: see `preload_lean`.
    """
    channel = socket.socket(fileno=channel_fd)
    # The worker made the channel, so its credentials name the worker.
    credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.dont_write_bytecode = True
    packages = tuple(name for name in modules if environment and of_environment(name))
    try:
        own = tuple(name for name in modules if name not in packages)
        loaded = preload_lean() if lean else preload(own)
        threads()  # from here on it knows where to look
        # While it may: the home may be closed to the other user.
        folder = os.open(environment, _FOLDER_FLAGS) if environment else -1
        # After our own imports: the other user need not be able to read our files.
        _native.isolate_zygote(parent_pid=_PEER_CREDENTIALS.unpack(credentials)[0], user=user)
        _native.prepare_confinement()
        if environment:
            site = f"/proc/self/fd/{folder}"
            _native.wall_imports([site, *_LIBRARIES, sys.prefix, sys.base_prefix])
            loaded = preload_environment(packages, site)
    except PreloadError as error:
        channel.send(messages.encode(ZygoteFailed(code="parser.preload", message=str(error))))
        leave(_ZYGOTE_FAILED)
    except (OSError, RuntimeError) as error:
        failed = ZygoteFailed(
            code="guest.confinement", message=f"no guest can be confined: {error}"
        )
        channel.send(messages.encode(failed))
        leave(_ZYGOTE_FAILED)
    channel.send(messages.encode(ZygoteReady(pid=os.getpid(), modules=loaded)))
    try:
        Zygote(channel).serve()
    except (BrokenPipeError, ConnectionResetError):
        leave(0)  # the worker is gone
    leave(0)
