"""What a `Persist` effect was for: comes back in `Persisted.then`."""

from __future__ import annotations

import msgspec

from casparian.protocol import control


class _Continuation(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Nothing(_Continuation, frozen=True, kw_only=True):
    """Nothing waits for it."""


class AfterDispatch(_Continuation, frozen=True, kw_only=True):
    """The dispatch is recorded: the worker may be told."""

    job_id: int
    epoch: int


class AfterAbort(_Continuation, frozen=True, kw_only=True):
    """The abort is recorded, so nothing of the job can commit: now stop it."""

    job_id: int
    epoch: int


class AfterBegin(_Continuation, frozen=True, kw_only=True):
    """T1 is durable, or found conflicts."""

    job_id: int
    epoch: int


class AfterFinish(_Continuation, frozen=True, kw_only=True):
    """T2 is durable."""

    job_id: int
    epoch: int


class AfterFailure(_Continuation, frozen=True, kw_only=True):
    """The job's failure is recorded."""

    job_id: int
    epoch: int


class AfterRun(_Continuation, frozen=True, kw_only=True):
    """The end of a run is recorded: its client may know."""

    run_id: str
    result: control.RunResult


class AfterMutation(_Continuation, frozen=True, kw_only=True):
    """A small mutation is recorded: answer. `template` gets the operation's result as `{n}`."""

    client_id: int
    number: int
    request_id: str
    template: str


class AfterScan(_Continuation, frozen=True, kw_only=True):
    """A scan's reply is recorded."""

    client_id: int
    number: int
    result: control.ScanResult


class AfterStop(_Continuation, frozen=True, kw_only=True):
    """All is recorded: leave."""
