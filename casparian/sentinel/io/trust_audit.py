"""Whether what is recorded about trust still proves itself: documents, signed decisions, deployed parsers.

Nothing is taken from the record's own word. Roots and policies are followed from the first one on; each decision and each
deployment is verified again, under what was trusted when it was made: what was revoked or expired since changes nothing about
it. An accepted request whose recorded signatures do not carry it was never accepted by those who had to.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from casparian.db import approvals
from casparian.db.audit import DETAILS_MAX, Finding
from casparian.domain.approvals import Approval, Vote
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.sentinel.io.deploying import KIND as DEPLOY
from casparian.trust import verdict
from casparian.trust.artifact import STATEMENT_FILE, read_artifact
from casparian.trust.decisions import Expected, verify_decision, votes_missing
from casparian.trust.origin import Origin
from casparian.trust.policy import check_policy, read_policy
from casparian.trust.state import TrustState, load, with_root
from casparian.trust.verify import verify_parser

if TYPE_CHECKING:
    import duckdb

_HINT: Final = "the record was altered: `casparian sentinel backups` lists older copies"
_EVERY_RUNTIME: Final = "99999.0.0"  # a parser that asks for a newer program is no less signed


def audit_trust(connection: duckdb.DuckDBPyConnection, home: Home) -> list[Finding]:
    """Check documents, votes and deployments.

    Args:
        connection: read from.
        home: its stored parsers are read, and which home the decisions must be about.
    """
    history, problems = _history(connection)
    good = "{n} roots and policies follow from the first"
    found = [_finding("trust documents", problems, good, len(history))]
    audit = _Audit(connection, home, history)
    votes = list(audit.votes())
    deployments = list(audit.deployments())
    found.append(
        _finding("votes", votes, "{n} signed decisions hold for what they were about", audit.count)
    )
    found.append(
        _finding(
            "deployments",
            deployments,
            "{n} deployed parsers are what was signed and recorded",
            audit.deployed,
        )
    )
    return found


class _Then(NamedTuple):
    """What was trusted from a moment on."""

    at_ns: int
    state: TrustState


def _history(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[list[_Then], list[dict[str, Any]]]:
    """Every state of trust that the recorded documents make, and the documents that make none."""
    state, history, problems = TrustState(), [], []
    rows = connection.execute(
        "SELECT kind, version, sha256, document, imported_at_ns FROM cf_trust_documents ORDER BY sequence"
    ).fetchall()
    for kind, version, sha256, document, at_ns in rows:
        raw = bytes(document)
        problem = None
        if hashlib.sha256(raw).hexdigest() != sha256:
            problem = "it is not what its recorded hash says"
        else:
            try:
                if kind == "root":
                    state = with_root(state, raw)
                else:
                    policy = read_policy(raw)
                    if state.root is None:
                        problem = "no root was there to sign it"
                    else:
                        check_policy(policy, state.root)
                        state = msgspec.structs.replace(state, policy=policy, policy_problem=None)
            except CasparianError as error:
                problem = f"{error.code}: {error.message}"
        if problem is not None:
            problems.append({"document": kind, "version": version, "why": problem})
            continue
        history.append(_Then(at_ns, state))
    return history, problems


class _Audit:
    """One reading of the records."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, home: Home, history: list[_Then]
    ) -> None:
        self._connection = connection
        self._home = home
        self._home_id = home.home_id_file.read_text(encoding="ascii").strip()
        self._history = [*history]
        with contextlib.suppress(CasparianError, OSError):  # doctor's other checks tell it
            self._history.insert(0, _Then(0, load(home.trust)))
        self.count = 0
        self.deployed = 0

    def votes(self) -> Iterator[dict[str, Any]]:
        """Decisions that do not hold, and accepted requests that those which hold do not carry."""
        rows = self._connection.execute(
            "SELECT approval_id FROM cf_approvals a SEMI JOIN "
            "(SELECT approval_id FROM cf_approval_votes) v USING (approval_id) ORDER BY ALL"
        ).fetchall()
        for (approval_id,) in rows:
            approval = approvals.approval(self._connection, approval_id)
            assert approval is not None
            good: list[Vote] = []
            for vote in approvals.votes(self._connection, approval_id):
                self.count += 1
                why = self._why_not(approval, vote)
                if why is None:
                    good.append(vote)
                else:
                    yield {"approval_id": approval_id, "by": ", ".join(vote.holders), "why": why}
            if approval.kind != DEPLOY and approval.state == "accepted":
                yield from self._carried(approval, good)

    def deployments(self) -> Iterator[dict[str, Any]]:
        """Stored parsers that are not what was signed, or not what is recorded."""
        rows = self._connection.execute(
            "SELECT parser, version, serial, artifact_hash, statement_sha256, deployed_at_ns FROM cf_deployments ORDER BY ALL"
        ).fetchall()
        for parser, version, serial, artifact_hash, statement_sha256, at_ns in rows:
            self.deployed += 1
            why = self._why_not_deployed(
                (parser, version, serial, artifact_hash), statement_sha256, at_ns
            )
            if why is not None:
                yield {"parser": f"{parser}@{version}", "why": why}

    def _carried(self, approval: Approval, good: list[Vote]) -> Iterator[dict[str, Any]]:
        accepted = [vote for vote in good if vote.decision == "accept"]
        keyids = [keyid for vote in accepted for keyid in vote.keyids]
        at_ns = max((vote.at_ns for vote in accepted), default=0)
        for state in self._states(at_ns):
            if votes_missing(state, approval.scope, keyids) == 0:
                return
        yield {
            "approval_id": approval.approval_id,
            "by": "",
            "why": "it is recorded as accepted, and too few of the signed decisions hold",
        }

    def _why_not(self, approval: Approval, vote: Vote) -> str | None:
        if approval.kind == DEPLOY:
            content = msgspec.json.decode(approval.content)
            if hashlib.sha256(vote.envelope).hexdigest() != content["statement_sha256"]:
                return "the recorded statement is not the one that the request is about"
            named = tuple(content[k] for k in ("parser", "version", "serial", "artifact_hash"))
            return self._why_not_signed(named, vote.envelope, vote.at_ns, vote)
        expected = Expected(
            approval_id=approval.approval_id,
            kind=approval.kind,
            subject=approval.subject,
            content_hash=approval.content_hash,
            home_id=self._home_id,
            scope=approval.scope,
        )

        def check(state: TrustState) -> str | None:
            verified = verify_decision(state, vote.envelope, expected, vote.at_ns)
            said = (
                verified.decision.decision,
                verified.decision.reason,
                verified.keyids,
                verified.holders,
            )
            if said != (vote.decision, vote.reason, vote.keyids, vote.holders):
                return "what was signed is not what is recorded"
            return None

        return self._under_any(vote.at_ns, check)

    def _why_not_deployed(
        self, named: tuple[Any, ...], statement_sha256: str, at_ns: int
    ) -> str | None:
        path = self._home.artifacts / named[3] / STATEMENT_FILE
        try:
            statement = path.read_bytes()
        except OSError as error:
            return f"its statement cannot be read: {error.strerror}"
        if hashlib.sha256(statement).hexdigest() != statement_sha256:
            return "its statement is not the one that was recorded"
        return self._why_not_signed(named, statement, at_ns, None)

    def _why_not_signed(
        self, named: tuple[Any, ...], statement: bytes, at_ns: int, vote: Vote | None
    ) -> str | None:
        try:
            files = read_artifact(str(self._home.artifacts / named[3]))
        except (CasparianError, OSError) as error:
            return f"its files cannot be read: {error}"

        def check(state: TrustState) -> str | None:
            found = verify_parser(
                state,
                files,
                statement,
                verdict.release_key(),
                origin=Origin.DEPLOYED,
                deploying=True,
                now_ns=at_ns,
                runtime=_EVERY_RUNTIME,
            )
            if (found.name, found.version, found.serial, found.artifact_hash) != named:
                return "what was signed is not what is recorded"
            if vote is not None and (found.keyids, found.signers) != (vote.keyids, vote.holders):
                return "others have signed than are recorded"
            return None

        return self._under_any(at_ns, check)

    def _under_any(self, at_ns: int, check: Callable[[TrustState], str | None]) -> str | None:
        """Why a check fails under what was trusted then; nothing when it holds.

        A clock that went back may have put the record of a document behind what it already decided: so the other
        recorded states count as well, which are just as signed.
        """
        first: str | None = None
        for state in self._states(at_ns):
            try:
                problem = check(state)
            except CasparianError as error:
                problem = f"{error.code}: {error.message}"
            if problem is None:
                return None
            first = first or problem
        return first or "no policy is recorded under which it could have been decided"

    def _states(self, at_ns: int) -> Iterator[TrustState]:
        """What was trusted at a moment, then all else that ever was, the newest first."""
        newest = [then.state for then in reversed(self._history)]
        then = next((one.state for one in reversed(self._history) if one.at_ns <= at_ns), None)
        if then is not None:
            yield then
        yield from (state for state in newest if state is not then)


def _finding(check: str, problems: list[dict[str, Any]], good: str, count: int) -> Finding:
    if not problems:
        return Finding(check=check, status="ok", message=good.format(n=count))
    return Finding(
        check=check,
        status="fail",
        message=f"{len(problems)} do not hold: {problems[0]['why']}",
        hint=_HINT,
        details=tuple(problems[:DETAILS_MAX]),
    )
