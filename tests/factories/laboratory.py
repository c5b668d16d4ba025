"""A laboratory: keys, a root and a policy as documents, and parsers that its lead examiner signs, for a home that runs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from casparian import clock, ids
from casparian.contracts.load import load_manifest
from casparian.control.client import Client
from casparian.protocol import control
from casparian.trust import package
from casparian.trust import policy as policies
from casparian.trust import root as roots
from casparian.trust.artifact import STATEMENT_FILE, hash_artifact, read_artifact
from casparian.trust.documents import DAY_NS
from casparian.trust.keys import PrivateKey
from casparian.trust.policy import ExaminerRole
from casparian.trust.statement import make_statement, sign
from tests.factories.trust import key

NAME = "acme.lines"
MANIFEST = """\
schema_version = 1
name = "{name}"
version = "{version}"
kind = "python"
entry = "parser.py:parse"
tags = ["acme"]
unit = "line"
account = "lines"
"""
CONTRACT = """\
schema_version = 1

[outputs.acme_lines]
main = true
columns = [{ name = "text", type = "utf8" }]
"""
CODE = """\
def parse(ctx):
    from casparian.sdk import RowBuilder
    rows = RowBuilder("acme_lines")
    offset = 0
    for line in ctx.source.pread(ctx.source.size, 0).splitlines(True):
        if line.strip():
            yield from rows.append(offset, len(line), 0, text=line.decode().strip())
        offset += len(line)
    yield from rows.flush()
"""
LINES = b"one\ntwo\nthree\n"


class Laboratory:
    """One person who may change everything, and a lead examiner who may sign `acme.*`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.officer = key("officer")
        self.alice = key("alice")
        self.eve = key("eve")
        self.now_ns = clock.now_ns() // 1_000_000_000 * 1_000_000_000
        self.root = roots.add_signature(
            roots.make_root(
                organisation="Laboratory",
                root=[(self.officer.public, "officer")],
                root_threshold=1,
                policy=[(self.officer.public, "officer")],
                policy_threshold=1,
                issued_ns=self.now_ns - DAY_NS,
                expires_ns=self.now_ns + 3650 * DAY_NS,
            ),
            self.officer,
            "the root",
        )
        self.fingerprint = roots.read_root(self.root).fingerprint

    def policy(self, version: int = 1, **changes: Any) -> bytes:
        """A policy: the program's own release key, and Alice over `parsers/acme.*`."""
        from casparian.trust.verdict import release_key

        values: dict[str, Any] = {
            "version": version,
            "issued_ns": self.now_ns - DAY_NS // 2,
            "expires_ns": self.now_ns + 365 * DAY_NS,
            "keys": [
                (self.alice.public, "alice"),
                (release_key().public, "release"),
            ],
            "roles": (
                ExaminerRole(
                    name="lead examiner",
                    keyids=(self.alice.public.keyid,),
                    threshold=1,
                    paths=("parsers/acme.*/*", "settings/*"),
                ),
            ),
            "release_keyids": [release_key().public.keyid],
        }
        raw = policies.make_policy(**{**values, **changes})
        return roots.add_signature(raw, self.officer, "the policy")

    def parser(self, *, name: str = NAME, version: str = "1.0.0", code: str = CODE) -> Path:
        """A parser's folder, unsigned."""
        folder = self.directory / f"{name}-{version}"
        folder.mkdir()
        (folder / "parser.toml").write_text(MANIFEST.format(name=name, version=version))
        (folder / "contract.toml").write_text(CONTRACT)
        (folder / "parser.py").write_text(textwrap.dedent(code))
        return folder

    def signed(
        self, folder: Path, *, serial: int = 1, keys: Sequence[PrivateKey] = (), **changes: Any
    ) -> Path:
        """The package of a folder, signed by Alice or by others."""
        files = read_artifact(str(folder))
        manifest = load_manifest(files["parser.toml"])
        payload = make_statement(manifest, files, serial, self.now_ns - DAY_NS // 4, **changes)
        (folder / STATEMENT_FILE).write_bytes(sign(payload, keys or [self.alice]))
        return Path(package.pack(str(folder), str(self.directory)))


def import_trust(client: Client, *documents: bytes, **named: Any) -> control.Done:
    """Bring documents into force."""
    return client.ask(
        control.ImportTrust(request_id=ids.new_request_id(), documents=tuple(documents), **named),
        control.Done,
    )


def deploy(client: Client, built: Path, **named: Any) -> control.Done:
    """Deploy a package."""
    files, _ = package.read_package(str(built))
    values: dict[str, Any] = {
        "request_id": ids.new_request_id(),
        "path": str(built).encode(),
        "artifact_hash": hash_artifact(files),
    }
    return client.ask(control.Deploy(**{**values, **named}), control.Done)
