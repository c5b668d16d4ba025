"""The root, and what lies on disk."""

from __future__ import annotations

import json
import shutil

from casparian.trust import root, state
from casparian.trust.origin import Origin
from tests.factories.trust import FILES, key, statement_for
from tests.trust_attacks.table import STRANGERS, altered, attack, strangers_root, verify

attack("root: one signature of two", "trust.threshold")(
    lambda o, _: state.with_root(state.TrustState(), o.root(signers=o.root_keys[:1]))
)
attack("root: rotated with one signature", "trust.threshold")(
    lambda o, _: state.with_root(o.state, o.root(version=2, signers=o.root_keys[:1]))
)
attack("root: a version skipped", "trust.root_version")(
    lambda o, _: state.with_root(o.state, o.root(version=3))
)
attack("root: fork", "trust.fork")(
    lambda o, _: state.with_root(o.state, o.root(organisation="Other"))
)
attack("root: strangers only", "trust.unknown_signer")(
    lambda o, _: state.with_root(o.state, strangers_root(o, []))
)
attack("root: new holders without the old ones", "trust.unknown_signer")(
    lambda o, _: state.with_root(o.state, strangers_root(o, STRANGERS))
)
attack("root: new holders and one old one", "trust.threshold")(
    lambda o, _: state.with_root(o.state, strangers_root(o, [*STRANGERS, o.root_keys[0]]))
)
attack("root: old holders without the new ones", "trust.unknown_signer")(
    lambda o, _: state.with_root(o.state, strangers_root(o, o.root_keys))
)
attack("root: signed by the policy's officers", "trust.threshold")(
    lambda o, _: state.with_root(o.state, o.root(version=2, signers=o.policy_keys))
)


@attack("root: rollback", "trust.rollback")
def _(o, _):
    state.with_root(state.with_root(o.state, o.root(version=2)), o.root_raw)


@attack("root: two keys of one holder", "trust.malformed")
def _(o, _):
    o.root(keys=[key("a", "holder"), key("b", "Holder")])


@attack("root: one holder's two keys against a threshold of two", "trust.threshold")
def _(o, _):
    keys = [key("a", "one"), key("b", "One"), key("c", "two")]
    state.with_root(state.TrustState(), o.root(keys=keys, signers=keys[:2]))


@attack("root: keys in a role that TUF wants to exist", "trust.malformed")
def _(o, _):
    def fill(document):
        document["signed"]["roles"]["timestamp"]["keyids"] = [o.root_keys[0].public.keyid]

    root.read_root(altered(o.root_raw, fill))


def on_disk(o, path):
    where = path / "trust"
    state.save(where, o.under(o.policy(2)))
    return where


def run_with(o, where):
    verify(o, FILES, statement_for(FILES, o.alice), trusted=state.load(where), deploying=False)


@attack("disk: the policy removed", "trust.no_policy")
def _(o, path):
    where = on_disk(o, path)
    (where / "policy.json").unlink()
    run_with(o, where)


@attack("disk: the policy removed, first-party parsers", "trust.no_policy")
def _(o, path):
    where = on_disk(o, path)
    (where / "policy.json").unlink()
    raw = statement_for(FILES, o.release)
    verify(o, FILES, raw, trusted=state.load(where), origin=Origin.FIRST_PARTY)


@attack("disk: the older policy put back", "trust.rollback")
def _(o, path):
    where = on_disk(o, path)
    (where / "policy.json").write_bytes(o.policy_raw)
    run_with(o, where)


@attack("disk: another policy of the same version", "trust.fork")
def _(o, path):
    where = on_disk(o, path)
    (where / "policy.json").write_bytes(o.policy(2, min_serial={"evtx.lab": 1}))
    run_with(o, where)


@attack("disk: a byte of the policy", "trust.tampered")
def _(o, path):
    where = on_disk(o, path)
    raw = (where / "policy.json").read_bytes()
    (where / "policy.json").write_bytes(raw.replace(b'"threshold":2', b'"threshold":1'))
    run_with(o, where)


@attack("disk: the roots removed", "trust.rollback")
def _(o, path):
    where = on_disk(o, path)
    shutil.rmtree(where / "root")
    run_with(o, where)


@attack("disk: a root in the middle removed", "trust.root_version")
def _(o, path):
    where = path / "trust"
    second = state.with_root(o.state, o.root(version=2))
    state.save(where, state.with_root(second, o.root(version=3)))
    (where / "root" / "2.root.json").unlink()
    run_with(o, where)


@attack("disk: the newest root removed", "trust.rollback")
def _(o, path):
    where = path / "trust"
    state.save(where, state.with_root(o.state, o.root(version=2)))
    (where / "root" / "2.root.json").unlink()
    run_with(o, where)


@attack("disk: a stranger's root as the next one", "trust.unknown_signer")
def _(o, path):
    where = on_disk(o, path)
    (where / "root" / "2.root.json").write_bytes(strangers_root(o, STRANGERS))
    run_with(o, where)


@attack("disk: a state file that is none", "trust.malformed")
def _(o, path):
    where = on_disk(o, path)
    (where / "state.json").write_bytes(b"{}")
    run_with(o, where)


@attack("disk: unsigned switched on by a bare flag", "trust.malformed")
def _(o, path):
    where = on_disk(o, path)
    kept = json.loads((where / "state.json").read_bytes())
    kept["allow_unsigned"] = True
    (where / "state.json").write_text(json.dumps(kept))
    verify(o, FILES, None, trusted=state.load(where))
