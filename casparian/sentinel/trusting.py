"""Changes of trust, as the loop sees them: verified, stored and recorded beside it (`io.trusting`), one after the other.

They share their thread with plans: a run that is planned after the answer of a change sees the change.
"""

from __future__ import annotations

from casparian.protocol import control
from casparian.sentinel import answering
from casparian.sentinel import continuations as after
from casparian.sentinel import events as ev
from casparian.sentinel.effects import ChangeTrust
from casparian.sentinel.turn import Turn


def begin(
    turn: Turn,
    event: ev.ClientAsked,
    request: control.ImportTrust | control.Deploy | control.Retire,
) -> None:
    """Begin one change; the sentinel does not end before it has."""
    turn.change(planning=turn.state.planning + 1)
    actor = turn.state.clients.get(event.client_id, "unknown")
    turn.emit(
        ChangeTrust(client_id=event.client_id, number=event.number, actor=actor, request=request)
    )


def changed(turn: Turn, event: ev.TrustChanged) -> None:
    """A change is durable, or was refused; a refused one may be tried again under the same request id."""
    turn.change(planning=turn.state.planning - 1)
    if event.recorded:
        then = after.AfterMutation(request_id=event.request_id)
        answering.recorded(turn, then, (control.encode(event.reply),))
    else:
        answering.answer(turn, event.request_id, event.reply)
