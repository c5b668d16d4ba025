"""Signed decisions."""

from __future__ import annotations

import base64

import msgspec

from casparian.trust import envelope, state
from casparian.trust.decisions import (
    decision_payload,
    sign_decision,
    verify_decision,
)
from casparian.trust.statement import sign
from tests.factories.trust import (
    DECISION,
    EXPECTED,
    FILES,
    NOW,
    POLICY_ENDS,
    YEAR,
    rewritten,
    statement_for,
)
from tests.trust_attacks.table import altered, attack, only_alice


def decide(o, raw, *, trusted=None, expected=EXPECTED, now_ns=NOW):
    return verify_decision(o.state if trusted is None else trusted, raw, expected, now_ns)


for _field, _value in {
    "approval_id": "b8l3",
    "kind": "contract.amend",
    "subject": "evtx_other",
    "content_hash": "cd" * 32,
    "home_id": "home-2",
}.items():
    attack(f"decision: for another {_field}", "trust.decision")(
        lambda o, _, change={_field: _value}: decide(
            o, sign_decision(msgspec.structs.replace(DECISION, **change), o.alice)
        )
    )

attack("decision: by a stranger", "trust.unknown_signer")(
    lambda o, _: decide(o, sign_decision(DECISION, o.eve))
)
attack("decision: by an officer of the policy", "trust.unknown_signer")(
    lambda o, _: decide(o, sign_decision(DECISION, o.policy_keys[0]))
)
attack("decision: by a release key", "trust.unknown_signer")(
    lambda o, _: decide(o, sign_decision(DECISION, o.release))
)
attack("decision: by a revoked key", "trust.revoked_key")(
    lambda o, _: decide(
        o,
        sign_decision(DECISION, o.alice),
        trusted=o.under(o.policy(2, revoked_keys=[o.alice.public.keyid])),
    )
)
attack("decision: out of scope", "trust.out_of_scope")(
    lambda o, _: decide(
        o,
        sign_decision(DECISION, o.alice),
        trusted=o.under(only_alice(o)),
        expected=msgspec.structs.replace(EXPECTED, scope="contracts/firewall"),
    )
)
attack("decision: without a reason", "trust.malformed")(
    lambda o, _: sign_decision(msgspec.structs.replace(DECISION, reason="  "), o.alice)
)
attack("decision: from the future", "trust.clock")(
    lambda o, _: decide(
        o,
        sign_decision(msgspec.structs.replace(DECISION, issued="2027-09-20T10:00:00Z"), o.alice),
    )
)
attack("decision: under an expired policy", "trust.expired")(
    lambda o, _: decide(o, sign_decision(DECISION, o.alice), now_ns=POLICY_ENDS + YEAR)
)
attack("decision: where nobody was named", "trust.no_root")(
    lambda o, _: decide(o, sign_decision(DECISION, o.alice), trusted=state.TrustState())
)
attack("decision: a parser's statement instead of it", "trust.malformed")(
    lambda o, _: decide(o, statement_for(FILES, o.alice))
)


@attack("decision: reject turned into accept", "trust.tampered")
def _(o, _):
    rejected = msgspec.structs.replace(DECISION, decision="reject")
    opened = envelope.open_envelope(sign_decision(rejected, o.alice), "it")

    def put(document):
        payload = opened.payload.replace(b'"reject"', b'"accept"')
        document["payload"] = base64.b64encode(payload).decode()

    decide(o, altered(sign_decision(rejected, o.alice), put))


@attack("decision: its subject is another", "trust.malformed")
def _(o, _):
    def put(document):
        document["subject"][0]["name"] = "other"

    decide(o, sign(rewritten(decision_payload(DECISION), put), [o.alice]))
