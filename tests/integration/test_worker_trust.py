"""The worker's own word on the parser: whatever the plan said, it verifies what it loads against trust as it is now."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_world import World, home_at, rows

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.trust import TrustOrigin, TrustRecord, TrustVerdict
from casparian.paths import Home
from casparian.protocol.worker import Receipt, parser_task
from casparian.trust import state as states
from casparian.trust.library import load_parser
from casparian.trust.state import AllowUnsigned
from casparian.worker import parser_files
from casparian.worker.executor import Services
from tests.factories.laboratory import CODE, LINES, NAME, Laboratory

OUTPUT = OutputContract(table="acme_lines", main=True, columns=(Column(name="text", type="utf8"),))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return home_at(tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def services(home: Home) -> Iterator[Services]:
    services = Services(home)
    yield services
    services.close()


class SignedWorld(World):
    """Its parser is signed by Alice, whom the home's policy names; it was planned as a valid one."""

    def __init__(self, directory: Path, services: Services, home: Home) -> None:
        super().__init__(directory, services)
        services.judge = parser_files.judge_of(home)
        self.home = home
        self.outputs = (OUTPUT,)
        self.laboratory = Laboratory(directory)
        self.folder = self.laboratory.parser()
        self.laboratory.signed(self.folder)
        self.state = states.with_root(states.TrustState(), self.laboratory.root)
        self.trust(self.laboratory.policy())
        self.source(LINES)
        planned = TrustRecord(verdict=TrustVerdict.VALID, origin=TrustOrigin.PATH)
        self.task = parser_task(load_parser(self.folder), {}, planned)

    def trust(self, policy: bytes, allowed: AllowUnsigned | None = None) -> None:
        """Put a policy into force, as the sentinel would."""
        state = states.with_policy(self.state, policy, self.laboratory.now_ns)
        states.save(self.home.trust, states.with_allow_unsigned(state, allowed))

    def load(self) -> Receipt:
        """Run the job from the beginning."""
        for folder in ("out", "aside"):
            shutil.rmtree(self.directory / folder, ignore_errors=True)
        return self.run(parser=self.task)


@pytest.fixture
def world(tmp_path: Path, services: Services, home: Home) -> SignedWorld:
    for file in home.trust.rglob("*.json"):
        file.unlink()
    return SignedWorld(tmp_path, services, home)


def refused(world: SignedWorld) -> str:
    receipt = world.load()
    assert receipt.code is not None
    assert receipt.transient is False
    assert receipt.files == ()
    assert world.staged() == []
    return receipt.code


def test_the_receipt_says_who_signed(world: SignedWorld) -> None:
    receipt = world.load()
    assert receipt.code is None
    assert receipt.trust == TrustRecord(
        verdict=TrustVerdict.VALID,
        origin=TrustOrigin.PATH,
        signers=("alice",),
        keyids=(world.laboratory.alice.public.keyid,),
        serial=1,
        policy_version=1,
    )
    assert {row["_cf_parser"] for row in rows(receipt, "acme_lines")} == {f"{NAME}@1.0.0"}


def test_what_was_revoked_since_the_plan_does_not_run(world: SignedWorld) -> None:
    laboratory = world.laboratory
    world.trust(laboratory.policy(2, revoked_keys=[laboratory.alice.public.keyid]))
    assert refused(world) == "trust.revoked_key"
    world.trust(laboratory.policy(3, revoked_artifacts=[world.task.artifact_hash]))
    assert refused(world) == "trust.revoked_artifact"
    world.trust(laboratory.policy(4))
    assert world.load().code is None


def test_what_was_edited_or_lost_its_statement_does_not_run(world: SignedWorld) -> None:
    statement = world.folder / "statement.dsse.json"
    kept = statement.read_bytes()
    statement.unlink()
    assert refused(world) == "trust.unsigned"
    statement.write_bytes(kept.replace(b'"sig":"', b'"sig":"A', 1))
    assert refused(world) in ("trust.malformed", "trust.tampered")
    statement.write_bytes(kept)
    (world.folder / "parser.py").write_text(CODE + "\n")
    assert refused(world) == "trust.artifact_changed"


def test_trust_that_is_gone_or_damaged_lets_nothing_run(world: SignedWorld) -> None:
    (world.home.trust / "policy.json").unlink()
    assert refused(world) == "trust.no_policy"
    world.trust(world.laboratory.policy())
    assert world.load().code is None
    root = world.home.trust / "root" / "1.root.json"
    root.write_bytes(root.read_bytes()[:-1])
    assert refused(world).startswith("trust.")


def test_an_unsigned_parser_gets_a_guest_for_each_file(world: SignedWorld) -> None:
    (world.folder / "statement.dsse.json").unlink()
    world.source(b"four\n")
    allowed = AllowUnsigned(approval_id="abcd2345", reason="a test", by=("alice",), at_ns=1)
    world.trust(world.laboratory.policy(), allowed)
    # A parser keeps what it saw in its module: a guest of its own for each file has seen nothing.
    code = CODE.replace("def parse(ctx):", "seen = []\n\ndef parse(ctx):\n    seen.append(1)")
    code = code.replace("line.decode().strip()", "f'{len(seen)}'")
    (world.folder / "parser.py").write_text(code)
    world.task = parser_task(load_parser(world.folder), {})
    receipt = world.load()
    assert receipt.code is None
    assert receipt.trust is not None
    assert (receipt.trust.verdict, receipt.trust.approval) == ("unsigned", "abcd2345")
    found = rows(receipt, "acme_lines")
    assert [row["text"] for row in found] == ["1", "1", "1", "1"]
    assert {row["_cf_parser"] for row in found} == {f"{NAME}@1.0.0 (unsigned)"}
