"""How long confinement takes: `python -m tests.perf.guests [--runs N]`.

fresh guest      fork by the zygote, lockdown, parser loaded as in all jobs of a worker but its first (which compiles it),
                 1,000 lines parsed into rows that the host has checked, exit, reaped; against a new interpreter that
                 only imports pyarrow
abort            from a client's request to the answer that nothing of the job can commit any more (the abort is on disk by
                 then); against the bare round trip of a greeting
host death       `kill -9` of worker and sentinel while a guest spins: until it executes nothing, and until its memory is
                 given back, for guests that hold 0 and 1 GiB
jobs             `casparian jobs` against a running sentinel; against the start of bare Python

Run it on an otherwise idle machine. Every figure is a median with the least and the most beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from casparian import ids
from casparian.control.client import Client
from casparian.domain.isolation import IsolationLevel
from casparian.protocol import control
from casparian.worker import guest_job, parser_files
from casparian.worker.cancel import Cancellation
from casparian.worker.evidence import Evidence
from casparian.worker.services import Services
from casparian.worker.session import ParseSession
from tests.attacks.arena import Arena
from tests.integration.worker_world import World, home_at
from tests.support.small import syslog_lines
from tests.support.world import CASPARIAN, wait_until

GIBIBYTE = 1 << 30


def report(name: str, values: Iterable[float]) -> float:
    """Print one line; gives the median (ms)."""
    found = sorted(values)
    median = statistics.median(found)
    print(f"{name:<58} {median:9.2f} ms   ({found[0]:.2f} to {found[-1]:.2f}, {len(found)} runs)")
    return median


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def fresh_guests(runs: int) -> None:
    """A whole life of a guest, again and again: of a parser's first job in a worker, and of its later ones."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        services = Services(home_at(directory))
        world = World(directory, services)
        world.source(b"a line of text that is parsed\n" * 1000)
        dispatch = world.dispatch()

        def life(compiled: Mapping[str, bytes]) -> None:
            cancellation = Cancellation()
            files, _ = parser_files.load(dispatch.parser, services.judge)
            job = guest_job.to_parse(dispatch.parser, dispatch.outputs, files, compiled)
            with Evidence(dispatch.sources[0]) as source:
                session = ParseSession(
                    services.guests,
                    job,
                    epoch=dispatch.epoch,
                    cancellation=cancellation,
                    keep=lambda _log, _exit: None,
                    outcomes=measured.outcomes,
                    minimum=IsolationLevel.FULL,
                )
                rows = sum(batch.rows.num_rows for batch in session.batches(source))
                session.finish()
            cancellation.close()
            assert rows == 1000

        services.guests.start()
        measured = services.measured(Cancellation())
        for _ in range(2):  # a worker compiles what it runs a second time
            assert world.run().code is None
            for sink in ("out", "aside"):
                shutil.rmtree(directory / sink, ignore_errors=True)
        compiled = _compiled(services, dispatch.parser.artifact_hash)
        for _ in range(10):
            life(compiled)
        guest = report("fresh guest", [timed(partial(life, compiled)) for _ in range(runs)])
        first = [timed(partial(life, {})) for _ in range(runs)]
        report("  of a parser's first job, which compiles it", first)
        services.close()
    spawn = report(
        "  baseline: python -I -c 'import pyarrow'",
        [
            timed(
                lambda: subprocess.run([sys.executable, "-I", "-c", "import pyarrow"], check=True)
            )
            for _ in range(max(5, runs // 10))
        ],
    )
    print(f"  a guest takes {guest / spawn:.2f} of its baseline")


def _compiled(services: Services, artifact_hash: str) -> Mapping[str, bytes]:
    """What the worker's jobs give to the guests of this parser."""
    compiled = services.compiled._made[artifact_hash]
    assert compiled, "the worker did not compile the parser"
    return compiled


def aborts(runs: int) -> None:
    """Cancel a running job, as a client."""
    arena = Arena(os.getuid())
    try:
        greeting, took = [], []
        for number in range(runs):
            name = f"bench.n{number}"
            arena.parser(name, "time.sleep(600)", idle_seconds=600)
            run_id, process = _start(arena, name)
            with Client.connect(arena.home) as client:
                wait_until(lambda: _state(client, run_id) == "running")  # noqa: B023 - called at once
                greeting.append(timed(client.hello))
                request = control.CancelJob(request_id=ids.new_request_id(), run_id=run_id)
                took.append(timed(lambda: client.ask(request, control.Done)))  # noqa: B023 - called at once
            process.wait()
        abort = report("abort, until nothing can commit", took)
        base = report("  baseline: a greeting", greeting)
        print(f"  an abort takes {abort / base:.1f} greetings")
    finally:
        arena.close()


def deaths(runs: int) -> None:
    """Kill sentinel and worker at once and watch the guest."""
    for held in (0, GIBIBYTE):
        stopped, gone = [], []
        for number in range(runs):
            arena = Arena(os.getuid())
            try:
                name = f"bench.n{number}"
                code = f"hoard = b'x' * {held}\nwhile True: pass"
                arena.parser(name, code, idle_seconds=600, cpu_seconds=600, memory_mb=4096)
                run_id, process = _start(arena, name)
                with Client.connect(arena.home) as client:
                    wait_until(lambda: _state(client, run_id) == "running")  # noqa: B023 - called at once
                guest = _spinning_guest(arena, held)
                victims = [p for p, role in arena.processes().items() if role != "casparian.guest"]
                started = time.perf_counter()
                for pid in victims:
                    os.kill(pid, signal.SIGKILL)
                stopped.append(_until(partial(_stopped, guest), started))
                gone.append(_until(partial(_released, guest), started))
                process.kill()
                process.wait()
            finally:
                arena.close()
        size = f"{held / GIBIBYTE:g} GiB held"
        report(f"host killed: the guest executes nothing ({size})", stopped)
        report(f"host killed: the guest's memory is given back ({size})", gone)


def jobs_command(runs: int) -> None:
    """The start of a command that asks the sentinel."""
    with tempfile.TemporaryDirectory() as name:
        home, evidence = f"{name}/home", Path(name, "evidence")
        evidence.mkdir()
        (evidence / "syslog").write_bytes(syslog_lines(host="bench", count=10))
        subprocess.run(
            [*CASPARIAN, "--home", home, "sentinel", "start"], check=True, capture_output=True
        )
        subprocess.run(
            [*CASPARIAN, "--home", home, "run", str(evidence)], check=True, capture_output=True
        )
        program = str(Path(sys.executable).with_name("casparian"))
        command, bare = [program, "--home", home, "jobs"], [sys.executable, "-c", "pass"]
        ours, baseline = [], []
        for _ in range(runs):
            ours.append(timed(lambda: subprocess.run(command, check=True, capture_output=True)))
            baseline.append(timed(lambda: subprocess.run(bare, check=True, capture_output=True)))
        subprocess.run(
            [*CASPARIAN, "--home", home, "sentinel", "stop"], check=True, capture_output=True
        )
        median = report("casparian jobs", ours)
        base = report("  baseline: python -c pass", baseline)
        print(f"  {median / base:.2f} times the start of bare Python")


def _start(arena: Arena, name: str) -> tuple[str, subprocess.Popen[bytes]]:
    """A run in a process of its own; its id is in the database once it is planned."""
    root = arena.evidence(name)
    request = control.Run(
        request_id=ids.new_request_id(),
        evidence=os.fsencode(root),
        sinks={"": arena.sink(name)},
        selection=control.Selection(parsers=(name,)),
    )
    code = (
        "import sys\nfrom casparian.control.client import Client\nfrom casparian.paths import Home\n"
        "from casparian.protocol import control\n"
        "client = Client.connect(Home.at(sys.argv[1]))\n"
        "client.ask(control.decode_request(bytes.fromhex(sys.argv[2])), control.RunResult)\n"
    )
    encoded = control.encode(request).hex()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(arena.home.root), encoded], stderr=subprocess.DEVNULL
    )
    return request.request_id, process


def _state(client: Client, run_id: str) -> str:
    rows = client.ask(control.Read(view="jobs", filters={"run_id": run_id}), control.Rows)
    return str(rows.rows[0][rows.columns.index("state")]) if rows.rows else ""


def _spinning_guest(arena: Arena, held: int) -> int:
    """The guest that has filled its memory and uses the processor."""
    for _ in range(3000):
        for pid, role in arena.processes().items():
            if role == "casparian.guest" and _memory(pid) > max(held, 1) and _cpu_ticks(pid) > 20:
                return pid
        time.sleep(0.02)
    raise AssertionError("no guest spins")


def _until(condition: Callable[[], bool], started: float) -> float:
    while not condition():
        time.sleep(0.0002)
    return (time.perf_counter() - started) * 1e3


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X"] + ["0"] * 40


def _state_letter(pid: int) -> str:
    return _stat(pid)[0]


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11])


def _exiting(pid: int) -> bool:
    """Whether the kernel is taking it down: PF_EXITING, from then on no instruction of its own runs."""
    return bool(int(_stat(pid)[6]) & 0x4)


def _stopped(pid: int) -> bool:
    return _state_letter(pid) in "XZ" or _exiting(pid)


def _released(pid: int) -> bool:
    return _state_letter(pid) in "XZ"  # a process gives its memory back before it becomes a zombie


def _memory(pid: int) -> int:
    return int(_stat(pid)[21]) * 4096


def main() -> None:
    """Run all of it, or what was named."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--runs", type=int, default=100)
    options.add_argument("what", nargs="*", default=["guest", "abort", "death", "jobs"])
    chosen = options.parse_args()
    work = {"guest": fresh_guests, "abort": aborts, "death": deaths, "jobs": jobs_command}
    divisor = {"guest": 1, "abort": 4, "death": 20, "jobs": 2}
    for name in chosen.what:
        work[name](max(3, chosen.runs // divisor[name]))


if __name__ == "__main__":
    main()
