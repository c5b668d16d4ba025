"""Roots, policies and deployed parsers in the control database, each with its entry on the tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from casparian.db import operations as op
from casparian.db.rows import scalar

if TYPE_CHECKING:
    import duckdb


class TrustWriter:
    """Handlers of `DatabaseWriter`; same thread, same transaction."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, tape: Callable[..., None]) -> None:
        self._connection = connection
        self._tape = tape
        self.handlers: dict[type[Any], Callable[[Any], Any]] = {
            op.SaveTrustDocument: self._save_document,
            op.SaveDeployment: self._save_deployment,
            op.RetireDeployment: self._retire,
        }

    def _save_document(self, o: op.SaveTrustDocument) -> None:
        self._connection.execute(
            "INSERT INTO cf_trust_documents SELECT coalesce(max(sequence), 0) + 1, ?, ?, ?, ?, ?, ? FROM cf_trust_documents",
            [o.kind, o.version, o.sha256, o.document, o.actor, o.at_ns],
        )
        self._tape(o.at_ns, f"trust.{o.kind}", version=o.version, sha256=o.sha256, actor=o.actor)

    def _save_deployment(self, o: op.SaveDeployment) -> None:
        deployment = o.deployment
        self._connection.execute(
            "DELETE FROM cf_deployments WHERE parser = ? AND version = ?",
            [deployment.parser, deployment.version],
        )
        self._connection.execute(
            "INSERT INTO cf_deployments VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            [
                deployment.parser,
                deployment.version,
                deployment.serial,
                deployment.artifact_hash,
                o.statement_sha256,
                msgspec.json.encode(o.trust).decode(),
                o.actor,
                deployment.deployed_at_ns,
            ],
        )
        self._tape(
            o.at_ns,
            "parser.deployed",
            parser=deployment.parser,
            version=deployment.version,
            serial=deployment.serial,
            artifact_hash=deployment.artifact_hash,
            statement_sha256=o.statement_sha256,
            trust=msgspec.to_builtins(o.trust),
            actor=o.actor,
        )

    def _retire(self, o: op.RetireDeployment) -> int:
        condition = "parser = ? AND version = ? AND retired_at_ns IS NULL"
        named = [o.parser, o.version]
        count = scalar(
            self._connection, f"SELECT count(*) FROM cf_deployments WHERE {condition}", named
        )
        self._connection.execute(
            f"UPDATE cf_deployments SET retired_at_ns = ?, retired_by = ? WHERE {condition}",
            [o.at_ns, o.actor, *named],
        )
        if count:
            self._tape(o.at_ns, "parser.retired", parser=o.parser, version=o.version, actor=o.actor)
        return count
