"""How many jobs per second the control plane takes, as ratios to named baselines.

    python -m tests.perf.bench_control_plane [--jobs 2000] [--files 500] [--skip-end-to-end]

control plane   the real step, the real I/O with its writer, database and promotion of real files; workers that answer at once
                with receipts of small files made beforehand. Baseline: the same with one transaction a group of operations.
end to end      `casparian run` over one-line files, one file a job. Baseline: the same files in one job.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import blake3

from casparian import clock
from casparian.db.connection import ControlDatabase
from casparian.db.writer import DatabaseWriter
from casparian.domain.contracts import Column, OutputContract
from casparian.domain.ledger import Ledger
from casparian.domain.outputs import Sink, SinkKind, SinkMode
from casparian.domain.parsers import Limits, ParserKind
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol import worker as messages
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.io import SentinelIO
from casparian.sentinel.io import writer as io_writer
from casparian.sentinel.state import JobSpec, OutputSpec, State
from casparian.sentinel.step import step
from casparian.sinks.promote import prepare
from casparian.sinks.quarantine import QUARANTINE_CONTRACT
from casparian.sinks.staging import stage_directory
from tests.support.small import syslog_lines

TABLE = OutputContract(table="t", main=True, columns=(Column(name="a", type="int64"),))
CONTENT = os.urandom(4096)
CONTENT_HASH = blake3.blake3(CONTENT).hexdigest()
LEDGER = Ledger(
    unit="line",
    declared=None,
    present=1,
    rows=1,
    recovered_live=0,
    recovered_extra=0,
    quarantined=0,
    quarantined_extra=0,
    lost=0,
    blank_units=0,
    blank_bytes=0,
    balanced=True,
)


class PreparedWorld(SentinelIO):
    """The real world but for discovery and workers: a plan is given, a dispatch is concluded at once."""

    def __init__(self, *arguments: Any, plan: ev.PlanReady, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._plan = plan
        self.finished = False

    def _perform(self, effect: eff.Effect) -> None:
        match effect:
            case eff.MakePlan():
                self._mailbox.post(self._plan)
            case eff.StartWorker():
                self._mailbox.post(ev.WorkerIdentified(worker_id=effect.worker_id))
            case eff.KillWorker():
                self._mailbox.post(ev.WorkerGone(worker_id=effect.worker_id, reason="killed"))
            case eff.SendWorker(message=messages.Dispatch() as told):
                conclude = messages.Conclude(
                    epoch=told.epoch, job_id=told.job_id, receipt=receipt_of(told)
                )
                self._mailbox.post(
                    ev.WorkerConcluded(worker_id=effect.worker_id, conclude=conclude)
                )
            case eff.Publish():
                self.finished = True
            case _:
                super()._perform(effect)


def staged_file(told: messages.Dispatch) -> str:
    """Where the prepared file of a job lies: the first epoch's stage."""
    return f"{told.outputs[0].stage}/t_{told.job_id}_{told.epoch}_0.parquet"


def receipt_of(told: messages.Dispatch) -> messages.Receipt:
    """What a worker says that did its work in no time."""
    file = messages.StagedFile(
        table="t",
        sink=told.outputs[0].sink,
        path=staged_file(told),
        size_bytes=len(CONTENT),
        blake3=CONTENT_HASH,
        rows=1,
        sources=(0,),
    )
    source = messages.SourceReceipt(index=0, rows={"t": 1}, ledger=LEDGER)
    return messages.Receipt(
        sources=(source,), files=(file,), isolation={"level": "full", "seccomp": "sealed"}
    )


def prepared_plan(home: Home, home_id: str, jobs: int) -> ev.PlanReady:
    """Jobs of one source each, and the file that each will have staged."""

    def output(contract: OutputContract, place: str) -> OutputSpec:
        sink = Sink(kind=SinkKind.PARQUET, location=str(home.root / place))
        prepare(sink, home_id)
        return OutputSpec(
            contract=contract,
            contract_hash="c" * 64,
            schema_hash="s" * 64,
            sink=sink,
            sink_config_hash="k" * 64,
            dataset_id=f"dataset-{contract.table}",
        )

    parser = messages.ParserTask(
        name="bench",
        version="1",
        kind=ParserKind.PYTHON,
        entry="parser.py:parse",
        directory="/parsers/bench",
        artifact_hash="a" * 64,
        account="lines",
        unit="line",
        config={},
        limits=Limits(),
    )
    table, quarantine = output(TABLE, "out"), output(QUARANTINE_CONTRACT, "quarantine")
    planned = []
    for number in range(1, jobs + 1):
        source_id = f"{number:064x}"
        spec = JobSpec(
            root="/evidence",
            mode=SinkMode.APPEND,
            parser=parser,
            env_hash="e" * 64,
            engine_hash="n" * 64,
            parser_config_hash="f" * 64,
            lineage_version=1,
            sources=(
                messages.SourceTask(
                    index=0,
                    source_id=source_id,
                    source_hash=source_id,
                    sha256=source_id,
                    size_bytes=100,
                    path=f"/evidence/{number}".encode(),
                    display_path=str(number),
                ),
            ),
            outputs=(table,),
            quarantine=quarantine,
        )
        key = spec.key_parts(table, source_id).materialization_key()
        planned.append(ev.PlannedJob(job_id=number, spec=spec, keys=(key,)))
        stage = stage_directory(table.sink, home_id, number, 1)
        os.makedirs(stage)
        Path(f"{stage}/t_{number}_1_0.parquet").write_bytes(CONTENT)
    return ev.PlanReady(
        run_id="bench",
        root="/evidence",
        files=control.FileCounts(seen=jobs, selected=jobs),
        items=(),
        jobs=tuple(planned),
        contracts=(),
        expected=(),
        problems=(),
        rejected={},
        by_parser={"bench@1": jobs},
    )


def control_plane(jobs: int, workers: int, groups_max: int) -> tuple[float, float]:
    """Jobs per second from the plan to the last T2, and milliseconds of processor time a job."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home.at(folder)
        home.run.mkdir(parents=True, exist_ok=True)
        with ControlDatabase(home) as database:
            writer = DatabaseWriter(database.writer)
            plan = prepared_plan(home, database.home_id, jobs)
            os.sync()
            before = io_writer.GROUPS_MAX
            io_writer.GROUPS_MAX = groups_max  # type: ignore[misc]  # the baseline's only difference
            world = PreparedWorld(
                home,
                database,
                writer,
                engine_hash="n" * 64,
                workers=workers,
                hash_threads=1,
                default_sink=plan.jobs[0].spec.outputs[0].sink,
                plan=plan,
            )
            state = State(
                home_id=database.home_id,
                home=folder,
                engine_hash="n" * 64,
                workers_max=workers,
                on_demand=False,
                started_ns=clock.now_ns(),
            )
            try:
                asked = ev.ClientAsked(
                    client_id=1,
                    number=1,
                    request=control.Run(request_id="bench", evidence=b"/evidence"),
                )
                started, used = clock.monotonic_ns(), time.process_time()
                events: list[ev.Event] = [asked]
                while not world.finished:
                    for event in events:
                        state, effects = step(
                            state,
                            event,
                            now_ns=clock.now_ns(),
                            monotonic_ns=clock.monotonic_ns(),
                        )
                        world.perform(effects)
                    events = world.wait(0.25)
                elapsed = (clock.monotonic_ns() - started) / 1e9
                used = time.process_time() - used
            finally:
                world.close()
                io_writer.GROUPS_MAX = before  # type: ignore[misc]
            done = database.writer.execute(
                "SELECT count(*) FROM cf_processing_queue WHERE state = 'completed'"
            ).fetchall()
            assert done == [(jobs,)], done
            assert len(os.listdir(plan.jobs[0].spec.outputs[0].sink.location)) >= jobs
        return jobs / elapsed, used * 1000 / jobs


def end_to_end(files: int, batch_files: int) -> float:
    """Files per second of the real command, start of the sentinel and the workers included."""
    with tempfile.TemporaryDirectory() as folder:
        evidence = Path(folder, "evidence")
        evidence.mkdir()
        for number in range(files):
            (evidence / f"{number:05}.log").write_bytes(syslog_lines(host=f"h{number}", count=1))
        command = [sys.executable, "-m", "casparian", "--home", f"{folder}/home"]
        started = clock.monotonic_ns()
        subprocess.run(
            [*command, "run", str(evidence), "--batch-files", str(batch_files), "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        elapsed = (clock.monotonic_ns() - started) / 1e9
        subprocess.run([*command, "sentinel", "stop"], check=True, stdout=subprocess.DEVNULL)
    return files / elapsed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=32, help="simulated ones")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--skip-end-to-end", action="store_true")
    parser.add_argument("--skip-baselines", action="store_true")
    given = parser.parse_args()
    rate, cpu = control_plane(given.jobs, given.workers, io_writer.GROUPS_MAX)
    print(
        f"control plane, group commit: {rate:8.0f} jobs/s over {given.jobs} jobs, {cpu:.1f} ms of CPU a job"
    )
    if not given.skip_baselines:
        few = min(given.jobs, 500)
        one, one_cpu = control_plane(few, given.workers, 1)
        print(
            f"control plane, one transaction a group: {one:8.0f} jobs/s over {few} jobs, {one_cpu:.1f} ms"
        )
        print(f"ratio {rate / one:.1f}")
    if given.skip_end_to_end:
        return
    single = end_to_end(given.files, 1)
    print(f"end to end, one file a job: {single:8.0f} jobs/s over {given.files} files")
    if not given.skip_baselines:
        batched = end_to_end(given.files, given.files)
        print(f"end to end, all files in one job: {batched:8.0f} files/s")
        print(f"ratio {single / batched:.2f}")


if __name__ == "__main__":
    main()
