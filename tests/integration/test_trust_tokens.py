"""Signing with a hardware token, here one in software that speaks the same PKCS#11 (SoftHSM2)."""

from __future__ import annotations

import glob
import shutil
import subprocess

import pytest

from casparian.cli.main import run
from casparian.errors import Refused
from casparian.trust.keys import export_public, import_public
from casparian.trust.origin import Origin
from casparian.trust.policy import ExaminerRole
from casparian.trust.tokens import open_token
from casparian.trust.verify import verify_parser
from tests.factories.datasets import document
from tests.factories.trust import FILES, NOW, Organisation, statement_for
from tests.support.contract_case import ContractCase

pkcs11 = pytest.importorskip("pkcs11", reason="the extra `casparian[tokens]` is not installed")
LIBRARIES = [*glob.glob("/usr/lib/softhsm/libsofthsm2.so"), *glob.glob("/usr/lib/*/softhsm/libsofthsm2.so"),
             *glob.glob("/usr/local/lib/softhsm/libsofthsm2.so")]  # fmt: skip
pytestmark = pytest.mark.skipif(
    not LIBRARIES or shutil.which("softhsm2-util") is None,
    reason="SoftHSM2 is not installed (apt install softhsm2)",
)
PIN = "1234"


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    """A token `lab` with keys `p256` and `p384`; the path of its library."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", "lab", "--so-pin", "0000",
             "--pin", PIN],
            check=True, capture_output=True,
        )  # fmt: skip
        from pkcs11.util.ec import encode_named_curve_parameters

        library = pkcs11.lib(LIBRARIES[0])
        with library.get_token(token_label="lab").open(user_pin=PIN, rw=True) as session:
            for label, curve in (("p256", "secp256r1"), ("p384", "secp384r1")):
                session.create_domain_parameters(
                    pkcs11.KeyType.EC,
                    {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)},
                    local=True,
                ).generate_keypair(store=True, label=label)
        yield LIBRARIES[0]


@pytest.mark.parametrize("curve", ["p256", "p384"])
def test_a_parser_signed_by_a_token_passes(token, curve):
    lab, key = Organisation(), open_token(token, f"lab/{curve}", PIN)
    assert key.public.scheme == f"ecdsa-sha2-nist{curve}"
    role = ExaminerRole(
        name="token", keyids=(key.public.keyid,), threshold=1, paths=("parsers/evtx*/*",)
    )
    public, holder = import_public(export_public(key.public, "Dora"))

    class Person:
        pass

    person = Person()
    person.public, person.holder = public, holder
    trusted = lab.under(lab.policy(2, extra=[person], roles=(*lab.roles(), role)))
    found = verify_parser(
        trusted, FILES, statement_for(FILES, key), lab.release_key, origin=Origin.DEPLOYED,
        deploying=True, now_ns=NOW,
    )  # fmt: skip
    assert found.signers == ("Dora",)


@pytest.mark.parametrize(
    ("label", "pin"), [("lab/p256", "9999"), ("other", PIN), ("lab/none", PIN), ("lab", PIN)]
)
def test_a_wrong_pin_token_or_key_is_refused(token, label, pin):
    with pytest.raises(Refused) as refusal:
        open_token(token, label, pin)  # the last one: two keys, and none is named
    assert refusal.value.code == "trust.token"


def test_a_file_that_is_no_library_is_refused(tmp_path):
    (tmp_path / "x.so").write_bytes(b"not a library")
    with pytest.raises(Refused) as refusal:
        open_token(str(tmp_path / "x.so"), "lab", PIN)
    assert refusal.value.code == "trust.token"


def test_the_command_line_signs_with_a_token(token, tmp_path, capfd):
    for name, content in FILES.items():
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_bytes(content)
    (tmp_path / "pin").write_text(f"{PIN}\n")
    token_options = ("--pkcs11", token, "--token", "lab/p256", "--pin-file", str(tmp_path / "pin"))
    out = str(tmp_path / "dora.pub")
    assert run(["trust", "key", "token", *token_options, "--holder", "Dora", "--out", out]) == 0
    assert run(["parser", "sign", str(tmp_path / "p"), *token_options]) == 0
    printed = capfd.readouterr().out
    assert import_public((tmp_path / "dora.pub").read_bytes())[0].keyid in printed


def test_requests_are_accepted_and_rejected_with_a_token(token, tmp_path):
    """A holder whose key never leaves the token decides as one with a key file does."""
    (tmp_path / "pin").write_text(f"{PIN}\n")
    by_token = ("--pkcs11", token, "--token", "lab/p256", "--pin-file", str(tmp_path / "pin"))
    key = open_token(token, "lab/p256", PIN).public
    case = ContractCase(tmp_path, token=key)
    try:
        asked = case.json("contract", "promote", case.document(document()))
        number = asked["approval_id"]
        other = case.json(
            "approve", "accept", number, "--pkcs11", token, "--token", "lab/p384",
            "--pin-file", str(tmp_path / "pin"), "--reason", "seen", code=None,
        )  # fmt: skip
        assert other["error"]["code"] == "trust.unknown_signer"
        case.json("approve", "reject", number, *by_token, "--reason", "not yet")
        asked = case.json("contract", "promote", case.document(document()))
        accepted = case.json(
            "approve", "accept", asked["approval_id"], *by_token, "--reason", "seen"
        )
        assert accepted["state"] == "accepted"
        at_once = document(lambda values: values["columns"][2].update(type="int64"))
        done = case.json(
            "contract", "amend", "firewall", "--file", case.document(at_once), *by_token,
            "--reason", "greater numbers",
        )  # fmt: skip
        assert done["state"] == "accepted"
        history = case.json("contract", "history", "firewall")["revisions"]
        assert [
            (vote["holders"], vote["keyids"]) for one in history for vote in one["decisions"]
        ] == [
            (["dora"], [key.keyid]),
            (["dora"], [key.keyid]),
        ]
        votes = {c["check"]: c["status"] for c in case.json("doctor", code=None)["checks"]}["votes"]
        assert votes == "ok"
        neither = case.json("approve", "accept", asked["approval_id"], "--reason", "x", code=2)
        assert neither["error"]["code"] == "usage.key"
    finally:
        case.stop()
