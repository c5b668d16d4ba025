"""Front ends: each asks one thing after another, and asks again under the same request id until it is answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from casparian.protocol import control
from casparian.sentinel import events as ev

# Replies that say "later": a client that gets one starts a sentinel and asks again.
AGAIN: Final = frozenset({"sentinel.stopping", "sentinel.stopped"})

Ask = Callable[[int], control.Request]  # made when its time comes, from a draw


class Client:
    """One person at a terminal.

    `answers` are replies on their way; `told` is what was read, by request number of this client's life.
    """

    def __init__(self, name: str, script: list[Ask]) -> None:
        self.name = name
        self.script = deque(script)
        self.outbox: deque[ev.Event] = deque()
        self.answers: deque[tuple[int, int, control.Reply]] = deque()
        self.client_id: int | None = None
        self.number = 0
        self.wanted: control.Request | None = None  # asked, or to be asked again
        self.waiting: tuple[int, int] | None = None  # (client_id, number) of the present question
        self.told: list[tuple[control.Request, control.Reply]] = []
        self.world: Any = None  # where it lives: what it asks may depend on what it sees

    @property
    def done(self) -> bool:
        """Whether everything was asked and answered."""
        return not self.script and self.wanted is None

    @property
    def can_move(self) -> bool:
        """Whether it has anything to do but wait."""
        return bool(self.answers) or (not self.done and self.waiting is None)

    def move(self, luck: int, next_id: Callable[[], int]) -> None:
        """Read an answer, or connect and ask."""
        if self.answers:
            self._read(*self.answers.popleft())
        elif self.waiting is None and not self.done:
            if self.client_id is None:
                self.client_id = next_id()
                connected = ev.ClientConnected(client_id=self.client_id, actor=self.name)
                self.outbox.append(connected)
            if self.wanted is None:
                self.wanted = self.script.popleft()(luck)
            self.number += 1
            self.waiting = (self.client_id, self.number)
            asked = ev.ClientAsked(
                client_id=self.client_id, number=self.number, request=self.wanted
            )
            self.outbox.append(asked)

    def hang_up(self, *, unheard: bool) -> None:
        """The connection is lost; `unheard`: with what was said on it and has not arrived."""
        if self.client_id is None:
            return
        if unheard:
            unseen = any(isinstance(e, ev.ClientConnected) for e in self.outbox)
            self.outbox.clear()
            if unseen:  # the sentinel never saw this connection
                self.forget()
                return
        self.outbox.append(ev.ClientGone(client_id=self.client_id))
        self.forget()

    def forget(self) -> None:
        """There is no connection any more; an unanswered question will be asked again."""
        self.client_id = None
        self.waiting = None
        self.answers.clear()

    def _read(self, client_id: int, number: int, reply: control.Reply) -> None:
        if self.waiting != (client_id, number):
            return
        assert self.wanted is not None
        self.waiting = None
        if isinstance(reply, control.Failure) and reply.code in AGAIN:
            return
        self.told.append((self.wanted, reply))
        self.wanted = None


def request_id_of(request: msgspec.Struct) -> str | None:
    """The id of a mutation."""
    found: Any = getattr(request, "request_id", None)
    return found if isinstance(found, str) else None
