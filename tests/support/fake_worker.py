"""A worker that breaks the protocol, at one step, as often as it is told; then it is the real one.

    python fake_worker.py STATE -- <the real command line>

STATE is a directory: `plan` holds `HOW TIMES`; each start leaves a file behind.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec

HEADER = struct.Struct("!BBHQI")
IDENTIFY, DISPATCH, HEARTBEAT, CONCLUDE, ERR, ENV_READY = 1, 2, 4, 5, 6, 9


def pack(opcode: int, message: Any, number: int = 0, flags: int = 0) -> bytes:
    """A frame; `message` may be bytes that are no message."""
    payload = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
    return HEADER.pack(1, opcode, flags, number, len(payload)) + payload


class Channel:
    """The fake's end."""

    def __init__(self, descriptor: int, worker_id: str) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.worker_id = worker_id
        self.job_id = self.epoch = 0

    def send(self, data: bytes) -> None:
        """Raw bytes; the sentinel may have hung up."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.hang()

    def identify(self, **changes: Any) -> None:
        """As a good worker does."""
        import casparian

        who = {"epoch": 0, "worker_id": self.worker_id, "pid": os.getpid()}
        self.send(pack(IDENTIFY, {**who, "version": casparian.__version__, **changes}))

    def job(self) -> None:
        """Wait for a dispatch."""
        data = b""
        while len(data) < HEADER.size:
            data += self.socket.recv(HEADER.size - len(data)) or sys.exit(0)
        _, opcode, _, self.job_id, length = HEADER.unpack(data)
        assert opcode == DISPATCH
        payload = b""
        while len(payload) < length:
            payload += self.socket.recv(length - len(payload)) or sys.exit(0)
        self.epoch = msgspec.msgpack.decode(payload)["epoch"]

    def about(self, **changes: Any) -> dict[str, Any]:
        """The job and epoch that it was sent."""
        return {"epoch": self.epoch, "job_id": self.job_id, **changes}

    def beat(self, **changes: Any) -> None:
        """As a good worker does."""
        self.send(pack(HEARTBEAT, self.about(**changes), self.job_id))

    def conclude(self, number: int | None = None, **changes: Any) -> None:
        """A receipt that a good worker could give: the job was cancelled."""
        receipt = {"sources": [], "files": [], "isolation": {}, "code": "test.never"}
        message = self.about(receipt=receipt, **changes)
        self.send(pack(CONCLUDE, message, self.job_id if number is None else number))

    def hang(self) -> None:
        """Live on, silently: only a kill ends it."""
        while True:
            try:
                if not self.socket.recv(1 << 16):
                    sys.exit(0)
            except OSError:
                sys.exit(0)


def behave(how: str, channel: Channel) -> None:
    """Break the protocol."""
    at, _, what = how.partition(": ")
    if at == "before IDENTIFY":
        garbage(what, channel)
    channel.identify(**IDENTITIES.get(what, {}))
    if at == "IDENTIFY":
        garbage(what, channel)
    channel.job()
    if at == "after DISPATCH":
        garbage(what, channel)
    channel.beat()
    garbage(what, channel)


IDENTITIES: dict[str, dict[str, Any]] = {
    "another worker": {"worker_id": "w999"},
    "another version": {"version": "0.0.0"},
    "a name that is not text": {"worker_id": b"\xff"},
    "no name": {"worker_id": None},
}


def garbage(what: str, channel: Channel) -> None:
    """Say it, and wait to be killed."""
    match what:
        case "random bytes":
            channel.send(bytes(range(200, 256)) * 50)
        case "exit":
            sys.exit(3)
        case "close":
            channel.socket.shutdown(socket.SHUT_RDWR)
            os.kill(os.getpid(), 19)  # stopped: it would live on for ever
        case "half a frame and exit":
            channel.send(pack(CONCLUDE, bytes(500), channel.job_id)[:200])
            sys.exit(0)
        case "another protocol version":
            channel.send(HEADER.pack(2, HEARTBEAT, 0, channel.job_id, 0))
        case "an unknown opcode":
            channel.send(HEADER.pack(1, 77, 0, channel.job_id, 0))
        case "an opcode of the Control API":
            channel.send(pack(32, {"type": "shutdown"}, 1))
        case "an opcode of the bridge":
            channel.send(pack(50, b"x", channel.job_id))
        case "an environment that nobody asked for":
            ready = {"epoch": 0, "env_hash": "0" * 64, "state": "ready"}
            channel.send(pack(ENV_READY, ready))
        case "a dispatch":
            channel.send(pack(DISPATCH, b"\x80", channel.job_id))
        case "flags":
            channel.send(pack(HEARTBEAT, channel.about(), channel.job_id, flags=1))
        case "the longest length":
            channel.send(HEADER.pack(1, CONCLUDE, 0, channel.job_id, 2**32 - 1))
        case "a payload that is no MessagePack":
            channel.send(pack(HEARTBEAT, b"\xc1", channel.job_id))
        case "text that is not UTF-8":
            error = {"epoch": 0, "job_id": 0, "code": "WXYZ", "message": ""}
            channel.send(
                pack(ERR, msgspec.msgpack.encode(error).replace(b"WXYZ", b"\xff\xff\xfe\xfe"))
            )
        case "a deep payload":
            channel.send(pack(CONCLUDE, b"\x91" * 1_000_000, channel.job_id))
        case "a list of four billion":
            channel.send(pack(CONCLUDE, b"\xdd\xff\xff\xff\xff", channel.job_id))
        case "progress beyond 64 bits":
            channel.beat(progress={"rows": 2**64 - 1})
        case "progress below zero":
            channel.beat(progress={"rows": -5})
        case "another job":
            channel.send(
                pack(HEARTBEAT, channel.about(job_id=channel.job_id + 1), channel.job_id + 1)
            )
        case "another job in the header":
            channel.send(pack(HEARTBEAT, channel.about(), channel.job_id + 1))
        case "an older epoch":
            channel.conclude(epoch=channel.epoch - 1)
        case "a newer epoch":
            channel.conclude(epoch=channel.epoch + 1)
        case "a job that it never had":
            channel.send(pack(HEARTBEAT, {"epoch": 1, "job_id": 5}, 5))
        case "identify again":
            channel.identify()
        case "conclude another job in the header":
            channel.conclude(number=channel.job_id + 1)
        case "a receipt that is none":
            channel.send(pack(CONCLUDE, channel.about(receipt=7), channel.job_id))
    channel.hang()


def _main() -> None:
    state, real = Path(sys.argv[1]), sys.argv[3:]
    how, times = (state / "plan").read_text().rsplit("\n", 1)
    starts = len(list(state.glob("start-*")))
    (state / f"start-{starts}-{os.getpid()}").touch()
    if starts >= int(times):
        os.execv(real[0], real)
    descriptor = int(real[real.index("--channel-fd") + 1])
    behave(how, Channel(descriptor, real[real.index("--worker-id") + 1]))


if __name__ == "__main__":
    _main()
