"""Whoever can talk to the sentinel, but holds no key that has a say, gets nothing approved: an attack a test."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from casparian import clock
from casparian.domain.approvals import ApprovalState
from casparian.protocol import control
from casparian.sentinel import approvals
from casparian.trust import state as states
from casparian.trust.decisions import Decision, decision_payload, sign_decision
from casparian.trust.documents import DAY_NS, time_text
from casparian.trust.envelope import seal
from casparian.trust.policy import ExaminerRole
from tests.factories.trust import POLICY_ENDS, Organisation, key
from tests.support.desk import NOTE, NOTE_KIND, Desk

ALONE = "evtx_note"  # alice alone decides about this table, for all others it takes two people
CONTENT = {"columns": ["a", "b"]}


class Court:
    """A home that trusts an organisation, with one request waiting."""

    def __init__(self, root: Path) -> None:
        self.org = Organisation()
        self.desk = Desk(root)
        self.trust(self.org.state)
        self.approval_id: str = self.propose()

    def trust(self, state: states.TrustState) -> None:
        states.save(self.desk.home.trust, state)

    def under(self, raw: bytes) -> None:
        """Another policy comes into force."""
        self.trust(states.with_policy(states.load(self.desk.home.trust), raw, clock.now_ns()))

    def propose(self, subject: str = ALONE, content: Any = CONTENT) -> str:
        return str(self.desk.propose(content, subject=subject).fields["approval_id"])

    def said(self, approval_id: str | None = None, **changes: Any) -> Decision:
        """What an honest decision about a request says, with changes."""
        found = self.desk.approval(approval_id or self.approval_id)
        values: dict[str, Any] = {
            "approval_id": found.approval_id,
            "kind": found.kind,
            "subject": found.subject,
            "content_hash": found.content_hash,
            "decision": "accept",
            "reason": "I have read it",
            "issued": time_text(clock.now_ns()),
            "home_id": self.desk.database.home_id,
        }
        return Decision(**{**values, **changes})

    def signed(self, by: Any = None, approval_id: str | None = None, **changes: Any) -> bytes:
        return sign_decision(self.said(approval_id, **changes), by or self.org.alice)

    def decide(self, envelope: bytes, approval_id: str | None = None) -> Any:
        return self.desk.decide(approval_id or self.approval_id, envelope)

    @property
    def effects(self) -> int:
        return len(self.desk.tape("test.effect"))


@pytest.fixture
def court(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Court]:
    monkeypatch.setitem(approvals.KINDS, NOTE, NOTE_KIND)
    made = Court(tmp_path / "home")
    yield made
    made.desk.close()


def test_an_honest_decision_of_a_key_in_scope_is_accepted(court: Court) -> None:
    assert court.decide(court.signed()).fields["state"] == "accepted"
    assert court.effects == 1
    (vote,) = court.desk.tape("approval.vote")
    assert (vote["holders"], vote["role"], vote["reason"], vote["actor"]) == (
        ["alice"],
        "examiner alice",
        "I have read it",
        "examiner(1000)",
    )


def test_two_people_decide_where_two_are_needed(court: Court) -> None:
    shared = court.propose("network")
    first = court.decide(court.signed(approval_id=shared), shared)
    assert (first.fields["state"], first.fields["missing"]) == ("pending", 1)
    assert court.effects == 0
    second = court.decide(court.signed(court.org.bob, shared), shared)
    assert second.fields["state"] == "accepted"
    assert court.effects == 1


def altered(envelope: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The envelope with another payload under the same signatures."""
    outer = json.loads(envelope)
    payload = json.loads(base64.b64decode(outer["payload"]))
    change(payload)
    raw = json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
    outer["payload"] = base64.b64encode(raw).decode()
    return json.dumps(outer, sort_keys=True, separators=(",", ":")).encode()


def with_keyid(envelope: bytes, keyid: str) -> bytes:
    """The envelope with its signature under another key's id."""
    outer = json.loads(envelope)
    outer["signatures"][0]["keyid"] = keyid
    return json.dumps(outer, sort_keys=True, separators=(",", ":")).encode()


def with_actor(court: Court) -> bytes:
    """A decision that also says who handed it in."""
    document = json.loads(decision_payload(court.said()))
    document["predicate"]["actor"] = "root(0)"
    return seal(json.dumps(document, sort_keys=True).encode(), [court.org.alice])


def without_reason(court: Court) -> bytes:
    document = json.loads(decision_payload(court.said()))
    document["predicate"]["reason"] = "  "
    return seal(json.dumps(document, sort_keys=True).encode(), [court.org.alice])


# What is handed in for the waiting request, and the code of its refusal.
FORGED: dict[str, tuple[Callable[[Court], bytes], str]] = {
    "no envelope": (lambda c: b"", "trust.malformed"),
    "not even JSON": (lambda c: b"\x00" * 64, "trust.malformed"),
    "nobody signed": (lambda c: seal(decision_payload(c.said()), []), "trust.malformed"),
    "an unknown key": (lambda c: c.signed(c.org.eve), "trust.unknown_signer"),
    "an unknown key under a known id": (
        lambda c: with_keyid(c.signed(c.org.eve), c.org.alice.public.keyid),
        "trust.tampered",
    ),
    "the policy's own key": (lambda c: c.signed(c.org.policy_keys[0]), "trust.unknown_signer"),
    "a root key": (lambda c: c.signed(c.org.root_keys[0]), "trust.unknown_signer"),
    "a release key": (lambda c: c.signed(c.org.release), "trust.unknown_signer"),
    "for other content": (lambda c: c.signed(content_hash="0" * 64), "trust.decision"),
    "for another home": (lambda c: c.signed(home_id="another"), "trust.decision"),
    "for another kind": (lambda c: c.signed(kind="contract.promote"), "trust.decision"),
    "for another subject": (lambda c: c.signed(subject="other"), "trust.decision"),
    "for another request": (
        lambda c: c.signed(approval_id=c.propose("other", CONTENT)),
        "trust.decision",
    ),
    "without a reason": (without_reason, "trust.malformed"),
    "with an actor of its own": (with_actor, "trust.malformed"),
    "from the future": (
        lambda c: c.signed(issued=time_text(clock.now_ns() + 2 * DAY_NS)),
        "trust.clock",
    ),
    "a no that was made a yes": (
        lambda c: altered(
            c.signed(decision="reject"), lambda p: p["predicate"].update(decision="accept")
        ),
        "trust.tampered",
    ),
    "another hash under the signature": (
        lambda c: altered(c.signed(), lambda p: p["predicate"].update(content_hash="0" * 64)),
        "trust.tampered",
    ),
    "a word that is no decision": (
        lambda c: altered(c.signed(), lambda p: p["predicate"].update(decision="ACCEPT")),
        "trust.tampered",
    ),
    "another type of statement": (
        lambda c: seal(
            decision_payload(c.said()).replace(b"decision/v1", b"parser/v1"), [c.org.alice]
        ),
        "trust.malformed",
    ),
    "too long": (lambda c: c.signed() + b" " * (2 << 20), "trust.too_large"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_decision_that_is_not_one_is_refused_with_its_reason(court: Court, what: str) -> None:
    make, code = FORGED[what]
    envelope = make(court)
    reply = court.decide(envelope)
    assert isinstance(reply, control.Failure), reply
    assert reply.code == code, reply
    assert court.desk.approval(court.approval_id).state is ApprovalState.PENDING
    assert court.effects == 0
    assert court.desk.tape("approval.vote") == []


def test_no_byte_of_a_decision_can_be_another(court: Court) -> None:
    envelope = court.signed()
    for position in range(0, len(envelope), 7):
        flipped = bytearray(envelope)
        flipped[position] ^= 1
        reply = court.decide(bytes(flipped))
        assert isinstance(reply, control.Failure), position
    assert court.effects == 0


def test_a_yes_cannot_be_replayed_after_a_no(court: Court) -> None:
    yes = court.signed()
    assert court.decide(court.signed(decision="reject")).fields["state"] == "rejected"
    assert court.decide(yes).code == "approval.decided"
    assert court.effects == 0


def test_a_yes_is_of_no_use_for_a_later_equal_request(court: Court) -> None:
    yes = court.signed()
    court.decide(court.signed(decision="reject"))
    later = court.propose()
    assert later != court.approval_id
    before, after = court.desk.approval(court.approval_id), court.desk.approval(later)
    assert before.content_hash == after.content_hash
    assert court.decide(yes, later).code == "trust.decision"
    assert court.effects == 0


def test_a_yes_is_of_no_use_for_what_took_its_place(court: Court) -> None:
    yes = court.signed()
    newer = court.propose(content={"columns": ["a"]})
    assert court.decide(yes).code == "approval.decided"
    assert court.decide(yes, newer).code == "trust.decision"
    assert court.effects == 0


def test_decisions_cannot_change_places(court: Court) -> None:
    other = court.propose("evtx_other")
    first, second = court.signed(), court.signed(approval_id=other)
    assert court.decide(second).code == "trust.decision"
    assert court.decide(first, other).code == "trust.decision"
    assert court.effects == 0


def test_a_key_out_of_scope_has_no_say(court: Court) -> None:
    keyids = (court.org.bob.public.keyid, court.org.carol.public.keyid)
    only = ExaminerRole(name="settings", keyids=keyids, threshold=1, paths=("settings/*",))
    court.under(court.org.policy(2, roles=(court.org.roles()[0], only)))
    assert court.decide(court.signed(court.org.bob)).code == "trust.out_of_scope"
    nobody = court.propose("network")  # no role covers it
    assert court.decide(court.signed(approval_id=nobody), nobody).code == "trust.out_of_scope"
    assert court.effects == 0


def test_a_revoked_key_has_no_say(court: Court) -> None:
    yes = court.signed()
    court.under(court.org.policy(2, revoked_keys=[court.org.alice.public.keyid]))
    assert court.decide(yes).code == "trust.revoked_key"
    assert court.effects == 0


def test_an_earlier_vote_of_a_key_that_was_revoked_since_counts_no_more(court: Court) -> None:
    shared = court.propose("network")
    court.decide(court.signed(approval_id=shared), shared)
    court.under(court.org.policy(2, revoked_keys=[court.org.alice.public.keyid]))
    reply = court.decide(court.signed(court.org.bob, shared), shared)
    assert (reply.fields["state"], reply.fields["missing"]) == ("pending", 1)
    assert reply.fields["holders"] == 1
    assert court.effects == 0


def test_one_key_counts_once(court: Court) -> None:
    shared = court.propose("network")
    court.decide(court.signed(approval_id=shared), shared)
    again = court.decide(court.signed(approval_id=shared, reason="once more"), shared)
    assert again.code == "approval.voted"
    assert court.effects == 0


def test_one_person_counts_once_whatever_the_key(court: Court) -> None:
    token = key("alice's token", "alice")
    keyids = tuple(k.public.keyid for k in (court.org.alice, token, court.org.bob, court.org.carol))
    both = ExaminerRole(name="two people", keyids=keyids, threshold=2, paths=("contracts/*",))
    court.under(court.org.policy(2, roles=(both,), extra=(token,)))
    court.decide(court.signed())
    assert court.decide(court.signed(token)).code == "approval.voted"
    cosigned = seal(decision_payload(court.said()), [court.org.alice, token])
    assert court.decide(cosigned).code == "approval.voted"
    assert court.effects == 0


def test_an_expired_request_cannot_be_accepted_however_the_clock_goes(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    yes, now = court.signed(), clock.now_ns()
    monkeypatch.setattr(clock, "now_ns", lambda: now + 15 * DAY_NS)
    assert court.decide(yes).code == "approval.expired"
    monkeypatch.setattr(clock, "now_ns", lambda: now)
    assert court.decide(yes).code == "approval.expired"
    assert court.desk.approval(court.approval_id).state is ApprovalState.EXPIRED
    assert court.effects == 0


def test_under_a_policy_past_its_date_nobody_decides(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now_ns", lambda: POLICY_ENDS + 1)
    approval_id = court.propose("evtx_late")
    envelope = court.signed(approval_id=approval_id)
    assert court.decide(envelope, approval_id).code == "trust.expired"
    assert court.effects == 0


def test_without_a_root_nobody_decides_and_the_hint_says_how_to_begin(tmp_path: Path) -> None:
    court = Court.__new__(Court)
    court.org, court.desk = Organisation(), Desk(tmp_path / "other")
    try:
        court.approval_id = ""
        reply = court.desk.propose(
            {"parser": "linux.syslog", "limits": {"memory_mb": 4096}},
            subject="linux.syslog",
            kind="limits.raise",
        )
        court.approval_id = reply.fields["approval_id"]
        refused = court.decide(court.signed())
    finally:
        court.desk.close()
    assert refused.code == "trust.no_root"
    assert "casparian trust init" in str(refused.hint)


def test_an_altered_policy_on_disk_gives_nobody_a_say(court: Court) -> None:
    file = court.desk.home.trust / "policy.json"
    raw = bytearray(file.read_bytes())
    raw[raw.index(b'"threshold":2') + 12] = ord("1")
    file.write_bytes(bytes(raw))
    shared = court.propose("network")
    reply = court.decide(court.signed(approval_id=shared), shared)
    assert isinstance(reply, control.Failure)
    assert reply.code == "trust.tampered"
    assert court.effects == 0


def test_a_decision_that_is_handed_in_twice_acts_once(court: Court) -> None:
    request = control.Decide(
        request_id="same", approval_id=court.approval_id, envelope=court.signed()
    )
    first, second = court.desk.ask(request), court.desk.ask(request)
    assert first == second
    assert court.effects == 1


def test_the_tape_has_the_envelope_so_that_anybody_can_verify_it_again(court: Court) -> None:
    envelope = court.signed()
    court.decide(envelope)
    (vote,) = court.desk.tape("approval.vote")
    assert vote["envelope"].encode() == envelope
    kinds = [e["kind"] for e in court.desk.tape()]
    assert kinds == ["approval.proposed", "approval.vote", "approval.accepted", "test.effect"]
    assert msgspec.json.decode(vote["envelope"])["signatures"]
