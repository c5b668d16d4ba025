"""The policy."""

from __future__ import annotations

import json

from casparian.trust import documents, state
from casparian.trust.keys import compute_keyid
from tests.factories.trust import DAY_NS, NOW, ROOT_ENDS, YEAR, key
from tests.trust_attacks.table import altered, attack

attack("policy: rollback", "trust.rollback")(
    lambda o, _: state.with_policy(o.under(o.policy(2)), o.policy_raw, NOW)
)
attack("policy: fork", "trust.fork")(
    lambda o, _: o.under(o.policy(1, revoked_artifacts=["0" * 64]))
)
attack("policy: signed by an examiner", "trust.unknown_signer")(
    lambda o, _: o.under(o.policy(2, signers=[o.alice]))
)
attack("policy: signed by a root key", "trust.unknown_signer")(
    lambda o, _: o.under(o.policy(2, signers=[o.root_keys[0]]))
)
attack("policy: signed by nobody", "trust.unknown_signer")(
    lambda o, _: o.under(o.policy(2, signers=[]))
)
attack("policy: expired", "trust.expired")(
    lambda o, _: o.under(o.policy(2, expires_ns=NOW - DAY_NS))
)
attack("policy: under a root that expired", "trust.expired")(
    lambda o, _: o.under(o.policy(2, expires_ns=ROOT_ENDS + 9 * YEAR), ROOT_ENDS + YEAR)
)
attack("policy: from the future", "trust.clock")(
    lambda o, _: o.under(o.policy(2, issued_ns=NOW + 2 * DAY_NS))
)
attack("policy: before a root", "trust.no_root")(
    lambda o, _: state.with_policy(state.TrustState(), o.policy_raw, NOW)
)
attack("policy: a root instead of it", "trust.malformed")(lambda o, _: o.under(o.root_raw))
attack("policy: of another organisation", "trust.unknown_signer")(
    lambda o, _: o.under(o.policy(2, signers=[key("officer of another")]))
)


def signed_policy(o, change):
    """A policy that `make_policy` would never have made, rightly signed."""
    raw = altered(o.policy(2, signers=[]), change)
    document = json.loads(raw)
    from tuf.api.metadata import Metadata

    try:
        payload = Metadata.from_dict(json.loads(raw)).signed_bytes
    except (ValueError, KeyError, TypeError):  # TUF refuses it already
        payload = b""
    officer = o.policy_keys[0]
    document["signatures"] = [{"keyid": officer.public.keyid, "sig": officer.sign(payload).hex()}]
    return documents.encode(document)


def policy_attack(name, code):
    def add(change):
        attack(f"policy: {name}", code)(
            lambda o, _: o.under(signed_policy(o, lambda document: change(o, document["signed"])))
        )
        return change

    return add


@policy_attack("one key under two ids", "trust.duplicate_key")
def _(o, signed):
    delegations = signed["delegations"]
    delegations["keys"]["aa" * 32] = delegations["keys"][o.bob.public.keyid]
    delegations["roles"][1]["keyids"].append("aa" * 32)
    signed["x-holders"]["aa" * 32] = "bob again"


@policy_attack("one key in upper case", "trust.duplicate_key")
def _(o, signed):
    upper = o.bob.public.public.upper()
    keyid = compute_keyid("ed25519", "ed25519", upper)
    record = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": upper}}
    signed["delegations"]["keys"][keyid] = record
    signed["delegations"]["roles"][1]["keyids"].append(keyid)
    signed["x-holders"][keyid] = "bob again"


@policy_attack("a key id twice in a role", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][1]["keyids"].append(o.bob.public.keyid)


@policy_attack("a threshold that one person's keys meet", "trust.malformed")
def _(o, signed):
    signed["x-holders"] = dict.fromkeys(signed["x-holders"], "everybody")


@policy_attack("a threshold of nought", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][1]["threshold"] = 0


@policy_attack("a threshold that is true", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][0]["threshold"] = True


@policy_attack("a role without keys", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][0]["keyids"] = []


@policy_attack("a role whose key is not listed", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][0]["keyids"] = ["bb" * 32]


@policy_attack("a role without scope", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][0]["paths"] = []


@policy_attack("a role scoped by hash prefixes", "trust.malformed")
def _(o, signed):
    role = signed["delegations"]["roles"][0]
    del role["paths"]
    role["path_hash_prefixes"] = ["0"]


@policy_attack("a pattern over everything", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][0]["paths"] = ["*/*/*"]


@policy_attack("a pattern that leads up", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][0]["paths"] = ["parsers/../*"]


@policy_attack("two roles of one name", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][1]["name"] = "Examiner Alice"


@policy_attack("a role named targets", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][1]["name"] = "targets"


@policy_attack("an unknown field", "trust.malformed")
def _(o, signed):
    signed["x-allow-unsigned"] = True


@policy_attack("files of its own", "trust.malformed")
def _(o, signed):
    signed["targets"] = {"parsers/evtx": {"length": 1, "hashes": {"sha256": "00" * 32}}}


@policy_attack("a key of a kind that is not accepted", "trust.scheme")
def _(o, signed):
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    secret = rsa.generate_private_key(65537, 2048)
    pem = secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    replace_alice(
        o,
        signed,
        {"keytype": "rsa", "scheme": "rsassa-pss-sha256", "keyval": {"public": pem.decode()}},
    )


@policy_attack("a point of small order as key", "trust.scheme")
def _(o, signed):
    weak = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    replace_alice(
        o, signed, {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": weak}}
    )


@policy_attack("one token key in another encoding", "trust.duplicate_key")
def _(o, signed):
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = point.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    record = {
        "keytype": "ecdsa",
        "scheme": "ecdsa-sha2-nistp256",
        "keyval": {"public": pem.replace("\n", "\r\n")},
    }
    replace_alice(o, signed, record)


def replace_alice(o, signed, record):
    keyid = compute_keyid(record["keytype"], record["scheme"], record["keyval"]["public"])
    old = o.alice.public.keyid
    del signed["delegations"]["keys"][old]
    signed["delegations"]["keys"][keyid] = record
    signed["x-holders"][keyid] = signed["x-holders"].pop(old)
    for role in signed["delegations"]["roles"]:
        role["keyids"] = [keyid if k == old else k for k in role["keyids"]]


@policy_attack("a release key as examiner", "trust.malformed")
def _(o, signed):
    signed["delegations"]["roles"][0]["keyids"].append(o.release.public.keyid)


@policy_attack("its version in the words of another reader", "trust.malformed")
def _(o, signed):
    signed["version"] = "2"
