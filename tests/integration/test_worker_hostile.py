"""Parsers that crash, hang, flood or lie: the source is excluded with a code, the others go on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from worker_world import World, rows

from casparian.domain.parsers import Limits
from casparian.worker.cancel import Cancellation, Cancelled
from casparian.worker.executor import Services


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


SPLIT = """
import os, socket, struct, signal, sys, time
from casparian.sdk import Row
from casparian.protocol import frame
from casparian.protocol.frame import Opcode

def channel():
    return socket.socket(fileno=os.dup(3))

def parse(ctx):
    data = ctx.source.read()
    if b"evil" in data:
        yield from evil(ctx)
    offset = 0
    for line in data.splitlines(True):
        yield "lines", Row(offset, len(line), {"number": 1, "text": line.decode().strip()})
        offset += len(line)

def evil(ctx):
    yield "lines", Row(0, 1, {"number": 666, "text": "half a source"})
"""

ATTACKS = {
    "abort": ("os.abort()", "guest.crash"),
    "segmentation fault": ("__import__('ctypes').string_at(0)", "guest.crash"),
    "exit 0 without END": ("os._exit(0)", "bridge.truncated"),
    "exit 3": ("os._exit(3)", "guest.exit"),
    "kill itself": ("os.kill(os.getpid(), signal.SIGKILL)", "parser.exception"),
    "close the bridge and exit": ("os.close(3); os._exit(0)", "bridge.truncated"),
    "infinite loop": ("\n    while True: pass", "limit.cpu"),
    "infinite loop that ignores the signal": (
        "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n    while True: pass",
        "limit.cpu",
    ),
    "sleep forever": ("time.sleep(3600)", "limit.idle"),
    "stop itself": ("os.kill(os.getpid(), signal.SIGSTOP)", "parser.exception"),
    "garbage frames": ("channel().sendall(b'garbage garbage garbage' * 100)", "bridge.protocol"),
    "frame of the largest length": (
        "channel().sendall(struct.pack('!BBHQI', 1, 50, 1, 3, 2**32 - 1))",
        "bridge.protocol",
    ),
    "half a frame, then silence": (
        "channel().sendall(struct.pack('!BBHQI', 1, 50, 1, 3, 1000)); time.sleep(3600)",
        "limit.idle",
    ),
    "frame of an older epoch": (
        "channel().sendall(frame.encode(Opcode.BRIDGE_END, b'', number=2))",
        "bridge.protocol",
    ),
    "batch that is no batch": (
        "channel().sendall(frame.encode(Opcode.BRIDGE_BATCH, b'x' * 500, number=3, flags=1))",
        "bridge.invalid_batch",
    ),
    "batch of an unknown output": (
        "channel().sendall(frame.encode(Opcode.BRIDGE_BATCH, b'x', number=3, flags=9))",
        "bridge.protocol",
    ),
    "frame that only the host sends": (
        "channel().sendall(frame.encode(Opcode.BRIDGE_FINISH, b'', number=3))",
        "bridge.protocol",
    ),
    "account from the parser's guest": (
        "channel().sendall(frame.encode(Opcode.BRIDGE_ACCOUNT, b'', number=3))",
        "bridge.protocol",
    ),
    "END with forged counts": (
        "from casparian.protocol.guest import SourceEnd; import msgspec;"
        " channel().sendall(frame.encode(Opcode.BRIDGE_END,"
        " msgspec.msgpack.encode(SourceEnd(index=1, rows={1: 5})), number=3))",
        "bridge.protocol",
    ),
    "END of another source": (
        "from casparian.protocol.guest import SourceEnd; import msgspec;"
        " channel().sendall(frame.encode(Opcode.BRIDGE_END,"
        " msgspec.msgpack.encode(SourceEnd(index=0, rows={1: 1})), number=3))",
        "bridge.protocol",
    ),
    "END that is no END": (
        "channel().sendall(frame.encode(Opcode.BRIDGE_END, b'\\xc1', number=3))",
        "bridge.protocol",
    ),
    "span outside of the source": (
        "yield 'lines', Row(10**6, 10, {'number': 1})",
        "bridge.invalid_batch",
    ),
    "memory bomb": ("hoard = [bytearray(1 << 20) for _ in range(4096)]", "limit.memory"),
    "arrow memory bomb": (
        "import pyarrow as pa; hoard = [pa.allocate_buffer(1 << 26) for _ in range(64)]",
        "limit.memory",
    ),
    "row flood": (
        "\n    while True: yield 'lines', [Row(0, 1, {'number': 1})] * 1000",
        "limit.rows",
    ),
    "output flood": (
        "\n    while True: yield 'lines', [Row(0, 1, {'text': 'x' * 100_000})] * 10",
        "limit.output",
    ),
    "recursion in C": ("import json; json.loads('[' * 10**6)", "parser.exception"),
    "SystemExit": ("sys.exit(0)", "parser.exception"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "parser.exception"),
    "an exception with a hostile text": (
        "raise ValueError('\\x1b[2J\\udcff' * 10**5)",
        "parser.exception",
    ),
    "a forged failure code": (
        "from casparian.protocol.guest import SourceFailed; import msgspec;"
        " channel().sendall(frame.encode(Opcode.BRIDGE_FAILED, msgspec.msgpack.encode("
        "SourceFailed(index=1, code='trust.ok; DROP', message='x')), number=3)); time.sleep(3600)",
        "parser.failed",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_parser_excludes_its_source_only(world: World, attack: str) -> None:
    code, expected = ATTACKS[attack]
    world.parser(SPLIT + f"    {code}\n")
    idle = 1 if "sleep" in code or expected == "limit.idle" else 60
    world.limits = Limits(
        memory_mb=512, cpu_seconds=1, idle_seconds=idle, rows_max=50_000, output_mb_max=16
    )
    world.source(b"first\nsecond\n")
    world.source(b"evil\n")
    world.source(b"third\n")
    receipt = world.run()
    assert [source.code for source in receipt.sources] == [None, expected, None], receipt
    assert [row["text"] for row in rows(receipt, "lines")] == ["first", "second", "third"]
    assert receipt.sources[1].rows == {}
    assert receipt.sources[1].transient == (expected == "guest.killed")
    assert all(source.ledger.balanced for source in receipt.sources if source.ledger)
    assert 1 not in {index for file in receipt.files for index in file.sources}
    assert no_guests(world)
    if attack == "segmentation fault":
        assert "parser.py" in receipt.guest_log  # where it crashed


def test_guest_that_dies_once_is_forgiven(world: World, tmp_path: Path) -> None:
    """Killed from outside in the middle of a source: the retry gives every row, once."""
    world.parser("""
        import time
        from casparian.sdk import Row
        def parse(ctx):
            for line in range(4):
                yield "lines", Row(line * 2, 2, {"number": line})
                time.sleep(0.02)
    """)
    world.source(b"a\nb\nc\nd\n")
    killed: list[int] = []

    class Killer:
        def append(self, progress: object) -> None:
            if not killed:
                killed.extend(guests(world))
                for pid in killed:  # both of them, the accounting one as well
                    os.kill(pid, signal.SIGKILL)

    world.progress = Killer()  # type: ignore[assignment]
    receipt = world.run()
    assert len(killed) == 2
    assert [row["number"] for row in rows(receipt, "lines")] == [0, 1, 2, 3]
    assert receipt.sources[0].ledger is not None
    assert receipt.sources[0].ledger.balanced


def test_zygote_that_dies_is_replaced(world: World) -> None:
    world.source(b"one\n")
    world.run()
    first = world.services.guests.zygote_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    receipt = world.run(epoch=4)
    assert receipt.code is None
    assert [source.code for source in receipt.sources] == [None]
    assert world.services.guests.zygote_pid != first


def test_zygote_that_dies_in_the_middle_of_a_source_is_replaced(world: World) -> None:
    world.parser("""
        import time
        from casparian.sdk import Row
        def parse(ctx):
            for line in range(4):
                yield "lines", Row(line * 2, 2, {"number": line})
                time.sleep(0.02)
    """)
    world.source(b"a\nb\nc\nd\n")
    killed: list[int] = []

    class Killer:
        def append(self, progress: object) -> None:
            if not killed:
                pid = world.services.guests.zygote_pid
                assert pid is not None
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

    world.progress = Killer()  # type: ignore[assignment]
    receipt = world.run()
    assert killed
    assert [row["number"] for row in rows(receipt, "lines")] == [0, 1, 2, 3]
    assert receipt.sources[0].ledger is not None
    assert receipt.sources[0].ledger.balanced


def test_guest_has_its_own_descriptors_and_no_other(world: World) -> None:
    world.parser("""
        import os, socket
        from casparian.sdk import Row
        def parse(ctx):
            found = []
            for number in range(1024):
                try:
                    os.get_inheritable(number)
                except OSError:
                    continue
                found.append(number)
            null, evidence = os.read(0, 9), os.pread(4, 9, 0)
            with socket.socket(fileno=os.dup(3)) as bridge:
                family = bridge.family.name
            for text in (null.decode(), evidence.decode(), family):
                yield "lines", [Row(0, 1, {"number": number, "text": text}) for number in found]
    """)
    world.source(b"one\n")
    noise = [os.open("/etc/passwd", os.O_RDONLY), *os.pipe()]
    for descriptor in noise:
        os.set_inheritable(descriptor, True)
    try:
        receipt = world.run()
    finally:
        for descriptor in noise:
            os.close(descriptor)
    found = rows(receipt, "lines")
    assert [row["number"] for row in found] == [0, 1, 2, 3, 4] * 3
    assert [row["text"] for row in found[::5]] == ["", "one\n", "AF_UNIX"]


CONFINED = """
import os, resource
from casparian.sdk import Row

def facts(ctx):
    yield "environment", " ".join(sorted(os.environ))
    yield "cwd", os.getcwd()
    yield "interrupt", str(__import__("signal").getsignal(2))
    try:
        os.write(ctx.source.fileno(), b"x")
        yield "write_evidence", "done"
    except OSError as error:
        yield "write_evidence", error.strerror
    try:
        with open("/tmp/casparian-guest-was-here", "w") as file:
            file.write("x")
        yield "write_file", "done"
    except OSError as error:
        yield "write_file", error.strerror
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        yield "set_limit", "done"
    except (OSError, ValueError) as error:
        yield "set_limit", type(error).__name__

def parse(ctx):
    yield "lines", [Row(0, 1, {"number": 0, "text": f"{k}={v}"}) for k, v in facts(ctx)]
"""


def test_guest_is_confined_as_its_record_says(world: World) -> None:
    world.parser(CONFINED)
    world.source(b"one\n")
    try:
        receipt = world.run()
    finally:
        left = Path("/tmp/casparian-guest-was-here")
        was_there = left.exists()
        left.unlink(missing_ok=True)
    facts = dict(row["text"].split("=", 1) for row in rows(receipt, "lines"))
    assert facts["cwd"] == "/"
    assert "CASPARIAN_HOME" not in facts["environment"]
    assert "HOME" not in facts["environment"].split()
    assert facts["write_evidence"] == "Bad file descriptor"
    assert "SIG_IGN" in facts["interrupt"] or facts["interrupt"] == "1"
    assert facts["write_file"] == "Operation not permitted"
    assert facts["set_limit"] in ("ValueError", "PermissionError")
    assert not was_there


def test_log_flood_is_capped(world: World) -> None:
    world.parser("""
        import os
        def parse(ctx):
            print("first words")
            for _ in range(800):
                os.write(2, b"x" * 65536)
            print("last words")
            yield "lines", {"@offset": 0, "@length": 4, "number": 1}
    """)
    world.source(b"one\n")
    receipt = world.run()
    assert receipt.sources[0].code is None
    assert "first words" in receipt.guest_log or "left out" in receipt.guest_log
    assert "last words" in receipt.guest_log
    assert len(receipt.guest_log) < 100_000


@pytest.mark.parametrize(
    "behaviour", ["while True: pass", "time.sleep(3600)", "time.sleep(3600)  # and stopped"]
)
def test_cancel_leaves_no_stage_and_no_process(world: World, behaviour: str) -> None:
    world.parser(f"""
        import os, signal, time
        from casparian.sdk import Row
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        def parse(ctx):
            yield "lines", [Row(0, 1, {{"number": n, "text": "x" * 2000}}) for n in range(8000)] * 4
            {behaviour}
    """)
    world.source(b"one\n")
    cancellation = Cancellation()
    started = threading.Event()

    class Hook:
        def append(self, progress: object) -> None:
            started.set()

    world.progress = Hook()  # type: ignore[assignment]

    def cancel() -> None:
        started.wait()
        time.sleep(0.05)
        if "stopped" in behaviour:
            for pid in guests(world):
                os.kill(pid, signal.SIGSTOP)
        cancellation.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Cancelled):
        world.run(cancellation)
    thread.join()
    assert world.staged() == []
    assert not (world.directory / "out" / ".casparian-stage" / "home" / "7.3").exists()
    assert no_guests(world)
    world.progress = []
    world.parser("def parse(ctx):\n    ctx.quarantine(0, 4, 'test.x', 'x')\n")
    assert world.run(epoch=4).code is None  # the worker is fit for the next job


def guests(world: World) -> list[int]:
    """Living children of the zygotes."""
    zygotes = ",".join(map(str, world.services.guests.zygote_pids))
    assert zygotes
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=", "--ppid", zygotes], capture_output=True, text=True, check=False
    )
    return [
        int(line.split()[0])
        for line in found.stdout.splitlines()
        if not line.split()[1].startswith("Z")
    ]


def no_guests(world: World) -> bool:
    return not guests(world)
