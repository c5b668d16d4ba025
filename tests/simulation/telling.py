"""What happens, in few words: an action so that it can be made to happen again, events and effects for a person to read."""

from __future__ import annotations

from typing import Any, NamedTuple

from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev


class Action(NamedTuple):
    """One thing that happens; enough to make it happen again."""

    kind: str
    key: str = ""
    luck: int = 0
    fault: str | None = None


def short(value: Any) -> str:
    """A line that a person can read."""
    name = type(value).__name__
    told: list[str] = []
    for field in ("worker_id", "client_id", "number", "job_id", "epoch", "code", "reason"):
        found = getattr(value, field, None)
        if found is not None and found != "":
            told.append(f"{field}={found}")
    match value:
        case ev.ClientAsked():
            told.append(repr(value.request)[:160])
        case eff.SendReply():
            told.append(f"{type(value.reply).__name__}: {getattr(value.reply, 'message', '')}")
        case eff.SendWorker() | ev.WorkerBeat():
            message = value.message if isinstance(value, eff.SendWorker) else value.beat
            told.append(f"{type(message).__name__} {message.job_id}.{message.epoch}")
        case ev.WorkerConcluded():
            receipt = value.conclude.receipt
            told.append(f"{value.conclude.job_id}.{value.conclude.epoch} {receipt.code or 'good'}")
        case eff.Persist():
            told += [_operation(o) for o in value.operations]
        case ev.Persisted():
            told.append(type(value.then).__name__)
    return f"{name} {' '.join(told)}".rstrip()


def _operation(operation: Any) -> str:
    text = type(operation).__name__
    if hasattr(operation, "job_id"):
        text += f"({operation.job_id}"
        text += f" {operation.before}->{operation.after})" if hasattr(operation, "before") else ")"
    return text
