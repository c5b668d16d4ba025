"""A worker that breaks the protocol dies, its job runs again elsewhere or is given up, and the sentinel goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from casparian.domain.jobs import ATTEMPTS_MAX
from casparian.domain.outputs import Sink, SinkKind
from casparian.protocol import control
from casparian.sinks.uri import default_settings
from tests.support.sentinel import ROOT, Sentinel
from tests.support.world import World

FAKE = ROOT / "tests" / "support" / "fake_worker.py"
LINE = b"<13>Jan  1 00:00:00 host app: hello\n"


class Hostile:
    """A sentinel whose workers are told how to behave, run after run."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        self.behave("", 0)
        self.world = World(directory)
        self.sentinel = Sentinel(self.world, "--worker", str(FAKE), str(self.state))
        self.runs = 0

    def behave(self, how: str, times: int) -> None:
        """What the next workers do."""
        for started in self.state.glob("start-*"):
            started.unlink()
        (self.state / "plan").write_text(f"{how}\n{times}")

    @property
    def starts(self) -> int:
        """How many workers were started since."""
        return len(list(self.state.glob("start-*")))

    def run(self) -> control.RunResult:
        """A run over new evidence."""
        self.runs += 1
        evidence = self.world.directory / f"evidence-{self.runs}"
        evidence.mkdir()
        (evidence / "syslog.log").write_bytes(LINE * (self.runs + 1))
        out = Sink(
            kind=SinkKind.PARQUET,
            location=str(self.world.directory / f"out-{self.runs}"),
            settings=default_settings(SinkKind.PARQUET),
        )
        request = control.Run(
            request_id=f"run {self.runs}", evidence=os.fsencode(evidence), sinks={"": out}
        )
        result: control.RunResult = self.sentinel.ask(request, control.RunResult)
        return result

    def job(self, result: control.RunResult) -> dict[str, object]:
        """The one job of a run."""
        read = control.Read(view="jobs", filters={"run_id": result.run_id})
        rows: control.Rows = self.sentinel.ask(read, control.Rows)
        assert len(rows.rows) == 1
        return dict(zip(rows.columns, rows.rows[0], strict=True))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    """One sentinel meets every bad worker of this module, one after another."""
    made = Hostile(tmp_path_factory.mktemp("workers"))
    assert made.run().jobs.completed == 1
    yield made
    assert made.sentinel.works()
    assert made.sentinel.stop() == 0


@pytest.fixture(autouse=True)
def _no_worker_yet(hostile: Hostile) -> None:
    """The next job starts a worker of the kind that the test asks for."""
    for pid in hostile.world.processes("worker"):
        os.kill(pid, 9)


STEPS = [
    "IDENTIFY: identify again",
    "IDENTIFY: a job that it never had",
    "IDENTIFY: half a frame and exit",
    "after DISPATCH: random bytes",
    "after DISPATCH: exit",
    "after DISPATCH: close",
    "after DISPATCH: identify again",
    "after DISPATCH: another job",
    "after DISPATCH: an older epoch",
    "after DISPATCH: progress beyond 64 bits",
    "in a job: random bytes",
    "in a job: half a frame and exit",
    "in a job: another protocol version",
    "in a job: an unknown opcode",
    "in a job: an opcode of the Control API",
    "in a job: an opcode of the bridge",
    "in a job: a dispatch",
    "in a job: an environment that nobody asked for",
    "in a job: flags",
    "in a job: the longest length",
    "in a job: a payload that is no MessagePack",
    "in a job: text that is not UTF-8",
    "in a job: a deep payload",
    "in a job: a list of four billion",
    "in a job: progress below zero",
    "in a job: another job in the header",
    "in a job: a newer epoch",
    "in a job: conclude another job in the header",
    "in a job: a receipt that is none",
]


@pytest.mark.parametrize("how", STEPS)
def test_the_job_runs_again_on_a_good_worker(hostile: Hostile, how: str) -> None:
    hostile.behave(how, 1)
    result = hostile.run()
    assert (result.jobs.completed, result.jobs.failed) == (1, 0), hostile.world.logs()
    assert result.outputs[0].rows == hostile.runs + 1  # exactly once
    assert hostile.starts == 2
    if not how.startswith("IDENTIFY"):
        assert hostile.job(result)["epoch"] == 2


BEFORE = [
    "before IDENTIFY: random bytes",
    "before IDENTIFY: exit",
    "before IDENTIFY: a job that it never had",
    "before IDENTIFY: an opcode of the Control API",
    "IDENTIFY: another worker",
    "IDENTIFY: another version",
    "IDENTIFY: a name that is not text",
    "IDENTIFY: no name",
]


@pytest.mark.parametrize("how", BEFORE)
def test_a_worker_that_is_not_ours_gets_no_job(hostile: Hostile, how: str) -> None:
    hostile.behave(how, 1)
    result = hostile.run()
    assert result.jobs.completed == 1, hostile.world.logs()
    assert hostile.starts == 2
    assert hostile.job(result)["epoch"] == 1


def test_a_job_whose_workers_all_break_is_given_up_and_the_next_runs(hostile: Hostile) -> None:
    hostile.behave("in a job: random bytes", ATTEMPTS_MAX)
    result = hostile.run()
    assert (result.jobs.completed, result.jobs.failed) == (0, 1)
    job = hostile.job(result)
    assert (job["state"], job["epoch"], job["code"]) == ("failed", ATTEMPTS_MAX, "worker.lost")
    assert "broke the protocol" in str(job["message"])
    assert hostile.run().jobs.completed == 1


def test_nothing_is_left_of_bad_workers(hostile: Hostile) -> None:
    hostile.run()
    descriptors, memory = hostile.sentinel.descriptors(), hostile.sentinel.memory_bytes()
    for how in ("in a job: random bytes", "in a job: a deep payload", "after DISPATCH: close"):
        os.kill(hostile.world.processes("worker")[0], 9)
        hostile.behave(how, 1)
        assert hostile.run().jobs.completed == 1
    hostile.sentinel.settle(descriptors)
    assert hostile.sentinel.memory_bytes() < memory + 64 * 1024 * 1024
    assert len(hostile.world.processes("worker")) == 1
