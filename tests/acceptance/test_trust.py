"""Trust on real homes: first trust, imports that are refused, what a key touches, one person's way in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from casparian.paths import first_party_parsers
from casparian.trust.keys import PrivateKey
from tests.factories.trust import QUICK

LOG = "Nov 23 16:00:01 host sshd[1]: first\nNov 23 16:00:02 host sshd[1]: second\n"


class Office:
    """Where documents are signed: a folder, keys under one passphrase, the commands of the ceremony."""

    def __init__(self, folder: Path, casparian) -> None:
        self.folder, self.casparian = folder, casparian
        (folder / "pass").write_text("correct horse\n")
        for name in ("ada", "bo", "officer", "lead"):
            PrivateKey.generate(holder=name).write(self.key(name), "correct horse", kdf=QUICK)

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def sign(self, what: str, file: str, *names: str) -> None:
        for name in names:
            self.casparian(
                "trust", what, "sign", self.file(file), "--key", self.key(name),
                "--passphrase-file", self.file("pass"),
            )  # fmt: skip

    def root(self) -> dict:
        """Root 2 of 2, signed; a policy in which `lead` signs every parser, signed."""
        made = self.casparian.json(
            "trust", "root", "new", "--organisation", "Laboratory", "--threshold", 2,
            "--key", self.key("ada"), "--key", self.key("bo"),
            "--policy-key", self.key("officer"), "--out", self.file("root.json"),
        )  # fmt: skip
        self.sign("root", "root.json", "ada", "bo")
        self.casparian(
            "trust", "policy", "new", "--role", "lead", "--key", self.key("lead"), "--scope", "parsers/*/*",
            "--own-release-key", "--out", self.file("policy.json"),
        )  # fmt: skip
        self.sign("policy", "policy.json", "officer")
        return made

    def policy(self, name: str, *arguments: object, since: str = "policy.json") -> str:
        """The next policy, signed."""
        self.casparian(
            "trust", "policy", "edit", self.file(since), *arguments, "--out", self.file(name)
        )
        self.sign("policy", name, "officer")
        return self.file(name)


@pytest.fixture
def office(tmp_path, casparian):
    (tmp_path / "office").mkdir()
    return Office(tmp_path / "office", casparian)


@pytest.fixture
def casparian(home_at, tmp_path):
    return home_at(tmp_path / "home")


def code_of(answer) -> str:
    return answer["error"]["code"]


def test_first_trust_and_what_an_import_refuses(office, casparian):
    made = office.root()
    init = (
        "trust",
        "init",
        "--root",
        office.file("root.json"),
        "--policy",
        office.file("policy.json"),
    )
    wrong = casparian.json(*init, "--fingerprint", "SHA256:" + "1" * 64, code=4)
    assert code_of(wrong) == "trust.fingerprint"
    assert casparian.json("trust", "import", office.file("policy.json"), code=4)["error"]["code"] == "trust.no_root"  # fmt: skip
    dry = casparian.json(*init, "--fingerprint", made["fingerprint"], "--dry-run")
    assert dry["policy_version"] == 1
    assert casparian.json("trust", "show")["root"] is None
    casparian(*init, "--fingerprint", " ".join(made["words"]))
    shown = casparian.json("trust", "show")
    assert (shown["root"]["version"], shown["policy"]["version"]) == (1, 1)
    assert shown["root"]["fingerprint"] == made["fingerprint"]
    assert shown["release_key"]["listed"] is True

    second = office.policy("2.json", "--expiry-mode", "hard")
    other_second = office.policy("other.json", "--expiry-mode", "install-only")
    casparian("trust", "import", second)
    for older, code in (
        (office.file("policy.json"), "trust.rollback"),
        (other_second, "trust.fork"),
    ):
        assert code_of(casparian.json("trust", "import", older, code=4)) == code
    casparian(
        "trust", "policy", "edit", second, "--min-serial", "x=1", "--out", office.file("3.json")
    )
    unsigned = casparian.json("trust", "import", office.file("3.json"), code=4)
    assert code_of(unsigned) == "trust.unknown_signer"
    assert casparian.json("trust", "show")["policy"]["version"] == 2
    assert casparian.json("trust", "import", second)["message"] == "nothing is new"

    log = casparian.json("trust", "log")["entries"]
    assert [entry["kind"] for entry in log] == ["trust.root", "trust.policy", "trust.policy"]
    assert [entry["seq"] for entry in log] == sorted(entry["seq"] for entry in log)
    assert casparian.json("trust", "log", "--limit", 1)["entries"] == log[-1:]


def test_a_rotated_root_is_taken_over_with_every_version_between(office, casparian):
    made = office.root()
    casparian(
        "trust", "init", "--root", office.folder, "--fingerprint", made["fingerprint"]
    )  # the folder: root and policy
    for version, since in ((2, "root.json"), (3, "2.root.json")):
        casparian(
            "trust", "root", "rotate", office.file(since), "--threshold", 2, "--out", office.file(f"{version}.root.json")
        )  # fmt: skip
        office.sign("root", f"{version}.root.json", "ada", "bo")
    skipped = casparian.json("trust", "import", office.file("3.root.json"), code=4)
    assert code_of(skipped) == "trust.root_version"
    casparian("trust", "import", office.folder)
    shown = casparian.json("trust", "show")
    assert (shown["root"]["version"], shown["policy"]["version"]) == (3, 1)


def test_what_rests_on_a_key_is_listed_and_a_revocation_stops_it(office, casparian, tmp_path):
    made = office.root()
    casparian("trust", "init", "--root", office.folder, "--fingerprint", made["fingerprint"])
    parser = tmp_path / "lab.syslog"
    shutil.copytree(first_party_parsers() / "linux.syslog", parser)
    manifest = (parser / "parser.toml").read_text()
    (parser / "parser.toml").write_text(manifest.replace("linux.syslog", "lab.syslog"))
    lead = casparian.json(
        "parser", "sign", parser, "--key", office.key("lead"), "--passphrase-file", office.file("pass")
    )  # fmt: skip
    package = casparian.json("parser", "pack", parser, "--out", tmp_path)["package"]
    casparian("parser", "deploy", package)
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "messages.log").write_text(LOG)
    casparian("run", tmp_path / "evidence", "--parser", "lab.syslog")

    for what in (lead["keyid"], lead["keyid"][:12], lead["artifact_hash"]):
        found = casparian.json("trust", "impact", what)["impact"]
        assert {row["parser"] for row in found} == {"lab.syslog"}
        assert {row["table_name"]: row["rows"] for row in found}["syslog_events"] == 2
    assert casparian.json("trust", "impact", "ab" * 32)["impact"] == []
    assert code_of(casparian.json("trust", "impact", "lead", code=2)) == "usage.impact"

    casparian(
        "trust", "policy", "revoke", office.file("policy.json"), "--key", office.key("lead"),
        "--out", office.file("2.json"),
    )  # fmt: skip
    office.sign("policy", "2.json", "officer")
    casparian("trust", "import", office.file("2.json"))
    refused = casparian.json("parser", "verify", package, "--explain", code=4)
    assert (refused["verdict"], refused["code"]) == ("bad", "trust.revoked_key")
    assert casparian.json("trust", "impact", lead["keyid"])["impact"] != []


def test_one_person_needs_one_command(casparian, tmp_path):
    (tmp_path / "pass").write_text("correct horse\n")
    solo = ("trust", "init", "--solo", "Ada Lovelace", "--keys", tmp_path / "keys",
            "--passphrase-file", tmp_path / "pass")  # fmt: skip
    casparian(*solo, "--dry-run")
    assert not (tmp_path / "keys").exists()
    made = casparian.json(*solo)
    assert Path(made["files"]["key"]).name == "ada-lovelace.key"
    shown = casparian.json("trust", "show")
    assert shown["root"]["organisation"] == "Ada Lovelace"
    (role,) = shown["policy"]["roles"]
    assert role["scopes"] == ["parsers/*/*", "contracts/*", "settings/*", "quarantine/*"]
    assert shown["release_key"]["listed"] is True
    again = casparian.json(*solo, code=4)
    assert code_of(again) == "trust.key_exists"
