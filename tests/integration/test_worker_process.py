"""The worker as a process: what it says to the sentinel, and how it ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_world import World, home_at, rows

from casparian import processes
from casparian.paths import Home
from casparian.protocol import frame
from casparian.protocol.frame import Frame, FrameDecoder, Opcode
from casparian.protocol.worker import (
    Abort,
    Conclude,
    Dispatch,
    Heartbeat,
    Identify,
    WorkerError,
    decode,
    encode,
)
from casparian.worker.executor import Services
from tests.support import trusting_worker

SLOW = """
import time
from casparian.sdk import Row
def parse(ctx):
    yield "lines", Row(0, 4, {"number": 1})
    time.sleep(3600)
"""


class Sentinel:
    """The other end of a worker's channel."""

    def __init__(self, home: Home) -> None:
        self.channel, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            trusting_worker.command(
                home, "--channel-fd", str(theirs.fileno()), "--worker-id", "w1"
            ),
            pass_fds=[theirs.fileno()],
            env=processes.host_environment(),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

    def send(self, opcode: Opcode, message: Dispatch | Abort, job_id: int) -> None:
        self.channel.sendall(frame.encode(opcode, encode(message), number=job_id))

    def receive(self) -> Frame | None:
        """Next frame; `None` at the end of the channel."""
        while not self._frames:
            data = self.channel.recv(1 << 20)
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    def until(self, opcode: Opcode) -> tuple[Frame, list[Frame]]:
        """The next frame of a kind, and those before it."""
        before: list[Frame] = []
        while True:
            received = self.receive()
            assert received is not None, f"no {opcode.name} after {before}"
            if received.opcode is opcode:
                return received, before
            if (
                received.opcode is Opcode.CONCLUDE
            ):  # nothing would follow: say what happened instead of waiting
                receipt = decode(received.payload, Conclude).receipt
                pytest.fail(f"no {opcode.name}: the job ended, {receipt.code}: {receipt.message}")
            before.append(received)

    def close(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_at(tmp_path)


@pytest.fixture
def sentinel(home: Home) -> Iterator[Sentinel]:
    sentinel = Sentinel(home)
    yield sentinel
    sentinel.close()


@pytest.fixture
def world(tmp_path: Path, home: Home) -> World:
    return World(tmp_path, Services(home))  # its zygote is never started: jobs run in the process


def descendants(pid: int) -> list[int]:
    """Living processes below a process."""
    listing = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        number, parent, state = line.split()
        if not state.startswith("Z"):
            children.setdefault(int(parent), []).append(int(number))
    found, pending = [], [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def gone(pids: list[int]) -> bool:
    """Wait until none of these processes lives."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
        os.close(descriptor)
    return True


def begin(sentinel: Sentinel, world: World, source: bytes = b"one\ntwo\n") -> Dispatch:
    """Dispatch one job and see it accepted."""
    sentinel.until(Opcode.IDENTIFY)
    world.source(source)
    dispatch = world.dispatch()
    sentinel.send(Opcode.DISPATCH, dispatch, dispatch.job_id)
    accepted, before = sentinel.until(Opcode.HEARTBEAT)
    assert before == []
    beat = decode(accepted.payload, Heartbeat)
    assert (beat.job_id, beat.epoch) == (dispatch.job_id, dispatch.epoch)
    return dispatch


def until_it_parses(sentinel: Sentinel) -> None:
    """Wait for a heartbeat that reports a row."""
    while True:
        beat, _ = sentinel.until(Opcode.HEARTBEAT)
        if decode(beat.payload, Heartbeat).progress.rows:
            return


def test_worker_identifies_accepts_and_concludes(sentinel: Sentinel, world: World) -> None:
    identify = sentinel.receive()
    assert identify is not None
    who = decode(identify.payload, Identify)
    assert (who.worker_id, who.pid) == ("w1", sentinel.process.pid)
    for job_id in (11, 12):  # one after another, with the same zygote
        world.source(b"one\ntwo\n")
        dispatch = world.dispatch(job_id=job_id)
        sentinel.send(Opcode.DISPATCH, dispatch, job_id)
        accepted, before = sentinel.until(Opcode.HEARTBEAT)
        assert before == []
        assert accepted.number == job_id
        concluded, _ = sentinel.until(Opcode.CONCLUDE)
        conclude = decode(concluded.payload, Conclude)
        assert (conclude.job_id, conclude.epoch) == (job_id, dispatch.epoch)
        assert conclude.receipt.code is None
        assert rows(conclude.receipt, "lines")


def test_heartbeats_go_on_and_report_progress_while_a_guest_is_silent(
    sentinel: Sentinel, world: World
) -> None:
    world.parser(SLOW)
    begin(sentinel, world)
    until_it_parses(sentinel)
    sentinel.until(Opcode.HEARTBEAT)


def test_abort_kills_the_guests_and_removes_the_stage(sentinel: Sentinel, world: World) -> None:
    world.parser(SLOW)
    dispatch = begin(sentinel, world)
    until_it_parses(sentinel)
    running = descendants(sentinel.process.pid)
    assert len(running) == 4  # parser and accountant, each with its zygote
    sentinel.send(Opcode.ABORT, Abort(epoch=3, job_id=dispatch.job_id), dispatch.job_id)
    concluded, _ = sentinel.until(Opcode.CONCLUDE)
    receipt = decode(concluded.payload, Conclude).receipt
    assert receipt.code == "job.aborted"
    assert receipt.files == ()
    assert len(descendants(sentinel.process.pid)) == 2
    assert world.staged() == []


def test_abort_of_another_epoch_or_job_changes_nothing(sentinel: Sentinel, world: World) -> None:
    world.parser("""
        import time
        from casparian.sdk import Row
        def parse(ctx):
            yield "lines", Row(0, 4, {"number": 1})
            time.sleep(0.5)
            yield "lines", Row(4, 4, {"number": 2})
    """)
    dispatch = begin(sentinel, world)
    sentinel.send(Opcode.ABORT, Abort(epoch=2, job_id=dispatch.job_id), dispatch.job_id)
    sentinel.send(Opcode.ABORT, Abort(epoch=3, job_id=99), 99)
    concluded, _ = sentinel.until(Opcode.CONCLUDE)
    assert decode(concluded.payload, Conclude).receipt.code is None


def test_worker_and_guests_end_with_the_sentinel(sentinel: Sentinel, world: World) -> None:
    world.parser(SLOW)
    begin(sentinel, world)
    until_it_parses(sentinel)
    running = descendants(sentinel.process.pid)
    sentinel.channel.close()
    assert sentinel.process.wait() == 0
    assert gone(running)


def test_killed_worker_takes_its_guests_with_it(sentinel: Sentinel, world: World) -> None:
    world.parser(SLOW.replace("time.sleep(3600)", "\n    while True: pass"))
    begin(sentinel, world)
    until_it_parses(sentinel)
    running = descendants(sentinel.process.pid)
    assert len(running) == 4
    sentinel.process.kill()
    sentinel.process.wait()
    assert gone(running)


@pytest.mark.parametrize("busy", [True, False])
def test_sigterm_ends_a_worker_cleanly_and_sigint_does_not(
    sentinel: Sentinel, world: World, busy: bool
) -> None:
    world.parser(SLOW)
    if busy:
        begin(sentinel, world)
        until_it_parses(sentinel)
    else:
        sentinel.until(Opcode.IDENTIFY)
    running = descendants(sentinel.process.pid)
    sentinel.process.send_signal(signal.SIGINT)
    sentinel.process.send_signal(signal.SIGTERM)
    assert sentinel.process.wait() == 0
    assert gone(running)
    assert world.staged() == []


BROKEN = {
    "random bytes": b"\xff" * 64,
    "a frame for the sentinel": frame.encode(Opcode.CONCLUDE, b"x"),
    "a dispatch that is none": frame.encode(Opcode.DISPATCH, b"\x80", number=7),
    "a payload that is no MessagePack": frame.encode(Opcode.DISPATCH, b"\xc1", number=7),
    "text that is not UTF-8": frame.encode(
        Opcode.DISPATCH, b"\x82\xa5epoch\x01\xa7home_id\xa2\xff\xfe", number=7
    ),
    "a deep payload": frame.encode(Opcode.DISPATCH, b"\x91" * 500_000, number=7),
    "another version": b"\x02" + frame.encode(Opcode.DISPATCH, b"")[1:],
    "flags": frame.encode(Opcode.ABORT, encode(Abort(epoch=1, job_id=7)), number=7, flags=1),
    "an abort whose header names another job": frame.encode(
        Opcode.ABORT, encode(Abort(epoch=1, job_id=7)), number=8
    ),
    "the longest length": frame._HEADER.pack(1, Opcode.DISPATCH, 0, 7, 2**32 - 1),
    "an opcode that nobody has built yet": frame.encode(Opcode.PREPARE_ENV, b""),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_protocol_ends_the_worker_with_an_error(sentinel: Sentinel, what: str) -> None:
    sentinel.until(Opcode.IDENTIFY)
    sentinel.channel.sendall(BROKEN[what])
    error, _ = sentinel.until(Opcode.ERR)
    assert decode(error.payload, WorkerError).code.startswith("protocol")
    assert sentinel.process.wait() == 1


def test_broken_protocol_in_the_middle_of_a_job_kills_its_guests_and_concludes_nothing(
    sentinel: Sentinel, world: World
) -> None:
    world.parser(SLOW)
    begin(sentinel, world)
    until_it_parses(sentinel)
    running = descendants(sentinel.process.pid)
    sentinel.channel.sendall(b"\xff" * 64)
    _, before = sentinel.until(Opcode.ERR)
    assert {item.opcode for item in before} <= {Opcode.HEARTBEAT}
    assert sentinel.process.wait() == 1
    assert gone(running)
    assert world.staged() == []


def test_second_dispatch_while_one_runs_breaks_the_protocol(
    sentinel: Sentinel, world: World
) -> None:
    world.parser(SLOW)
    dispatch = begin(sentinel, world)
    sentinel.send(Opcode.DISPATCH, dispatch, dispatch.job_id)
    sentinel.until(Opcode.ERR)
    assert sentinel.process.wait() == 1


def test_every_process_shows_its_home(sentinel: Sentinel, world: World, home: Home) -> None:
    world.parser(SLOW)
    begin(sentinel, world)
    until_it_parses(sentinel)
    for pid in [sentinel.process.pid, *descendants(sentinel.process.pid)]:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert words[words.index(b"--home") + 1] == os.fsencode(home.root)


def test_worker_writes_its_own_log(sentinel: Sentinel, world: World, home: Home) -> None:
    begin(sentinel, world)
    sentinel.until(Opcode.CONCLUDE)
    assert '"job_id":7' in (home.logs / "worker-w1.log").read_text()


def once(world: World, home: Home, dispatch: Dispatch) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        trusting_worker.command(home, "--once"),
        input=encode(dispatch),
        capture_output=True,
        env=processes.host_environment(),
        check=False,
    )


def test_one_job_from_stdin_to_stdout_leaves_its_files_staged(world: World, home: Home) -> None:
    world.source(b"one\nbad\n")
    done = once(world, home, world.dispatch())
    assert (done.returncode, done.stderr) == (0, b"")
    receipt = decode(done.stdout, Conclude).receipt
    assert [row["text"] for row in rows(receipt, "lines")] == ["one"]
    assert [row["raw"] for row in rows(receipt, "quarantine")] == [b"bad\n"]


def test_one_job_that_is_no_job_is_refused(home: Home) -> None:
    done = subprocess.run(
        processes.command("worker", home, "--once"),
        input=b"nonsense",
        capture_output=True,
        env=processes.host_environment(),
        check=False,
    )
    assert done.returncode == 3
    assert b"malformed Dispatch" in done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize("arguments", [[], ["--once", "--channel-fd", "3"]])
def test_worker_wants_exactly_one_way_to_work(home: Home, arguments: list[str]) -> None:
    done = subprocess.run(
        processes.command("worker", home, *arguments), capture_output=True, check=False
    )
    assert done.returncode == 2


def test_guest_does_not_import_what_it_must_not_have(tmp_path: Path) -> None:
    code = (
        "import sys; from casparian.guest.preload import preload; preload();"
        "print([m for m in sys.modules if m.split('.')[0] == 'duckdb' or"
        " m.startswith(('casparian.trust', 'casparian.sinks', 'casparian.config', 'casparian.db'))]);"
        "import os; print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=processes.guest_environment(),
        cwd=tmp_path,
    )
    assert done.stdout.split("\n")[:2] == ["[]", "1"]
