"""A sentinel's desk for approvals: the real step, the real record and the real considering, one request at a time.

Votes are either signed (the real ballot, with a trust directory) or written on paper: `paper(...)` envelopes that `PaperBallot`
believes, for tests of everything but signatures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from casparian.db import approvals as records
from casparian.db import operations as op
from casparian.db.connection import ControlDatabase
from casparian.db.writer import DatabaseWriter
from casparian.domain.approvals import Approval, Vote
from casparian.errors import Refused
from casparian.paths import Home
from casparian.protocol import control
from casparian.sentinel import approvals
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from casparian.sentinel.approval_kinds import CheckContext, Checked, Kind
from casparian.sentinel.io import approving
from casparian.sentinel.state import State
from casparian.sentinel.step import step
from casparian.sentinel.turn import Turn

NOTE = "test.note"  # a kind that writes its content to the tape


def paper(holder: str, decision: str = "accept", reason: str = "seen") -> bytes:
    """A decision that only `PaperBallot` believes."""
    return json.dumps({"holder": holder, "decision": decision, "reason": reason}).encode()


class PaperBallot:
    """Counts holders of paper votes; `threshold` of them are needed, `revoked` ones have no say."""

    threshold = 1
    revoked: ClassVar[set[str]] = set()
    clock_ns = 0

    def __init__(self, home: Home, home_id: str) -> None:
        self.now_ns = PaperBallot.clock_ns

    def read(self, approval: Approval, envelope: bytes, actor: str) -> Vote:
        said = json.loads(envelope)
        if said["holder"] in PaperBallot.revoked:
            raise Refused("revoked", code="trust.revoked_key")
        return Vote(
            approval_id=approval.approval_id,
            decision=said["decision"],
            keyids=(f"key of {said['holder']}",),
            holders=(said["holder"],),
            role="lead",
            reason=said["reason"],
            actor=actor,
            envelope=envelope,
            at_ns=self.now_ns,
        )

    def standing(self, approval: Approval, votes: list[Vote]) -> list[Vote]:
        return [v for v in votes if not PaperBallot.revoked.intersection(v.holders)]

    def count(self, approval: Approval, votes: list[Vote]) -> tuple[int, int]:
        holders = {holder for vote in votes for holder in vote.holders}
        return len(holders), max(0, PaperBallot.threshold - len(holders))


def _check_note(context: CheckContext, subject: str, content: Any) -> Checked:
    if content == "impossible":
        raise Refused("that cannot be", code="test.impossible")
    return Checked(scope=f"contracts/{subject}", content=content, diff=(f"+ {content}",))


def _apply_note(turn: Turn, approval: Approval) -> tuple[op.Operation, ...]:
    content = json.loads(approval.content)
    if content == "refused":
        raise Refused("it is too late for that", code="test.late")
    fields: dict[str, str | int] = {
        "approval_id": approval.approval_id,
        "subject": approval.subject,
        "text": json.dumps(content),
    }
    return (op.RecordDecision(at_ns=turn.state.now_ns, kind="test.effect", fields=fields),)


NOTE_KIND = Kind(check=_check_note, apply=_apply_note)


class Desk:
    """One sentinel, asked one thing after another; `now_ns` is its wall clock."""

    def __init__(self, root: Path) -> None:
        self.home = Home.at(root)
        self.home.run.mkdir(parents=True, exist_ok=True)
        self.database = ControlDatabase(self.home)
        self.writer = DatabaseWriter(self.database.writer)
        self.approving = approving.Approving(
            self.home, self.database.home_id, self.database.reader()
        )
        self.state = State(
            home_id=self.database.home_id,
            home=str(root),
            engine_hash="e",
            workers_max=1,
            on_demand=False,
            started_ns=0,
            clients={1: "examiner(1000)"},
        )
        self.now_ns = 1_000_000_000
        self.asked = 0
        self.replies: list[control.Reply] = []
        self.left: list[eff.Effect] = []  # that were carried out in name only

    def close(self) -> None:
        """Close the record."""
        self.database.close()

    def ask(self, request: control.Request) -> Any:
        """One request, carried through to its reply."""
        self.replies.clear()
        self.asked += 1
        self._take(ev.ClientAsked(client_id=1, number=self.asked, request=request))
        (reply,) = self.replies
        return reply

    def propose(self, content: Any, subject: str = "t", kind: str = NOTE, **more: Any) -> Any:
        """Propose under a request id of its own."""
        return self.ask(
            control.Propose(
                request_id=self._request_id(),
                kind=kind,
                subject=subject,
                content=json.dumps(content),
                **more,
            )
        )

    def decide(self, approval_id: str, envelope: bytes) -> Any:
        """Hand in a decision."""
        return self.ask(
            control.Decide(
                request_id=self._request_id(), approval_id=approval_id, envelope=envelope
            )
        )

    def withdraw(self, approval_id: str) -> Any:
        """Take a request back."""
        return self.ask(control.Withdraw(request_id=self._request_id(), approval_id=approval_id))

    def approval(self, approval_id: str) -> Approval:
        """A request as recorded."""
        found = records.approval(self.database.writer, approval_id)
        assert found is not None
        return found

    def tape(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Entries of the tape."""
        rows = self.database.writer.execute("SELECT entry FROM cf_tape ORDER BY seq").fetchall()
        entries = [json.loads(entry) for (entry,) in rows]
        return [entry for entry in entries if kind is None or entry["kind"] == kind]

    def _request_id(self) -> str:
        return f"request-{self.asked}"

    def _take(self, event: ev.Event) -> None:
        self.state, effects = step(self.state, event, now_ns=self.now_ns, monotonic_ns=self.now_ns)
        for effect in effects:
            match effect:
                case eff.Persist():
                    (outcome,) = self.writer.apply([effect.operations])
                    if isinstance(outcome, Exception):
                        raise outcome
                    self._take(ev.Persisted(then=effect.then, results=tuple(outcome)))
                case eff.Consider():
                    self._take(self.approving.consider(effect))
                case eff.SendReply():
                    self.replies.append(effect.reply)
                case eff.Publish():
                    self.left.append(effect)  # nothing is read here, so nothing is shown
                    published = ev.Published(run_ids=effect.run_ids, code=None, message="")
                    self._take(published)
                case _:
                    raise AssertionError(effect)


def with_notes(monkeypatch: Any) -> None:
    """Let the kind `test.note` be known, and paper votes count."""
    monkeypatch.setitem(approvals.KINDS, NOTE, NOTE_KIND)
    monkeypatch.setattr(approving, "Ballot", PaperBallot)
    PaperBallot.threshold, PaperBallot.revoked, PaperBallot.clock_ns = 1, set(), 1_000_000_000
