"""Signed parsers in a running home: deployed, run, revoked; what they made stays provable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from casparian import ids
from casparian.control import autostart
from casparian.control.client import Client
from casparian.errors import CasparianError, Refused, UsageError
from casparian.paths import Home
from casparian.protocol import control
from casparian.trust import state as trust_state
from tests.factories.laboratory import CODE, LINES, NAME, Laboratory, deploy, import_trust
from tests.factories.trust import QUICK
from tests.support.world import World


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    directory = tmp_path / "laboratory"
    directory.mkdir()
    return Laboratory(directory)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.file("lines.acme", LINES)
    yield world
    world.stop()


@contextmanager
def client_of(world: World) -> Iterator[Client]:
    with autostart.connect(Home.at(world.home), workers=1, notice=lambda _: None) as client:
        yield client


def code_of(world: World, *arguments: str) -> str:
    done = world.json(*arguments, code=None)
    return str(done["error"]["code"])


def trusted(world: World, laboratory: Laboratory) -> None:
    world.json("rule", "add", "*.acme", "acme")
    with client_of(world) as client:
        import_trust(
            client, laboratory.policy(), laboratory.root, fingerprint=laboratory.fingerprint
        )


def test_a_signed_parser_is_deployed_runs_and_is_revoked(
    world: World, laboratory: Laboratory
) -> None:
    trusted(world, laboratory)
    package = laboratory.signed(laboratory.parser())
    assert world.json("parser", "deploy", str(package), "--dry-run")["dry_run"]
    assert not (world.home / "artifacts").exists()
    deployed = world.json("parser", "deploy", str(package))
    assert "alice" in deployed["trust"]
    (listed,) = [p for p in world.json("parser", "list")["parsers"] if p["name"] == NAME]
    assert (listed["origin"], listed["state"], listed["verdict"]) == (
        "deployed",
        "current",
        "valid",
    )
    assert listed["signers"] == ["alice"]

    result = world.run()
    assert result["rejected"] == {}
    rows = world.query("SELECT text, _cf_parser, _cf_row_id FROM acme_lines ORDER BY _cf_ordinal")
    assert [row[:2] for row in rows] == [
        [word, f"{NAME}@1.0.0"] for word in ("one", "two", "three")
    ]
    (job,) = world.json("jobs")["jobs"]
    shown = world.json("jobs", "show", str(job["job_id"]))
    assert shown["trust"]["signers"] == ["alice"]
    assert shown["trust"]["policy_version"] == 1
    assert shown["trust"]["origin"] == "deployed"
    (decision,) = world.json("explain", str(world.evidence / "lines.acme"))["decisions"]
    assert decision["trust"] == shown["trust"]
    (approved,) = world.json("approve", "list", "--all")["approvals"]
    assert (approved["kind"], approved["subject"]) == ("parser.deploy", NAME)
    assert approved["state"] == "accepted"
    (vote,) = world.json("approve", "show", approved["approval_id"])["votes"]
    assert (vote["holders"], vote["decision"]) == (["alice"], "accept")

    with client_of(world) as client:
        import_trust(client, laboratory.policy(2, revoked_keys=[laboratory.alice.public.keyid]))
    world.file("more.acme", b"four\n")
    result = world.run(code=None)
    assert result["rejected"] == {"trust.revoked_key": 2}
    assert world.column("SELECT count(*) FROM acme_lines") == [3]
    why = world.json("why", rows[0][2])
    assert why["proven"]
    assert any("trust.revoked_key" in note for note in why["notes"])
    assert code_of(world, "parser", "deploy", str(package)) == "trust.revoked_key"
    explained = world.json("explain", str(world.evidence / "more.acme"))
    assert any("trust.revoked_key" in d["detail"] for d in explained["decisions"])
    log = [json.loads(row["entry"])["kind"] for row in tape(world)]
    assert [kind for kind in log if kind.startswith(("trust.", "parser."))] == [
        "trust.root",
        "trust.policy",
        "parser.deployed",
        "trust.policy",
    ]


def tape(world: World) -> list[dict[str, str]]:
    with client_of(world) as client:
        rows = client.ask(control.Read(view="trust_log"), control.Rows)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]


def test_versions_stand_side_by_side(world: World, laboratory: Laboratory) -> None:
    trusted(world, laboratory)
    second = CODE.replace("line.decode().strip()", "line.decode().strip().upper()")
    old = laboratory.signed(laboratory.parser(), serial=1)
    new = laboratory.signed(laboratory.parser(version="2.0.0", code=second), serial=2)
    with client_of(world) as client:
        deploy(client, old)
        deploy(client, new)
        with pytest.raises(Refused) as raised:
            deploy(client, old)
        assert raised.value.code == "trust.rollback"
    world.run()
    sql = "SELECT text, _cf_parser FROM acme_lines ORDER BY _cf_ordinal LIMIT 1"
    assert world.query(sql) == [["ONE", f"{NAME}@2.0.0"]]
    world.run("--parser", f"{NAME}@1.0.0")
    assert world.query(sql) == [["one", f"{NAME}@1.0.0"]]

    assert world.json("parser", "retire", f"{NAME}@2.0.0")["count"] == 1
    assert world.json("parser", "retire", f"{NAME}@2.0.0")["count"] == 0
    assert (
        code_of(world, "run", str(world.evidence), "--parser", f"{NAME}@2.0.0") == "parser.retired"
    )
    states = {p["version"]: p["state"] for p in listed(world, "--all")}
    assert states == {"1.0.0": "current", "2.0.0": "retired"}
    assert [p["version"] for p in listed(world)] == ["1.0.0"]
    assert code_of(world, "parser", "retire", f"{NAME}@3.0.0") == "parser.unknown"


def test_each_deployment_keeps_the_time(world: World, laboratory: Laboratory) -> None:
    trusted(world, laboratory)
    trust = world.home / "trust"
    first = trust_state.load(trust).floors.time_ns
    with client_of(world) as client:
        deploy(client, laboratory.signed(laboratory.parser(), serial=1))
    kept = trust_state.load(trust).floors.time_ns
    assert kept > first
    assert trust_state.now(trust_state.load(trust), first) == kept


def listed(world: World, *arguments: str) -> list[dict[str, str]]:
    found = world.json("parser", "list", *arguments)["parsers"]
    return [parser for parser in found if parser["name"] == NAME]


def test_what_may_not_be_deployed_leaves_nothing(world: World, laboratory: Laboratory) -> None:
    folder = laboratory.parser()
    good = laboratory.signed(folder)
    with client_of(world) as client:

        def code(package: Path, **named: object) -> str:
            with pytest.raises(CasparianError) as raised:
                deploy(client, package, **named)
            return raised.value.code

        assert code(good) == "trust.no_root"
        trusted(world, laboratory)
        assert code(good, artifact_hash="0" * 64) == "deploy.changed"
        assert code(good, path=b"relative.casparian") == "deploy.path"
        assert code(good, path=str(folder).encode()) == "deploy.path"
        assert code(laboratory.signed(folder, keys=[laboratory.eve])) == "trust.unknown_signer"
        other = laboratory.parser(name="other.lines")
        assert code(laboratory.signed(other)) == "trust.out_of_scope"
        good = laboratory.signed(folder)
        damaged = bytearray(good.read_bytes())
        damaged[damaged.index(b"splitlines")] ^= 1
        good.write_bytes(damaged)
        assert code(good) == "trust.tampered"
    assert list((world.home / "artifacts").glob("*")) == []
    assert listed(world, "--all") == []


def test_a_version_means_one_content(world: World, laboratory: Laboratory) -> None:
    trusted(world, laboratory)
    folder = laboratory.parser()
    with client_of(world) as client:
        deploy(client, laboratory.signed(folder))
        (folder / "parser.py").write_text(CODE + "\n# more\n")
        with pytest.raises(CasparianError) as raised:
            deploy(client, laboratory.signed(folder, serial=2))
    assert raised.value.code == "deploy.version"


def test_a_deployment_acts_once_and_survives(world: World, laboratory: Laboratory) -> None:
    trusted(world, laboratory)
    package = laboratory.signed(laboratory.parser())
    request_id = ids.new_request_id()
    with client_of(world) as client:
        first = deploy(client, package, request_id=request_id)
        package.unlink()
        again = client.ask(
            control.Deploy(
                request_id=request_id,
                path=str(package).encode(),
                artifact_hash=str(first.fields["artifact_hash"]),
            ),
            control.Done,
        )
        assert again == first
    world.stop()
    store = world.home / "artifacts"
    (store / "deployments.json").unlink()  # what a crash before its writing leaves
    leftover = store / ("0" * 64)
    leftover.mkdir()
    (store / ".new-0011").mkdir()
    (world.home / "trust" / "policy.json").unlink()
    (world.home / "trust" / "state.json").unlink()
    world.run()
    assert world.column("SELECT count(*) FROM acme_lines") == [3]
    assert sorted(path.name for path in store.iterdir()) == sorted(
        ["deployments.json", str(first.fields["artifact_hash"])]
    )


def test_first_trust_needs_the_fingerprint_and_never_goes_back(
    world: World, laboratory: Laboratory
) -> None:
    with client_of(world) as client:
        for given in (None, "0" * 64):
            with pytest.raises(Refused) as raised:
                import_trust(client, laboratory.root, fingerprint=given)
            assert raised.value.code == "trust.fingerprint"
        assert not (world.home / "trust").exists()
        dry = import_trust(
            client, laboratory.root, fingerprint=laboratory.fingerprint, dry_run=True
        )
        assert dry.count == 1
        assert not (world.home / "trust").exists()
        import_trust(client, laboratory.root, fingerprint=f"SHA256:{laboratory.fingerprint}")
        import_trust(client, laboratory.policy(2))
        assert import_trust(client, laboratory.policy(2)).count == 0
        with pytest.raises(Refused) as raised:
            import_trust(client, laboratory.policy(1))
        assert raised.value.code == "trust.rollback"
        with pytest.raises(UsageError):
            import_trust(client)
        with pytest.raises(Refused) as raised:
            import_trust(client, b"{}")
        assert raised.value.code == "trust.malformed"


def allow_unsigned(world: World, laboratory: Laboratory, *, allow: bool) -> str:
    """Propose and accept, with Alice's key; the id of the request."""
    key = laboratory.directory / "alice.key"
    passphrase = laboratory.directory / "passphrase"
    if not key.exists():
        laboratory.alice.write(key, "a passphrase", kdf=QUICK)
        passphrase.write_text("a passphrase\n")
    content = json.dumps({"allow": allow, "reason": "an old log of unknown make"})
    with client_of(world) as client:
        request = control.Propose(
            request_id=ids.new_request_id(),
            kind="trust.allow_unsigned",
            subject="allow_unsigned_python",
            content=content,
        )
        approval_id = str(client.ask(request, control.Done).fields["approval_id"])
    world.json(
        "approve", "accept", approval_id, "--key", str(key), "--passphrase-file", str(passphrase),
        "--reason", "seen",
    )  # fmt: skip
    return approval_id


def test_unsigned_python_runs_only_where_it_was_approved_and_says_so(
    world: World, laboratory: Laboratory
) -> None:
    trusted(world, laboratory)
    world.file("more.acme", b"four\n")
    folder = laboratory.parser()
    kept = world.home / "parsers" / NAME
    kept.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(kept)
    assert world.run(code=None)["rejected"] == {"trust.unsigned": 2}

    approval_id = allow_unsigned(world, laboratory, allow=True)
    assert world.run()["rejected"] == {}
    assert world.column("SELECT DISTINCT _cf_parser FROM acme_lines") == [
        f"{NAME}@1.0.0 (unsigned)"
    ]
    (job,) = world.json("jobs")["jobs"]
    shown = world.json("jobs", "show", str(job["job_id"]))
    assert (shown["trust"]["verdict"], shown["trust"]["approval"]) == ("unsigned", approval_id)
    # One guest a file parses, one for all counts, and one compiles.
    assert int(shown["logs"][-1]["isolation"]["guests"]) == 3
    row = world.column("SELECT _cf_row_id FROM acme_lines LIMIT 1")[0]
    assert world.json("why", row)["proven"]
    (listed_one,) = listed(world)
    assert (listed_one["verdict"], listed_one["trusted"]) == ("unsigned", True)

    # A bad signature is never taken for none.
    laboratory.signed(kept)
    (kept / "parser.py").write_text(CODE + "\n")
    world.file("fifth.acme", b"five\n")
    assert set(world.run(code=None)["rejected"]) == {"trust.tampered"}
    (kept / "statement.dsse.json").unlink()
    (kept / "parser.py").write_text(CODE)

    allow_unsigned(world, laboratory, allow=False)
    assert "trust.unsigned" in world.run(code=None)["rejected"]
    why = world.json("why", row)
    assert why["proven"]
    assert any("trust.unsigned" in note for note in why["notes"])
