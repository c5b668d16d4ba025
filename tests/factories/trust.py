"""Worlds of trust: an organisation with keys, a root, a policy, and parsers that somebody signed.

Keys come from fixed seeds, so that failures are the same each time.
"""

from __future__ import annotations

import hashlib

import msgspec

from casparian.contracts.load import load_manifest
from casparian.trust import policy as policies
from casparian.trust import root as roots
from casparian.trust import state as states
from casparian.trust.decisions import Decision, Expected
from casparian.trust.documents import DAY_NS
from casparian.trust.keys import Argon2, PrivateKey
from casparian.trust.policy import ExaminerRole
from casparian.trust.statement import make_statement, sign
from casparian.trust.verify import ReleaseKey

NOW = 1_790_000_000 * 1_000_000_000  # 2026-09-21
YEAR = 365 * DAY_NS
POLICY_ENDS = NOW + 30 * YEAR  # far off: some tests have a real clock
ROOT_ENDS = NOW + 40 * YEAR
QUICK = Argon2(iterations=1, lanes=1, memory_kib=8)  # a passphrase in a test guards nothing

MANIFEST = b"""schema_version = 1

name = "evtx.lab"
version = "1.2.0"
kind = "python"
entry = "parser.py:parse"
tags = ["evtx"]
unit = "record"
account = "evtx"
"""
CONTRACT = b"""schema_version = 1

[outputs.lab]
main = true
columns = [{ name = "line", type = "utf8" }]
"""
FILES = {
    "contract.toml": CONTRACT,
    "data/map.json": b"{}\n",
    "parser.py": b"def parse(ctx):\n    yield 'lab', {'line': 'x'}\n",
    "parser.toml": MANIFEST,
}


def key(name: str, holder: str | None = None) -> PrivateKey:
    """The Ed25519 key that always belongs to a name."""
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest(), holder or name)


class Organisation:
    """Root 2 of 3, policy 1 of 2, three lead examiners; `state` trusts them."""

    def __init__(self) -> None:
        self.root_keys = [key(f"root {n}", f"holder {n}") for n in (1, 2, 3)]
        self.policy_keys = [key("officer 1"), key("officer 2")]
        self.alice, self.bob, self.carol, self.eve = map(key, ("alice", "bob", "carol", "eve"))
        self.release = key("release", "release")
        self.development = key("development", "development")
        self.root_raw = self.root()
        self.policy_raw = self.policy()
        self.state = states.with_policy(
            states.with_root(states.TrustState(), self.root_raw), self.policy_raw, NOW
        )

    @property
    def release_key(self) -> ReleaseKey:
        return ReleaseKey(public=self.release.public, development=False)

    def root(self, *, signers=None, version=1, keys=None, policy_keys=None, threshold=2, **changes):
        values = {
            "organisation": "Laboratory",
            "root": [(k.public, k.holder) for k in (keys or self.root_keys)],
            "root_threshold": threshold,
            "policy": [(k.public, k.holder) for k in (policy_keys or self.policy_keys)],
            "policy_threshold": 1,
            "issued_ns": NOW - 30 * DAY_NS,
            "expires_ns": ROOT_ENDS,
            "version": version,
        }
        raw = roots.make_root(**{**values, **changes})
        for signer in self.root_keys[:2] if signers is None else signers:
            raw = roots.add_signature(raw, signer, "the root")
        return raw

    def roles(self):
        return (
            ExaminerRole(
                name="examiner alice",
                keyids=(self.alice.public.keyid,),
                threshold=1,
                paths=("parsers/evtx*/*", "contracts/evtx_*"),
            ),
            ExaminerRole(
                name="two people",
                keyids=tuple(k.public.keyid for k in (self.alice, self.bob, self.carol)),
                threshold=2,
                paths=("parsers/*/*", "contracts/*", "settings/*", "quarantine/*"),
            ),
        )

    def policy(self, version=1, *, signers=None, extra=(), **changes):
        people = [self.alice, self.bob, self.carol, self.release, *extra]
        values = {
            "version": version,
            "issued_ns": NOW - 10 * DAY_NS,
            "expires_ns": POLICY_ENDS,
            "keys": [(k.public, k.holder) for k in people],
            "roles": self.roles(),
            "release_keyids": [self.release.public.keyid],
        }
        raw = policies.make_policy(**{**values, **changes})
        for signer in self.policy_keys[:1] if signers is None else signers:
            raw = roots.add_signature(raw, signer, "the policy")
        return raw

    def under(self, policy_raw, now_ns=NOW):
        """The state after another policy was imported."""
        return states.with_policy(self.state, policy_raw, now_ns)


def statement_for(files=FILES, *signers, serial=5, issued_ns=NOW - DAY_NS, **changes):
    """The envelope of a parser's statement."""
    return sign(payload_for(files, serial=serial, issued_ns=issued_ns, **changes), signers)


def payload_for(files=FILES, *, serial=5, issued_ns=NOW - DAY_NS, **changes):
    return make_statement(load_manifest(files["parser.toml"]), files, serial, issued_ns, **changes)


def rewritten(payload, change):
    """A payload after `change(document)`: for what nobody could make with `make_statement`."""
    document = msgspec.json.decode(payload)
    change(document)
    return msgspec.json.encode(document, order="sorted")


DECISION = Decision(
    approval_id="a7k2", kind="contract.promote", subject="evtx_lab", content_hash="ab" * 32,
    decision="accept", reason="looked at it", issued="2026-09-20T10:00:00Z", home_id="home-1",
)  # fmt: skip
EXPECTED = Expected(
    approval_id="a7k2", kind="contract.promote", subject="evtx_lab", content_hash="ab" * 32,
    home_id="home-1", scope="contracts/evtx_lab",
)  # fmt: skip
