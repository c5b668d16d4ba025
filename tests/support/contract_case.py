"""A home in which contracts are promoted and amended, each decided by the key of a lead examiner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from casparian.control import autostart
from casparian.control.client import Client
from casparian.paths import Home
from casparian.trust.keys import PublicKey
from casparian.trust.policy import ExaminerRole
from casparian.trust.verdict import release_key
from tests.factories.datasets import as_bytes
from tests.factories.laboratory import Laboratory, import_trust
from tests.factories.trust import QUICK
from tests.support.world import World

PASSPHRASE = "correct horse"


class ContractCase(World):
    """A home whose lead examiner decides about the contract of one table alone: Alice, or whoever has the token."""

    def __init__(
        self, directory: Path, *, table: str = "firewall", token: PublicKey | None = None
    ) -> None:
        super().__init__(directory)
        self.laboratory = laboratory = Laboratory(directory)
        self.key = directory / "alice.key"
        self.passphrase = directory / "passphrase"
        self.passphrase.write_text(PASSPHRASE + "\n")
        self.passphrase.chmod(0o600)
        laboratory.alice.write(self.key, PASSPHRASE, kdf=QUICK)
        self.stranger = directory / "eve.key"
        laboratory.eve.write(self.stranger, PASSPHRASE, kdf=QUICK)
        decides = token or laboratory.alice.public
        keys = [
            (laboratory.alice.public, "alice"),
            (release_key().public, "release"),
            *([(token, "dora")] if token else []),
        ]
        parsers = ExaminerRole(
            name="parsers",
            keyids=(laboratory.alice.public.keyid,),
            threshold=1,
            paths=("parsers/acme.*/*",),
        )
        role = ExaminerRole(
            name="lead examiner",
            keyids=(decides.keyid,),
            threshold=1,
            paths=(f"contracts/{table}",),
        )
        with self.client() as client:
            import_trust(
                client,
                laboratory.policy(roles=(role, parsers), keys=keys),
                laboratory.root,
                fingerprint=laboratory.fingerprint,
            )

    @contextmanager
    def client(self) -> Iterator[Client]:
        with autostart.connect(Home.at(self.home), workers=1, notice=lambda _: None) as client:
            yield client

    def document(self, values: dict[str, Any]) -> str:
        """A document as a file; each gets a name of its own."""
        number = len(list(self.directory.glob("contract-*.json")))
        path = self.directory / f"contract-{number}.json"
        path.write_bytes(as_bytes(values))
        return str(path)

    def decided(self, *arguments: str, key: Path | None = None, code: int | None = 0) -> Any:
        """A command that proposes, decided at once."""
        return self.json(
            "contract",
            *arguments,
            *("--key", str(key or self.key), "--passphrase-file", str(self.passphrase)),
            *("--reason", "seen and compared"),
            code=code,
        )

    def promote(self, values: dict[str, Any]) -> Any:
        return self.decided("promote", self.document(values))

    def amend(self, values: dict[str, Any]) -> Any:
        return self.decided("amend", values["table"], "--file", self.document(values))

    def amend_from(self, table: str, *files: Path) -> Any:
        """Amend a contract by what drifted files have."""
        sources = [part for file in files for part in ("--from", str(file))]
        return self.decided("amend", table, *sources)

    def rows_of(self, table: str) -> int:
        """How many rows a table shows."""
        ((count,),) = self.query(f"SELECT count(*) FROM {table}")
        return int(count)

    def assert_history(self, table: str, *effects: str) -> None:
        """The revisions, each decided by Alice with her key and her reason."""
        revisions = self.json("contract", "history", table)["revisions"]
        assert [one["effect"] for one in revisions] == list(effects)
        for one in revisions:
            (vote,) = one["decisions"]
            assert (vote["holders"], vote["reason"]) == (["alice"], "seen and compared")
            assert vote["keyids"]
