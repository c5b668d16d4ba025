"""The table of attacks, and what many of them need."""

from __future__ import annotations

import json

from casparian.trust import documents, state
from casparian.trust.origin import Origin
from casparian.trust.statement import sign
from casparian.trust.verify import verify_parser
from tests.factories.trust import FILES, MANIFEST, NOW, key, payload_for, rewritten, statement_for

ATTACKS = {}


def attack(name, code):
    """Put a function into the table."""

    def add(function):
        assert name not in ATTACKS
        ATTACKS[name] = (code, function)
        return function

    return add


def verify(o, files=FILES, statement=None, *, trusted=None, origin=Origin.DEPLOYED, **more):
    return verify_parser(
        o.state if trusted is None else trusted,
        files,
        statement,
        more.pop("release", o.release_key),
        origin=origin,
        **{"now_ns": NOW, "deploying": True, **more},
    )


def altered(raw, change, *, canonical=True):
    """A document after `change(document)`, in canonical form again."""
    document = json.loads(raw)
    document = change(document) or document
    return documents.encode(document) if canonical else json.dumps(document).encode()


OTHER = {**FILES, "parser.toml": MANIFEST.replace(b"evtx.lab", b"registry.lab")}
STRANGERS = [key("stranger 1"), key("stranger 2")]


def only_alice(o):
    people = [(k.public, k.holder) for k in (o.alice, o.release)]
    return o.policy(2, keys=people, roles=o.roles()[:1])


def resigned(o, change):
    """A statement that a trusted key signed, and that `make_statement` would never have made."""
    return sign(rewritten(payload_for(FILES), change), [o.alice])


def artifact_of(o):
    return verify(o, FILES, statement_for(FILES, o.alice)).artifact_hash


def allowing(o, trusted=None):
    allowed = state.AllowUnsigned(approval_id="a1", reason="tests", by=("alice",), at_ns=NOW)
    return state.with_allow_unsigned(o.state if trusted is None else trusted, allowed)


def strangers_root(o, signers):
    return o.root(version=2, keys=STRANGERS, signers=signers)
