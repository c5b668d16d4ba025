"""One history: the sentinel's pure step, and a world around it that does what it is told, or what a fault makes of it.

Time passes only by actions. What would be threads are queues; what would be sockets are channels, in order each, in any order
together. The single mailbox of writer and tasks is in order, as the real one is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator
from typing import Any, Final

from casparian.db.operations import SaveReply
from casparian.errors import CasparianError
from casparian.protocol import control
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.state import State
from casparian.sentinel.step import step
from tests.model.control_store import ControlStore
from tests.simulation import invariants, jobs, lookups, starting
from tests.simulation.clients import Client
from tests.simulation.disk import Disk
from tests.simulation.invariants import Violation
from tests.simulation.lookups import Steps, at_once
from tests.simulation.planning import make_plan
from tests.simulation.telling import Action, short
from tests.simulation.workers import USUAL, Worker

SECOND: Final = 1_000_000_000
POOLS: Final = ("plan", "promote", "publish", "read", "clean")
ROUNDS_MAX: Final = 400  # of a quiet end: more means that something never ends


class World:
    """Everything there is. `perform` makes one thing happen, `settle` lets everything come to its end.

    Args:
        clients: who asks what.
        workers_max: as the sentinel's.
        outcomes: what becomes of a job in a worker, each as often as it is named.
        wrong: a mutation of the product, see `mutations`.
        tolerated: names of violations that are noted in `noted` and do not end the history.
        trace: called with a line for everything that happens.
    """

    def __init__(
        self,
        clients: list[Client],
        workers_max: int,
        *,
        many_jobs: int = 24,
        outcomes: tuple[str, ...] = USUAL,
        wrong: str | None = None,
        tolerated: Container[str] = frozenset(),
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.clients = {client.name: client for client in clients}
        self.workers_max = workers_max
        self.many_jobs = many_jobs  # with more, workers are given jobs ahead
        self.outcomes = outcomes
        self.wrong = wrong
        self.tolerated = tolerated
        self.noted: dict[str, str] = {}
        self.trace = trace
        self.store = ControlStore()
        self.store.sees_commits = wrong != "commits do not see one another"
        self.disk = Disk()
        self.wall = 1_000 * SECOND
        self.mono = SECOND
        self.clients_made = self.jobs_made = self.boots = self.actions = 0
        self.luck = 0
        self.kill_fails = False
        self.memory = invariants.Memory()
        self.asked: dict[str, control.Request] = {}  # request id -> mutation, ever asked
        self.excused = False  # whether a fault may have stopped the sentinel
        self.state: State
        self._empty()
        self.boot(3)

    def _empty(self) -> None:
        """Nothing is alive."""
        self.persists: deque[eff.Persist] = deque()
        self.mailbox: deque[ev.Event] = deque()
        self.pools: dict[str, deque[Any]] = {name: deque() for name in POOLS}
        self.workers: dict[str, Worker] = {}
        self.up = False
        self.stop_reason: str | None = None
        self.questions: dict[tuple[int, int], control.Request] = {}
        self.answered: set[tuple[int, int]] = set()
        self.recorded_first: set[tuple[int, int]] = set()  # by a wrong product

    # -- what may happen

    def choices(self) -> Iterator[tuple[int, str, str]]:
        """(weight, kind, key) of everything that may happen now without a fault."""
        if self.mailbox:
            yield 20, "deliver", "mailbox"
        if self.persists:
            yield 16, "persist", ""
        for name, pool in self.pools.items():
            if pool:
                yield 16, "task", name
        for worker in self.workers.values():
            if worker.outbox:
                yield 14, "deliver", worker.worker_id
            if worker.can_move:
                yield 12, "worker", worker.worker_id
        for client in self.clients.values():
            if client.outbox:
                yield 10, "deliver", client.name
            if client.can_move:
                yield 5, "client", client.name
        yield 2, "tick", ""

    def perform(self, action: Action) -> None:
        """Make it happen; an action that is not possible (any more) is nothing.

        Raises:
            Violation: what must always hold does not.
        """
        kind, key, luck, fault = action
        if self.trace is not None and kind != "tick":
            self.trace(f"{self.actions:4}  {kind} {key} {fault or ''}".rstrip())
        self.actions += 1
        self.luck = luck
        self.mono += luck % 50_000_000
        self.wall += luck % 50_000_000
        getattr(self, f"_do_{kind}")(key, luck, fault)
        if self.stop_reason is not None:
            self._stopped()
        self.check()

    def check(self) -> None:
        """Check what must hold after each step."""
        for name, message in invariants.broken(self):
            self.violated(name, message)

    def violated(self, name: str, message: str) -> None:
        """Note a violation, or end the history with it."""
        if name not in self.tolerated:
            raise Violation(name, message)
        self.noted.setdefault(name, message)

    # -- ordinary actions

    def _channel(self, key: str) -> deque[Any]:
        if key == "mailbox":
            return self.mailbox
        if key in self.clients:
            return self.clients[key].outbox
        return self.workers[key].outbox if key in self.workers else deque()

    def _do_deliver(self, key: str, luck: int, fault: str | None) -> None:
        channel = self._channel(key)
        if not channel:
            return
        event = channel.popleft()
        if isinstance(event, ev.WorkerGone) and key in self.workers and self.workers[key].hung:
            del self.workers[key]
        self.happen(event, cut=luck % 4 if fault == "sentinel.crash" else None)

    def _do_persist(self, key: str, luck: int, fault: str | None) -> None:
        count = min(len(self.persists), 1 + luck % 4)
        batch = [self.persists.popleft() for _ in range(count)]
        spared = batch[:-1] if fault == "db.fails" else batch
        outcomes = self.store.apply([e.operations for e in spared]) if spared else []
        for effect, outcome in zip(spared, outcomes, strict=True):
            if isinstance(outcome, Exception):
                code = outcome.code if isinstance(outcome, CasparianError) else "db.write"
                failed = ev.PersistFailed(then=effect.then, code=code, message=str(outcome))
                self.mailbox.append(failed)
            else:
                self.mailbox.append(ev.Persisted(then=effect.then, results=tuple(outcome)))
        if batch and len(spared) < len(batch):
            self.excused = True
            self.mailbox.append(
                ev.PersistFailed(then=batch[-1].then, code="db.write", message="a fault")
            )

    def _do_task(self, key: str, luck: int, fault: str | None) -> None:
        pool = self.pools[key]
        if not pool:
            return
        effect = pool.popleft()
        steps = self._task(effect, luck, fault)
        cut = luck % 5 if fault == "sentinel.crash" else None
        try:
            while cut is None or cut > 0:
                next(steps)
                cut = None if cut is None else cut - 1
        except StopIteration as end:
            if end.value is not None and not self._is_recorded(end.value):
                self.mailbox.append(end.value)
        if cut is not None:
            self._crash(luck)

    def _is_recorded(self, event: ev.Event) -> bool:
        """Whether a wrong product did not wait for this."""
        return (
            isinstance(event, ev.Promoted | ev.PromoteFailed)
            and (event.job_id, event.epoch) in self.recorded_first
        )

    def _task(self, effect: Any, luck: int, fault: str | None) -> Steps:
        match effect:
            case eff.Promote():
                return self.disk.promote(effect, fault, self.wall)
            case eff.Publish():
                return self.disk.publish(effect, self.store, fault, self.wall)
            case eff.MakePlan():
                return at_once(
                    make_plan(effect, self.store, self._new_job, 1 + luck % 3, self.wall)
                )
            case eff.RemoveStages():
                self.disk.remove_stages(effect.sinks, jobs.HOME_ID, effect.job_id, effect.epoch)
                return at_once(None)
            case eff.LoadJob():
                return at_once(lookups.load(self, effect))
            case eff.LoadJobs():
                return at_once(lookups.load_many(self, effect))
            case eff.FindEnd():
                return at_once(lookups.find_end(self, effect))
            case eff.ReadRows():
                reply = control.Rows(columns=(), rows=())
                return at_once(
                    ev.RowsRead(client_id=effect.client_id, number=effect.number, reply=reply)
                )
            case _:
                raise NotImplementedError(f"no simulation of {type(effect).__name__}")

    def _new_job(self) -> int:
        self.jobs_made += 1
        return self.jobs_made

    def _do_worker(self, key: str, luck: int, fault: str | None) -> None:
        if key in self.workers and self.workers[key].can_move:
            worker = self.workers[key]
            worker.move(luck, fault)
            if self.wrong == "worker promotes" and worker.said is not None:
                for file in worker.said.conclude.receipt.files:
                    self.disk.promote_early(file)

    def _do_client(self, key: str, luck: int, fault: str | None) -> None:
        client = self.clients[key]
        if client.can_move:
            client.move(luck, self._new_client)

    def _new_client(self) -> int:
        self.clients_made += 1
        return self.clients_made

    def _do_tick(self, key: str, luck: int, fault: str | None) -> None:
        self.mono += (1 + luck % 3) * SECOND // 4
        self.wall += (1 + luck % 3) * SECOND // 4
        self.happen(ev.Tick())

    # -- faults

    def _do_crash(self, key: str, luck: int, fault: str | None) -> None:
        self._crash(luck)

    def _do_kill(self, key: str, luck: int, fault: str | None) -> None:
        if key in self.workers:
            self.workers[key].die("signal SIGKILL", line_lost=luck % 2 == 1)

    def _do_hang(self, key: str, luck: int, fault: str | None) -> None:
        if key in self.workers:
            self.workers[key].hung = True

    def _do_deafen(self, key: str, luck: int, fault: str | None) -> None:
        if key in self.workers:
            self.workers[key].deaf = True

    def _do_spare(self, key: str, luck: int, fault: str | None) -> None:
        """The next kill does not take."""
        self.kill_fails = True

    def _do_repeat(self, key: str, luck: int, fault: str | None) -> None:
        """A worker's last conclusion arrives once more."""
        worker = self.workers.get(key)
        if worker is not None and worker.said is not None and not worker.gone:
            worker.outbox.append(worker.said)

    def _do_vanish(self, key: str, luck: int, fault: str | None) -> None:
        """Somebody removes a stage."""
        if self.disk.stages:
            names = list(self.disk.stages)
            del self.disk.stages[names[luck % len(names)]]
            self.disk.version += 1

    def _do_hang_up(self, key: str, luck: int, fault: str | None) -> None:
        self.clients[key].hang_up(unheard=luck % 2 == 1)

    def _do_jump(self, key: str, luck: int, fault: str | None) -> None:
        """The wall clock goes anywhere; the monotonic one only on."""
        self.wall += (luck % 200_001 - 100_000) * SECOND
        self.wall = max(self.wall, SECOND)
        if luck % 2:
            self.mono += luck % 100 * SECOND

    def _do_stop(self, key: str, luck: int, fault: str | None) -> None:
        self.excused = True
        self.happen(ev.StopAsked())

    # -- the sentinel

    def happen(self, event: ev.Event, *, cut: int | None = None) -> None:
        """The sentinel takes an event; with `cut` it dies after that many effects."""
        before = self.state
        if self.trace is not None and not isinstance(event, ev.Tick):
            self.trace(f"      > {short(event)}")
        self.note_question(event)
        if (taken := self.bent(event)) is None:
            return
        try:
            self.state, effects = step(before, taken, now_ns=self.wall, monotonic_ns=self.mono)
        except Exception as error:  # noqa: BLE001 - whatever it is, the sentinel would be gone
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            line = f"{where.tb_frame.f_code.co_name}:{where.tb_lineno}" if where else ""
            problem = f"{type(error).__name__} {error} in {line} at {short(event)}"
            self.violated("a step never raises", problem)
            self._crash(self.luck)
            return
        for name, message in invariants.broken_by_step(self, before, event):
            self.violated(name, message)
        for number, effect in enumerate(effects):
            if cut is not None and number >= cut:
                break
            self.carry_out(effect)
        if cut is not None:
            self._crash(self.luck)

    def note_question(self, event: ev.Event) -> None:
        """Remember what was asked, to judge the answer."""
        if isinstance(event, ev.ClientAsked):
            self.questions[event.client_id, event.number] = event.request
            request_id = getattr(event.request, "request_id", None)
            if request_id is not None:
                self.asked[request_id] = event.request

    def bent(self, event: ev.Event) -> ev.Event | None:
        """The event as a wrong product would take it; `None` when it has dealt with it."""
        if self.wrong is None:
            return event
        from tests.simulation import mutations  # it builds on this module

        return mutations.bend_event(self, event)

    def carry_out(self, effect: eff.Effect) -> None:
        """One effect. One that is not known here raises."""
        if self.trace is not None:
            self.trace(f"      < {short(effect)}")
        match effect:
            case eff.Persist():
                self._submit(effect)
            case eff.SendReply():
                self._reply(effect)
            case eff.SendEvent():
                pass
            case eff.StartWorker():
                self.workers[effect.worker_id] = Worker(effect.worker_id, self.disk, self.outcomes)
            case eff.SendWorker():
                worker = self.workers.get(effect.worker_id)
                if worker is not None and not worker.gone:
                    worker.inbox.append(effect.message)
            case eff.KillWorker():
                if effect.worker_id in self.workers:
                    self.workers[effect.worker_id].die("signal SIGKILL", survives=self.kill_fails)
                    self.kill_fails = False
            case eff.Promote():
                self._promote(effect)
            case eff.MakePlan():
                self.pools["plan"].append(effect)
            case eff.Publish():
                self.pools["publish"].append(effect)
            case eff.ReadRows() | eff.LoadJob() | eff.LoadJobs() | eff.FindEnd():
                self.pools["read"].append(effect)
            case eff.RemoveStages():
                self.pools["clean"].append(effect)
            case eff.Stop():
                self.stop_reason = effect.reason
            case _:
                raise NotImplementedError(f"no simulation of {type(effect).__name__}")

    def _submit(self, effect: eff.Persist) -> None:
        replies = tuple(o for o in effect.operations if isinstance(o, SaveReply))
        if self.wrong == "reply stored apart" and replies and len(effect.operations) > len(replies):
            from tests.simulation import mutations

            self.persists += mutations.apart(effect)
            return
        self.persists.append(effect)

    def _promote(self, effect: eff.Promote) -> None:
        self.pools["promote"].append(effect)
        if self.wrong == "recorded before promoted":
            from tests.simulation import mutations

            mutations.record_first(self, effect)

    def _reply(self, effect: eff.SendReply) -> None:
        place = (effect.client_id, effect.number)
        request = self.questions.get(place)
        for name, message in invariants.broken_by_reply(self, place, request, effect.reply):
            self.violated(name, message)
        self.answered.add(place)
        self.memory.note_reply(self, request, effect.reply)
        for client in self.clients.values():
            if client.client_id == effect.client_id:
                client.answers.append((effect.client_id, effect.number, effect.reply))

    def _stopped(self) -> None:
        """The loop was left: workers are reaped, what was submitted is written, and a client starts it again."""
        reason, self.stop_reason = self.stop_reason, None
        if not self.excused:
            self.violated("the sentinel stops only when it is told to", str(reason))
        if self.trace is not None:
            self.trace(f"      stopped: {reason}")
        while self.persists:
            self.store.apply([self.persists.popleft().operations])
        for client in self.clients.values():
            while client.answers:
                client.move(0, self._new_client)
        self._end()
        self.boot(3)

    def _crash(self, luck: int) -> None:
        """`kill -9`: what was not written is lost. Recovery may be cut short once as well."""
        if self.trace is not None:
            self.trace("      the sentinel is killed")
        for client in self.clients.values():
            if luck % 2:  # what was sent may be read yet
                while client.answers:
                    client.move(0, self._new_client)
        self._end()
        cut = luck // 2 % 8
        if cut < 3:
            self.boot(cut)
            self._end()
        self.boot(3)

    def _end(self) -> None:
        for client in self.clients.values():
            client.outbox.clear()
            client.forget()
        self.stop_reason = None
        self._empty()

    def boot(self, cut: int) -> None:
        """Start and recover; killed before recording (0), before sweeping (1), before going on (2), or not at all."""
        starting.start(self, cut)

    # -- the end

    def settle(self) -> None:
        """No more faults: let everything come to its end, and check that it does.

        Raises:
            Violation: something never ends, or is left over.
        """
        self.kill_fails = False
        quiet = 0
        if self.trace is not None:
            self.trace("   .. no more faults: everything comes to its end")
        for _ in range(ROUNDS_MAX):
            busy = self._round()
            if not busy and self.at_rest():
                break
            quiet = 0 if busy else quiet + 1
            if quiet > 12:  # more than three leases
                break
            if not busy:
                self.mono += 10 * SECOND
                self.wall += 10 * SECOND
            self.perform(Action("tick"))
        for name, message in invariants.broken_at_rest(self):
            self.violated(name, message)

    def _round(self) -> bool:
        """Everything that can happen, once; whether anything could."""
        steps = [(kind, key) for _, kind, key in self.choices() if kind != "tick"]
        for kind, key in steps:
            self.perform(Action(kind, key, luck=19))
        return bool(steps)

    def at_rest(self) -> bool:
        """Whether nothing is under way that could still change anything."""
        state = self.state
        return not (state.busy or state.catalog_dirty) and all(
            client.done for client in self.clients.values()
        )
