"""Mutations act once: a request id is open until its effect and its reply are durable together, then answered for good.

A second request with an open id waits for the same reply; one with an answered id gets it again. The operations of a mutation and
its reply are one transaction (`record`), so that no crash can come between them.
"""

from __future__ import annotations

from typing import Any, Final

from casparian.db.operations import Operation, SaveReply
from casparian.protocol import control
from casparian.sentinel import continuations as after
from casparian.sentinel.turn import Turn

REPLIES_MAX: Final = 1000
_REPLY_BYTES_MAX: Final = 64 * 1024  # of one kept in memory: a longer one is in the database


def is_repeated(turn: Turn, client_id: int, number: int, request_id: str) -> bool:
    """Answer a request that was answered before, or let it wait with the one under way; `False` when it is new.

    A new one is open from now on.
    """
    stored = turn.state.replies.get(request_id)
    if stored is not None:
        turn.reply(client_id, number, control.decode_reply(stored))
        return True
    waiting = turn.state.requests_open.get(request_id)
    turn.change(
        requests_open={
            **turn.state.requests_open,
            request_id: (*(waiting or ()), (client_id, number)),
        }
    )
    return waiting is not None


def record(
    turn: Turn,
    request_id: str,
    operations: tuple[Operation, ...],
    reply: control.Reply | None = None,
    *,
    template: str | None = None,
    aborted: tuple[tuple[int, int], ...] = (),
    then: after.AfterMutation | None = None,
) -> None:
    """Make a mutation and its reply durable in one transaction; the clients are answered then.

    Args:
        turn: the step under way.
        request_id: of the mutation.
        operations: what it changes.
        reply: what it is answered with, if that is known now.
        template: else the message of a `Done` with `{n}`, the result of the first operation.
        aborted: (job, epoch) whose abort is among the operations.
        then: a continuation that does more than to answer.
    """
    saved = SaveReply(
        at_ns=turn.state.now_ns,
        request_id=request_id,
        kind=type(reply).__name__ if reply is not None else "Done",
        reply=b"" if reply is None else control.encode(reply),
        template=template,
    )
    then = then or after.AfterMutation(request_id=request_id, aborted=aborted)
    turn.persist(*operations, saved, then=then)


def recorded(turn: Turn, then: after.AfterMutation, results: tuple[Any, ...]) -> None:
    """A mutation is durable: answer everybody who asked for it."""
    encoded = bytes(results[-1])
    if len(encoded) <= _REPLY_BYTES_MAX:
        replies = {**turn.state.replies, then.request_id: encoded}
        while len(replies) > REPLIES_MAX:
            del replies[next(iter(replies))]
        turn.change(replies=replies)
    answer(turn, then.request_id, control.decode_reply(encoded))


def answer(turn: Turn, request_id: str, reply: control.Reply) -> None:
    """Answer all who wait for a request; it is open no more."""
    waiting = turn.state.requests_open.get(request_id, ())
    turn.change(
        requests_open={k: v for k, v in turn.state.requests_open.items() if k != request_id}
    )
    for client_id, number in waiting:
        turn.reply(client_id, number, reply)


def answer_asker(turn: Turn, client_id: int, number: int, reply: control.Reply) -> None:
    """Answer one client; when its request is an open mutation (that was refused), everybody who waits for it."""
    for request_id, waiting in turn.state.requests_open.items():
        if (client_id, number) in waiting:
            answer(turn, request_id, reply)
            return
    turn.reply(client_id, number, reply)
