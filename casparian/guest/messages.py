"""What worker and zygote say to each other: MessagePack over an AF_UNIX SEQPACKET pair, one message a packet.

Who sends what:
    zygote -> worker   ZygoteReady | ZygoteFailed              once: everything is loaded, every right given up
    worker -> zygote   ForkGuest + [bridge socket, log pipe]   descriptors by SCM_RIGHTS; the program as a third one
    zygote -> worker   GuestForked + [pidfd], or ForkFailed
    zygote -> worker   GuestExited                             when the guest was reaped
"""

from __future__ import annotations

from typing import Final

import msgspec

PACKET_BYTES_MAX: Final = 65_536


class ZygoteReady(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The zygote is loaded, unprivileged and single-threaded."""

    pid: int
    modules: int


class ZygoteFailed(msgspec.Struct, frozen=True, kw_only=True, tag="unfit"):
    """The zygote cannot serve and ends: `parser.preload` or `guest.confinement`."""

    code: str
    message: str


class ForkGuest(msgspec.Struct, frozen=True, kw_only=True, tag="fork"):
    """Fork a guest under these limits. They hold before the guest reads its first byte.

    `program`: under the filters of guests that become a program. When a third descriptor comes with it, it becomes that one;
    else it stays what it is, and can become none.
    """

    request: int
    memory_bytes: int
    cpu_seconds: int
    program: bool = False


class GuestForked(msgspec.Struct, frozen=True, kw_only=True, tag="forked"):
    """The guest exists; its pidfd travels beside this message.

    Of one that became a program `isolation` is the record of its lockdown, from our own code before it did.
    """

    request: int
    pid: int
    isolation: dict[str, str] = {}


class ForkFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """No guest: the fork failed, or the zygote is not single-threaded any more and must be replaced."""

    request: int
    message: str


class GuestExited(msgspec.Struct, frozen=True, kw_only=True, tag="exited"):
    """The guest was reaped. `status` is what `wait` gave: exit code or signal."""

    pid: int
    status: int
    cpu_seconds: float
    memory_peak_bytes: int


FromZygote = ZygoteReady | ZygoteFailed | GuestForked | ForkFailed | GuestExited

_from_zygote = msgspec.msgpack.Decoder(FromZygote)
_fork_guest = msgspec.msgpack.Decoder(ForkGuest)


def encode(message: msgspec.Struct) -> bytes:
    """One packet."""
    return msgspec.msgpack.encode(message)


def decode_from_zygote(packet: bytes) -> FromZygote:
    """Read a packet of the zygote; `msgspec.DecodeError` for anything else."""
    message: FromZygote = _from_zygote.decode(packet)
    return message


def decode_fork(packet: bytes) -> ForkGuest:
    """Read a packet of the worker; `msgspec.DecodeError` for anything else."""
    request: ForkGuest = _fork_guest.decode(packet)
    return request
