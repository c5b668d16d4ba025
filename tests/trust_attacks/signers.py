"""Who signed a parser, and whether that suffices."""

from __future__ import annotations

import base64

import msgspec

from casparian.trust import state
from casparian.trust.origin import Origin
from casparian.trust.verify import ReleaseKey
from tests.factories.trust import FILES, MANIFEST, key, statement_for
from tests.trust_attacks.table import OTHER, allowing, altered, attack, only_alice, verify

attack("nobody signed", "trust.unsigned")(lambda o, _: verify(o))
attack("one of two signed", "trust.threshold")(
    lambda o, _: verify(o, OTHER, statement_for(OTHER, o.bob))
)
attack("a stranger signed", "trust.unknown_signer")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.eve))
)
attack("out of scope", "trust.out_of_scope")(
    lambda o, _: verify(o, OTHER, statement_for(OTHER, o.alice), trusted=o.under(only_alice(o)))
)
attack("a release key signs an examiner's parser", "trust.unknown_signer")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.release))
)
attack("an examiner signs a first-party parser", "trust.unknown_signer")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.alice), origin=Origin.FIRST_PARTY)
)
attack("the development key under a policy that does not list it", "trust.unknown_signer")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.development),
        origin=Origin.FIRST_PARTY,
        release=ReleaseKey(public=o.development.public, development=True),
    )
)
attack("another release key without a policy", "trust.unknown_signer")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.development),
        origin=Origin.FIRST_PARTY,
        trusted=state.TrustState(),
    )
)
attack("signed, and no root is here", "trust.no_root")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.alice), trusted=state.TrustState())
)
attack("signed, and no policy is here", "trust.no_policy")(
    lambda o, _: verify(
        o,
        FILES,
        statement_for(FILES, o.alice),
        trusted=state.with_root(state.TrustState(), o.root_raw),
    )
)


@attack("one signature listed twice", "trust.malformed")
def _(o, _):
    raw = altered(statement_for(OTHER, o.bob), lambda d: d["signatures"].append(d["signatures"][0]))
    verify(o, OTHER, raw)


@attack("one signature under a second key id", "trust.tampered")
def _(o, _):
    def add(document):
        copy = {**document["signatures"][0], "keyid": o.carol.public.keyid}
        document["signatures"] = sorted([*document["signatures"], copy], key=lambda s: s["keyid"])

    verify(o, OTHER, altered(statement_for(OTHER, o.bob), add))


@attack("key ids swapped", "trust.tampered")
def _(o, _):
    def swap(document):
        document["signatures"][0]["keyid"] = o.bob.public.keyid

    verify(o, FILES, altered(statement_for(FILES, o.alice), swap))


@attack("two keys of one person for two people", "trust.threshold")
def _(o, _):
    second = key("bob's token", "Bob")  # the same person, spelt otherwise
    roles = (
        msgspec.structs.replace(o.roles()[1], keyids=(*o.roles()[1].keyids, second.public.keyid)),
    )
    trusted = o.under(o.policy(2, extra=[second], roles=roles))
    verify(o, OTHER, statement_for(OTHER, o.bob, second), trusted=trusted)


@attack("an envelope without signatures", "trust.malformed")
def _(o, _):
    def strip(document):
        document["signatures"] = []

    verify(o, FILES, altered(statement_for(FILES, o.alice), strip), trusted=allowing(o))


@attack("a bad signature where unsigned is allowed", "trust.tampered")
def _(o, _):
    def break_(document):
        document["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()

    verify(o, FILES, altered(statement_for(FILES, o.alice), break_), trusted=allowing(o))


attack("a stranger's signature where unsigned is allowed", "trust.unknown_signer")(
    lambda o, _: verify(o, FILES, statement_for(FILES, o.eve), trusted=allowing(o))
)
attack("a first-party parser without statement where unsigned is allowed", "trust.unsigned")(
    lambda o, _: verify(o, FILES, None, trusted=allowing(o), origin=Origin.FIRST_PARTY)
)


@attack("a native parser without statement where unsigned is allowed", "trust.unsigned")
def _(o, _):
    native = MANIFEST.replace(b'"python"', b'"native"').replace(b'"parser.py:parse"', b'"evtx"')
    verify(o, {**FILES, "parser.toml": native}, None, trusted=allowing(o))


attack("an empty statement where unsigned is allowed", "trust.malformed")(
    lambda o, _: verify(o, FILES, b"", trusted=allowing(o))
)
