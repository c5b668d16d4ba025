"""Rows of the model that `db.records` has no struct for."""

from __future__ import annotations

from typing import Any

import msgspec


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """`cf_runs`."""

    run_id: str
    root: str
    actor: str
    request: str
    state: str
    started_at_ns: int
    finished_at_ns: int | None = None
    result: str | None = None


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`cf_job_events`."""

    job_id: int
    epoch: int
    from_state: str | None
    to_state: str
    at_ns: int
    detail: str


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """`cf_commit_intents`."""

    job_id: int
    epoch: int
    document: bytes


class TapeLink(msgspec.Struct, frozen=True, kw_only=True):
    """`cf_tape`, without the hashes: they follow from the order."""

    at_ns: int
    kind: str
    fields: dict[str, Any]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All tables at one moment. Rows are never changed in place, so copies of the containers are enough."""

    tables: dict[str, Any]
