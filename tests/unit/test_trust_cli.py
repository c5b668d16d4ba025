"""The key ceremony on the command line, on machines that need neither home nor sentinel."""

from __future__ import annotations

import json
import os
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from casparian.cli import signing
from casparian.cli.commands import trust
from casparian.cli.main import run
from casparian.protocol import control
from casparian.trust import keys as key_files
from casparian.trust import policy as policies
from casparian.trust import root as roots
from casparian.trust import state as states
from casparian.trust import words
from casparian.trust.keys import Argon2
from tests.factories.trust import FILES, QUICK, ROOT_ENDS, Organisation


class Answer:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def ceremony(tmp_path, capfd, monkeypatch):
    """A folder with a passphrase file, where commands are run; keys are quick to open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(signing.KEYS_VARIABLE, str(tmp_path / "keys"))
    monkeypatch.setattr(key_files, "Argon2", _QuickArgon2)
    (tmp_path / "pass").write_text("correct horse\n")

    def call(*arguments, code=0):
        ended = run(["--home", str(tmp_path / "home"), "--json", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert ended == code, (out, err)
        return Answer(ended, out, err)

    return call


class _QuickArgon2(Argon2, frozen=True, kw_only=True, forbid_unknown_fields=True):
    iterations: int = QUICK.iterations
    lanes: int = QUICK.lanes
    memory_kib: int = QUICK.memory_kib


def people(ceremony, *names, **more):
    for name in names:
        ceremony("trust", "key", "new", name, "--passphrase-file", "pass")


def signed_by(ceremony, *command, names):
    answer = None
    for name in names:
        answer = ceremony(*command, "--key", name, "--passphrase-file", "pass")
    return answer


@pytest.fixture
def organisation(ceremony):
    """Root 2 of 3, one officer, one lead examiner."""
    people(ceremony, "ada", "bo", "cy", "officer", "lead")
    ceremony(
        "trust", "root", "new", "--organisation", "Laboratory", "--key", "ada", "--key", "bo", "--key", "cy",
        "--threshold", 2, "--policy-key", "officer",
    )  # fmt: skip
    signed_by(ceremony, "trust", "root", "sign", "root.json", names=["ada", "bo"])
    ceremony(
        "trust", "policy", "new", "--role", "lead", "--key", "lead", "--scope", "parsers/evtx*/*",
        "--own-release-key",
    )  # fmt: skip
    signed_by(ceremony, "trust", "policy", "sign", "policy.json", names=["officer"])
    return ceremony


def parser_folder(path):
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


# --- keys


def test_a_new_key_is_private_and_its_public_half_lies_beside_it(ceremony, tmp_path):
    made = ceremony("trust", "key", "new", "ada", "--holder", "Ada L", "--passphrase-file", "pass")
    assert made.json["holder"] == "Ada L"
    private = tmp_path / "keys" / "ada.key"
    assert private.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    listed = ceremony("trust", "key", "list").json["keys"]
    assert [(k["name"], k["holder"], k["private"]) for k in listed] == [("ada", "Ada L", True)]
    exported = ceremony("trust", "key", "export", "ada", "--out", "ada.pub").json
    assert exported["keyid"] == made.json["keyid"]
    assert (tmp_path / "ada.pub").read_bytes() == (tmp_path / "keys" / "ada.pub").read_bytes()
    assert b"secret" not in (tmp_path / "ada.pub").read_bytes()


def test_a_key_is_never_overwritten(ceremony):
    people(ceremony, "ada")
    again = ceremony("trust", "key", "new", "ada", "--passphrase-file", "pass", code=4)
    assert again.json["error"]["code"] == "trust.key_exists"


def test_a_dry_run_writes_no_key(ceremony, tmp_path):
    assert ceremony("trust", "key", "new", "ada", "--dry-run").json["written"] is False
    assert not (tmp_path / "keys").exists()


def test_a_public_key_travels_to_another_key_directory(ceremony, tmp_path):
    people(ceremony, "ada")
    other = tmp_path / "other"
    ceremony("trust", "key", "import", "keys/ada.pub", "--keys", other)
    shown = ceremony("trust", "key", "show", "ada", "--keys", other).json
    assert shown["private"] is False
    assert shown["keyid"] == ceremony("trust", "key", "show", "ada").json["keyid"]


def test_a_private_key_travels_and_stays_private(ceremony, tmp_path):
    people(ceremony, "ada")
    other = tmp_path / "other"
    ceremony("trust", "key", "import", "keys/ada.key", "--keys", other)
    assert (other / "ada.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in other.iterdir()] == ["ada.key"]


def test_a_pem_key_of_another_tool_is_put_under_a_passphrase(ceremony, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    pem = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "bo.pem").write_bytes(pem)
    made = ceremony("trust", "key", "import", "bo.pem", "--pem", "--passphrase-file", "pass").json
    assert (made["holder"], made["scheme"]) == ("bo", "ecdsa-sha2-nistp256")


def test_a_damaged_key_is_listed_with_its_problem(ceremony, tmp_path):
    people(ceremony, "ada")
    path = tmp_path / "keys" / "ada.key"
    path.write_bytes(path.read_bytes().replace(b"ada", b"eve"))
    (listed,) = ceremony("trust", "key", "list").json["keys"]
    assert "damaged" in listed["problem"]
    assert (
        ceremony("trust", "key", "show", "ada", code=4).json["error"]["code"] == "trust.key_damaged"
    )


def test_a_wrong_passphrase_is_told_from_a_damaged_file(organisation, tmp_path):
    (tmp_path / "wrong").write_text("incorrect\n")
    wrong = organisation(
        "trust", "root", "sign", "root.json", "--key", "cy", "--passphrase-file", "wrong", code=4
    )
    assert wrong.json["error"]["code"] == "trust.passphrase"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_a_key_name_is_no_path(ceremony, name, tmp_path):
    ceremony("trust", "key", "new", name, "--passphrase-file", "pass", code=2)
    assert not (tmp_path / "keys").exists()


# --- the root


def test_a_root_counts_who_is_missing(ceremony):
    people(ceremony, "ada", "bo", "cy", "officer")
    made = ceremony(
        "trust", "root", "new", "--organisation", "Laboratory", "--key", "ada", "--key", "bo",
        "--key", "cy", "--threshold", 2, "--policy-key", "officer",
    ).json  # fmt: skip
    assert (made["version"], made["missing"], len(made["words"])) == (1, 2, 12)
    one = signed_by(ceremony, "trust", "root", "sign", "root.json", names=["cy"]).json
    assert one["missing"] == 1
    two = signed_by(ceremony, "trust", "root", "sign", "root.json", names=["cy", "ada"]).json
    assert two["missing"] == 0
    # What people compare does not change while signatures are collected.
    assert made["fingerprint"] == one["fingerprint"] == two["fingerprint"]
    assert [s["holds"] for s in two["signatures"]] == [True, True]


def test_a_stranger_cannot_sign_a_root_by_mistake(organisation):
    refused = organisation(
        "trust", "root", "sign", "root.json", "--key", "lead", "--passphrase-file", "pass", code=4
    )
    assert refused.json["error"]["code"] == "trust.unknown_signer"


def test_a_rotated_root_needs_old_and_new_holders(organisation, tmp_path):
    people(organisation, "dee")
    ada = organisation("trust", "key", "show", "ada").json["keyid"]
    made = organisation(
        "trust", "root", "rotate", "root.json", "--add", "dee", "--remove", ada[:8], "--out", "2.root.json"
    ).json  # fmt: skip
    assert made["version"] == 2
    command = ("trust", "root", "sign", "2.root.json", "--previous", "root.json")
    assert signed_by(organisation, *command, names=["dee", "bo"]).json["missing"] == 1
    assert signed_by(organisation, *command, names=["ada"]).json["missing"] == 0
    first = roots.read_root((tmp_path / "root.json").read_bytes())
    roots.check_root(roots.read_root((tmp_path / "2.root.json").read_bytes()), first)


def test_a_key_can_be_added_for_the_policy(organisation, tmp_path):
    people(organisation, "second")
    organisation(
        "trust", "root", "add-key", "root.json", "second", "--policy", "--threshold", 2, "--out", "2.root.json"
    )  # fmt: skip
    made = roots.read_root((tmp_path / "2.root.json").read_bytes())
    assert (len(made.policy.keyids), made.policy.threshold) == (2, 2)


def test_a_root_file_is_not_overwritten_by_a_new_one(organisation):
    organisation(
        "trust", "root", "new", "--organisation", "X", "--key", "ada", "--threshold", 1,
        "--policy-key", "ada", code=2,
    )  # fmt: skip


def test_the_card_has_words_fingerprint_and_picture(organisation, tmp_path):
    card = organisation("trust", "card", "root.json", "--svg", "card.svg").json
    found = roots.read_root((tmp_path / "root.json").read_bytes())
    assert card["words"] == list(words.words_of(found.fingerprint))
    assert card["qr"] == f"CASPARIAN-ROOT:1:{found.fingerprint}"
    assert ET.parse(tmp_path / "card.svg").getroot().tag.endswith("svg")


# --- the policy


def test_a_signed_policy_is_changed_by_its_next_version_only(organisation, tmp_path):
    people(organisation, "bob")
    draft = organisation(
        "trust", "policy", "edit", "policy.json", "--role", "two", "--key", "lead", "--key", "bob",
        "--threshold", 2, "--scope", "parsers/*/*", "--min-serial", "evtx.lab=3", "--out", "2.json",
    ).json  # fmt: skip
    assert (draft["version"], draft["signatures"]) == (2, [])
    again = organisation("trust", "policy", "edit", "2.json", "--expiry-mode", "hard").json
    assert (again["version"], again["expiry_mode"]) == (2, "hard")  # still a draft
    assert {role["name"] for role in again["roles"]} == {"lead", "two"}
    assert again["min_serial"] == {"evtx.lab": 3}
    gone = organisation("trust", "policy", "edit", "2.json", "--remove-role", "two").json
    assert [role["name"] for role in gone["roles"]] == ["lead"]
    assert policies.read_policy((tmp_path / "policy.json").read_bytes()).version == 1


def test_a_revocation_is_the_next_policy(organisation):
    lead = organisation("trust", "key", "show", "lead").json["keyid"]
    made = organisation(
        "trust", "policy", "revoke", "policy.json", "--key", "lead", "--artifact", "ab" * 32, "--out", "2.json"
    ).json  # fmt: skip
    assert (made["version"], made["revoked_keys"]) == (2, [lead])
    assert made["revoked_artifacts"] == ["ab" * 32]


def test_a_policy_is_shown_with_its_signatures_checked(organisation):
    shown = organisation("trust", "policy", "show", "policy.json", "--root", "root.json").json
    assert [(s["holder"], s["holds"]) for s in shown["signatures"]] == [("officer", True)]
    assert shown["missing"] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--role", "x", "--key", "lead", "--scope", "everything"), 4),
        (("--role", "x", "--key", "lead"), 2),
        (("--key", "lead"), 2),
        (("--role", "x", "--key", "lead", "--scope", "parsers/*/*", "--threshold", "2"), 4),
        (("--min-serial", "evtx"), 2),
        (("--role", "x", "--key", "nobody", "--scope", "parsers/*/*"), 2),
    ],
)
def test_a_policy_that_cannot_be_is_not_written(organisation, tmp_path, arguments, code):
    before = (tmp_path / "policy.json").read_bytes()
    organisation("trust", "policy", "edit", "policy.json", *arguments, code=code)
    assert (tmp_path / "policy.json").read_bytes() == before


# --- parsers


def test_a_parser_is_signed_packed_and_verified_with_every_check_explained(organisation, tmp_path):
    parser_folder(tmp_path / "p")
    judge = ("--root", "root.json", "--policy", "policy.json")
    unsigned = organisation("parser", "verify", "p", "--explain", *judge, code=4).json
    assert (unsigned["verdict"], unsigned["code"]) == ("unsigned", "trust.unsigned")
    sign = ("parser", "sign", "p", "--key", "lead", "--passphrase-file", "pass")
    first = organisation(*sign).json
    assert (first["parser"], first["serial"]) == ("evtx.lab", 1)
    assert organisation(*sign).json["serial"] == 2
    assert organisation(*sign, "--serial", 9).json["serial"] == 9
    packed = organisation("parser", "pack", "p").json["package"]
    assert os.path.basename(packed) == "evtx.lab-1.2.0.casparian"
    for path in ("p", packed):
        good = organisation("parser", "verify", path, "--explain", *judge).json
        assert (good["verdict"], good["signers"]) == ("valid", ["lead"])
        assert {check["outcome"] for check in good["checks"]} == {"passed"}
    code = bytearray(Path("p/parser.py").read_bytes())
    code[0] ^= 1
    Path("p/parser.py").write_bytes(code)
    bad = organisation("parser", "verify", "p", "--explain", *judge, code=4).json
    assert (bad["verdict"], bad["code"]) == ("bad", "trust.tampered")
    outcomes = {check["name"]: check["outcome"] for check in bad["checks"]}
    assert (outcomes["signatures"], outcomes["files"], outcomes["manifest"]) == (
        "passed",
        "failed",
        "not reached",
    )


def test_a_second_person_signs_the_same_statement(organisation, tmp_path):
    people(organisation, "bob")
    parser_folder(tmp_path / "p")
    organisation("parser", "sign", "p", "--key", "lead", "--passphrase-file", "pass")
    one = json.loads((tmp_path / "p" / "statement.dsse.json").read_bytes())
    organisation("parser", "sign", "p", "--also", "--key", "bob", "--passphrase-file", "pass")
    two = json.loads((tmp_path / "p" / "statement.dsse.json").read_bytes())
    assert two["payload"] == one["payload"]
    assert len(two["signatures"]) == 2


def test_a_second_person_does_not_sign_what_was_changed_since(organisation, tmp_path):
    parser_folder(tmp_path / "p")
    sign = ("parser", "sign", "p", "--key", "lead", "--passphrase-file", "pass")
    organisation(*sign)
    (tmp_path / "p" / "parser.py").write_bytes(b"import os\n")
    refused = organisation(*sign, "--also", code=4)
    assert refused.json["error"]["code"] == "trust.tampered"


def test_signing_dry_asks_for_no_key_and_writes_nothing(ceremony, tmp_path):
    parser_folder(tmp_path / "p")
    assert ceremony("parser", "sign", "p", "--dry-run").json["keyid"] is None
    assert ceremony("parser", "pack", "p", "--unsigned", "--dry-run").json["package"] is None
    assert not (tmp_path / "p" / "statement.dsse.json").exists()


def test_signing_needs_exactly_one_key(ceremony, tmp_path):
    parser_folder(tmp_path / "p")
    assert ceremony("parser", "sign", "p", code=2).json["error"]["code"] == "usage.key"


def test_an_unsigned_parser_is_packed_only_when_asked_to(ceremony, tmp_path):
    parser_folder(tmp_path / "p")
    assert ceremony("parser", "pack", "p", code=4).json["error"]["code"] == "trust.unsigned"
    assert ceremony("parser", "pack", "p", "--unsigned").json["signed"] is False


def test_the_programs_own_parsers_verify(ceremony):
    from casparian.paths import first_party_parsers

    found = ceremony("parser", "verify", first_party_parsers() / "linux.syslog").json
    assert (found["verdict"], found["origin"]) == ("valid", "first-party")


# --- first trust


def test_first_trust_asks_for_a_fingerprint_where_nobody_can_type(organisation):
    asked = organisation("trust", "init", "--root", "root.json", code=2)
    assert asked.json["error"]["code"] == "usage.fingerprint"


def test_first_trust_refuses_another_fingerprint_before_anything_is_asked(organisation):
    refused = organisation(
        "trust", "init", "--root", "root.json", "--fingerprint", "SHA256:" + "0" * 64, code=4
    )
    assert refused.json["error"]["code"] == "trust.fingerprint"


def test_first_trust_refuses_a_wrong_word_of_the_card(organisation, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.prompt", lambda *_, **__: "zoo")
    refused = organisation("trust", "init", "--root", "root.json", code=4)
    assert refused.json["error"]["code"] == "trust.words"


def test_three_words_of_the_card_are_enough(organisation, tmp_path, monkeypatch):
    asked, imported = [], []
    found = roots.read_root((tmp_path / "root.json").read_bytes())

    def type_word(text, **_):
        asked.append(int(re.search(r"word (\d+) of the card", text).group(1)))
        return words.words_of(found.fingerprint)[asked[-1] - 1].upper()

    def take(_, documents, fingerprint, *, dry_run):
        imported.append((documents, fingerprint, dry_run))
        return control.Done(message="taken")

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.prompt", type_word)
    monkeypatch.setattr(trust, "_ask_import", take)
    organisation("trust", "init", "--root", "root.json", "--policy", "policy.json")
    assert len(set(asked)) == 3
    assert asked == sorted(asked)
    raws = tuple((tmp_path / name).read_bytes() for name in ("root.json", "policy.json"))
    assert imported == [(raws, words.fingerprint_text(found.fingerprint), False)]


def test_showing_trust_warns_before_there_is_too_little_time_for_a_ceremony(ceremony, tmp_path):
    lab = Organisation()
    states.save(tmp_path / "home" / "trust", lab.state)
    assert ceremony("trust", "show").json["warnings"] == []
    day_before = lab.state.policy.expires_ns - 1
    assert [w.partition(" on ")[0] for w in trust._ending(lab.state, day_before)] == [
        "the policy expires"
    ]
    assert [w.partition(" on ")[0] for w in trust._ending(lab.state, ROOT_ENDS)] == [
        "the root expired",
        "the policy expired",
    ]


def test_showing_an_empty_home_says_what_runs(ceremony):
    shown = ceremony("trust", "show").json
    assert shown["root"] is None
    assert shown["policy"] is None
    assert shown["release_key"]["listed"] is None


# --- the page that describes the ceremony


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "key-ceremony.md"


def commands_of(page):
    """Command lines of a page's fenced blocks, continued lines joined, without what needs a home or a token."""
    for block in page.read_text().split("```\n")[1::2]:
        for line in block.replace("\\\n", " ").splitlines():
            words_typed = shlex.split(line, comments=True)
            asks_the_sentinel = words_typed[1:3] in (["trust", "import"], ["trust", "impact"])
            if words_typed and not asks_the_sentinel and "--pkcs11" not in words_typed:
                yield words_typed


def test_the_commands_of_the_page_work_as_they_stand(ceremony, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(signing, "secret_text", lambda *_, **__: "correct horse")
    people(ceremony, "bo", "cy", "officer", "lead", "dora", "dee")
    for name in ("bo", "cy", "officer", "lead", "dora", "dee"):
        ceremony("trust", "key", "export", name, "--out", f"{name}.pub")
    typed = list(commands_of(PAGE))
    assert len(typed) >= 14
    keyid = None
    for program, *arguments in typed:
        assert program == "casparian"
        if "KEYID" in arguments:
            keyid = ceremony("trust", "key", "show", "ada").json["keyid"]
            arguments[arguments.index("KEYID")] = keyid
        ceremony(*arguments)
    assert keyid is not None
    root = roots.read_root((tmp_path / "2.root.json").read_bytes())
    assert (root.version, sorted(root.holders.values())) == (2, ["bo", "cy", "dee", "officer"])
    policy = policies.read_policy((tmp_path / "policy.json").read_bytes())
    assert (policy.version, len(policy.signatures), len(policy.revoked_keys)) == (2, 1, 1)
