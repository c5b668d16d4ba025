"""What the kernel says of a guest is what its record says."""

from __future__ import annotations

import errno
import json
import os
import pwd
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from worker_world import World, home_at, rows

from casparian import _native
from casparian.errors import UsageError
from casparian.protocol.worker import Receipt
from casparian.worker import guest_user
from casparian.worker.executor import Services

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root becomes another user")


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


def status(pid: int) -> dict[str, str]:
    """What the kernel says of a process, by name."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in text.splitlines())
    }


def watch(world: World, **changes: object) -> tuple[Receipt, list[dict[str, str]]]:
    """Run a parser that gives rows for a while; what the kernel said of its guests meanwhile."""
    world.parser("""
        import time
        from casparian.sdk import Row
        def parse(ctx):
            for number in range(4):
                yield "lines", Row(number * 2, 2, {"number": number})
                time.sleep(0.02)
    """)
    world.source(b"a\nb\nc\nd\n")
    seen: list[dict[str, str]] = []

    class Watcher:
        def append(self, progress: object) -> None:
            zygotes = [str(pid) for pid in world.services.guests.zygote_pids]
            for name in os.listdir("/proc"):
                if name.isdecimal():
                    try:
                        found = status(int(name))
                    except OSError:  # it ended meanwhile
                        continue
                    if found["PPid"] in zygotes and not found["State"].startswith("Z"):
                        seen.append(found)

    world.progress = Watcher()  # type: ignore[assignment]
    return world.run(**changes), seen


def test_the_kernel_says_of_a_guest_what_its_record_says(world: World) -> None:
    receipt, seen = watch(world)
    assert receipt.sources[0].code is None
    assert seen
    for guest in seen:
        assert guest["NoNewPrivs"] == "1"
        assert guest["Seccomp"] == "2"
        assert int(guest["Seccomp_filters"]) == 4
        assert {guest[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
        assert guest["Threads"] == "1"
        uids = set(guest["Uid"].split())
        assert len(uids) == 1
        assert receipt.isolation["user"] == f"uid {uids.pop()}"
        assert receipt.isolation["user"] != "uid 0"
    assert receipt.isolation["capabilities"].startswith("none")
    assert receipt.isolation["dumpable"] == "no"
    assert receipt.isolation["session"] == "own"
    assert receipt.isolation["parent_death_signal"] == "SIGKILL"
    assert receipt.isolation["descriptors"] == "closed"
    assert receipt.isolation["oom_score_adj"] == "1000"
    support = _native.confinement_support()
    if support["landlock"].startswith("yes: "):
        assert receipt.isolation["landlock"] == support["landlock"].removeprefix("yes: ")
    else:
        assert receipt.isolation["landlock"].startswith("absent: ")
    assert receipt.isolation["namespaces"].startswith("refused") == support[
        "namespaces"
    ].startswith("no")


@as_root
def test_root_becomes_the_configured_user_for_good(tmp_path: Path) -> None:
    home = home_at(tmp_path)
    home.config_file.write_text('guest_user = "12345:23456"\n')
    services = Services(home)
    try:
        _, seen = watch(World(tmp_path, services))
        zygote = services.guests.zygote_pid
        assert zygote is not None
        for process in (status(zygote), *seen):
            assert process["Uid"].split() == ["12345"] * 4
            assert process["Gid"].split() == ["23456"] * 4
            assert process["Groups"] == ""
            assert process["CapBnd"] == "0" * 16
        assert seen
    finally:
        services.close()


@as_root
@pytest.mark.parametrize("user", ["root", "0:0", "0:65534", "65534:0", "no-such-user-here", ""])
def test_root_and_unknown_users_are_refused(tmp_path: Path, user: str) -> None:
    home = home_at(tmp_path)
    home.config_file.write_text(f'guest_user = "{user}"\n')
    services = Services(home)
    try:
        world = World(tmp_path, services)
        world.source(b"one\n")
        receipt = world.run()
        assert receipt.code == "config.guest_user"
        assert f"`{user}`" in receipt.message
        assert receipt.files == ()
    finally:
        services.close()


def test_a_user_is_a_name_or_two_ids() -> None:
    nobody = pwd.getpwnam("nobody")
    assert guest_user.resolve("nobody") == (nobody.pw_uid, nobody.pw_gid)
    assert guest_user.resolve("1000:1001") == (1000, 1001)
    with pytest.raises(UsageError, match="never run as root"):
        guest_user.resolve("root")
    with pytest.raises(UsageError, match="no such user"):
        guest_user.resolve(f"{2**32}:5")


def test_a_second_user_namespace_and_a_root_guest_are_refused_by_the_native_module() -> None:
    if ROOT:
        with pytest.raises(RuntimeError, match="guests never run as root"):
            _native.isolate_zygote(parent_pid=os.getppid(), user=None)
        with pytest.raises(RuntimeError, match="guests never run as root"):
            _native.isolate_zygote(parent_pid=os.getppid(), user=(0, 0))
        with pytest.raises(RuntimeError, match="guests never run as root"):
            _native.lock_down(
                parent_pid=os.getppid(), bridge_fd=0, log_fd=0, memory_bytes=1, cpu_seconds=1
            )
    else:
        with pytest.raises(RuntimeError, match="only root"):
            _native.isolate_zygote(parent_pid=os.getppid(), user=(65534, 65534))


# Run by an interpreter of its own; USER is what it becomes first, before anything of ours.
ALONE = """
import ctypes, json, os, socket, sys, time
from casparian import _native

if USER:
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # /proc/self belongs to it, as if it had been started by that user
user = (65534, 65534) if os.geteuid() == 0 else None
_native.isolate_zygote(parent_pid=os.getppid(), user=user)
_native.prepare_confinement()
for _ in range(50):
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        started = time.perf_counter_ns()
        record = _native.lock_down(
            parent_pid=parent, bridge_fd=theirs.fileno(), log_fd=write, memory_bytes=1 << 30, cpu_seconds=9
        )
        nanoseconds = time.perf_counter_ns() - started
        os.write(3, json.dumps([nanoseconds, record]).encode())
        os.read(3, 1)
        os._exit(0)
    theirs.close()
    os.close(write)
    answer = json.loads(ours.recv(65536))
    ours.send(b".")
    print(json.dumps(answer))
    os.wait()
"""


def alone(user: int) -> tuple[list[float], dict[str, str]]:
    """Lock fifty processes down: what it cost each, in milliseconds, and the last record."""
    done = subprocess.run(
        [sys.executable, "-c", f"USER = {user}\n{ALONE}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 50
    return [nanoseconds / 1e6 for nanoseconds, _ in answers], answers[-1][1]


@as_root
def test_an_ordinary_user_is_confined_as_well_and_has_its_own_limit_of_tasks() -> None:
    _, record = alone(12345)
    assert record["user"] == "uid 12345"
    assert record["seccomp"].startswith("sealed ")
    assert record["capabilities"].startswith("none")
    if record["namespaces"].startswith("refused: "):
        assert "nproc" not in record["rlimits"]  # other processes of that user would count
    else:
        assert record["namespaces"] == "user net ipc uts mnt"
        assert "nproc=512" in record["rlimits"]


def test_lockdown_is_cheap(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints what it costs; asserts only that every guest came through."""
    costs, record = alone(0)
    for name in ("data=1073741824", "cpu=9", "fsize=0", "core=0", "nofile=64", "memlock=0"):
        assert name in record["rlimits"].split()
    with capsys.disabled():
        print(f"\nlock_down: median {statistics.median(costs):.2f} ms, least {min(costs):.2f} ms")


SIGCHLD, CLONE_VM, CLONE_VFORK, CLONE_THREAD = 17, 0x100, 0x4000, 0x10000
PTHREAD = 0x3D0F00  # what the C library asks for when it makes a thread
NUMBERS = {"x86_64": {"clone": 56, "fork": 57, "vfork": 58, "clone3": 435}, "aarch64": {"clone": 220, "clone3": 435}}  # fmt: skip


def system_call(world: World, name: str, *arguments: int) -> Receipt:
    """Make a system call in a guest; a row says what it answered."""
    numbers = NUMBERS[os.uname().machine]
    if name not in numbers:
        pytest.skip(f"no {name} on this machine")
    world.parser(f"""
        import ctypes
        from casparian.sdk import Row

        def parse(ctx):
            library = ctypes.CDLL(None, use_errno=True)
            answer = library.syscall({numbers[name]}, *{[*arguments, 0, 0, 0, 0]})
            text = "made" if answer >= 0 else str(ctypes.get_errno())
            yield "lines", Row(0, 1, {{"number": 1, "text": text}})
    """)
    world.source(b"x\n")
    return world.run()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fork", ()),
        ("vfork", ()),
        ("clone", (SIGCHLD,)),
        ("clone", (SIGCHLD | CLONE_VM | CLONE_VFORK,)),
        ("clone", (PTHREAD & ~CLONE_THREAD,)),
        ("clone", (0,)),
    ],
)
def test_making_a_process_kills_the_guest(
    world: World, name: str, arguments: tuple[int, ...]
) -> None:
    receipt = system_call(world, name, *arguments)
    assert receipt.sources[0].code == "confinement.violation"
    assert receipt.files == ()


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (CLONE_THREAD,), errno.EPERM),
        ("clone", (PTHREAD | SIGCHLD,), errno.EPERM),
        ("clone", (PTHREAD | 0x2000,), errno.EPERM),  # traced like its maker
        ("clone", (PTHREAD | 0x4000_0000,), errno.EPERM),  # in a network of its own
        ("clone3", (0, 88), errno.ENOSYS),
    ],
)
def test_a_thread_that_is_not_as_c_libraries_make_it_is_refused(
    world: World, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    receipt = system_call(world, name, *arguments)
    assert [row["text"] for row in rows(receipt, "lines")] == [str(expected)]
