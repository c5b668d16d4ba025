"""A real sentinel process and raw connections to it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from casparian.control.client import Client, is_answering, open_socket
from casparian.paths import Home
from casparian.protocol import control, frame
from casparian.protocol.frame import Frame, FrameDecoder, Opcode
from tests.support.world import World, wait_until

ROOT = Path(__file__).parent.parent.parent


class Peer:
    """A connection that may say anything."""

    def __init__(self, home: Home) -> None:
        self.channel = open_socket(home)
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        self.channel.sendall(data)

    def ask(self, request: control.Request, number: int = 1) -> None:
        """A good request."""
        payload = control.encode(request)
        self.send(frame.encode(Opcode.CONTROL_REQUEST, payload, number=number))

    def frame(self) -> Frame | None:
        """Next frame; `None` when the sentinel hung up."""
        while not self._frames:
            try:
                data = self.channel.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def reply(self) -> control.Reply | None:
        """Next reply; `None` when the sentinel hung up."""
        while (heard := self.frame()) is not None:
            if heard.opcode is Opcode.CONTROL_REPLY:
                return control.decode_reply(heard.payload)
        return None

    def failure(self) -> str:
        """Code of the failure that is told."""
        reply = self.reply()
        assert isinstance(reply, control.Failure), reply
        return reply.code

    def close(self) -> None:
        """Hang up."""
        self.channel.close()


class Sentinel:
    """A sentinel of a world, started by the test."""

    def __init__(self, world: World, *arguments: str) -> None:
        self.home = Home.at(world.home)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.patched_sentinel", str(world.home), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )
        wait_until(lambda: is_answering(self.home) or self.process.poll() is not None)
        assert self.process.poll() is None, world.logs()
        self.peers: list[Peer] = []

    def peer(self) -> Peer:
        """A new connection; closed with the sentinel."""
        self.peers.append(Peer(self.home))
        return self.peers[-1]

    def works(self) -> bool:
        """Whether a good client is answered."""
        with Client.connect(self.home) as client:
            return client.hello().pid == self.process.pid

    def ask(self, request: control.Request, kind: Any) -> Any:
        """A good client's request."""
        with Client.connect(self.home) as client:
            return client.ask(request, kind)

    def descriptors(self) -> int:
        """Open descriptors of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_bytes(self) -> int:
        """Its resident anonymous memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def settle(self, descriptors: int) -> None:
        """Wait until what was closed is closed on its side as well."""
        wait_until(lambda: self.descriptors() <= descriptors)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        for peer in self.peers:
            peer.close()
        self.process.terminate()
        return self.process.wait()


def drip(channel: socket.socket, data: bytes, seconds: float) -> int:
    """Send one byte after another, slowly, until it is all sent or the other end hangs up; how many were sent."""
    for sent, byte in enumerate(data):
        try:
            channel.send(bytes([byte]))
        except OSError:
            return sent
        time.sleep(seconds)
    return len(data)
