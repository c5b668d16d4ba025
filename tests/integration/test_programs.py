"""Parsers that are programs: what an honest one gives, and everything that a hostile one cannot do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from worker_world import World, home_at, rows

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.parsers import Limits, ParserKind
from casparian.domain.trust import TrustOrigin, TrustRecord, TrustVerdict
from casparian.protocol.worker import Receipt
from casparian.worker.executor import Services
from tests.factories.programs import EXAMPLE, HOSTILE, program

EPERM, ENOSYS = 1, 38
SETTINGS = OutputContract(
    table="settings",
    main=True,
    columns=(
        Column(name="line_number", type="uint64", nullable=False),
        Column(name="key", type="utf8", nullable=False),
        Column(name="value", type="utf8"),
    ),
)


SIGNED = TrustRecord(verdict=TrustVerdict.VALID, origin=TrustOrigin.DEPLOYED)


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    world = World(tmp_path, services)
    services.judge = lambda *_: SIGNED  # unsigned programs never run
    world.limits = Limits(memory_mb=256, cpu_seconds=30, idle_seconds=30)
    return world


def run(world: World, content: bytes, **config: str) -> Receipt:
    """Run a program over the world's sources."""
    folder = world.directory / "parser" / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "x86_64-linux").write_bytes(content)
    world.rehash()
    task = msgspec.structs.replace(
        world.dispatch().parser,
        kind=ParserKind.EXECUTABLE,
        entry="bin/x86_64-linux",
        config=config,
        limits=world.limits,
    )
    return world.run(parser=task)


def said(world: World, name: str) -> str:
    """What the hostile program says came of one attack."""
    world.source(b"some bytes\n", name)
    receipt = run(world, program(HOSTILE))
    assert [source.code for source in receipt.sources] == [None], receipt.sources[0].message
    (row,) = rows(receipt, "lines")
    return str(row["text"])


def code_of(world: World, name: str) -> str | None:
    """The code under which a source of the hostile program was excluded; no row of it is in any file."""
    world.source(b"some bytes\n", name)
    receipt = run(world, program(HOSTILE))
    assert rows(receipt, "lines") == []
    return receipt.sources[0].code if receipt.sources else receipt.code


def test_the_example_gives_rows_and_quarantine_and_balances(world: World) -> None:
    world.outputs = (SETTINGS,)
    lines = "".join(f"key{number} value {number}\n" for number in range(20_000))
    world.source(b"colour green\nsize 12\n\nnoseparator\n\xff\xfe x\nlast line")
    world.source(lines.encode())
    receipt = run(world, program(EXAMPLE), separator=" ")
    assert receipt.code is None, receipt.message
    first, second = receipt.sources
    assert (first.code, first.rows, first.quarantined) == (None, {"settings": 3}, 2)
    assert first.ledger is not None
    assert first.ledger.balanced
    assert first.ledger.present == 5
    assert (second.rows, second.quarantined) == ({"settings": 20_000}, 0)
    found = [
        (r["line_number"], r["key"], r["value"], r["_cf_offset"]) for r in rows(receipt, "settings")
    ]
    assert found[:3] == [(1, "colour", "green", 0), (2, "size", "12", 13), (6, "last", "line", 39)]
    assert [row["reason"] for row in rows(receipt, "quarantine")] == ["line.no_separator"] * 2


def test_the_receipt_says_what_confined_it(world: World) -> None:
    world.source(b"x\n", "hello")
    receipt = run(world, program(HOSTILE))
    record = receipt.isolation
    assert record["level"] == "full"
    assert record["seccomp"] == "filter"
    assert record["guest_says_seccomp"].startswith("program ")
    assert record["no_new_privs"] == "yes"
    assert record["self_attacks"].startswith("25 of 25")
    assert "fsize=0" in record["rlimits"]


def test_it_is_given_one_name_and_nothing_else(world: World) -> None:
    assert said(world, "environment") == "casparian-parser"


def test_it_has_the_bridge_the_log_and_the_source(world: World) -> None:
    numbers = [int(number) for number in said(world, "descriptors").split()]
    assert numbers == [0, 1, 2, 3, 4]


def test_it_may_have_threads(world: World) -> None:
    assert said(world, "thread") == "42"


@pytest.mark.parametrize("attack", ["open", "kill_parent", "arch_prctl", "executable_memory"])
def test_what_is_denied_to_every_guest_is_denied(world: World, attack: str) -> None:
    assert said(world, attack) == f"denied {EPERM}"


def test_the_one_call_is_spent(world: World) -> None:
    """Descriptor 5 is not there any more; the kernel says that nobody is there to ask, before it looks."""
    assert said(world, "execveat_again") == f"denied {ENOSYS}"


def test_an_absolute_path_behind_the_same_call_runs_nothing(world: World) -> None:
    assert said(world, "execveat_path") == f"denied {ENOSYS}"


@pytest.mark.parametrize("attack", ["socket", "fork", "execve", "execveat_other"])
def test_what_kills_every_guest_kills_it(world: World, attack: str) -> None:
    assert code_of(world, attack) == "confinement.violation"


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("crash", "guest.crash"),
        ("abort", "guest.crash"),
        ("exit", "guest.exit"),
        ("leave", "bridge.truncated"),
        ("lie_offset", "bridge.invalid_batch"),
        ("forge", "bridge.protocol"),
        ("gives_up", "parser.gave_up"),
        ("memory", "guest.crash"),
    ],
)
def test_what_goes_wrong_has_its_code(world: World, behaviour: str, code: str) -> None:
    assert code_of(world, behaviour) == code


@pytest.mark.parametrize(
    ("behaviour", "limits", "code"),
    [
        ("spin", Limits(memory_mb=256, cpu_seconds=1, idle_seconds=60), "limit.cpu"),
        ("sleep", Limits(memory_mb=256, idle_seconds=1), "limit.idle"),
        ("rows", Limits(memory_mb=256, rows_max=5_000), "limit.rows"),
        ("chatter", Limits(memory_mb=256, log_mb_max=1), "limit.log"),
    ],
)
def test_limits_hold(world: World, behaviour: str, limits: Limits, code: str) -> None:
    world.limits = limits
    assert code_of(world, behaviour) == code


def test_other_sources_go_on_after_a_crash(world: World) -> None:
    for name in ("hello", "crash", "hello-again"):
        world.source(b"x\n", name)
    receipt = run(world, program(HOSTILE))
    assert [source.code for source in receipt.sources] == [None, "guest.crash", None]
    assert len(rows(receipt, "lines")) == 2


def test_an_unsigned_program_is_refused_whoever_allowed_it(world: World) -> None:
    world.source(b"x\n")
    world.services.judge = lambda *_: msgspec.structs.replace(SIGNED, verdict=TrustVerdict.UNSIGNED)
    try:
        receipt = run(world, program(HOSTILE))
    finally:
        world.services.judge = lambda *_: SIGNED
    assert receipt.code == "trust.unsigned"
    assert receipt.files == ()


def test_nobody_of_the_same_user_can_look_into_it(world: World) -> None:
    """The kernel gives the process's entries to root when it is not dumpable."""
    owners = watched(world, lambda pid: os.stat(f"/proc/{pid}/environ").st_uid)
    assert owners == {0}


def test_it_dies_with_its_zygote(world: World) -> None:
    def kill_zygote(pid: int) -> bool:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            parent = int(file.read().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.01)
        return True

    assert watched(world, kill_zygote) == {True}


def watched(world: World, look: Callable[[int], object]) -> set[object]:
    """Look at a program that sleeps, from outside, and then let its limit end it."""
    found: set[object] = set()
    receipts: list[Receipt] = []
    world.limits = Limits(memory_mb=256, idle_seconds=3)
    world.source(b"x\n", "sleep")

    def work() -> None:
        # Of its own: a zygote dies with the thread that started it.
        world.services = Services(home_at(world.directory), lambda *_: SIGNED)
        receipts.append(run(world, program(HOSTILE)))
        world.services.close()

    working = threading.Thread(target=work)
    program(HOSTILE)  # it is compiled before the clock runs
    working.start()
    while working.is_alive() and not found:
        for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if file.read().startswith(b"casparian-parser"):
                        found.add(look(pid))
            except OSError:
                continue
        time.sleep(0.01)
    working.join()
    assert found, receipts
    return found


def test_a_dynamic_program_is_refused(world: World) -> None:
    world.source(b"x\n")
    receipt = run(world, program(HOSTILE, static=False))
    assert receipt.code == "parser.executable"
    assert "statically" in receipt.message


def test_what_is_no_program_is_refused(world: World) -> None:
    world.source(b"x\n")
    assert run(world, b"#!/bin/sh\ntrue\n").code == "parser.executable"
    content = program(HOSTILE)
    broken = content[:64] + bytes(len(content) - 64)
    assert run(world, broken).code == "parser.executable"
