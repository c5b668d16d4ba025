"""A drain of a real sentinel: jobs finish, the queue waits, and a kill in the middle loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casparian.control import autostart, draining
from casparian.control.client import Client, is_answering
from casparian.control.draining import StillRunningError
from casparian.errors import CasparianError, Conflict
from casparian.paths import Home
from casparian.protocol import control
from tests.support.small import syslog_lines
from tests.support.world import World, wait_until

FILES = 6
ROWS = 4000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    for number in range(FILES):
        made.file(f"messages{number}", syslog_lines(host=f"host{number}", count=ROWS))
    yield made
    made.stop()


def home_of(world: World) -> Home:
    return Home.at(world.home)


def busy(world: World) -> bool:
    """Whether a job runs."""
    try:
        with Client.connect(home_of(world)) as client:
            return bool(client.hello().jobs.get("running"))
    except CasparianError:
        return False


def begin(world: World) -> None:
    """A sentinel with one worker, one job a file, and the first of them under way."""
    world.json("sentinel", "start", "--workers", "1")
    running = world.start("run", str(world.evidence), "--batch-files", "1", "--json")
    threading.Thread(target=running.communicate, daemon=True).start()
    wait_until(lambda: busy(world))


def states(world: World) -> list[str]:
    return sorted(job["state"] for job in world.json("jobs", "list")["jobs"])


def test_jobs_finish_the_queue_waits_and_the_next_sentinel_does_the_rest(world: World) -> None:
    begin(world)
    said: list[str] = []
    heard: list[control.Draining] = []
    status = draining.drain(home_of(world), said.append, on_event=heard.append)
    assert status is not None
    assert not is_answering(home_of(world))
    assert not world.alive(), "sentinel and workers are gone, and no command started others"
    assert heard
    assert heard[0].jobs >= 1
    assert said
    assert said[0].startswith("waiting for ")
    assert world.run()["jobs"]["failed"] == 0
    rows = world.column("SELECT count(*) FROM syslog_events")
    assert rows == [FILES * ROWS], "each line once"


def test_who_lets_go_of_a_sentinel_that_was_drained_starts_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_of(world)
    started: list[Home] = []
    with autostart.connect(home, workers=1) as client:
        assert draining.drain(home) is not None
        start = autostart.start

        def counted(home: Home, **options: Any) -> socket.socket:
            started.append(home)
            return start(home, **options)

        monkeypatch.setattr(autostart, "start", counted)
        autostart.release(client, home)
    assert not started
    assert not world.alive()


def test_no_sentinel_is_no_fault(world: World) -> None:
    assert draining.drain(home_of(world)) is None
    assert world.json("sentinel", "drain")["drained"] is False
    assert world.call("sentinel", "resume").returncode == 3


def test_time_that_is_up_says_what_runs_and_a_drain_can_be_taken_back(world: World) -> None:
    begin(world)
    with pytest.raises(StillRunningError) as caught:
        draining.drain(home_of(world), timeout_seconds=0)
    assert caught.value.code == "sentinel.still_running"
    with Client.connect(home_of(world)) as client:
        assert client.hello().draining
        with pytest.raises(CasparianError) as refused:
            client.ask(control.Scan(request_id="s", evidence=b"/tmp"), control.ScanResult)
        assert refused.value.code == "sentinel.draining"
    assert draining.resume(home_of(world))
    assert not draining.resume(home_of(world))
    wait_until(lambda: states(world) == ["completed"] * FILES)


def test_killed_in_the_middle_of_a_drain_nothing_is_lost(world: World) -> None:
    begin(world)
    with pytest.raises(StillRunningError):
        draining.drain(home_of(world), timeout_seconds=0)
    (sentinel,) = world.processes("sentinel")
    os.kill(sentinel, signal.SIGKILL)
    wait_until(lambda: sentinel not in world.processes("sentinel"))
    assert world.run()["jobs"]["failed"] == 0
    assert world.column("SELECT count(*) FROM syslog_events") == [FILES * ROWS]


def test_while_it_is_paused_no_sentinel_starts(world: World) -> None:
    world.json("sentinel", "start")
    home = home_of(world)
    with draining.paused(home) as status:
        assert status is not None
        with pytest.raises(Conflict), draining.paused(home):
            pass
        waiting = world.start("sentinel", "start")
        wait_until(lambda: "sentinel.running" in (home.logs / "sentinel.out").read_text())
        assert not is_answering(home)
    said, _ = waiting.communicate()
    assert waiting.returncode == 0, said
    assert is_answering(home), "who wanted one waited for the end of the pause"
