"""A guest's end is classified from what the host sees."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from casparian.worker import isolation
from casparian.worker.cancel import Cancellation, Cancelled
from casparian.worker.faults import (
    Exit,
    GuestFault,
    JobFault,
    SourceExcluded,
    classify,
    memory_kills,
)
from casparian.worker.guest_log import HEAD_BYTES_MAX, TAIL_BYTES_MAX, GuestLog

LIMIT = 10


def exited(code: int) -> int:
    return code << 8


ENDS = {
    "exit 0": (Exit(status=exited(0)), "bridge.truncated", False),
    "exit 3": (Exit(status=exited(3)), "guest.exit", False),
    "segmentation fault": (Exit(status=signal.SIGSEGV), "guest.crash", False),
    "abort with core flag": (Exit(status=signal.SIGABRT | 0x80), "guest.crash", False),
    "bad system call": (Exit(status=signal.SIGSYS), "confinement.violation", False),
    "soft processor limit": (Exit(status=signal.SIGXCPU, cpu_seconds=10.0), "limit.cpu", False),
    "hard processor limit": (Exit(status=signal.SIGKILL, cpu_seconds=11.0), "limit.cpu", False),
    "out of memory": (Exit(status=signal.SIGKILL, memory_kills=1), "limit.memory", False),
    "killed from outside": (Exit(status=signal.SIGKILL), "guest.killed", True),
    "zygote died": (Exit(status=None), "guest.killed", True),
    "closed the bridge and lived": (
        Exit(status=signal.SIGKILL, killed=True),
        "bridge.truncated",
        False,
    ),
    "a real-time signal": (Exit(status=40), "guest.crash", False),
}


@pytest.mark.parametrize("end", ENDS)
def test_end_of_a_guest_has_one_code(end: str) -> None:
    exit_, code, transient = ENDS[end]
    fault = classify(exit_, LIMIT)
    assert (fault.code, fault.transient) == (code, transient)
    assert fault.message


def test_memory_kills_are_counted_by_the_kernel() -> None:
    assert memory_kills() >= 0


def test_cancellation_kills_what_is_watched_once_and_late() -> None:
    cancellation = Cancellation()
    killed: list[str] = []
    forgotten = lambda: killed.append("forgotten")  # noqa: E731
    cancellation.watch(lambda: killed.append("early"))
    cancellation.watch(forgotten)
    cancellation.forget(forgotten)
    cancellation.check()
    thread = threading.Thread(target=cancellation.set)
    thread.start()
    thread.join()
    cancellation.watch(lambda: killed.append("late"))
    assert killed == ["early", "late"]
    with pytest.raises(Cancelled):
        cancellation.check()
    cancellation.close()
    cancellation.set()  # after the job: nothing happens


@pytest.mark.parametrize("size", [0, 10, HEAD_BYTES_MAX, HEAD_BYTES_MAX + 100, 5_000_000])
def test_log_keeps_its_beginning_and_its_end(size: int) -> None:
    read_end, write_end = os.pipe()
    log = GuestLog(read_end)
    content = bytes(65 + n % 26 for n in range(size))
    with os.fdopen(write_end, "wb") as file:
        file.write(content)
    text = log.text()
    kept = HEAD_BYTES_MAX + TAIL_BYTES_MAX
    if size <= kept:
        assert text.encode() == content
    else:
        assert text.startswith(content[:HEAD_BYTES_MAX].decode())
        assert text.endswith(content[-TAIL_BYTES_MAX:].decode())
        assert f"{size - kept} bytes left out" in text


def test_hostile_log_bytes_become_text() -> None:
    read_end, write_end = os.pipe()
    log = GuestLog(read_end, 4)
    os.write(write_end, b"\xff\xfe\x00ab")
    os.close(write_end)
    assert log.text().startswith("\\xff\\xfe\x00a")


def test_a_flood_ends_the_guest_once_and_what_came_before_is_kept() -> None:
    read_end, write_end = os.pipe()
    log = GuestLog(read_end)
    ended: list[bool] = []
    os.write(write_end, b"a" * 1000)
    log.limit(100_000, lambda: ended.append(True))
    content = b"b" * 500_000
    with os.fdopen(write_end, "wb") as file:
        file.write(content)
    text = log.text()
    assert log.flooded
    assert ended == [True]
    assert text.startswith("a" * 1000 + "b")
    assert f"{501_000 - HEAD_BYTES_MAX - TAIL_BYTES_MAX} bytes left out" in text


def test_as_much_as_is_allowed_is_no_flood() -> None:
    read_end, write_end = os.pipe()
    log = GuestLog(read_end)
    ended: list[bool] = []
    log.limit(100_000, lambda: ended.append(True))
    with os.fdopen(write_end, "wb") as file:
        file.write(b"b" * 100_000)
    assert len(log.text()) > 0
    assert not log.flooded
    assert ended == []


RETRIES = {
    # fault, fresh guest -> a second attempt?
    ("guest.crash", True): True,
    ("guest.crash", False): True,
    ("guest.killed", True): True,
    ("bridge.protocol", True): True,
    ("confinement.violation", True): False,
    ("confinement.violation", False): False,
    ("limit.cpu", True): False,
    ("limit.cpu", False): True,
    ("limit.memory", False): True,
    ("limit.log", True): False,
    ("limit.log", False): True,
    ("limit.wall", False): False,
}


@pytest.mark.parametrize(("code", "fresh"), RETRIES)
def test_the_kind_of_a_fault_decides_whether_it_is_tried_again(code: str, fresh: bool) -> None:
    assert GuestFault(code, "x").retry_alone(fresh=fresh) == RETRIES[code, fresh]


def test_who_raises_a_fault_may_say_that_this_one_passes() -> None:
    assert not SourceExcluded("source.changed", "x").transient
    assert SourceExcluded("source.changed", "x", transient=True).transient
    assert JobFault("guest.fork", "x").transient
    assert not JobFault("guest.fork", "x", transient=False).transient


def test_what_the_host_observes_replaces_what_the_guest_claims() -> None:
    observed = isolation.observe(os.getpid())
    assert observed["no_new_privs"] in ("yes", "no")
    assert "core=" in observed["rlimits"]
    record = isolation.record({"no_new_privs": "perfectly", "session": "own"}, observed)
    assert record["no_new_privs"] == observed["no_new_privs"]
    assert record["session"] == "own"
    assert "no_new_privs" in record["observed_by_host"]


def test_claims_are_bounded() -> None:
    record = isolation.record({f"k{n}" * 1000: "v" * 10_000 for n in range(1000)}, {})
    assert len(record) <= 33
    assert max(map(len, record.values())) <= 256
    assert record["observed_by_host"] == "nothing"


def test_a_process_that_is_gone_cannot_be_observed() -> None:
    assert isolation.observe(2**22 + 1) == {}
