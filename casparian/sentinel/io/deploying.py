"""Deploy a parser: read its package once, strictly; verify it; say what is stored and recorded.

A signed statement that meets the policy is the decision of those who signed it. It is recorded as a request that they accepted,
beside the deployment itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from casparian import clock, ids
from casparian.db import approvals, reads
from casparian.db.operations import (
    EndApproval,
    Operation,
    SaveDeployment,
    SaveProposal,
    SaveVote,
)
from casparian.display import path_text
from casparian.domain.approvals import Approval, ApprovalState, Vote
from casparian.domain.deployments import Deployment
from casparian.domain.trust import TrustRecord
from casparian.errors import Conflict, ContractError, UsageError
from casparian.paths import Home
from casparian.protocol import control
from casparian.protocol.identity import approval_content_hash, canonical
from casparian.trust import verdict
from casparian.trust.artifact import hash_artifact
from casparian.trust.library import parser_from_files

if TYPE_CHECKING:
    import duckdb

KIND: Final = "parser.deploy"


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A package that was read and verified: exactly these bytes are stored."""

    files: dict[str, bytes]
    statement: bytes
    deployment: Deployment
    trust: TrustRecord

    @property
    def artifact_hash(self) -> str:
        """Of the files."""
        return self.deployment.artifact_hash


def examine(home: Home, reader: duckdb.DuckDBPyConnection, request: control.Deploy) -> Parcel:
    """Read and verify a package; nothing is changed.

    Raises:
        UsageError: `deploy.path`.
        Conflict: `deploy.changed`, `deploy.version`.
        Refused: `trust.…`.
        ContractError: it holds no usable parser, or one of the program's own names.
    """
    files, statement = _read(request.path)
    artifact_hash = hash_artifact(files)
    if artifact_hash != request.artifact_hash:
        raise Conflict(
            f"the package `{path_text(request.path)}` is not the one that was looked at",
            code="deploy.changed",
            hint="look at it again with `casparian parser verify`",
        )
    manifest = parser_from_files(str(home.artifacts / artifact_hash), files).manifest
    trust = verdict.verify_deployment(home, manifest.name, files, statement)
    assert statement is not None
    _check_place(manifest.name, manifest.version, artifact_hash, reads.deployments(reader))
    deployment = Deployment(
        parser=manifest.name,
        version=manifest.version,
        serial=trust.serial or 0,
        artifact_hash=artifact_hash,
        deployed_at_ns=clock.now_ns(),
    )
    return Parcel(files=files, statement=statement, deployment=deployment, trust=trust)


def operations(reader: duckdb.DuckDBPyConnection, parcel: Parcel, actor: str) -> list[Operation]:
    """What is recorded of a deployment: the decision of those who signed, then the deployment."""
    saved = SaveDeployment(
        at_ns=parcel.deployment.deployed_at_ns,
        deployment=parcel.deployment,
        statement_sha256=hashlib.sha256(parcel.statement).hexdigest(),
        trust=parcel.trust,
        actor=actor,
    )
    return [*_as_approval(reader, saved, parcel.statement), saved]


def reply(parcel: Parcel) -> control.Done:
    """What whoever asked is told."""
    deployment = parcel.deployment
    fields: dict[str, str | int] = {
        "parser": deployment.parser,
        "version": deployment.version,
        "serial": deployment.serial,
        "artifact_hash": deployment.artifact_hash,
        "trust": parcel.trust.sentence(),
    }
    return control.Done(message=f"`{deployment.label}` is deployed", count=1, fields=fields)


def _read(path: bytes) -> tuple[dict[str, bytes], bytes | None]:
    from casparian.trust.package import read_package

    if not os.path.isabs(path) or b"\0" in path:
        raise UsageError(
            f"`{path_text(path)}` is no absolute path",
            code="deploy.path",
            hint="a relative one would mean the sentinel's directory, not yours",
        )
    try:
        return read_package(os.fsdecode(path))
    except OSError as error:
        raise UsageError(
            f"the package `{path_text(path)}` cannot be read: {error.strerror or error}",
            code="deploy.path",
            hint="`casparian parser pack DIR` makes one",
        ) from error


def _as_approval(
    reader: duckdb.DuckDBPyConnection, saved: SaveDeployment, statement: bytes
) -> list[Operation]:
    """The signed statement is the decision of those who signed it: recorded as a request that they accepted."""
    deployment, trust, at_ns = saved.deployment, saved.trust, saved.at_ns
    approval_id = ids.new_approval_id()
    while approvals.approval(reader, approval_id) is not None:
        approval_id = ids.new_approval_id()
    scope = f"parsers/{deployment.parser}/{deployment.version}"
    content = canonical(
        {
            "parser": deployment.parser,
            "version": deployment.version,
            "serial": deployment.serial,
            "artifact_hash": deployment.artifact_hash,
            "statement_sha256": saved.statement_sha256,
        }
    ).decode()
    diff = (
        f"+ parser {deployment.label}, serial {deployment.serial}",
        f"+ artifact {deployment.artifact_hash}",
    )
    approval = Approval(
        approval_id=approval_id,
        kind=KIND,
        subject=deployment.parser,
        scope=scope,
        content=content,
        content_hash=approval_content_hash(KIND, deployment.parser, scope, content, diff),
        diff=diff,
        requested_by=saved.actor,
        requested_at_ns=at_ns,
        expires_at_ns=at_ns,
    )
    reason = "the signed statement that comes with the parser"
    vote = Vote(
        approval_id=approval_id,
        decision="accept",
        keyids=trust.keyids,
        holders=trust.signers,
        role="lead examiner",
        reason=reason,
        actor=saved.actor,
        envelope=statement,
        at_ns=at_ns,
    )
    return [
        SaveProposal(at_ns=at_ns, approval=approval),
        SaveVote(at_ns=at_ns, vote=vote),
        EndApproval(
            at_ns=at_ns,
            approval=approval,
            after=ApprovalState.ACCEPTED,
            actor=saved.actor,
            reason=reason,
        ),
    ]


def _check_place(name: str, version: str, artifact_hash: str, known: Sequence[Deployment]) -> None:
    """Refuse a name of the product's own, and another content under a version that was deployed."""
    from casparian import _native

    if name.casefold() in {own.casefold() for own in _native.first_party_parsers()}:
        raise ContractError(
            f"the parser `{name}` came with the program",
            code="parser.duplicate",
            hint="give yours another name: nothing takes the place of the program's own parsers",
        )
    for other in known:
        if (other.parser, other.version) == (
            name,
            version,
        ) and other.artifact_hash != artifact_hash:
            raise Conflict(
                f"`{other.label}` was deployed with another content ({other.artifact_hash[:12]}…)",
                code="deploy.version",
                hint="raise `version` in parser.toml: rows name the version, so it means one content for good",
            )
