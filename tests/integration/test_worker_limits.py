"""Each limit ends its source with a code of its own, and the next job on the same worker works."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_world import LINE_PARSER, World, rows

from casparian import clock
from casparian.domain.parsers import Limits
from casparian.protocol import frame
from casparian.protocol.frame import Opcode
from casparian.worker.bridge import HostBridge
from casparian.worker.cancel import Cancellation
from casparian.worker.executor import Services
from casparian.worker.faults import GuestFault


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


PARSER = """
import os, signal, sys, time
from casparian.sdk import Row

def parse(ctx):
    data = ctx.source.read()
    if b"greedy" in data:
        yield from greedy(ctx)
    offset = 0
    for line in data.splitlines(True):
        yield "lines", Row(offset, len(line), {"number": 1, "text": line.decode().strip()})
        offset += len(line)

def greedy(ctx):
    yield "lines", Row(0, 1, {"number": 666, "text": "half a source"})
"""
ROOMY = {"memory_mb": 512, "cpu_seconds": 60, "idle_seconds": 60}
# what the parser does, its limits, its code, and whether it is tried again: 3 guests parse, or 2
FLOOD = "\n    for _ in range(400): sys.stdout.write('x' * 10_000); sys.stdout.flush()"
GREEDY = {
    "wall": ("time.sleep(3600)", {"wall_seconds": 1}, "limit.wall"),
    "idle": ("time.sleep(3600)", {"idle_seconds": 1}, "limit.idle"),
    "cpu": ("\n    while True: pass", {"cpu_seconds": 1}, "limit.cpu"),
    "memory": ("hoard = [bytearray(1 << 20) for _ in range(4096)]", {}, "limit.memory"),
    "rows": (
        "\n    while True: yield 'lines', [Row(0, 1, {'number': 1})] * 1000",
        {"rows_max": 50_000},
        "limit.rows",
    ),
    "output": (
        "\n    while True: yield 'lines', [Row(0, 1, {'text': 'x' * 100_000})] * 10",
        {"output_mb_max": 16},
        "limit.output",
    ),
    "log": (f"{FLOOD}\n    time.sleep(3600)", {"log_mb_max": 1}, "limit.log"),
    "log of a parser that goes on": (FLOOD, {"log_mb_max": 1}, "limit.log"),
}


@pytest.mark.parametrize("limit", GREEDY)
def test_a_limit_ends_its_source_only_and_the_next_job_works(world: World, limit: str) -> None:
    act, limits, code = GREEDY[limit]
    world.parser(PARSER + f"    {act}\n")
    world.limits = Limits(**{**ROOMY, **limits})
    world.source(b"first\nsecond\n")
    world.source(b"greedy\n")
    world.source(b"third\n")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [None, code, None], receipt
    assert not receipt.sources[1].transient
    assert receipt.sources[1].rows == {}
    assert [row["text"] for row in rows(receipt, "lines")] == ["first", "second", "third"]
    assert len(receipt.guest_log) <= 128 * 1024

    world.parser(LINE_PARSER)
    again = world.run(
        epoch=4,
        sources=world.sources[:1],
        quarantine_stage=str(world.directory / "other"),
        outputs=tuple(_elsewhere(world)),
    )
    assert [source.code for source in again.sources] == [None]


def _elsewhere(world: World) -> Iterator[Any]:
    import msgspec

    for output in world.dispatch().outputs:
        yield msgspec.structs.replace(output, stage=str(world.directory / "elsewhere"))


def test_a_limit_met_by_a_guests_first_source_is_not_tried_again(world: World) -> None:
    """A second attempt in a fresh guest could not do otherwise: an hour of processor time is not spent twice."""
    marker = "attempt of the parser"
    world.parser(PARSER + f"    print({marker!r}, flush=True)\n    while True: pass\n")
    world.limits = Limits(**{**ROOMY, "cpu_seconds": 1})
    world.source(b"greedy\n")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == ["limit.cpu"]
    assert receipt.guest_log.count(marker) == 1


def test_a_limit_met_after_other_sources_is_tried_once_more_alone(world: World) -> None:
    marker = "attempt of the parser"
    world.parser(PARSER + f"    print({marker!r}, flush=True)\n    while True: pass\n")
    world.limits = Limits(**{**ROOMY, "cpu_seconds": 1})
    world.source(b"first\n")
    world.source(b"greedy\n")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [None, "limit.cpu"]
    assert receipt.guest_log.count(marker) == 2


def test_rows_are_bounded_by_the_size_of_the_source(world: World) -> None:
    world.parser(PARSER + "\n    while True: yield 'lines', [Row(0, 1, {'number': 1})] * 10_000\n")
    world.limits = Limits(**ROOMY, rows_per_kb_max=1)
    world.source(b"greedy\n")
    receipt = world.run()
    (source,) = receipt.sources
    assert source.code == "limit.rows"
    assert f"{(1 << 20) + 1} rows from 7 bytes" in source.message


def test_rows_allowed_grow_with_the_source_up_to_the_limit() -> None:
    limits = Limits(rows_per_kb_max=1000, rows_max=3_000_000)
    assert limits.rows_allowed(0) == (1 << 20) + 1000
    assert limits.rows_allowed(1024 * 500) == (1 << 20) + 501_000
    assert limits.rows_allowed(1 << 40) == 3_000_000


VIOLATION = (
    PARSER
    + """
    print("attempt of the parser", flush=True)
    import socket
    socket.socket()
    os.kill(os.getpid(), signal.SIGSYS)
"""
)


def test_a_violation_is_never_tried_again_and_flags_the_artifact(world: World) -> None:
    world.parser(VIOLATION)
    world.source(b"first\n")
    world.source(b"greedy\n", name="evil.log")
    world.source(b"third\n")
    receipt = world.run()
    codes = [source.code for source in receipt.sources]
    assert codes == [None, "confinement.violation", None]
    assert not receipt.sources[1].transient
    assert receipt.guest_log.count("attempt of the parser") == 1
    assert receipt.isolation["violations"] == "1: evil.log"
    assert receipt.isolation["flagged_artifact"] == world.artifact_hash
    assert [row["text"] for row in rows(receipt, "lines")] == ["first", "third"]


def test_a_clean_job_flags_nothing_and_says_what_its_guests_used(world: World) -> None:
    world.source(b"one\n")
    isolation = world.run().isolation
    assert "violations" not in isolation
    assert isolation["guests"] == "2"  # one parses, one accounts
    assert float(isolation["guest_cpu_seconds"]) >= 0
    assert 1 << 20 < int(isolation["guest_memory_peak_bytes"]) < 1 << 30


class SteppingClock:
    """Moves by hand."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def bridge() -> Iterator[tuple[HostBridge, socket.socket]]:
    """The host's end, and the guest's socket."""
    host, guest = socket.socketpair()
    cancellation = Cancellation()
    with host, guest:
        yield HostBridge(host, 3, cancellation), guest
    cancellation.close()


def test_a_slow_host_never_counts_against_the_guest(
    bridge: tuple[HostBridge, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = SteppingClock()
    monkeypatch.setattr(clock, "monotonic_ns", steps.monotonic_ns)
    host, guest = bridge
    host.begin_source(1)
    for _ in range(10):
        guest.sendall(frame.encode(Opcode.BRIDGE_END, b"x", number=3))
        steps.now_ns += 3600 * 10**9  # the sink takes an hour
        assert host.receive(60).opcode is Opcode.BRIDGE_END


def test_waiting_for_the_guest_counts_over_all_frames(
    bridge: tuple[HostBridge, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that answers just before each deadline is stopped by the sum."""
    steps = SteppingClock()
    monkeypatch.setattr(clock, "monotonic_ns", steps.monotonic_ns)
    host, guest = bridge

    class LatePoll:
        """Stands for a guest that takes 40 seconds for each frame."""

        def register(self, *_: object) -> None:
            """Nothing to watch."""

        def poll(self, milliseconds: float) -> None:
            waited = min(40.0, milliseconds / 1e3)
            steps.now_ns += int(waited * 1e9)
            if waited == 40.0:
                guest.sendall(frame.encode(Opcode.BRIDGE_END, b"x", number=3))

    monkeypatch.setattr(select, "poll", LatePoll)
    host.begin_source(100)
    assert host.receive(60).opcode is Opcode.BRIDGE_END
    assert host.receive(60).opcode is Opcode.BRIDGE_END
    with pytest.raises(GuestFault) as caught:
        host.receive(60)
    assert caught.value.code == "limit.wall"
    host.begin_source(100)  # the next source has its own time
    assert host.receive(60).opcode is Opcode.BRIDGE_END


def test_no_limit_leaves_a_guest_behind(world: World) -> None:
    world.parser(PARSER + "    time.sleep(3600)\n")
    world.limits = Limits(**ROOMY, wall_seconds=1)
    world.source(b"greedy\n")
    world.run()
    zygotes = world.services.guests.zygote_pids
    assert zygotes
    for zygote in zygotes:
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text(encoding="ascii")
        assert children.split() == []
        assert os.path.exists(f"/proc/{zygote}")
