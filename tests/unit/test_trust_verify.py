"""What is rightly signed runs; and a document of which any byte was changed does not."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import msgspec
import pytest

from casparian.errors import CasparianError
from casparian.trust import package, state
from casparian.trust.artifact import hash_artifact, read_signed
from casparian.trust.decisions import (
    decision_payload,
    sign_decision,
    votes_missing,
)
from casparian.trust.keys import (
    SCHEMES,
    PrivateKey,
    export_public,
    import_public,
    inspect,
)
from casparian.trust.origin import Origin
from casparian.trust.policy import ExaminerRole, ExpiryMode, matches
from casparian.trust.statement import add_signature
from casparian.trust.verify import (
    Outcome,
    ReleaseKey,
    Verdict,
    explain_parser,
    verify_parser,
)
from tests.factories.trust import (
    DAY_NS,
    DECISION,
    FILES,
    MANIFEST,
    NOW,
    POLICY_ENDS,
    QUICK,
    YEAR,
    Organisation,
    key,
    payload_for,
    statement_for,
)

GOLDEN = os.path.join(os.path.dirname(os.path.dirname(__file__)), "golden", "trust.json")
OTHER = {**FILES, "parser.toml": MANIFEST.replace(b"evtx.lab", b"registry.lab")}


@pytest.fixture(scope="module")
def lab():
    return Organisation()


def verify(lab, files, statement, **more):
    trusted = more.pop("trusted", lab.state)
    values = {"origin": Origin.DEPLOYED, "deploying": True, "now_ns": NOW, **more}
    release = values.pop("release", lab.release_key)
    return verify_parser(trusted, files, statement, release, **values)


def test_one_of_one_in_scope_suffices(lab):
    found = verify(lab, FILES, statement_for(FILES, lab.alice))
    assert found.verdict is Verdict.VALID
    assert (found.name, found.version, found.serial) == ("evtx.lab", "1.2.0", 5)
    assert (found.role, found.signers) == ("examiner alice", ("alice",))
    assert found.keyids == (lab.alice.public.keyid,)
    assert found.policy_version == 1
    assert found.artifact_hash == hash_artifact(FILES)
    assert not found.development


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_parser_passes_with_every_scheme(lab, scheme):
    signer = PrivateKey.generate(scheme, holder="dora")
    role = ExaminerRole(
        name="dora", keyids=(signer.public.keyid,), threshold=1, paths=("parsers/evtx.*/*",)
    )
    trusted = lab.under(lab.policy(2, extra=[signer], roles=(*lab.roles(), role)))
    found = verify(lab, FILES, statement_for(FILES, signer), trusted=trusted)
    assert (found.role, found.signers) == ("dora", ("dora",))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_of_three_pass_with_every_scheme(lab, scheme):
    three = [PrivateKey.generate(scheme, holder=f"holder {n}") for n in range(3)]
    role = ExaminerRole(
        name="board",
        keyids=tuple(k.public.keyid for k in three),
        threshold=2,
        paths=("parsers/registry.*/*",),
    )
    trusted = lab.under(lab.policy(2, extra=three, roles=(*lab.roles(), role)))
    first = statement_for(OTHER, three[2])
    with pytest.raises(CasparianError) as refusal:
        verify(lab, OTHER, first, trusted=trusted)
    assert refusal.value.code == "trust.threshold"
    found = verify(lab, OTHER, add_signature(first, three[0]), trusted=trusted)
    assert found.role == "board"
    assert set(found.signers) == {"holder 0", "holder 2"}


def test_a_signature_that_nobody_here_knows_does_not_matter(lab):
    found = verify(lab, FILES, statement_for(FILES, lab.alice, lab.eve))
    assert found.keyids == (lab.alice.public.keyid,)


def test_a_revoked_key_does_not_spoil_what_others_signed_too(lab):
    trusted = lab.under(lab.policy(2, revoked_keys=[lab.carol.public.keyid]))
    both = statement_for(OTHER, lab.alice, lab.bob, lab.carol)
    assert set(verify(lab, OTHER, both, trusted=trusted).signers) == {"alice", "bob"}


def test_signing_again_does_not_change_the_artifact(lab):
    once = verify(lab, FILES, statement_for(FILES, lab.alice))
    again = verify(lab, FILES, statement_for(FILES, lab.bob, lab.carol, serial=6))
    assert once.artifact_hash == again.artifact_hash


def test_first_party_parsers_run_by_the_programs_own_release_key_before_any_policy(lab):
    own = ReleaseKey(public=lab.development.public, development=True)
    found = verify(
        lab,
        FILES,
        statement_for(FILES, lab.development),
        origin=Origin.FIRST_PARTY,
        trusted=state.TrustState(),
        release=own,
    )
    assert found.development
    assert (found.role, found.policy_version) == ("release", None)


def test_the_policy_says_which_release_keys_count(lab):
    found = verify(lab, FILES, statement_for(FILES, lab.release), origin=Origin.FIRST_PARTY)
    assert (found.role, found.signers, found.development) == ("release", ("release",), False)


def test_what_is_deployed_goes_on_past_a_date_and_says_so(lab):
    raw = statement_for(FILES, lab.alice, expires_ns=NOW - DAY_NS)
    found = verify(lab, FILES, raw, deploying=False)
    assert found.warnings == ("trust.expired",)
    assert found.verdict is Verdict.VALID


@pytest.mark.parametrize("mode", ExpiryMode)
def test_an_expired_policy_stops_deployed_parsers_in_hard_mode_only(lab, mode):
    trusted = lab.under(lab.policy(2, expiry_mode=mode))

    def load():
        return verify(
            lab, FILES, statement_for(FILES, lab.alice), trusted=trusted, deploying=False,
            now_ns=POLICY_ENDS + YEAR,
        )  # fmt: skip

    if mode is ExpiryMode.INSTALL_ONLY:
        assert load().warnings == ("trust.expired",)
    else:
        with pytest.raises(CasparianError) as refusal:
            load()
        assert refusal.value.code == "trust.expired"


def test_an_older_version_that_is_deployed_already_still_runs(lab):
    trusted = state.with_serial(lab.state, "evtx.lab", 9, "0" * 64)
    assert verify(lab, FILES, statement_for(FILES, lab.alice), trusted=trusted, deploying=False)


def test_the_same_release_may_be_deployed_again(lab):
    trusted = state.with_serial(lab.state, "evtx.lab", 5, hash_artifact(FILES))
    assert verify(lab, FILES, statement_for(FILES, lab.alice), trusted=trusted).serial == 5


def test_an_unsigned_python_parser_runs_only_by_an_approval(lab):
    allowed = state.AllowUnsigned(approval_id="a1", reason="tests", by=("alice",), at_ns=NOW)
    trusted = state.with_allow_unsigned(lab.state, allowed)
    found = verify(lab, FILES, None, trusted=trusted, origin=Origin.HOME)
    assert (found.verdict, found.approval_id, found.keyids) == (Verdict.UNSIGNED, "a1", ())


# --- explaining


def test_an_explanation_has_every_check_and_stops_at_the_first_that_fails(lab):
    good = explain_parser(
        lab.state, FILES, statement_for(FILES, lab.alice), lab.release_key,
        origin=Origin.DEPLOYED, now_ns=NOW,
    )  # fmt: skip
    assert [check.outcome for check in good] == [Outcome.PASSED] * 13
    bad = explain_parser(
        lab.state, OTHER, statement_for(OTHER, lab.bob), lab.release_key,
        origin=Origin.DEPLOYED, now_ns=NOW,
    )  # fmt: skip
    by_name = {check.name: check for check in bad}
    assert by_name["scope"].outcome is Outcome.PASSED
    assert by_name["threshold"].outcome is Outcome.FAILED
    assert by_name["threshold"].code == "trust.threshold"
    assert by_name["threshold"].hint
    assert by_name["files"].outcome is Outcome.NOT_REACHED
    assert [check.name for check in bad] == [check.name for check in good]


# --- what was checked is what is used


def test_a_folder_that_changes_after_it_was_read_changes_nothing(lab, tmp_path):
    for name, content in {**FILES, "statement.dsse.json": statement_for(FILES, lab.alice)}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    files, statement = read_signed(str(tmp_path))
    (tmp_path / "parser.py").write_bytes(b"import os\n")
    (tmp_path / "statement.dsse.json").write_bytes(b"{}")
    found = verify(lab, files, statement)
    assert files["parser.py"] == FILES["parser.py"]
    assert found.artifact_hash == hash_artifact(files) == hash_artifact(FILES)
    later, now_statement = read_signed(str(tmp_path))
    with pytest.raises(CasparianError):
        verify(lab, later, now_statement)


def test_a_package_that_changes_while_it_is_read_is_judged_by_what_was_read(lab, tmp_path):
    where = tmp_path / "x.casparian"
    where.write_bytes(package.pack_bytes(FILES, statement_for(FILES, lab.alice)))

    class Swapping:
        """A stream whose file is replaced between two reads: the second read would see other bytes."""

        def __init__(self):
            self.reads = 0

        def read(self, size):
            self.reads += 1
            raw = where.read_bytes()[:size]
            where.write_bytes(package.pack_bytes({**FILES, "parser.py": b"evil"}, None))
            return raw

    stream = Swapping()
    files, statement = package.read_package(stream)
    assert stream.reads == 1
    assert verify(lab, files, statement).artifact_hash == hash_artifact(FILES)


# --- state on disk


def test_a_state_is_read_back_as_it_was_saved(lab, tmp_path):
    rotated = state.with_root(lab.state, lab.root(version=2))
    kept = state.with_serial(state.with_time(rotated, NOW), "evtx.lab", 5, "0" * 64)
    assert rotated.policy is not None  # the new root still names its officer
    state.save(tmp_path / "trust", kept)
    assert state.load(tmp_path / "trust") == kept
    assert (tmp_path / "trust" / "state.json").stat().st_mode & 0o077 == 0


def test_nothing_on_disk_is_an_empty_state(tmp_path):
    assert state.load(tmp_path / "none") == state.TrustState()


def test_a_crash_between_two_files_of_a_state_leaves_one_that_loads(lab, tmp_path, monkeypatch):
    """Each prefix of the writes of a root rotation with a new officer and policy can be loaded and completed."""
    officer = key("officer 3")
    after = state.with_root(lab.state, lab.root(version=2, policy_keys=[officer]))
    assert after.policy is None
    after = state.with_policy(after, lab.policy(2, signers=[officer]), NOW)
    real = os.replace
    for survive in range(4):
        where = tmp_path / str(survive)
        state.save(where, lab.state)
        done = 0

        def replace(source, target, survive=survive):
            nonlocal done
            if done == survive:
                raise OSError("power cut")
            done += 1
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        try:
            state.save(where, after)
        except OSError:
            assert survive < 3
        monkeypatch.setattr(os, "replace", real)
        found = state.load(where)
        assert found.roots[0] == lab.state.roots[0]
        state.save(where, after)
        assert state.load(where) == after


def test_a_root_that_names_other_officers_ends_the_policy(lab):
    after = state.with_root(lab.state, lab.root(version=2, policy_keys=[key("officer 3")]))
    assert after.policy is None
    with pytest.raises(CasparianError) as refusal:
        verify(lab, FILES, statement_for(FILES, lab.release), trusted=after,
               origin=Origin.FIRST_PARTY)  # fmt: skip
    assert refusal.value.code == "trust.unknown_signer"


def test_importing_the_same_again_changes_nothing(lab):
    assert state.with_root(lab.state, lab.root_raw) == lab.state
    assert lab.under(lab.policy_raw) == lab.state


# --- decisions


def test_votes_are_counted_in_people(lab):
    alice, bob, carol = (k.public.keyid for k in (lab.alice, lab.bob, lab.carol))
    assert votes_missing(lab.state, "contracts/evtx_lab", []) == 1
    assert votes_missing(lab.state, "contracts/evtx_lab", [alice]) == 0
    assert votes_missing(lab.state, "contracts/firewall", [alice]) == 1
    assert votes_missing(lab.state, "contracts/firewall", [bob, bob]) == 1
    assert votes_missing(lab.state, "contracts/firewall", [bob, carol]) == 0
    assert votes_missing(lab.state, "elsewhere/x", [bob, carol]) is None
    revoked = lab.under(lab.policy(2, revoked_keys=[bob]))
    assert votes_missing(revoked, "contracts/firewall", [bob, carol]) == 1


# --- keys


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_survives_its_file(tmp_path, scheme):
    made = PrivateKey.generate(scheme, holder="Dora Maar")
    where = tmp_path / "dora.key"
    made.write(where, "a long passphrase", kdf=QUICK)
    assert where.stat().st_mode & 0o777 == 0o600
    again = PrivateKey.read(where, "a long passphrase")
    assert (again.public, again.holder) == (made.public, "Dora Maar")
    assert again.public.verifies(again.sign(b"text"), b"text")
    assert not again.public.verifies(again.sign(b"text"), b"other")
    assert inspect(where.read_bytes()).public == made.public
    assert import_public(export_public(made.public, made.holder)) == (made.public, made.holder)


def test_the_default_derivation_is_hard():
    info = inspect(key("alice").sealed("x" * 20))
    assert info.kdf.memory_kib >= 64 * 1024
    assert info.kdf.iterations >= 3


def test_the_secret_is_not_in_its_representation():
    assert key("alice").public.keyid[:12] in repr(key("alice"))
    assert len(repr(key("alice"))) < 60


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("parsers/evtx.lab/1.0.0", "parsers/evtx*/*", True),
        ("parsers/evtx.lab/1.0.0", "parsers/*", False),
        ("parsers/registry/1.0.0", "parsers/evtx*/*", False),
        ("contracts/firewall", "contracts/fire?all", True),
        ("contracts/a/b", "contracts/*", False),
    ],
)
def test_patterns_fit_part_by_part(path, pattern, fits):
    assert matches(path, pattern) is fits


# --- golden vectors: these never change, or nothing signed before verifies after


def test_golden_vectors(lab):
    with open(GOLDEN, encoding="utf-8") as file:
        golden = json.load(file)
    made = {
        "keyid": key("alice").public.keyid,
        "public": key("alice").public.public,
        "statement_payload": payload_for(FILES).decode(),
        "statement": statement_for(FILES, lab.alice).decode(),
        "decision_payload": decision_payload(DECISION).decode(),
        "decision": sign_decision(DECISION, lab.alice).decode(),
        "artifact_hash": hash_artifact(FILES),
        "package_sha256": hashlib.sha256(
            package.pack_bytes(FILES, statement_for(FILES, lab.alice))
        ).hexdigest(),
    }
    assert made == golden
    assert msgspec.json.decode(made["statement_payload"])["_type"].endswith("Statement/v1")


def test_another_implementation_verifies_our_signatures(lab):
    """Ed25519 over DSSE's encoding, written down here from its specification."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = json.loads(statement_for(FILES, lab.alice))
    payload, kind = base64.b64decode(raw["payload"]), raw["payloadType"].encode()
    said = b" ".join(
        (b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload)
    )
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(lab.alice.public.public)).verify(
        base64.b64decode(raw["signatures"][0]["sig"]), said
    )


def test_the_reference_implementation_of_tuf_reads_and_verifies_our_documents(lab):
    from tuf.api.metadata import Metadata

    root, policy = Metadata.from_bytes(lab.root_raw), Metadata.from_bytes(lab.policy_raw)
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    root.signed.verify_delegate("targets", policy.signed_bytes, policy.signatures)
    (alice, two) = policy.signed.delegations.roles.values()
    assert alice.is_delegated_path("parsers/evtx.lab/1.2.0")
    assert not alice.is_delegated_path("parsers/registry.lab/1.2.0")
    assert (two.threshold, len(two.keyids)) == (2, 3)
