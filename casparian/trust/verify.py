"""Decide whether a parser may run, from its bytes, its statement and what is trusted.

Checks, in this order; the first that fails is the reason:

    statement   there is one, of bearable size, in canonical form
    authority   who decides: the policy's lead examiners; for parsers that came with the program its release key
    signatures  every listed signature of a known key fits the payload; only then is the payload read
    contents    names, paths and hashes in it are plain
    scope       somebody who signed may sign for `parsers/<name>/<version>`
    threshold   enough people have signed; revoked keys do not count
    runtime     this program is new enough
    time        not from the future, not expired
    serial      not below the policy's least serial, nor (when it is being deployed) below what was deployed
    files       exactly the listed files
    hashes      each file has both its hashes
    manifest    `parser.toml` says the same as the statement
    revocation  the policy does not revoke this artifact

Verdicts: `valid`; `unsigned` (no statement, and an approval allows unsigned Python parsers); whatever else is bad, and
raises. A bad signature is never taken for none.

No file, clock or network access here: callers pass bytes that were read once, and run those very bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

import casparian
from casparian.contracts.load import MANIFEST_FILE, load_manifest
from casparian.domain.parsers import ParserKind, ParserManifest
from casparian.errors import CasparianError
from casparian.protocol import identity
from casparian.trust import documents
from casparian.trust.artifact import hash_artifact
from casparian.trust.envelope import Envelope, open_envelope
from casparian.trust.keys import PublicKey
from casparian.trust.origin import Origin
from casparian.trust.policy import ExaminerRole, ExpiryMode, Policy, runtime_of
from casparian.trust.refusals import refused
from casparian.trust.signatures import Signers, check_signatures, check_threshold
from casparian.trust.state import TrustState
from casparian.trust.state import now as trusted_now
from casparian.trust.statement import (
    Digest,
    ParserStatement,
    check_files,
    environment_of,
    read_payload,
)

RELEASE_ROLE: Final = "release"


class Verdict(StrEnum):
    """What may run; everything else is refused."""

    VALID = "valid"
    UNSIGNED = "unsigned"


class ReleaseKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key that this program's own parsers are signed with."""

    public: PublicKey
    development: bool  # the fixed key of builds without a release key


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A parser that may run, and by whose word."""

    verdict: Verdict
    origin: Origin
    name: str
    version: str
    artifact_hash: str
    role: str | None = None  # of the policy, or `release`
    signers: tuple[str, ...] = ()  # holders
    keyids: tuple[str, ...] = ()
    serial: int | None = None
    policy_version: int | None = None
    development: bool = False  # by the development key
    warnings: tuple[str, ...] = ()  # codes, such as `trust.expired`
    approval_id: str | None = None  # that allowed it unsigned


class Outcome(StrEnum):
    """What became of one check."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    NOT_REACHED = "not reached"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check, for people."""

    name: str
    outcome: Outcome
    detail: str = ""
    code: str | None = None
    hint: str | None = None


def verify_parser(
    state: TrustState,
    files: Mapping[str, bytes],
    statement: bytes | None,
    release: ReleaseKey,
    *,
    origin: Origin,
    deploying: bool = False,
    now_ns: int | None = None,
    runtime: str = casparian.__version__,
) -> Verified:
    """Return when a parser may run.

    Args:
        state: what is trusted.
        files: every file of the parser, as `read_artifact` returns them.
        statement: the bytes of its `statement.dsse.json`.
        release: the key of this program's own parsers.
        origin: where it was found.
        deploying: it is being deployed: what is expired or older than what was deployed is refused, whatever the policy
            says about parsers that are deployed already.
        now_ns: as `state.now` says; read when it is not given.
        runtime: this program's version.

    Raises:
        Refused: `trust.*`, the first check that failed.
        ContractError: its manifest is malformed.
    """
    return _Examination(
        state, files, statement, release, origin, deploying, now_ns, runtime
    ).verified()


def explain_parser(
    state: TrustState,
    files: Mapping[str, bytes],
    statement: bytes | None,
    release: ReleaseKey,
    *,
    origin: Origin,
    deploying: bool = False,
    now_ns: int | None = None,
    runtime: str = casparian.__version__,
) -> tuple[Check, ...]:
    """Every check with its outcome, in order; arguments as `verify_parser`."""
    return _Examination(
        state, files, statement, release, origin, deploying, now_ns, runtime
    ).explained()


class _Examination:
    """One parser under examination: each check may use what those before it found."""

    def __init__(
        self,
        state: TrustState,
        files: Mapping[str, bytes],
        statement: bytes | None,
        release: ReleaseKey,
        origin: Origin,
        deploying: bool,
        now_ns: int | None,
        runtime: str,
    ) -> None:
        self._state = state
        self._files = files
        self._raw = statement
        self._release = release
        self._origin = origin
        # What runs from a folder was never deployed: it is judged as if it were deployed now.
        self._fresh = deploying or origin in (Origin.HOME, Origin.PATH)
        self._now_ns = trusted_now(state) if now_ns is None else now_ns
        self._runtime = runtime
        self._keys: dict[str, PublicKey] = {}
        self._policy: Policy | None = None
        self._envelope: Envelope
        self._signers: Signers
        self._said: ParserStatement
        self._digests: dict[str, Digest]
        self._roles: tuple[ExaminerRole, ...] = ()
        self._role: str = RELEASE_ROLE
        self._counted: tuple[str, ...] = ()
        self._manifest: ParserManifest
        self._artifact_hash = ""
        self._warnings: list[str] = []
        self._steps: tuple[tuple[str, Callable[[], str]], ...] = (
            ("statement", self._check_statement),
            ("authority", self._check_authority),
            ("signatures", self._check_signatures),
            ("contents", self._check_contents),
            ("scope", self._check_scope),
            ("threshold", self._check_threshold),
            ("runtime", self._check_runtime),
            ("time", self._check_time),
            ("serial", self._check_serial),
            ("files", self._check_files),
            ("hashes", self._check_hashes),
            ("manifest", self._check_manifest),
            ("revocation", self._check_revocation),
        )
        if statement is None:
            self._steps = (
                ("statement", self._allow_unsigned),
                ("manifest", self._read_manifest),
                ("kind", self._check_unsigned_kind),
                ("revocation", self._check_revocation),
            )

    def verified(self) -> Verified:
        """Run every check, or raise the first that fails."""
        for _, step in self._steps:
            step()
        if self._raw is None:
            allowed = self._state.allow_unsigned
            assert allowed is not None
            return Verified(
                verdict=Verdict.UNSIGNED,
                origin=self._origin,
                name=self._manifest.name,
                version=self._manifest.version,
                artifact_hash=self._artifact_hash,
                policy_version=self._state.policy_version,
                approval_id=allowed.approval_id,
            )
        holders = {} if self._policy is None else self._policy.holders
        own = self._release.public.keyid
        return Verified(
            verdict=Verdict.VALID,
            origin=self._origin,
            name=self._said.name,
            version=self._said.version,
            artifact_hash=self._artifact_hash,
            role=self._role,
            signers=tuple(holders.get(keyid, RELEASE_ROLE) for keyid in self._counted),
            keyids=self._counted,
            serial=self._said.serial,
            policy_version=self._state.policy_version,
            development=self._release.development and own in self._counted,
            warnings=tuple(self._warnings),
        )

    def explained(self) -> tuple[Check, ...]:
        """Run the checks up to the first that fails, and say of each what became of it."""
        checks: list[Check] = []
        failed = False
        for name, step in self._steps:
            if failed:
                checks.append(Check(name=name, outcome=Outcome.NOT_REACHED))
                continue
            warned = len(self._warnings)
            try:
                detail = step()
            except CasparianError as error:
                failed = True
                checks.append(
                    Check(
                        name=name,
                        outcome=Outcome.FAILED,
                        detail=error.message,
                        code=error.code,
                        hint=error.hint,
                    )
                )
                continue
            new = self._warnings[warned:]
            checks.append(
                Check(
                    name=name,
                    outcome=Outcome.WARNED if new else Outcome.PASSED,
                    detail=detail,
                    code=new[0] if new else None,
                )
            )
        return tuple(checks)

    def _check_statement(self) -> str:
        assert self._raw is not None
        self._envelope = open_envelope(self._raw, "the statement")
        return f"{len(self._envelope.signatures)} signed it"

    def _check_authority(self) -> str:
        policy, problem = self._state.policy, self._state.policy_problem
        if policy is None and (problem is not None or self._state.floors.policy_version > 0):
            code, message = problem or ("trust.no_policy", "the policy that was in force is gone")
            raise refused(code, message)
        self._policy = policy
        if self._origin is Origin.FIRST_PARTY:
            if policy is None:
                self._keys = {self._release.public.keyid: self._release.public}
                return "this program's own release key; no policy is in force"
            self._keys = {keyid: policy.keys[keyid] for keyid in policy.release_keyids}
            return f"the release keys of the policy's version {policy.version}"
        if policy is None:
            code = "trust.no_policy" if self._state.root else "trust.no_root"
            raise refused(code, "nobody was named here who may sign parsers")
        self._keys = policy.examiner_keys()
        return f"the lead examiners of the policy's version {policy.version}"

    def _check_signatures(self) -> str:
        revoked = () if self._policy is None else self._policy.revoked_keys
        own = self._release.public.keyid
        if self._origin is Origin.FIRST_PARTY and own not in self._keys:
            raise refused(
                "trust.unknown_signer",
                f"the policy does not list this program's release key {own[:12]}",
                hint="`casparian trust policy edit FILE --own-release-key`, sign it, import it",
                keyid=own,
            )
        self._signers = check_signatures(
            self._envelope.signed_bytes,
            self._envelope.signatures,
            self._keys,
            what="the statement",
            revoked=revoked,
        )
        good = ", ".join(keyid[:12] for keyid in self._signers.keyids)
        lost = ", ".join(keyid[:12] for keyid in self._signers.revoked)
        return f"good: {good or 'none'}" + (f"; revoked: {lost}" if lost else "")

    def _check_contents(self) -> str:
        self._said, self._digests = read_payload(self._envelope.payload)
        return f"{self._said.name} {self._said.version}, {len(self._digests)} files"

    def _check_scope(self) -> str:
        if self._policy is None or self._origin is Origin.FIRST_PARTY:
            return "release keys sign every parser of the program"
        path = f"parsers/{self._said.name}/{self._said.version}"
        signed = {*self._signers.keyids, *self._signers.revoked}
        self._roles = tuple(
            role for role in self._policy.in_scope(path) if signed & set(role.keyids)
        )
        if not self._roles:
            raise refused(
                "trust.out_of_scope", f"nobody who signed may sign for `{path}`", path=path
            )
        return f"`{path}` is in the scope of {', '.join(role.name for role in self._roles)}"

    def _check_threshold(self) -> str:
        if self._policy is None or self._origin is Origin.FIRST_PARTY:
            holders = {} if self._policy is None else self._policy.holders
            self._counted = check_threshold(
                self._signers, list(self._keys), 1, holders, what="the statement"
            )
            return "one release key suffices"
        errors: list[CasparianError] = []
        for role in self._roles:
            try:
                self._counted = check_threshold(
                    self._signers,
                    role.keyids,
                    role.threshold,
                    self._policy.holders,
                    what=f"the statement (role {role.name})",
                )
            except CasparianError as error:
                errors.append(error)
                continue
            self._role = role.name
            return f"{role.threshold} needed by {role.name}"
        raise next((e for e in errors if e.code == "trust.revoked_key"), errors[0])

    def _check_runtime(self) -> str:
        least = [self._said.min_runtime]
        if self._policy is not None and self._policy.min_runtime is not None:
            least.append(self._policy.min_runtime)
        for text in least:
            if runtime_of(text, "the statement") > runtime_of(self._runtime, "this program"):
                raise refused(
                    "trust.runtime",
                    f"version {text} of this program is needed, this is {self._runtime}",
                )
        return f"needs {max(least)}, this is {self._runtime}"

    def _check_time(self) -> str:
        issued_ns = documents.time_ns(self._said.issued, "the statement")
        if issued_ns > self._now_ns + documents.DAY_NS:
            raise refused(
                "trust.clock",
                f"the statement was signed on {self._said.issued}, and here it is "
                f"{documents.time_text(self._now_ns)}: this machine's clock is behind",
            )
        ends: list[tuple[str, int]] = []
        if self._said.expires is not None:
            ends.append(("statement", documents.time_ns(self._said.expires, "the statement")))
        mode = ExpiryMode.INSTALL_ONLY
        if self._policy is not None:
            assert self._state.root is not None
            ends.append(("policy", self._policy.expires_ns))
            ends.append(("root", self._state.root.expires_ns))
            mode = self._policy.expiry_mode
        for what, ends_ns in ends:
            if ends_ns > self._now_ns:
                continue
            message = f"the {what} expired on {documents.time_text(ends_ns)}"
            if self._fresh or mode is ExpiryMode.HARD:
                raise refused("trust.expired", message)
            self._warnings.append("trust.expired")
            return f"{message}; what is deployed goes on"
        return f"signed on {self._said.issued}"

    def _check_serial(self) -> str:
        name, serial = self._said.name, self._said.serial
        least = 0 if self._policy is None else self._policy.min_serial.get(name, 0)
        if serial < least:
            raise refused(
                "trust.rollback", f"serial {serial} of {name} is below the policy's least, {least}"
            )
        floor = self._state.floors.serials.get(name)
        if floor is None or not self._fresh:
            return f"serial {serial}"
        if serial < floor.serial:
            raise refused(
                "trust.rollback",
                f"serial {serial} of {name} is older than serial {floor.serial} deployed here",
            )
        if serial == floor.serial and self._said.artifact_hash != floor.artifact_hash:
            raise refused("trust.fork", f"there is another parser {name} with serial {serial}")
        return f"serial {serial}, newest deployed {floor.serial}"

    def _check_files(self) -> str:
        listed = {name: self._digests[name] for name in self._digests}
        check_files(self._files, listed)
        return f"exactly the {len(listed)} listed files, with the listed hashes"

    def _check_hashes(self) -> str:
        # The files were compared with the digests above; what is left is that both name one artifact.
        self._artifact_hash = identity.artifact_hash(
            (name.encode(), digest.blake3) for name, digest in self._digests.items()
        )
        if self._artifact_hash != self._said.artifact_hash:
            raise refused("trust.manifest", "the statement's artifact is not made of its files")
        return f"artifact {self._artifact_hash[:12]}"

    def _check_manifest(self) -> str:
        self._read_manifest()
        said, found = self._said, self._manifest
        for field, signed, own in (
            ("name", said.name, found.name),
            ("version", said.version, found.version),
            ("entry", said.entry, found.entry),
            ("environment", said.environment or "", environment_of(found, self._files) or ""),
        ):
            if signed != own:
                raise refused(
                    "trust.manifest",
                    f"the statement's {field} is {signed[:80]!a}, the parser's {own[:80]!a}",
                )
        return f"{found.name}@{found.version}, entry {found.entry}"

    def _check_revocation(self) -> str:
        policy = self._state.policy
        if policy is not None and self._artifact_hash in policy.revoked_artifacts:
            raise refused(
                "trust.revoked_artifact",
                f"the policy's version {policy.version} revokes this parser",
                artifact_hash=self._artifact_hash,
            )
        return "not revoked"

    def _allow_unsigned(self) -> str:
        allowed = self._state.allow_unsigned
        if self._origin is Origin.FIRST_PARTY or allowed is None:
            raise refused("trust.unsigned", "no statement comes with the parser: nobody signed it")
        if self._state.policy is None:
            # Without the policy nobody knows what it revokes.
            raise refused("trust.no_policy", "unsigned parsers are allowed, and no policy is here")
        return f"none; unsigned parsers are allowed by the approval {allowed.approval_id}"

    def _read_manifest(self) -> str:
        if MANIFEST_FILE not in self._files:
            raise refused("trust.missing_file", f"`{MANIFEST_FILE}` is missing")
        self._manifest = load_manifest(self._files[MANIFEST_FILE])
        if self._raw is None:
            self._artifact_hash = hash_artifact(self._files)
        return f"{self._manifest.name}@{self._manifest.version}"

    def _check_unsigned_kind(self) -> str:
        if self._manifest.kind is not ParserKind.PYTHON:
            raise refused(
                "trust.unsigned", "only Python parsers may be unsigned, and this one is not"
            )
        return "a Python parser"
