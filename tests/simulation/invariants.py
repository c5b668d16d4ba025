"""What must hold after each step, each under the invariant of the seed architecture that it stands for.

Seed invariants: 1 no output collisions; 2 atomic commits; 3 cancel means stop; 4 sink modes enforced, nothing twice;
5 lineage deterministic; 6 incremental decisions deterministic; 7 what is shown is true. (5 and 6 are about keys and columns:
property tests of identities and the worker try those.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from casparian.domain.jobs import NEXT, JobState
from casparian.domain.outputs import QUARANTINE_TABLE, SinkKind, SinkMode
from casparian.protocol import control
from casparian.sentinel import events as ev
from casparian.sentinel.state import State, WorkerState

if TYPE_CHECKING:
    from tests.simulation.world import World

Found = tuple[str, str]  # name of the invariant, what is wrong

_ENDED: Final = (JobState.FAILED, JobState.ABORTED)
_LIVE: Final = ("queued", "dispatched", "running", "committing")


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class Memory:
    """What was seen before, so that a check looks at what is new only."""

    def __init__(self) -> None:
        self.store_version = self.disk_version = -1
        self.events = 0
        self.tape = 0
        self.epochs: dict[int, int] = {}
        self.aborts: dict[int, int] = {}  # job -> how often it went to ABORTED
        self.retries: dict[int, int] = {}  # job -> how often it was queued again by hand
        self.acts: dict[tuple[str, Any], int] = {}  # what was done on behalf of a mutation
        self.cancelled: set[int] = set()  # jobs that a client was told are cancelled

    def note_reply(
        self, world: World, request: control.Request | None, reply: control.Reply
    ) -> None:
        """What a client holds for true from now on; a reply given again may be older than a retry of the job."""
        if not isinstance(request, control.CancelJob) or not isinstance(reply, control.Done):
            return
        job = world.store.jobs.get(request.job_id or 0)
        if job is not None and (world.wrong is not None or job.state == "aborted"):
            self.cancelled.add(job.job_id)


def broken(world: World) -> Iterator[Found]:
    """Everything that does not hold now."""
    memory, store, disk = world.memory, world.store, world.disk
    if memory.store_version == store.version and memory.disk_version == disk.version:
        return
    if memory.store_version != store.version:
        yield from new_events(world)
        yield from sources_are_visible_once(world)
        yield from modes_keep_their_promise(world)
        yield from intents_belong_to_committing_jobs(world)
        yield from a_mutation_acts_once(world)
    yield from visible_files_are_outputs_of_jobs(world)
    yield from completed_means_present(world)
    yield from an_aborted_job_is_invisible(world)
    memory.store_version, memory.disk_version = store.version, disk.version


def new_events(world: World) -> Iterator[Found]:
    """Seed 7: jobs go only the ways of the table, epochs only grow, and each event follows the one before."""
    memory = world.memory
    for event in world.store.events[memory.events :]:
        if event.from_state is None and event.job_id in memory.epochs:
            continue  # a note
        job_id, before, after = event.job_id, event.from_state, JobState(event.to_state)
        if before is not None and after not in NEXT[JobState(before)]:
            yield "states follow the table", f"job {job_id}: {before} -> {after}"
        if event.epoch < memory.epochs.get(job_id, 0):
            yield "epochs only grow", f"job {job_id}: {memory.epochs[job_id]} -> {event.epoch}"
        memory.epochs[job_id] = event.epoch
        if after is JobState.ABORTED:
            memory.aborts[job_id] = memory.aborts.get(job_id, 0) + 1
        if after is JobState.COMMITTING and job_id in memory.cancelled:
            yield "a confirmed cancel holds", f"job {job_id} commits at epoch {event.epoch}"
        if after is JobState.QUEUED and before in _ENDED:
            memory.cancelled.discard(job_id)
            memory.retries[job_id] = memory.retries.get(job_id, 0) + 1
    memory.events = len(world.store.events)


def sources_are_visible_once(world: World) -> Iterator[Found]:
    """Seed 4: no key is alive twice, and only a job's present epoch has rows."""
    seen: dict[str, int] = {}
    quarantined: set[tuple[int, str]] = set()
    for found in world.store.materializations:
        if found.table_name == QUARANTINE_TABLE:
            pair = (found.job_id, found.source_id)
            if found.retired_by is None and pair in quarantined:
                yield "a quarantined source is visible once", f"{pair[1]} of job {pair[0]}"
            quarantined.add(pair)
            continue
        job = world.store.jobs[found.job_id]
        if found.epoch != job.epoch:
            yield (
                "only the current epoch commits",
                f"job {job.job_id} is at {job.epoch}, rows of {found.epoch}",
            )
        if found.retired_by is not None:
            continue
        if found.materialization_key in seen:
            other = seen[found.materialization_key]
            yield (
                "a source is visible once",
                f"{found.source_id} in {found.table_name}: jobs {other}, {found.job_id}",
            )
        seen[found.materialization_key] = found.job_id


def modes_keep_their_promise(world: World) -> Iterator[Found]:
    """Seed 4: a pair written under ERROR had none before it; one written under REPLACE has none older beside it."""
    oldest: dict[tuple[str, str], int] = {}
    for found in world.store.materializations:  # in order of sequence
        if found.retired_by is not None or found.table_name == QUARANTINE_TABLE:
            continue
        place = (found.dataset_id, found.source_id)
        if place in oldest and found.sink_mode != SinkMode.APPEND:
            yield (
                f"mode {found.sink_mode} keeps its promise",
                f"{found.source_id} in {found.table_name}: job {oldest[place]}, then {found.job_id}",
            )
        oldest.setdefault(place, found.job_id)


def intents_belong_to_committing_jobs(world: World) -> Iterator[Found]:
    """Seed 2: an intent is of a job past the point of no return, and every such job has one."""
    committing = {
        job.job_id: job.epoch for job in world.store.jobs.values() if job.state == "committing"
    }
    intents = {intent.job_id: intent.epoch for intent in world.store.intents.values()}
    if stray := sorted(intents.keys() - committing.keys()):
        yield "intents are of committing jobs", f"jobs {stray}"
    if any(intents.get(job_id) != epoch for job_id, epoch in committing.items()):
        yield "a committing job has its intents", f"{committing} but {intents}"


def a_mutation_acts_once(world: World) -> Iterator[Found]:
    """Seed 7: what one request id asked for is done once, however often it is asked."""
    acts, memory = world.memory.acts, world.memory
    for entry in world.store.tape[memory.tape :]:
        if entry.kind == "rule.added":
            key: tuple[str, Any] = (
                "rule",
                entry.fields["pattern"],
            )  # the pattern is the request id
            acts[key] = acts.get(key, 0) + 1
            if acts[key] > 1:
                yield "a rule is added once", f"{key[1]} added {acts[key]} times"
        elif entry.kind == "run.finished" and entry.fields["state"] in ("finished", "cancelled"):
            key = ("run", entry.fields["run_id"])
            acts[key] = acts.get(key, 0) + 1
            if acts[key] > 1:
                yield "a run is finished once", f"{key[1]} finished {acts[key]} times"
    memory.tape = len(world.store.tape)
    for job_id, times in memory.aborts.items():
        asked = sum(_may_abort(request, job_id, world) for request in world.asked.values())
        if times > asked:
            yield "a cancel acts once", f"job {job_id}: {times} aborts, {asked} requests"
    for job_id, times in memory.retries.items():
        asked = sum(
            isinstance(request, control.RetryJobs)
            or (isinstance(request, control.RetryJob) and request.job_id == job_id)
            for request in world.asked.values()
        )
        if times > asked:
            yield "a retry acts once", f"job {job_id}: {times} retries, {asked} requests"


def _may_abort(request: control.Request, job_id: int, world: World) -> bool:
    if not isinstance(request, control.CancelJob):
        return False
    return request.job_id == job_id or request.run_id is not None or request.everything


def visible_files_are_outputs_of_jobs(world: World) -> Iterator[Found]:
    """Seed 2: a file under a final name belongs to a job that is committing, or that has ended with it."""
    recorded = None
    for path, file in world.disk.finals.items():
        job = world.store.jobs.get(file.job_id)
        if file.table == QUARANTINE_TABLE and job is not None:
            # A failed policy keeps it, also while the job is tried again.
            if recorded is None:
                recorded = {output.path for output in world.store.outputs}
            if path in recorded:
                continue
        if job is None or job.epoch != file.epoch:
            yield "visible files are of the current epoch", f"{path}, job now {job and job.epoch}"
            continue
        if job.state in ("committing", "completed"):
            continue
        yield "visible files are of committed jobs", f"{path}: job {job.job_id} is {job.state}"
    for uri, commits in world.disk.databases.items():
        for commit in commits.values():
            job = world.store.jobs[commit.job_id]
            if job.epoch != commit.epoch or job.state not in ("committing", "completed"):
                yield (
                    "visible rows are of committed jobs",
                    f"{uri}: {commit.job_id}.{commit.epoch}, now {job.state} {job.epoch}",
                )


def completed_means_present(world: World) -> Iterator[Found]:
    """Seed 2: every output that is recorded is there, with the content that was promised."""
    store, disk = world.store, world.disk
    alive = None
    for output in store.outputs:
        if output.removed_at_ns is not None:
            continue
        if output.sink.startswith(SinkKind.DUCKDB):
            if (output.job_id, output.epoch) not in disk.databases.get(output.sink, {}):
                yield "completed means present", f"{output.sink} lacks job {output.job_id}"
            continue
        found = disk.finals.get(output.path)
        if found is not None and found.blake3 == output.blake3:
            continue
        if alive is None:
            alive = {(m.dataset_id, m.job_id) for m in store.materializations if not m.retired_by}
        if (output.dataset_id, output.job_id) in alive:
            yield "completed means present", f"{output.path}: {found}"
    with_outputs = None
    for job in store.jobs.values():
        if job.state == "completed":
            if with_outputs is None:
                with_outputs = {output.job_id for output in store.outputs}
            if job.job_id not in with_outputs:
                yield "completed means present", f"job {job.job_id} has no outputs"


def an_aborted_job_is_invisible(world: World) -> Iterator[Found]:
    """Seed 3: an aborted job has no rows, no outputs and no file; the same for one that waits or works."""
    unseen = {
        job.job_id
        for job in world.store.jobs.values()
        if job.state not in ("committing", "completed", "failed")
    }
    if not unseen:
        return
    for found in world.store.materializations:
        if found.job_id in unseen and found.table_name != QUARANTINE_TABLE:
            yield "an aborted job is invisible", f"materialization of job {found.job_id}"
    for output in world.store.outputs:
        if output.job_id in unseen and output.table_name != QUARANTINE_TABLE:
            yield "an aborted job is invisible", f"output of job {output.job_id}"


# -- about one step


def broken_by_step(world: World, before: State, event: ev.Event) -> Iterator[Found]:
    """What one event may not do."""
    if isinstance(event, ev.WorkerConcluded):
        yield from a_late_receipt_changes_nothing(world.state, before, event)


def a_late_receipt_changes_nothing(
    state: State, before: State, event: ev.WorkerConcluded
) -> Iterator[Found]:
    """Seed 1, 3: the epoch is the fence; what an older one says moves nothing."""
    job = before.jobs.get(event.conclude.job_id)
    if job is None or job.epoch == event.conclude.epoch:
        return
    after = state.jobs.get(job.job_id)
    moved = after is None or (after.attempts, after.receipt) != (job.attempts, job.receipt)
    legal = {job.state, JobState.DISPATCHED} if job.state is JobState.QUEUED else {job.state}
    if moved or (after is not None and after.state not in legal):
        yield (
            "a late receipt changes nothing",
            f"job {job.job_id} at epoch {job.epoch} moved by epoch {event.conclude.epoch}",
        )


def broken_by_reply(
    world: World, place: tuple[int, int], request: control.Request | None, reply: control.Reply
) -> Iterator[Found]:
    """Seed 7: a client is told only what is committed, and each question has one answer."""
    if request is None or place in world.answered:
        yield "a question has one answer", f"{place} {type(reply).__name__}"
    if isinstance(reply, control.Failure):
        return
    store = world.store
    match request:
        case control.CancelJob(job_id=int() as job_id):
            if not _aborted(world, job_id):
                yield "a client is told what is committed", f"job {job_id} cancelled"
        case control.RetryJob():
            if not _retried(world, request.job_id):
                yield "a client is told what is committed", f"job {request.job_id} queued again"
        case control.AddRule():
            if not any(rule[0] == request.pattern for rule in store.rules.values()):
                yield "a client is told what is committed", f"rule {request.pattern}"
        case control.Run():
            run = store.runs.get(request.request_id)
            if run is None or run.state == "running":
                yield "a client is told what is committed", f"run {request.request_id} ended"
        case _:
            pass


def _aborted(world: World, job_id: int) -> bool:
    """Whether the store knows of an abort of the job."""
    return any(e.job_id == job_id and e.to_state == "aborted" for e in world.store.events)


def _retried(world: World, job_id: int) -> bool:
    return any(
        e.job_id == job_id and e.to_state == "queued" and e.from_state in _ENDED
        for e in world.store.events
    )


# -- at the end


def broken_at_rest(world: World) -> Iterator[Found]:
    """Liveness, and what may not be left over once faults have ceased and time has passed."""
    state, store = world.state, world.store
    live = {j.job_id: j.state for j in store.jobs.values() if j.state in _LIVE}
    if "committing" in live.values():
        yield "every committing job ends", f"{live}"
    # Where no worker can be started, jobs stay queued until somebody asks again.
    waiting_only = state.is_stuck and set(live.values()) <= {"queued"}
    if live and not waiting_only:
        yield "every job ends", f"{live}"
    held = {job_id: job.state.value for job_id, job in state.jobs.items()}
    if held and not (waiting_only and held == live):
        yield "memory lets go of ended jobs", f"{held}"
    if waiting := [client.name for client in world.clients.values() if not client.done]:
        yield "every question is answered", f"{waiting}"
    if state.runs or state.planning or state.publishing:
        what = (
            f"runs {sorted(state.runs)}, planning {state.planning}, publishing {state.publishing}"
        )
        yield "every run is answered", what
    if world.disk.stages:
        left = {stage: list(files) for stage, files in world.disk.stages.items()}
        yield "no staging is left", f"{left}"
    for worker in state.workers.values():
        if worker.state is WorkerState.BUSY and worker.job_id not in state.jobs:
            yield "no worker is busy without a job", f"{worker}"
        if worker.state is WorkerState.KILLED:
            yield "a killed worker is reaped", f"{worker}"
    if running := [run.run_id for run in store.runs.values() if run.state == "running"]:
        yield "every run is answered", f"{running} still running in the database"
