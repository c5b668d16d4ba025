"""What a `Persist` effect was for: comes back in `Persisted.then`."""

from __future__ import annotations

import msgspec

from casparian.domain.approvals import Approval


class _Continuation(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Nothing(_Continuation, frozen=True, kw_only=True):
    """Nothing waits for it."""


class AfterDispatch(_Continuation, frozen=True, kw_only=True):
    """The dispatches are recorded: the workers may be told."""

    jobs: tuple[tuple[int, int], ...]  # (job, epoch)


class AfterBegin(_Continuation, frozen=True, kw_only=True):
    """T1 is durable, or found conflicts."""

    job_id: int
    epoch: int


class AfterFinish(_Continuation, frozen=True, kw_only=True):
    """T2 is durable."""

    job_id: int
    epoch: int


class AfterFailure(_Continuation, frozen=True, kw_only=True):
    """The jobs' failures are recorded."""

    job_ids: tuple[int, ...]


class AfterMutation(_Continuation, frozen=True, kw_only=True):
    """A mutation and its reply are recorded: answer. The last result is the encoded reply."""

    request_id: str
    aborted: tuple[tuple[int, int], ...] = ()  # (job, epoch) that it cancelled: now stop them
    catalog: bool = False  # readers are to see what it changed


class AfterApproval(AfterMutation, frozen=True, kw_only=True):
    """A proposal or a decision is recorded too; `accepted` is the request that was applied with it."""

    accepted: Approval | None = None


class AfterStop(_Continuation, frozen=True, kw_only=True):
    """All is recorded: leave."""
