"""Documents that the right people signed and that say what no document may say."""

from __future__ import annotations

import json

import msgspec

from casparian.trust import documents, envelope, state
from casparian.trust.artifact import BYTES_MAX
from casparian.trust.decisions import sign_decision
from casparian.trust.policy import make_policy
from casparian.trust.statement import sign
from tests.factories.trust import (
    DECISION,
    FILES,
    NOW,
    YEAR,
    key,
    payload_for,
    rewritten,
    statement_for,
)
from tests.trust_attacks.decisions import decide
from tests.trust_attacks.policies import policy_attack
from tests.trust_attacks.table import allowing, altered, attack, resigned, verify

# --- the root


def signed_root(o, change):
    """A first root after `change(signed)`, rightly signed by two holders."""
    from tuf.api.metadata import Metadata

    document = json.loads(o.root(signers=[]))
    change(document["signed"])
    payload = Metadata.from_dict(json.loads(json.dumps(document))).signed_bytes
    made = {k.public.keyid: k.sign(payload).hex() for k in o.root_keys[:2]}
    document["signatures"] = [{"keyid": keyid, "sig": made[keyid]} for keyid in sorted(made)]
    return documents.encode(document)


def root_attack(name, code):
    def add(change):
        attack(f"root: {name}", code)(
            lambda o, _: state.with_root(
                state.TrustState(), signed_root(o, lambda signed: change(o, signed))
            )
        )
        return change

    return add


@root_attack("a key that no role uses", "trust.malformed")
def _(o, signed):
    signed["keys"][o.eve.public.keyid] = o.eve.public.record()
    signed["x-holders"][o.eve.public.keyid] = "eve"


@root_attack("an organisation whose name hides something", "trust.malformed")
def _(o, signed):
    signed["x-organisation"] = "Lab\u202eroot"


@root_attack("a key without a holder", "trust.malformed")
def _(o, signed):
    del signed["x-holders"][o.root_keys[0].public.keyid]


@root_attack("a holder without a name", "trust.malformed")
def _(o, signed):
    signed["x-holders"][o.root_keys[0].public.keyid] = ""


@root_attack("a hundred keys", "trust.too_large")
def _(o, signed):
    for n in range(100):
        extra = key(f"extra {n}").public
        signed["keys"][extra.keyid] = extra.record()
        signed["roles"]["root"]["keyids"].append(extra.keyid)
        signed["x-holders"][extra.keyid] = f"extra {n}"


@root_attack("a role for a key that is not there", "trust.malformed")
def _(o, signed):
    signed["roles"]["targets"]["keyids"].append("ab" * 32)


@root_attack("a time in another form", "trust.malformed")
def _(o, signed):
    signed["x-issued"] = "2026-09-21 00:00:00"


attack("root: its signatures in another order", "trust.malformed")(
    lambda o, _: state.with_root(
        state.TrustState(), altered(o.root_raw, lambda d: d["signatures"].reverse())
    )
)


@attack("root: a signature in capitals", "trust.malformed")
def _(o, _):
    def raise_case(document):
        document["signatures"][0]["sig"] = document["signatures"][0]["sig"].upper()

    state.with_root(state.TrustState(), altered(o.root_raw, raise_case))


@attack("root: a signature that is no number", "trust.malformed")
def _(o, _):
    def break_(document):
        document["signatures"][0]["sig"] = "zz"

    state.with_root(state.TrustState(), altered(o.root_raw, break_))


@attack("root: one key for two holders", "trust.duplicate_key")
def _(o, _):
    public = o.root_keys[0].public
    o.root(policy_keys=[type("Person", (), {"public": public, "holder": "somebody else"})])


# --- the policy


@policy_attack("a key that nothing uses", "trust.malformed")
def _(o, signed):
    signed["delegations"]["keys"][o.eve.public.keyid] = o.eve.public.record()
    signed["x-holders"][o.eve.public.keyid] = "eve"


@policy_attack("a role whose name hides something", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][0]["name"] = "examiners\u200b"


@policy_attack("a release key that is not listed", "trust.malformed")
def _(o, signed):
    signed["x-release-keys"] = ["ab" * 32]


@policy_attack("a revocation that names nothing", "trust.malformed")
def _(o, signed):
    signed["x-revoked-keys"] = ["alice"]


@policy_attack("a least serial below nought", "trust.malformed")
def _(o, signed):
    signed["x-min-serial"] = {"evtx.lab": -1}


@policy_attack("a least serial of a name that is none", "trust.name")
def _(o, signed):
    signed["x-min-serial"] = {"../evtx": 1}


@policy_attack("a program version that is none", "trust.malformed")
def _(o, signed):
    signed["x-min-runtime"] = "latest"


@policy_attack("three hundred roles", "trust.too_large")
def _(o, signed):
    role = signed["delegations"]["roles"][0]
    signed["delegations"]["roles"] = [{**role, "name": f"role {n}"} for n in range(300)]


attack("policy: a version of nought", "trust.malformed")(
    lambda o, _: o.under(altered(o.policy(2), lambda d: d["signed"].update(version=0)))
)


@attack("policy: two keys of one holder in a role of two", "trust.malformed")
def _(o, _):
    make_policy(
        version=1,
        issued_ns=NOW,
        expires_ns=NOW + YEAR,
        keys=[(k.public, "one person") for k in (o.alice, o.bob)],
        roles=[
            msgspec.structs.replace(o.roles()[1], keyids=(o.alice.public.keyid, o.bob.public.keyid))
        ],
    )


# --- a parser


@attack("a version that is none", "trust.malformed")
def _(o, _):
    def put(document):
        document["predicate"]["version"] = "1/0"

    verify(o, FILES, resigned(o, put))


@attack("a serial of nought", "trust.malformed")
def _(o, _):
    def put(document):
        document["predicate"]["serial"] = 0

    verify(o, FILES, resigned(o, put))


@attack("a hash that is none", "trust.malformed")
def _(o, _):
    def put(document):
        document["subject"][0]["digest"]["sha256"] = "AB" * 32

    verify(o, FILES, resigned(o, put))


@attack("an environment that is not the parser's", "trust.manifest")
def _(o, _):
    def put(document):
        document["predicate"]["environment"] = "ab" * 32

    verify(o, FILES, resigned(o, put))


@attack("a parser without its manifest", "trust.missing_file")
def _(o, _):
    files = {name: FILES[name] for name in FILES if name != "parser.toml"}

    def drop(document):
        from casparian.trust.artifact import hash_artifact

        document["subject"] = [s for s in document["subject"] if s["name"] != "parser.toml"]
        document["predicate"]["artifact_hash"] = hash_artifact(files)

    verify(o, files, resigned(o, drop))


@attack("more bytes than a parser may have", "trust.too_large")
def _(o, _):
    verify(o, {**FILES, "parser.py": bytes(BYTES_MAX)}, statement_for(FILES, o.alice))


@attack("a hundred signatures", "trust.too_large")
def _(o, _):
    verify(o, FILES, sign(payload_for(FILES), [o.alice, *(key(f"x{n}") for n in range(100))]))


@attack("unsigned allowed, and the policy is gone", "trust.no_policy")
def _(o, _):
    trusted = msgspec.structs.replace(allowing(o), policy=None)
    verify(o, FILES, None, trusted=trusted)


# --- decisions


@attack("decision: about a hash that is none", "trust.malformed")
def _(o, _):
    sign_decision(msgspec.structs.replace(DECISION, content_hash="everything"), o.alice)


@attack("decision: under a policy that no longer holds", "trust.threshold")
def _(o, _):
    trusted = msgspec.structs.replace(
        o.state, policy=None, policy_problem=("trust.threshold", "a newer root dropped its officer")
    )
    decide(o, sign_decision(DECISION, o.alice), trusted=trusted)


@attack("decision: neither accept nor reject", "trust.malformed")
def _(o, _):
    from casparian.trust.decisions import decision_payload

    def put(document):
        document["predicate"]["decision"] = "perhaps"

    decide(o, envelope.seal(rewritten(decision_payload(DECISION), put), [o.alice]))
