"""Cancel means stop, with real processes: nothing of a cancelled job is ever visible, and what was committed is kept and said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.support.small import syslog_lines
from tests.support.world import World

BIG_LINES = 40_000  # a few seconds of work for one job


def big(world: World, name: str, *, times: int = 10) -> None:
    """A file that takes a parser a while."""
    content = syslog_lines(host=name, count=BIG_LINES // 10)
    world.file(f"{name}.log", content * times)


def wait_until(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so, or the command ends before (then the test cannot tell anything)."""
    while not what():
        if process.poll() is not None:
            pytest.fail(f"the run ended before: {process.communicate()}")


def jobs(world: World) -> list[dict]:
    return world.json("jobs")["jobs"]


def states(world: World) -> list[str]:
    return [job["state"] for job in jobs(world)]


def nothing_is_left(world: World) -> None:
    """No stage, no guest; doctor agrees."""
    assert not [p for p in world.home.rglob(".casparian-stage/*/*") if p.is_dir()]
    assert world.processes("guest") == []
    bad = [c["check"] for c in world.json("doctor", code=None)["checks"] if c["status"] == "fail"]
    assert not {"staging", "orphans", "outputs", "intents"} & set(bad)


@pytest.fixture
def served(world: World) -> World:
    """A world whose sentinel stays, with one worker."""
    world.json("sentinel", "start", "--workers", "1")
    return world


def test_a_running_job_is_cancelled_twice_without_a_trace(served: World) -> None:
    big(served, "big", times=40)
    process = served.start("run", str(served.evidence), "--json")
    wait_until(lambda: "running" in states(served), process)
    (job,) = jobs(served)
    done = served.json("jobs", "cancel", str(job["job_id"]), code=None)
    if "error" in done:
        assert done["error"]["code"] == "job.too_late"
        pytest.skip("the machine was faster than the cancel")
    assert done["count"] == 1
    again = served.json("jobs", "cancel", str(job["job_id"]))
    assert (again["count"], "already" in again["message"]) == (0, True)
    out, _ = process.communicate()
    assert json.loads(out)["jobs"]["aborted"] == 1
    assert states(served) == ["aborted"]
    assert served.json("outputs")["outputs"] == []
    nothing_is_left(served)
    assert served.run()["jobs"]["completed"] == 1, "the same evidence can be run again"


def test_ctrl_c_cancels_its_own_jobs_and_keeps_what_was_committed(served: World) -> None:
    served.file("a.log", syslog_lines(host="small", count=3))
    big(served, "b", times=40)
    process = served.start("run", str(served.evidence), "--batch-files", "1")
    wait_until(lambda: {"completed", "running"} <= set(states(served)), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, (out, err)
    assert "what was committed is kept: 1 job with 3 rows; 1 job cancelled" in out
    assert "Run the same command again" in out
    assert sorted(states(served)) == ["aborted", "completed"]
    assert served.query("SELECT count(*) FROM syslog_events") == [[3]]
    nothing_is_left(served)


def test_a_second_ctrl_c_leaves_at_once_and_the_sentinel_finishes_the_cancel(served: World) -> None:
    big(served, "a", times=40)
    process = served.start("run", str(served.evidence))
    wait_until(lambda: "running" in states(served), process)
    sentinel = served.processes("sentinel")
    for pid in sentinel:
        os.kill(pid, signal.SIGSTOP)  # it cannot answer: whoever waits for it waits for ever
    try:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "stopping" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        for pid in sentinel:
            os.kill(pid, signal.SIGCONT)
    assert process.returncode == 130, (out, err)
    while set(states(served)) & {"queued", "dispatched", "running", "committing"}:
        pass
    assert states(served) == ["aborted"]
    nothing_is_left(served)


def test_a_client_that_dies_leaves_its_run_going(served: World) -> None:
    big(served, "a")
    process = served.start("run", str(served.evidence), "--json")
    wait_until(lambda: bool(jobs(served)), process)
    process.kill()
    process.communicate()
    while states(served) != ["completed"]:
        assert states(served)[0] in ("queued", "dispatched", "running", "committing", "completed")
    result = served.run()
    assert result["reasons"] == {"done": 1}


def test_a_whole_run_is_cancelled_by_another_command(served: World) -> None:
    for name in "abcd":
        big(served, name)
    process = served.start("run", str(served.evidence), "--batch-files", "1", "--json")
    wait_until(lambda: len(jobs(served)) == 4, process)
    done = served.json("jobs", "cancel", "--run", jobs(served)[0]["run_id"])
    out, _ = process.communicate()
    result = json.loads(out)
    assert result["cancelled"] is True
    assert result["jobs"]["aborted"] == done["count"] > 0
    assert result["jobs"]["aborted"] + result["jobs"]["completed"] == 4
    listed = served.json("outputs")["outputs"]
    assert len({output["job_id"] for output in listed}) == result["jobs"]["completed"]
    nothing_is_left(served)


def test_what_is_completed_is_too_late_to_cancel_and_says_what_is_kept(served: World) -> None:
    served.file("a.log", syslog_lines(host="small", count=3))
    served.run()
    (job,) = jobs(served)
    refused = served.json("jobs", "cancel", str(job["job_id"]), code=8)
    assert refused["error"]["code"] == "job.too_late"
    assert "3 rows" in refused["error"]["message"]
    unknown = served.json("jobs", "cancel", "12345", code=2)
    assert unknown["error"]["code"] == "job.unknown"


def test_cancelled_jobs_are_retried_together_and_counted_once(served: World) -> None:
    for name in "abc":
        big(served, name)
    process = served.start("run", str(served.evidence), "--batch-files", "1", "--json")
    wait_until(lambda: len(jobs(served)) == 3, process)
    done = served.json("jobs", "cancel", "--all")
    process.communicate()
    cancelled = [str(job["job_id"]) for job in jobs(served) if job["state"] == "aborted"]
    assert len(cancelled) == done["count"]
    dry = served.json("jobs", "retry", *cancelled, "--dry-run")
    assert dry["count"] == len(cancelled)
    again = served.json("jobs", "retry", *cancelled)
    assert again["count"] == len(cancelled)
    while set(states(served)) != {"completed"}:
        assert not {"failed", "aborted"} & set(states(served))
    # Nobody waited for a run, so readers see the rows a moment after the jobs are on record as completed.
    while served.call("query", "FROM syslog_events LIMIT 0").returncode:
        assert states(served) == ["completed"] * 3
    assert served.query("SELECT count(*) FROM syslog_events") == [[3 * BIG_LINES]]
