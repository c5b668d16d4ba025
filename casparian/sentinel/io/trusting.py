"""Changes of trust and of deployed parsers, on a thread beside the loop.

The control database is the truth; HOME/trust and HOME/artifacts are what others can read of it. A change is made so:

    1. everything is read once and verified; what was verified is what is stored
    2. a parser's folder is put into the store, complete and durable, under its hash
    3. one transaction: the change, its entry on the tape, the reply
    4. the files that say so are replaced: state, policy and roots, or the list of deployed parsers

A crash before 3 leaves nothing but a folder that nobody names; after 3 the change has happened. `settle` brings the files in line
with the database when the sentinel starts, and removes what nobody names.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from casparian import clock
from casparian.db import approvals, reads
from casparian.db.operations import (
    Operation,
    RetireDeployment,
    SaveReply,
    SaveTrustDocument,
)
from casparian.display import show
from casparian.domain.deployments import Deployment
from casparian.errors import CasparianError, Refused, UsageError
from casparian.paths import Home
from casparian.protocol import control
from casparian.sentinel import unsigned
from casparian.sentinel.effects import ChangeTrust, SettleTrust
from casparian.sentinel.events import TrustChanged
from casparian.sentinel.io import deploying
from casparian.sentinel.io.writer import Writer
from casparian.sentinel.planner import failure_of
from casparian.trust import store

if TYPE_CHECKING:
    import duckdb

    from casparian.trust.state import AllowUnsigned, TrustState

DOCUMENTS_MAX: Final = 64
_LOG = logging.getLogger(__name__)


class Trusting:
    """Belongs to one thread, the one that plans."""

    def __init__(self, home: Home, reader: duckdb.DuckDBPyConnection, writer: Writer) -> None:
        self._home = home
        self._reader = reader
        self._writer = writer

    def carry_out(self, effect: ChangeTrust) -> TrustChanged:
        """Do what was asked; a fault is the client's answer."""
        request, actor = effect.request, effect.actor
        reply: control.Done | control.Failure
        recorded = False
        try:
            match request:
                case control.ImportTrust():
                    reply = self._import(request, actor)
                    recorded = not request.dry_run
                case control.Deploy():
                    reply = self._deploy(request, actor)
                    recorded = not request.dry_run
                case control.Retire():
                    reply = self._retire(request, actor)
                    recorded = True
        except Exception as error:  # noqa: BLE001 - a thread's border: the client gets the error
            if not isinstance(error, CasparianError):
                _LOG.exception("trust could not be changed")
            reply = failure_of(error)
        return TrustChanged(
            client_id=effect.client_id,
            number=effect.number,
            request_id=request.request_id,
            reply=reply,
            recorded=recorded,
        )

    def settle(self) -> None:
        """Bring the files in line with the database; nothing happens in a home that never heard of trust."""
        deployments = reads.deployments(self._reader)
        gone = store.sweep(self._home.artifacts, {d.artifact_hash for d in deployments})
        if gone:
            _LOG.warning("removed from the store, nobody names it: %s", ", ".join(gone))
        store.write_index(self._home.artifacts, deployments)
        documents = reads.trust_documents(self._reader)
        allowed = _allowed(self._reader)
        if documents or allowed or any(d.serial for d in deployments):
            self._settle_state(documents, deployments, allowed)

    def settle_after(self, effect: SettleTrust) -> None:
        """The same after an approval was accepted; a fault is logged, and the files follow at the next start."""
        del effect
        try:
            self.settle()
        except (OSError, CasparianError):
            _LOG.exception("the files of HOME/trust could not be written")

    def _settle_state(
        self,
        documents: Sequence[tuple[str, int, bytes]],
        deployments: Sequence[Deployment],
        allowed: tuple[bool, AllowUnsigned] | None,
    ) -> None:
        """Floors and documents never sink: what the files hold beyond the database (an older copy of it) stays."""
        from casparian.trust import state as trust

        try:
            before = trust.load(self._home.trust)
        except Refused as error:  # what is there is damaged or was taken back: nothing is trusted until somebody looks
            _LOG.error("the trust of this home cannot be read: %s", show(error.message))
            return
        after = before
        for kind, version, raw in documents:
            known = after.root.version if kind == "root" and after.root else 0
            if kind == "policy":
                known = after.floors.policy_version
            if version <= known and not (kind == "policy" and after.policy is None):
                continue
            try:
                after = _with_document(after, kind, raw, None)
            except Refused as error:  # it held when it was imported: it has expired, or a newer root dropped its signer
                _LOG.warning("a recorded document is not in force: %s", show(error.message))
        for deployment in deployments:
            after = _with_deployment(after, deployment)
        if allowed is not None:
            after = trust.with_allow_unsigned(after, allowed[1] if allowed[0] else None)
        if after != before:
            trust.save(self._home.trust, after)

    # -- root and policy

    def _import(self, request: control.ImportTrust, actor: str) -> control.Done:
        from casparian.trust import state as trust

        if not request.documents or len(request.documents) > DOCUMENTS_MAX:
            raise UsageError(
                f"an import has 1 to {DOCUMENTS_MAX} documents", code="trust.documents"
            )
        before = trust.load(self._home.trust)
        now_ns = trust.now(before, built_ns=built_ns())
        roots, policies = _sorted_documents(request.documents)
        state = before
        operations: list[Operation] = []
        if roots and before.root is None:
            _check_fingerprint(roots[0], request.fingerprint)
        for kind, found in (("root", roots), ("policy", policies)):
            for raw in found:
                following = _with_document(state, kind, raw, now_ns)
                version = _version_of(following, kind)
                if version != _version_of(state, kind):
                    operations.append(_saved(kind, version, raw, actor))
                state = following
        done = _import_reply(before, state)
        if not request.dry_run:
            self._record(request.request_id, operations, done)
            trust.save(self._home.trust, state)
        return done

    # -- parsers

    def _deploy(self, request: control.Deploy, actor: str) -> control.Done:
        parcel = deploying.examine(self._home, self._reader, request)
        done = deploying.reply(parcel)
        if request.dry_run:
            return done
        store.put(self._home.artifacts, parcel.artifact_hash, parcel.files, parcel.statement)
        self._record(request.request_id, deploying.operations(self._reader, parcel, actor), done)
        self._publish()
        self._keep_time()
        return done

    def _retire(self, request: control.Retire, actor: str) -> control.Done:
        known = [d for d in reads.deployments(self._reader) if d.parser == request.parser]
        found = next((d for d in known if d.version == request.version), None)
        if found is None:
            versions = ", ".join(f"`{d.label}`" for d in known)
            raise UsageError(
                f"version {show(request.version)} of `{show(request.parser)}` is not deployed here",
                code="parser.unknown",
                hint=f"deployed: {versions}"
                if versions
                else "`casparian parser list` shows what is",
            )
        if found.retired_at_ns is not None:
            message, count = f"`{found.label}` was retired already", 0
        else:
            message, count = f"`{found.label}` is retired; its files stay, for proofs", 1
        done = control.Done(message=message, count=count)
        operation = RetireDeployment(
            at_ns=clock.now_ns(), parser=found.parser, version=found.version, actor=actor
        )
        self._record(request.request_id, [operation], done)
        self._publish()
        return done

    def _record(self, request_id: str, operations: Sequence[Operation], done: control.Done) -> None:
        """The change and its reply in one transaction."""
        saved = SaveReply(
            at_ns=clock.now_ns(), request_id=request_id, kind="Done", reply=control.encode(done)
        )
        self._writer.apply([*operations, saved])

    def _publish(self) -> None:
        """The list of deployed parsers, then the serials below which none is taken back."""
        from casparian.trust import state as trust

        deployments = reads.deployments(self._reader)
        store.write_index(self._home.artifacts, deployments)
        before = after = trust.load(self._home.trust)
        for deployment in deployments:
            after = _with_deployment(after, deployment)
        if after != before:
            trust.save(self._home.trust, after)

    def _keep_time(self) -> None:
        """The clock is not believed to be before this deployment any more; of a home without a root nothing is kept."""
        from casparian.trust import state as trust

        before = trust.load(self._home.trust)
        if before.root is None:
            return
        after = trust.with_time(before, trust.now(before, built_ns=built_ns()))
        if after != before:
            trust.save(self._home.trust, after)


def _allowed(reader: duckdb.DuckDBPyConnection) -> tuple[bool, AllowUnsigned] | None:
    """The newest accepted request about unsigned parsers: whether it allows them, and who decided; `None` when there is none."""
    from casparian.trust.state import AllowUnsigned

    found = approvals.newest_accepted(reader, unsigned.KIND_NAME)
    if found is None:
        return None
    content = msgspec.json.decode(found.content, type=unsigned.Content)
    votes = [v for v in approvals.votes(reader, found.approval_id) if v.decision == "accept"]
    return content.allow, AllowUnsigned(
        approval_id=found.approval_id,
        reason=content.reason,
        by=tuple(sorted({holder for vote in votes for holder in vote.holders})),
        at_ns=max((vote.at_ns for vote in votes), default=found.requested_at_ns),
    )


def built_ns() -> int:
    """When this program says that it was built, in nanoseconds since 1970; 0 when it does not say."""
    from casparian import _native

    return int(_native.build_info()["source_date"]) * 1_000_000_000


def _with_document(state: TrustState, kind: str, raw: bytes, now_ns: int | None) -> TrustState:
    from casparian.trust import state as trust

    if kind == "root":
        return trust.with_root(state, raw)
    return trust.with_policy(
        state, raw, trust.now(state, built_ns=built_ns()) if now_ns is None else now_ns
    )


def _with_deployment(state: TrustState, deployment: Deployment) -> TrustState:
    from casparian.trust import state as trust

    if not deployment.serial:
        return state
    return trust.with_serial(state, deployment.parser, deployment.serial, deployment.artifact_hash)


def _version_of(state: TrustState, kind: str) -> int:
    if kind == "root":
        return state.root.version if state.root is not None else 0
    return state.policy.version if state.policy is not None else 0


def _sorted_documents(documents: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Roots and policies, each by version.

    Raises:
        Refused: `trust.malformed`: neither.
    """
    from casparian.trust.policy import read_policy
    from casparian.trust.root import read_root

    roots: dict[bytes, int] = {}
    policies: dict[bytes, int] = {}
    for raw in documents:
        try:
            kind = msgspec.json.decode(raw, type=_AnyDocument).signed.kind
        except (msgspec.DecodeError, ValueError, RecursionError):
            kind = ""
        if kind == "root":
            roots[raw] = read_root(raw).version
        elif kind == "targets":
            policies[raw] = read_policy(raw).version
        else:
            raise Refused(
                "a document is neither a root nor a policy",
                code="trust.malformed",
                hint="name `N.root.json` files and `policy.json`",
            )
    return sorted(roots, key=roots.__getitem__), sorted(policies, key=policies.__getitem__)


class _AnySigned(msgspec.Struct):
    kind: str = msgspec.field(name="_type", default="")


class _AnyDocument(msgspec.Struct):
    signed: _AnySigned


def _check_fingerprint(raw: bytes, given: str | None) -> None:
    """The first root is trusted because a person compared it, and for no other reason."""
    from casparian.trust.root import read_root

    found = read_root(raw).fingerprint
    wanted = (given or "").removeprefix("SHA256:").replace(" ", "").lower()
    if wanted != found:
        raise Refused(
            "the first root of trust needs its fingerprint"
            if not wanted
            else "the fingerprint is not that of the root",
            code="trust.fingerprint",
            hint="`casparian trust init --root FILE` shows it; compare it with the printed card",
        )


def _saved(kind: str, version: int, raw: bytes, actor: str) -> SaveTrustDocument:
    return SaveTrustDocument(
        at_ns=clock.now_ns(),
        kind=kind,
        version=version,
        sha256=hashlib.sha256(raw).hexdigest(),
        document=raw,
        actor=actor,
    )


def _import_reply(before: TrustState, after: TrustState) -> control.Done:
    fields: dict[str, str | int] = {}
    news = []
    for kind in ("root", "policy"):
        was, now = _version_of(before, kind), _version_of(after, kind)
        if now:
            fields[f"{kind}_version"] = now
        if now != was:
            news.append(f"{kind} {now} is in force" if now else f"no {kind} is in force any more")
    if after.root is not None:
        fields["fingerprint"] = f"SHA256:{after.root.fingerprint}"
        fields["organisation"] = after.root.organisation
    if after.policy_problem is not None:
        fields["policy_problem"] = after.policy_problem[0]
    return control.Done(message="; ".join(news) or "nothing is new", count=len(news), fields=fields)
