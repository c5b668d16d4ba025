"""The sentinel's process: take the home, open the database, recover, loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import duckdb
import msgspec

from casparian import clock, config, installation, log
from casparian.db import reads
from casparian.db.connection import ControlDatabase, HomeLock, open_fault, unwritable
from casparian.db.writer import DatabaseWriter
from casparian.domain.breakers import Breaker, restored
from casparian.domain.outputs import Sink
from casparian.paths import Home
from casparian.protocol.engine import current_engine_hash
from casparian.sentinel import candidates
from casparian.sentinel.events import StopAsked, Tick
from casparian.sentinel.io import SentinelIO
from casparian.sentinel.io.program import record_changes
from casparian.sentinel.notify import ServiceManager
from casparian.sentinel.recovery import recover
from casparian.sentinel.state import State
from casparian.sentinel.step import step
from casparian.sinks.uri import parse_sink

_BUSY_TICK_SECONDS: Final = 0.25
_LOG = logging.getLogger(__name__)


def serve(home: Home, *, on_demand: bool, workers: int | None = None) -> None:
    """Run the sentinel of a home until it is told to stop, or (on demand) has been idle for a while.

    Raises:
        Conflict: another sentinel holds the home, or another program its database.
        IntegrityError: `db.corrupt`, `db.missing`, `db.migration_failed`.
        CasparianError: `home.unwritable`.
    """
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        log.configure(home, "sentinel")
    except OSError as error:
        raise unwritable(home, error.strerror or str(error)) from error
    manager = ServiceManager()
    lock = HomeLock(home)
    settings = config.load(home).settings
    cores = len(os.sched_getaffinity(0))
    workers_max = workers or settings.workers or cores
    with _readable(home), ControlDatabase(home) as database:
        writer = DatabaseWriter(database.writer)
        engine_hash = current_engine_hash()
        started_ns = clock.now_ns()
        initial = State(
            home_id=database.home_id,
            home=str(home.root),
            engine_hash=engine_hash,
            workers_max=workers_max,
            on_demand=on_demand,
            started_ns=started_ns,
            idle_since_ns=clock.monotonic_ns(),
        )
        recovered = recover(
            initial, database.writer, writer, candidates.quarantine_sink(home), now_ns=started_ns
        )
        record_changes(writer, installation.root(), now_ns=started_ns)
        state = _with_breakers(recovered.state, reads.breakers(database.writer))
        io = SentinelIO(
            home,
            database,
            writer,
            engine_hash=engine_hash,
            workers=workers_max,
            hash_threads=settings.hash_threads or cores,
            default_sink=_default_sink(home, settings.default_sink),
        )
        _LOG.info(
            "sentinel started",
            extra={"fields": {"home_id": database.home_id, "workers": workers_max}},
        )
        try:
            io.perform(recovered.effects)
            manager.ready()
            _loop(io, state, idle_ns=settings.idle_seconds * 1_000_000_000)
        finally:
            manager.stopping()
            io.close()
            _LOG.info("sentinel stopped", extra={"fields": {"reason": io.stop_reason or "fault"}})
    lock.release()


@contextmanager
def _readable(home: Home) -> Iterator[None]:
    """Damage of the database may show only when its tables are read: that is no fault of the program."""
    try:
        yield
    except duckdb.Error as error:
        raise open_fault(home, error) from error


def _default_sink(home: Home, uri: str | None) -> Sink:
    return parse_sink(uri, base=str(home.root)) if uri else candidates.default_sink(home)


def _with_breakers(state: State, found: Iterable[Breaker]) -> State:
    """Circuit breakers survive the sentinel; what is left of their cool-down is counted on this process's clock."""
    now_ns, monotonic_ns = clock.now_ns(), clock.monotonic_ns()
    breakers = {
        (b.parser, b.artifact_hash): restored(b, now_ns=now_ns, monotonic_ns=monotonic_ns)
        for b in found
    }
    return msgspec.structs.replace(state, breakers=breakers)


def _loop(io: SentinelIO, state: State, *, idle_ns: int) -> None:
    ticked = clock.monotonic_ns()
    while io.stop_reason is None:
        waits = state.busy or state.on_demand or state.stopping or state.catalog_dirty
        events = io.wait(_BUSY_TICK_SECONDS if waits else None)
        now = clock.monotonic_ns()
        if now - ticked > _BUSY_TICK_SECONDS * 1_000_000_000:
            # However many events there are: leases and pauses are looked at several times a second.
            events.append(Tick())
            ticked = now
        for event in events:
            state, effects = step(
                state, event, now_ns=clock.now_ns(), monotonic_ns=clock.monotonic_ns()
            )
            io.perform(effects)
        now = clock.monotonic_ns()
        if state.busy or state.clients or state.catalog_dirty or not state.on_demand:
            state = msgspec.structs.replace(state, idle_since_ns=now)
        elif now - state.idle_since_ns > idle_ns and not state.stopping:
            state, effects = step(state, StopAsked(), now_ns=clock.now_ns(), monotonic_ns=now)
            io.perform(effects)
