"""Histories with people who propose and decide, while sentinels are killed and the database fails.

The step is the product's; the considering is a model of `io.approving` with votes on paper, as the record is one. What must hold
after every step: an effect for each accepted request and for no other, and enough holders behind each.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from msgspec import structs

from casparian.domain.approvals import Approval, ApprovalState, Vote
from casparian.protocol import control
from casparian.protocol.identity import approval_content_hash
from casparian.sentinel import effects as eff
from casparian.sentinel import events as ev
from tests.model.approval_store import ApprovalStore
from tests.simulation.clients import Ask, Client
from tests.simulation.lookups import at_once
from tests.simulation.world import SECOND, Action, World

THRESHOLD = 2
HOLDERS = ("alice", "bob", "carol")
LIFE_NS = 600 * SECOND
NO_QUEUE = "decisions do not wait for each other"
APART = "effects stored apart"
FAULTS = ("crash", "hang_up", "jump", "stop")


class ApprovalWorld(World):
    """A world whose record has approvals; `made` counts requests that were ever made."""

    def __init__(self, clients: list[Client], *, wrong: str | None = None, **more: Any) -> None:
        super().__init__(clients, 1, wrong=wrong, **more)
        self.store: ApprovalStore = ApprovalStore()
        self.made = 0
        self.boot(3)

    def _empty(self) -> None:
        super()._empty()
        self.pools["approve"] = self.pools["read"].__class__()

    def carry_out(self, effect: eff.Effect) -> None:
        """Considering is a task of its own pool."""
        if isinstance(effect, eff.Consider):
            self.pools["approve"].append(effect)
        else:
            super().carry_out(effect)

    def happen(self, event: ev.Event, *, cut: int | None = None) -> None:
        """A wrong product does not keep the next one back."""
        if self.wrong == NO_QUEUE and isinstance(event, ev.ClientAsked):
            self.state = structs.replace(self.state, considering=())
        super().happen(event, cut=cut)

    def bent(self, event: ev.Event) -> ev.Event | None:
        """The wrong products of jobs are not these."""
        return event

    def _submit(self, effect: eff.Persist) -> None:
        kinds = {type(operation).__name__ for operation in effect.operations}
        if self.wrong == APART and "RaiseLimits" in kinds:
            raised = [o for o in effect.operations if type(o).__name__ == "RaiseLimits"]
            others = [o for o in effect.operations if type(o).__name__ != "RaiseLimits"]
            self.persists.append(eff.Persist(operations=tuple(raised), then=None))
            self.persists.append(eff.Persist(operations=tuple(others), then=effect.then))
            return
        super()._submit(effect)

    def _task(self, effect: Any, luck: int, fault: str | None) -> Any:
        if isinstance(effect, eff.Consider):
            return at_once(self._consider(effect))
        return super()._task(effect, luck, fault)

    def _consider(self, effect: eff.Consider) -> ev.Considered:
        request = effect.request
        newest = max((a.requested_at_ns for a in self.store.approvals.values()), default=0)
        at_ns = max(self.wall, newest)
        outcome: Any
        match request:
            case control.Propose():
                outcome = self._propose(request, effect.actor, at_ns)
            case control.Decide():
                outcome = self._decide(request, at_ns)
            case control.Withdraw():
                found = self._pending(request.approval_id, at_ns)
                outcome = found if _failed(found) else ev.TakenBack(approval=found)
        return ev.Considered(
            request_id=request.request_id, actor=effect.actor, at_ns=at_ns, outcome=outcome
        )

    def _propose(self, request: control.Propose, actor: str, at_ns: int) -> ev.Proposed:
        scope, diff = f"settings/limits.{request.subject}", (request.content,)
        content_hash = approval_content_hash(
            request.kind, request.subject, scope, request.content, diff
        )
        waiting = [
            a
            for a in self.store.approvals.values()
            if a.subject == request.subject and a.state_at(at_ns) is ApprovalState.PENDING
        ]
        for approval in waiting:
            if approval.content_hash == content_hash:
                return ev.Proposed(approval=approval, known=True)
        self.made += 1
        approval = Approval(
            approval_id=f"a{self.made:07}",
            kind=request.kind,
            subject=request.subject,
            scope=scope,
            content=request.content,
            content_hash=content_hash,
            diff=diff,
            requested_by=actor,
            requested_at_ns=at_ns,
            expires_at_ns=at_ns + LIFE_NS,
        )
        return ev.Proposed(approval=approval, supersedes=tuple(a.approval_id for a in waiting))

    def _decide(self, request: control.Decide, at_ns: int) -> Any:
        approval = self._pending(request.approval_id, at_ns)
        if _failed(approval):
            return approval
        said = json.loads(request.envelope)
        vote = Vote(
            approval_id=approval.approval_id,
            decision=said["decision"],
            keyids=(said["holder"],),
            holders=(said["holder"],),
            role="lead",
            reason="seen",
            actor="client",
            envelope=request.envelope,
            at_ns=at_ns,
        )
        if vote.decision == "reject":
            return ev.Voted(approval=approval, vote=vote, holders=0, missing=0)
        before = {
            v.holders[0]
            for v in self.store.votes
            if v.approval_id == approval.approval_id and v.decision == "accept"
        }
        if said["holder"] in before:
            return _conflict("approval.voted")
        count = len(before) + 1
        return ev.Voted(
            approval=approval, vote=vote, holders=count, missing=max(0, THRESHOLD - count)
        )

    def _pending(self, approval_id: str, at_ns: int) -> Any:
        found = self.store.approvals.get(approval_id)
        if found is None:
            return _conflict("approval.unknown")
        state = found.state_at(at_ns)
        if state is ApprovalState.PENDING:
            return found
        return _conflict(f"approval.{'expired' if state is ApprovalState.EXPIRED else 'decided'}")

    def check(self) -> None:
        """The invariants of approvals, and all others."""
        super().check()
        accepted = [
            a.approval_id
            for a in self.store.approvals.values()
            if a.state is ApprovalState.ACCEPTED
        ]
        effects = [approval_id for approval_id, _ in self.store.raised]
        if sorted(effects) != sorted(accepted):
            self.violated("no effect without an acceptance", f"{effects} and {accepted}")
        subjects = []
        for approval_id, approval in self.store.approvals.items():
            holders = {
                v.holders[0]
                for v in self.store.votes
                if v.approval_id == approval_id and v.decision == "accept"
            }
            if approval_id in accepted and len(holders) < THRESHOLD:
                self.violated("enough people stand behind it", f"{approval_id}: {holders}")
            if approval.state is ApprovalState.PENDING:
                subjects.append(approval.subject)
                if len(holders) >= THRESHOLD:
                    self.violated("nobody accepts in vain", f"{approval_id}: {holders}")
        if len(subjects) != len(set(subjects)):
            self.violated("one request waits for each subject", f"{subjects}")


def history(seed: int, *, wrong: str | None = None) -> ApprovalWorld:
    """One whole history, to its quiet end.

    Raises:
        Violation: something that must hold does not.
    """
    random = Random(seed)
    clients = [_person(random, number) for number in range(random.choice((2, 3, 4)))]
    world = ApprovalWorld(clients, wrong=wrong, many_jobs=(0, 24)[seed % 2])
    for client in clients:
        client.world = world
    rate = random.choice((0.0, 0.03, 0.1))
    for _ in range(random.randint(60, 160)):
        world.perform(_action(world, random, rate))
    world.settle()
    return world


def _action(world: World, random: Random, rate: float) -> Action:
    luck = random.getrandbits(30)
    if random.random() < rate:
        kind = random.choice(FAULTS)
        key = random.choice(list(world.clients)) if kind == "hang_up" else ""
        return Action(kind, key, luck)
    choices = list(world.choices())
    weights = [weight for weight, _, _ in choices]
    ((_, kind, key),) = random.choices(choices, weights)
    fault = None
    if random.random() < rate:
        fault = {"persist": "db.fails", "task": "sentinel.crash", "deliver": "sentinel.crash"}.get(
            kind
        )
    return Action(kind, key, luck, fault)


def _person(random: Random, number: int) -> Client:
    """Somebody who proposes, decides and takes back; what about depends on what there is by then."""
    client = Client(f"person-{number}", [])
    for turn in range(random.choice((3, 5, 8))):
        kind = random.choice(("propose", "accept", "accept", "accept", "reject", "withdraw"))
        if turn == 0:
            kind = "propose"
        client.script.append(_asking(client, kind, f"{kind}-{number}-{turn}"))
    return client


def _asking(client: Client, kind: str, request_id: str) -> Ask:
    def ask(luck: int) -> control.Request:
        store: ApprovalStore = client.world.store
        known = list(store.approvals) or ["nothing"]
        approval_id = known[-1 - luck % min(3, len(known))]
        holder = HOLDERS[luck // 7 % len(HOLDERS)]
        match kind:
            case "propose":
                parser = "pq"[luck % 2]
                content = {"limits": {"rows_max": 10 + luck // 11 % 2}, "parser": parser}
                return control.Propose(
                    request_id=request_id,
                    kind="limits.raise",
                    subject=parser,
                    content=json.dumps(content),
                )
            case "withdraw":
                return control.Withdraw(request_id=request_id, approval_id=approval_id)
            case _:
                said = json.dumps({"holder": holder, "decision": kind}).encode()
                return control.Decide(request_id=request_id, approval_id=approval_id, envelope=said)

    return ask


def _conflict(code: str) -> control.Failure:
    return control.Failure(code=code, message=code, exit_code=8)


def _failed(found: Any) -> bool:
    return isinstance(found, control.Failure)
