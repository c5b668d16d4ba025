"""What happens to the processes of a home while they work: each strike finds its moment, acts, and is counted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from casparian import ids
from casparian.control.client import Client
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import control
from tests.support.world import World

LIVE = ("queued", "dispatched", "running", "committing")
_TICK_SECONDS = 0.004
_SPAN_SECONDS = 2.5  # about what a run over this evidence takes


class Strikes:
    """Strikes at one home.

    Args:
        world: whose processes.
        sink: where its sink's files lie.
        dice: decides everything.
        count: what happened, by name.
    """

    def __init__(self, world: World, sink: Path, dice: random.Random, count: Counter[str]) -> None:
        self._world = world
        self._sink = sink
        self._dice = dice
        self._count = count
        self.sentinels_killed_ns: list[int] = []

    def kill(self, clients: list[subprocess.Popen[str]]) -> bool:
        """SIGKILL one process at a moment drawn at random; `False` when the clients were done before it came."""
        aim = self._dice.choices(
            (self._at_any_time, self._one_of, self._while_publishing, self._while_staged),
            weights=(3, 5, 1, 2),
        )[0]
        role = aim(clients)
        if role is None:
            return False
        self._count[f"kill {role}"] += 1
        return True

    def kill_the_newborn(self, clients: list[subprocess.Popen[str]]) -> bool:
        """Kill a sentinel that has only just begun: in the middle of its recovery, as often as not."""
        if not self._wait(clients, lambda: bool(self._world.processes("sentinel"))):
            return False
        time.sleep(self._dice.random() * 0.7)
        if not self._kill_role("sentinel"):
            return False
        self._count["kill sentinel at its start"] += 1
        return True

    def kill_a_client(self, clients: list[subprocess.Popen[str]]) -> bool:
        """SIGKILL of `casparian run` itself: the sentinel goes on without it."""
        time.sleep(self._dice.random() * _SPAN_SECONDS)
        alive = [client for client in clients if client.poll() is None]
        if not alive:
            return False
        self._dice.choice(alive).kill()
        self._count["kill run"] += 1
        return True

    def interrupt(self, clients: list[subprocess.Popen[str]]) -> bool:
        """Ctrl-C of a client, now and then twice."""
        time.sleep(self._dice.random() * _SPAN_SECONDS)
        alive = [client for client in clients if client.poll() is None]
        if not alive:
            return False
        chosen = self._dice.choice(alive)
        for _ in range(self._dice.choice((1, 1, 2))):
            chosen.send_signal(signal.SIGINT)
            time.sleep(0.05)
        self._count["ctrl-C"] += 1
        return True

    def cancel(self, clients: list[subprocess.Popen[str]]) -> bool:
        """`jobs cancel` of a live job, whatever it is doing."""
        live: list[int] = []

        def find() -> bool:
            live[:] = self._jobs(*LIVE)
            return bool(live)

        if not self._wait(clients, find):
            return False
        time.sleep(self._dice.random() * 0.2)
        chosen = self._dice.choice(live)
        code = self._ask(control.CancelJob(request_id=ids.new_request_id(), job_id=chosen))
        self._count["cancel"] += 1
        if code == "job.too_late":
            self._count["too late"] += 1
        return True

    def retry(self, among: Callable[[int], bool]) -> bool:
        """`jobs retry` of a job that failed or was cancelled."""
        ended = [job for job in self._jobs("failed", "aborted") if among(job)]
        if not ended:
            return False
        self._ask(
            control.RetryJob(request_id=ids.new_request_id(), job_id=self._dice.choice(ended))
        )
        self._count["retry"] += 1
        return True

    # -- moments

    def _at_any_time(self, clients: list[subprocess.Popen[str]]) -> str | None:
        time.sleep(self._dice.random() * _SPAN_SECONDS)
        found: list[str] = []

        def present() -> bool:
            found[:] = sorted({kind for _, kind in self._world.alive()})
            return bool(found)

        if not self._wait(clients, present):
            return None
        role = self._dice.choice(found)
        return role if self._kill_role(role) else None

    def _one_of(self, clients: list[subprocess.Popen[str]]) -> str | None:
        role = self._dice.choice(("sentinel", "worker", "zygote", "guest", "guest"))
        if not self._wait(clients, lambda: bool(self._world.processes(role))):
            return None
        if role != "guest":  # a guest may live for a few milliseconds only
            time.sleep(self._dice.random() * 0.3)
        return role if self._kill_role(role) else None

    def _while_publishing(self, clients: list[subprocess.Popen[str]]) -> str | None:
        places = [self._world.home.glob("catalog.duckdb.new")]
        patterns = ("*.publish-*", "*.work.wal", ".casparian-stage/*/rewrite/*")

        def begun() -> bool:
            places[0] = self._world.home.glob("catalog.duckdb.new")
            return any(places[0]) or any(any(self._sink.glob(pattern)) for pattern in patterns)

        if not self._wait(clients, begun):
            return None
        return "sentinel" if self._kill_role("sentinel") else None

    def _while_staged(self, clients: list[subprocess.Popen[str]]) -> str | None:
        if not self._wait(clients, lambda: any(self._sink.glob(".casparian-stage/*/*.*/*"))):
            return None
        time.sleep(self._dice.random() * 0.4)
        return "sentinel" if self._kill_role("sentinel") else None

    def _wait(self, clients: list[subprocess.Popen[str]], condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds; `False` when all clients ended before."""
        while any(client.poll() is None for client in clients):
            if condition():
                return True
            time.sleep(_TICK_SECONDS)
        return False

    def _kill_role(self, role: str) -> bool:
        pids = self._world.processes(role)
        self._dice.shuffle(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                if role == "sentinel":
                    self.sentinels_killed_ns.append(time.time_ns())
                return True
        return False

    # -- the sentinel that answers now, if one does

    def _jobs(self, *states: str) -> list[int]:
        try:
            with Client.connect(Home.at(self._world.home)) as client:
                rows = client.ask(control.Read(view="jobs"), control.Rows)
        except CasparianError:
            return []
        job, state = rows.columns.index("job_id"), rows.columns.index("state")
        return [row[job] for row in rows.rows if row[state] in states]

    def _ask(self, request: control.Request) -> str | None:
        """The code it is refused with, or `None`."""
        try:
            with Client.connect(Home.at(self._world.home)) as client:
                client.request(request)
        except CasparianError as error:
            return error.code
        return None
