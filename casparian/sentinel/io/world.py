"""`SentinelIO`: the whole outside world of the sentinel in two methods, `wait` and `perform`."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from casparian.db.connection import ControlDatabase
from casparian.db.writer import DatabaseWriter
from casparian.display import show
from casparian.domain.outputs import Sink
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import control
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.io import promoting
from casparian.sentinel.io.approving import Approving
from casparian.sentinel.io.clients import Clients
from casparian.sentinel.io.discovery import Discovery
from casparian.sentinel.io.mailbox import Mailbox
from casparian.sentinel.io.maintenance import Maintenance
from casparian.sentinel.io.publishing import Publisher
from casparian.sentinel.io.reading import Reading
from casparian.sentinel.io.trusting import Trusting
from casparian.sentinel.io.workers import Workers
from casparian.sentinel.io.writer import Writer
from casparian.sinks.promote import remove_stage
from casparian.sinks.staging import stage_directory

_LOG = logging.getLogger(__name__)


class SentinelIO:
    """Sockets, processes, threads, database."""

    def __init__(
        self,
        home: Home,
        database: ControlDatabase,
        database_writer: DatabaseWriter,
        *,
        engine_hash: str,
        workers: int,
        hash_threads: int,
        default_sink: Sink,
    ) -> None:
        self._home = home
        self._home_id = database.home_id
        self._selector = selectors.DefaultSelector()
        self._mailbox = Mailbox()
        self._selector.register(
            self._mailbox, selectors.EVENT_READ, lambda _mask: self._mailbox.collect()
        )
        self._writer = Writer(database_writer, self._mailbox)
        self._workers = Workers(home, self._selector)
        self._clients = Clients(home, self._selector)
        self._signals = self._watch_signals()
        # One thread a kind of task; each kind has a database cursor of its own.
        self._threads = {
            name: ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
            for name in ("plan", "promote", "publish", "read", "clean", "approve")
        }
        self._discovery = Discovery(
            home,
            database.home_id,
            engine_hash,
            workers=workers,
            threads=hash_threads,
            reader=database.reader(),
            writer=self._writer,
            mailbox=self._mailbox,
        )
        self._approving = Approving(home, database.home_id, database.reader())
        self._promote_reader = database.reader()
        self._publisher = Publisher(
            home,
            database.home_id,
            default_sink.uri,
            database.reader(),
            record=self._writer.apply,
        )
        self._reading = Reading(home, database.reader(), database.schema_number)
        self._maintenance = Maintenance(
            home, database.home_id, database.reader(), database_writer, self._writer
        )
        self._trusting = Trusting(home, database.reader(), self._writer)
        self._trusting.settle()
        self.stop_reason: str | None = None

    def wait(self, timeout_seconds: float | None) -> list[ev.Event]:
        """Everything that happened, as events; blocks until something does or the time is up."""
        events: list[ev.Event] = []
        for key, mask in self._selector.select(self._clients.patience(timeout_seconds)):
            events += key.data(mask)
        events += self._clients.expire()
        return events or [ev.Tick()]

    def perform(self, effects: Iterable[eff.Effect]) -> None:
        """Carry effects out, in order."""
        for effect in effects:
            self._perform(effect)

    def close(self) -> None:
        """Reap workers, finish what threads are doing, make the database's queue durable, leave no socket."""
        self._clients.flush()
        self._workers.close()
        for pool in self._threads.values():
            pool.shutdown(wait=True, cancel_futures=True)
        self._writer.close()
        self._clients.close()
        self._mailbox.close()

    def _perform(self, effect: eff.Effect) -> None:
        match effect:
            case eff.Persist():
                self._writer.submit(effect.operations, effect.then, patient=effect.patient)
            case eff.SendReply():
                reply = effect.reply
                if isinstance(reply, control.SentinelStatus):
                    reply = msgspec.structs.replace(reply, pid=os.getpid())
                self._clients.reply(effect.client_id, effect.number, reply)
            case eff.SendEvent():
                self._clients.event(effect.client_id, effect.number, effect.event)
            case eff.StartWorker():
                self._start_worker(effect.worker_id)
            case eff.SendWorker():
                self._workers.send(effect.worker_id, effect.message)
            case eff.KillWorker():
                self._workers.kill(effect.worker_id)
            case eff.MakePlan():
                self._later("plan", self._discovery.plan, effect)
            case eff.MakeScan():
                self._later("plan", self._discovery.scan, effect)
            case eff.Promote():
                self._later("promote", self._promote, effect)
            case eff.RemoveStages():
                self._later("clean", self._remove_stages, effect)
            case eff.Publish():
                self._later("publish", self._publisher.publish, effect)
            case eff.ReadRows():
                self._later("read", self._reading.read, effect)
            case eff.Maintain():
                self._later("plan", self._maintenance.carry_out, effect)
            case eff.ChangeTrust():
                self._later("plan", self._trusting.carry_out, effect)
            case eff.Consider():
                self._later("approve", self._approving.consider, effect)
            case eff.SettleTrust():
                self._later("plan", self._trusting.settle_after, effect)
            case eff.LoadJob():
                self._later("read", self._reading.load_job, effect)
            case eff.LoadJobs():
                self._later("read", self._reading.load_jobs, effect)
            case eff.FindEnd():
                self._later("read", self._reading.find_end, effect)
            case eff.Stop():
                self.stop_reason = effect.reason

    def _start_worker(self, worker_id: str) -> None:
        try:
            self._workers.start(worker_id)
        except (
            OSError
        ) as error:  # no process, memory or descriptor to be had: as if it had ended at once
            _LOG.warning("a worker could not be started", exc_info=error)
            reason = f"not started: {error.strerror or error}"
            self._mailbox.post(ev.WorkerGone(worker_id=worker_id, reason=reason))

    def _later(self, pool: str, task: Callable[[Any], ev.Event | None], effect: eff.Effect) -> None:
        """Run a task on its thread; its result is an event. A bug in a task ends the sentinel, visibly."""

        def done(future: Future[ev.Event | None]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is not None:
                message = f"{type(error).__name__}: {error}"
                self._mailbox.post(ev.PersistFailed(then=None, code="internal", message=message))
            elif (event := future.result()) is not None:
                self._mailbox.post(event)

        self._threads[pool].submit(task, effect).add_done_callback(done)

    def _promote(self, effect: eff.Promote) -> ev.Event:
        return promoting.carry_out(
            effect, home=self._home, home_id=self._home_id, reader=self._promote_reader
        )

    def _remove_stages(self, effect: eff.RemoveStages) -> None:
        for sink in effect.sinks:
            stage = stage_directory(sink, self._home_id, effect.job_id, effect.epoch)
            try:
                remove_stage(stage)
            except (CasparianError, OSError):  # it is swept at the next start; `doctor` shows it
                _LOG.exception("a stage could not be removed: %s", show(stage))

    def _watch_signals(self) -> socket.socket:
        """SIGTERM and SIGINT become events."""
        reader, self._signal_writer = socket.socketpair()
        reader.setblocking(False)
        self._signal_writer.setblocking(False)
        signal.set_wakeup_fd(self._signal_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._selector.register(reader, selectors.EVENT_READ, self._signalled)
        return reader

    def _signalled(self, _mask: int) -> list[ev.Event]:
        self._signals.recv(64)
        return [ev.StopAsked()]
