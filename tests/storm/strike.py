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
from typing import NamedTuple

from casparian import ids
from casparian.control.client import Client
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import control
from tests.support.orders import Orders
from tests.support.world import World

LIVE = ("queued", "dispatched", "running", "committing")
_TICK_SECONDS = 0.004
_SPAN_SECONDS = 2.0  # about what a run over this evidence takes
_STAGED = r"/sink/\.casparian-stage/[^/]+/\d+\.\d+/"
_PROMOTE = "casparian._native.promote_noreplace"
_JOBS = "casparian.db.job_writer.JobWriter"
_DATABASE = "casparian.sinks.duckdb.DuckDbSink"


class Moment(NamedTuple):
    """A call of the sentinel at which it can be told to die."""

    name: str
    call: str
    match: str = ""
    sinks: tuple[str, ...] = ("parquet", "csv", "duckdb")
    modes: tuple[str, ...] = ("append", "replace", "error")


_COMMITTING = (
    Moment("in T1", f"{_JOBS}._begin_commit"),
    Moment("at a promotion", _PROMOTE, _STAGED, ("parquet", "csv")),
    Moment("at the sink's transaction", f"{_DATABASE}.commit", sinks=("duckdb",)),
    Moment("in T2", f"{_JOBS}._finish_commit"),
)
_LATER = (
    Moment("at a publication", f"{_DATABASE}.publish", sinks=("duckdb",)),
    Moment("at the swap of the catalog", "os.replace", r"/catalog\.duckdb$"),
    Moment("at the removal of a stage", "shutil.rmtree", r"/\.casparian-stage/"),
    Moment("at a rewritten file", _PROMOTE, r"r\d+\.csv$", ("csv",), ("replace",)),
    Moment(
        "at the removal of a file",
        "os.unlink",
        r"/sink/[^/.]+\.\w+$",
        ("parquet", "csv"),
        ("replace",),
    ),
)
_RECOVERY = (Moment("at the sweep", "casparian.sentinel.recovery._sweep"), *_COMMITTING[1:])


class Strikes:
    """Strikes at one home.

    Args:
        world: whose processes.
        sink: where its sink's files lie.
        kind: of the sink.
        mode: of the runs.
        orders: what the world's sentinels obey.
        dice: decides everything.
        count: what happened, by name.
    """

    def __init__(
        self,
        world: World,
        sink: Path,
        kind: str,
        mode: str,
        orders: Orders,
        dice: random.Random,
        count: Counter[str],
    ) -> None:
        self._world = world
        self._sink = sink
        self._kind = kind
        self._mode = mode
        self._orders = orders
        self._dice = dice
        self._count = count
        self.sentinels_killed_ns: list[int] = []

    def kill(self, clients: list[subprocess.Popen[str]]) -> int:
        """SIGKILL one process at a moment drawn at random, or two; 0 when the clients were done before it came."""
        aim = self._dice.choices(
            (
                self._at_any_time,
                self._one_of,
                self._a_guest,
                self._everything,
                self._while_publishing,
                self._while_staged,
                self._at_a_call,
                self._too_late_for_a_cancel,
            ),
            weights=(2, 3, 2, 1, 1, 1, 6, 2),
        )[0]
        found = aim(clients)
        for name in found:
            self._count[f"kill {name}"] += 1
        return len(found)

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
        self._cancel(self._dice.choice(live))
        return True

    def _cancel(self, chosen: int) -> None:
        code = self._ask(control.CancelJob(request_id=ids.new_request_id(), job_id=chosen))
        self._count["cancel"] += 1
        if code == "job.too_late":
            self._count["too late"] += 1

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

    def _at_any_time(self, clients: list[subprocess.Popen[str]]) -> list[str]:
        time.sleep(self._dice.random() * _SPAN_SECONDS)
        found: list[str] = []

        def present() -> bool:
            found[:] = sorted({kind for _, kind in self._world.alive()})
            return bool(found)

        if not self._wait(clients, present):
            return []
        role = self._dice.choice(found)
        return [role] if self._kill_role(role) else []

    def _one_of(self, clients: list[subprocess.Popen[str]]) -> list[str]:
        role = self._dice.choice(("sentinel", "worker", "zygote"))
        if not self._wait(clients, lambda: bool(self._world.processes(role))):
            return []
        time.sleep(self._dice.random() * 0.3)
        return [role] if self._kill_role(role) else []

    def _a_guest(self, clients: list[subprocess.Popen[str]]) -> list[str]:
        """A guest may live for a few milliseconds only: no search through all processes, only its zygote's children."""
        skipped = self._dice.randrange(6)
        seen: set[int] = set()

        def killed() -> bool:
            for zygote in self._world.processes("zygote"):
                for _ in range(200):
                    for guest in _children(zygote):
                        if guest not in seen:
                            seen.add(guest)
                            if len(seen) > skipped:
                                with contextlib.suppress(ProcessLookupError):
                                    os.kill(guest, signal.SIGKILL)
                                    return True
                    time.sleep(0.001)
            return False

        return ["guest"] if self._wait(clients, killed) else []

    def _everything(self, clients: list[subprocess.Popen[str]]) -> list[str]:
        """Sentinel, workers, zygotes and guests, one right after the other."""
        if not self._wait(clients, lambda: bool(self._world.processes("guest"))):
            return []
        time.sleep(self._dice.random() * 0.5)
        victims = self._world.alive()
        self._dice.shuffle(victims)
        for pid, _ in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.sentinels_killed_ns.append(time.time_ns())
        return ["everything"] if victims else []

    def _while_publishing(self, clients: list[subprocess.Popen[str]]) -> list[str]:
        patterns = ("*.publish-*", "*.work.wal", ".casparian-stage/*/rewrite/*")

        def begun() -> bool:
            new = self._world.home.glob("catalog.duckdb.new")
            return any(new) or any(any(self._sink.glob(pattern)) for pattern in patterns)

        if not self._wait(clients, begun):
            return []
        return ["sentinel"] if self._kill_role("sentinel") else []

    def _while_staged(self, clients: list[subprocess.Popen[str]]) -> list[str]:
        if not self._wait(clients, lambda: any(self._sink.glob(".casparian-stage/*/*.*/*"))):
            return []
        time.sleep(self._dice.random() * 0.4)
        return ["sentinel"] if self._kill_role("sentinel") else []

    def _at_a_call(self, clients: list[subprocess.Popen[str]]) -> list[str]:
        """The sentinel dies at one call; now and then the next one as well, in its recovery."""
        found = []
        moment = self._moment(self._dice.choice((_COMMITTING, _COMMITTING, _LATER)))
        if self._dies(clients, moment):
            found.append(f"sentinel {moment.name}")
            if self._dice.random() < 0.4:
                moment = self._moment(_RECOVERY)
                if self._dies(clients, moment):
                    found.append(f"sentinel again, {moment.name}")
        return found

    def _moment(self, among: tuple[Moment, ...]) -> Moment:
        fitting = [m for m in among if self._kind in m.sinks and self._mode in m.modes]
        return self._dice.choice(fitting)

    def _dies(self, clients: list[subprocess.Popen[str]], moment: Moment) -> bool:
        when = self._dice.choice(("before", "after"))
        self._orders.give(moment.call, moment.match, when, "die")
        try:
            if not self._wait(clients, lambda: self._orders.taken):
                return self._orders.taken
            self.sentinels_killed_ns.append(time.time_ns())
            return True
        finally:
            self._orders.withdraw()

    def _too_late_for_a_cancel(self, clients: list[subprocess.Popen[str]]) -> list[str]:
        """A promotion is held up: a cancel then comes too late, and a crash then is made good by recovery."""
        moment = self._moment(_COMMITTING[1:3])
        self._orders.give(moment.call, moment.match, "before", "wait")
        try:
            if not self._wait(clients, lambda: self._orders.taken):
                return []
            for job in self._jobs("committing")[:2]:
                self._cancel(job)
            if self._dice.random() < 0.6 and self._kill_role("sentinel"):
                return ["sentinel while committing"]
            return []
        finally:
            self._orders.withdraw()

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


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []
