"""A person's signed yes or no to one request for approval.

The statement names everything that the decision is about: this home, this request, its kind and subject, and the hash of
the exact content. A decision that was made for another is of no use anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from casparian.trust import documents, envelope
from casparian.trust.envelope import STATEMENT_TYPE
from casparian.trust.keys import SigningKey
from casparian.trust.refusals import refused
from casparian.trust.signatures import check_signatures, holders_of
from casparian.trust.state import TrustState

PREDICATE_TYPE: Final = "https://casparian.dev/decision/v1"
REASON_CHARACTERS_MAX: Final = 2_000


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed about a request."""

    approval_id: str
    kind: str
    subject: str
    content_hash: str
    decision: Literal["accept", "reject"]
    reason: str
    issued: str  # 2026-11-23T16:00:00Z
    home_id: str


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The request as this home has it."""

    approval_id: str
    kind: str
    subject: str
    content_hash: str
    home_id: str
    scope: str  # path that a role must cover: `contracts/<table>`, …


class VerifiedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision by somebody who may decide."""

    decision: Decision
    keyids: tuple[str, ...]
    holders: tuple[str, ...]
    role: str  # the first in scope that one of the keys fills


class _Digest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    blake3: str


class _Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    digest: _Digest


class _Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    predicate: Decision
    predicate_type: Literal["https://casparian.dev/decision/v1"] = msgspec.field(
        name="predicateType"
    )
    subject: tuple[_Subject, ...]


def decision_payload(decision: Decision) -> bytes:
    """The bytes that are signed.

    Raises:
        Refused: `trust.malformed`.
    """
    payload = documents.encode(
        {
            "_type": STATEMENT_TYPE,
            "predicate": msgspec.to_builtins(decision),
            "predicateType": PREDICATE_TYPE,
            "subject": [
                {"digest": {"blake3": decision.content_hash}, "name": decision.approval_id}
            ],
        }
    )
    _read(payload)
    return payload


def sign_decision(decision: Decision, key: SigningKey) -> bytes:
    """The envelope of a decision.

    Raises:
        Refused: `trust.malformed`: it has no reason, or a hash or time is none.
    """
    return envelope.seal(decision_payload(decision), [key])


def verify_decision(
    state: TrustState, raw: bytes, expected: Expected, now_ns: int
) -> VerifiedDecision:
    """Return a decision by somebody who may decide this very request.

    Args:
        state: what is trusted.
        raw: the envelope.
        expected: the request as this home has it.
        now_ns: as `state.now` says.

    Raises:
        Refused: `trust.no_root`, `trust.no_policy`, `trust.malformed`, `trust.tampered`, `trust.unknown_signer`,
            `trust.revoked_key`, `trust.expired` (the policy), `trust.out_of_scope`, `trust.clock`, `trust.decision`.
    """
    if state.policy is None:
        if state.policy_problem is not None:
            raise refused(*state.policy_problem)
        code = "trust.no_root" if state.root is None else "trust.no_policy"
        raise refused(code, "nobody was named here who may decide")
    policy, what = state.policy, "the decision"
    opened = envelope.open_envelope(raw, what)
    signers = check_signatures(
        opened.signed_bytes,
        opened.signatures,
        policy.examiner_keys(),
        what=what,
        revoked=policy.revoked_keys,
    )
    if not signers.keyids:
        raise refused("trust.revoked_key", "the decision is signed by a revoked key")
    decision = _read(opened.payload)
    for field in ("approval_id", "kind", "subject", "content_hash", "home_id"):
        if getattr(decision, field) != getattr(expected, field):
            raise refused(
                "trust.decision",
                f"the decision is about another {field.replace('_', ' ')}",
                approval=expected.approval_id,
            )
    if documents.time_ns(decision.issued, what) > now_ns + documents.DAY_NS:
        raise refused(
            "trust.clock",
            f"the decision was signed on {decision.issued}: this machine's clock is behind",
        )
    assert state.root is not None
    for whose, ends_ns in (("policy", policy.expires_ns), ("root", state.root.expires_ns)):
        if ends_ns <= now_ns:
            raise refused("trust.expired", f"the {whose} expired on {documents.time_text(ends_ns)}")
    for role in policy.in_scope(expected.scope):
        mine = tuple(keyid for keyid in signers.keyids if keyid in role.keyids)
        if mine:
            allowed = {k for r in policy.in_scope(expected.scope) for k in r.keyids}
            keyids = tuple(keyid for keyid in signers.keyids if keyid in allowed)
            return VerifiedDecision(
                decision=decision,
                keyids=keyids,
                holders=tuple(dict.fromkeys(policy.holders[keyid] for keyid in keyids)),
                role=role.name,
            )
    raise refused(
        "trust.out_of_scope",
        f"nobody who signed may decide on `{expected.scope}`",
        path=expected.scope,
    )


def votes_missing(state: TrustState, scope: str, votes: Iterable[str]) -> int | None:
    """How many more people must agree before a request is accepted; 0: it is.

    Args:
        state: what is trusted now: a key that was revoked since it voted no longer counts.
        scope: the path the request is about.
        votes: ids of the keys that accepted.

    Returns:
        The least over the roles in scope; `None` when no role covers it, so that nobody ever can.
    """
    policy = state.policy
    if policy is None:
        return None
    good = [keyid for keyid in votes if keyid not in policy.revoked_keys]
    missing = []
    for role in policy.in_scope(scope):
        people = holders_of((keyid for keyid in good if keyid in role.keyids), policy.holders)
        missing.append(max(0, role.threshold - len(people)))
    return min(missing, default=None)


def _read(payload: bytes) -> Decision:
    what = "the decision"
    parsed = documents.shape(documents.decode(payload, what, canonical=False), _Statement, what)
    said = parsed.predicate
    documents.time_ns(said.issued, what)
    if not said.reason.strip() or len(said.reason) > REASON_CHARACTERS_MAX:
        raise documents.malformed(what, "it has no reason, or a very long one")
    named = [(subject.name, subject.digest.blake3) for subject in parsed.subject]
    if named != [(said.approval_id, said.content_hash)]:
        raise documents.malformed(what, "its subject is not what it decides")
    if not documents.HEX64.match(said.content_hash):
        raise documents.malformed(what, "its content hash is not 64 hexadecimal digits")
    return said
