"""The policy: lead examiners with their keys, scopes and thresholds, and what is revoked (TUF targets metadata).

A small file that travels by USB. Its own fields begin with `x-`; all of it is signed by the root's policy role.

Paths that roles are scoped over: `parsers/<name>/<version>`, `contracts/<table>`, `settings/<setting>`,
`quarantine/<parser name>`. In a pattern `*` and `?` stand for characters of one part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from casparian.trust import documents
from casparian.trust.keys import KeyRecord, PublicKey
from casparian.trust.refusals import refused
from casparian.trust.root import (
    Root,
    SignatureRecord,
    check_role,
    read_keys,
    read_signatures,
    signed_part,
)
from casparian.trust.signatures import check_signatures, check_threshold, holders_of

AREAS: Final = {"parsers": 3, "contracts": 2, "settings": 2, "quarantine": 2}  # parts of a path
ROLES_MAX: Final = 256
_PATTERN: Final = re.compile(r"[a-z0-9*?][a-zA-Z0-9._*?-]*\Z")
_TOP_LEVEL: Final = frozenset({"root", "targets", "snapshot", "timestamp"})


class ExpiryMode(StrEnum):
    """What happens to a deployed parser when its statement or the policy is past its date."""

    INSTALL_ONLY = "install-only"  # it goes on, marked; nothing new is deployed
    HARD = "hard"  # it stops


class ExaminerRole(msgspec.Struct, frozen=True, kw_only=True):
    """A role of lead examiners: who, how many of them, and for which names."""

    name: str
    keyids: tuple[str, ...]
    threshold: int
    paths: tuple[str, ...]

    def covers(self, path: str) -> bool:
        """Whether a path is in this role's scope."""
        return any(matches(path, pattern) for pattern in self.paths)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy whose shape was checked; `check_policy` says whether its signatures hold."""

    version: int
    issued_ns: int
    expires_ns: int
    keys: dict[str, PublicKey]
    holders: dict[str, str]
    roles: tuple[ExaminerRole, ...]
    release_keyids: tuple[str, ...]
    revoked_keys: tuple[str, ...]
    revoked_artifacts: tuple[str, ...]
    min_serial: dict[str, int]
    min_runtime: str | None
    expiry_mode: ExpiryMode
    fingerprint: str
    payload: bytes
    signatures: dict[str, bytes]
    raw: bytes

    def examiner_keys(self) -> dict[str, PublicKey]:
        """Keys of all roles by id."""
        return {keyid: self.keys[keyid] for role in self.roles for keyid in role.keyids}

    def in_scope(self, path: str) -> tuple[ExaminerRole, ...]:
        """Roles whose scope a path is in."""
        return tuple(role for role in self.roles if role.covers(path))


class _Role(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyids: tuple[str, ...]
    name: str
    paths: tuple[str, ...]
    terminating: bool
    threshold: int


class _Delegations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keys: dict[str, KeyRecord]
    roles: tuple[_Role, ...]


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["targets"] = msgspec.field(name="_type")
    delegations: _Delegations
    expires: str
    spec_version: str
    targets: _Nothing
    version: int
    expiry_mode: ExpiryMode = msgspec.field(name="x-expiry-mode")
    holders: dict[str, str] = msgspec.field(name="x-holders")
    issued: str = msgspec.field(name="x-issued")
    min_runtime: str | None = msgspec.field(name="x-min-runtime")
    min_serial: dict[str, int] = msgspec.field(name="x-min-serial")
    release_keys: tuple[str, ...] = msgspec.field(name="x-release-keys")
    revoked_artifacts: tuple[str, ...] = msgspec.field(name="x-revoked-artifacts")
    revoked_keys: tuple[str, ...] = msgspec.field(name="x-revoked-keys")


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    signatures: tuple[SignatureRecord, ...]
    signed: _Signed


def read_policy(raw: bytes) -> Policy:
    """Read a policy document; its signatures are not looked at.

    Raises:
        Refused: `trust.malformed`, `trust.too_large`, `trust.scheme`, `trust.duplicate_key`.
    """
    what = "the policy"
    parsed = documents.shape(documents.decode(raw, what), _Document, what)
    signed = parsed.signed
    payload = signed_part(raw, what)
    keys = read_keys(signed.delegations.keys, signed.holders, what)
    roles = _roles(signed, keys, what)
    _check_lists(signed, keys, what)
    return Policy(
        version=signed.version,
        issued_ns=documents.time_ns(signed.issued, what),
        expires_ns=documents.time_ns(signed.expires, what),
        keys=keys,
        holders=signed.holders,
        roles=roles,
        release_keyids=signed.release_keys,
        revoked_keys=signed.revoked_keys,
        revoked_artifacts=signed.revoked_artifacts,
        min_serial=signed.min_serial,
        min_runtime=signed.min_runtime,
        expiry_mode=signed.expiry_mode,
        fingerprint=hashlib.sha256(payload).hexdigest(),
        payload=payload,
        signatures=read_signatures(parsed.signatures, what),
        raw=raw,
    )


def check_policy(policy: Policy, root: Root) -> None:
    """Return when a policy is signed by the root's policy role.

    Raises:
        Refused: `trust.tampered`, `trust.unknown_signer`, `trust.threshold`.
    """
    what = f"the policy's version {policy.version}"
    keys = {keyid: root.keys[keyid] for keyid in root.policy.keyids}
    signers = check_signatures(policy.payload, policy.signatures, keys, what=what)
    check_threshold(signers, root.policy.keyids, root.policy.threshold, root.holders, what=what)


def missing_policy_signatures(policy: Policy, root: Root) -> int:
    """How many more people of the root's policy role must sign."""
    good = [keyid for keyid in policy.signatures if keyid in root.policy.keyids]
    return max(0, root.policy.threshold - len(holders_of(good, root.holders)))


def make_policy(
    *,
    version: int,
    issued_ns: int,
    expires_ns: int,
    keys: Sequence[tuple[PublicKey, str]],
    roles: Sequence[ExaminerRole],
    release_keyids: Sequence[str] = (),
    revoked_keys: Sequence[str] = (),
    revoked_artifacts: Sequence[str] = (),
    min_serial: Mapping[str, int] | None = None,
    min_runtime: str | None = None,
    expiry_mode: ExpiryMode = ExpiryMode.INSTALL_ONLY,
) -> bytes:
    """A policy that nobody has signed yet.

    Args:
        version: one above that of the policy it follows.
        issued_ns: now.
        expires_ns: from when on nothing new is accepted under it.
        keys: every key that a role or `release_keyids` names, with its holder.
        roles: lead examiners.
        release_keyids: keys whose statements count for the parsers that come with the program.
        revoked_keys: ids of keys that count no more.
        revoked_artifacts: artifact hashes that run no more.
        min_serial: least serial by parser name.
        min_runtime: least version of this program for every parser.
        expiry_mode: what happens to deployed parsers past a date.

    Raises:
        Refused: as `read_policy`.
    """
    from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets

    signed = Targets(
        version=version,
        expires=documents.moment(expires_ns),
        delegations=Delegations(
            {key.keyid: key.sslib() for key, _ in keys},
            {
                role.name: DelegatedRole(
                    role.name, list(role.keyids), role.threshold, True, list(role.paths)
                )
                for role in roles
            },
        ),
        unrecognized_fields={
            "x-expiry-mode": expiry_mode.value,
            "x-holders": {key.keyid: holder for key, holder in keys},
            "x-issued": documents.time_text(issued_ns),
            "x-min-runtime": min_runtime,
            "x-min-serial": dict(min_serial or {}),
            "x-release-keys": sorted(release_keyids),
            "x-revoked-artifacts": sorted(set(revoked_artifacts)),
            "x-revoked-keys": sorted(set(revoked_keys)),
        },
    )
    raw = documents.encode(Metadata(signed).to_dict())
    read_policy(raw)
    return raw


def matches(path: str, pattern: str) -> bool:
    """Whether a path fits a pattern, part by part."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def check_pattern(pattern: str, what: str = "the scope") -> None:
    """Refuse a pattern over which no role can be scoped."""
    area, *rest = pattern.split("/")
    if AREAS.get(area) != 1 + len(rest) or not all(map(_PATTERN.match, rest)):
        raise documents.malformed(
            what, f"the pattern {pattern[:80]!a} is not like `parsers/evtx*/*` or `contracts/*`"
        )


def runtime_of(text: str, what: str) -> tuple[int, ...]:
    """A program version as numbers; what follows a `-` or `+` does not count."""
    digits = re.fullmatch(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})([-+].*)?", text, re.ASCII)
    if digits is None:
        raise documents.malformed(what, "a version of the program is not like `1.2.0`")
    return tuple(int(part) for part in digits.groups()[:3])


def _roles(signed: _Signed, keys: Mapping[str, PublicKey], what: str) -> tuple[ExaminerRole, ...]:
    roles = signed.delegations.roles
    if len(roles) > ROLES_MAX:
        raise refused("trust.too_large", f"{what} has more than {ROLES_MAX} roles")
    if len({role.name.casefold() for role in roles}) != len(roles):
        raise documents.malformed(what, "two roles have one name")
    for role in roles:
        label = f"{what}'s role {role.name[:80]!a}"
        if not documents.LABEL.match(role.name) or role.name.casefold() in _TOP_LEVEL:
            raise documents.malformed(what, f"{label} has a name that is not allowed")
        check_role(role.keyids, role.threshold, keys, signed.holders, label)
        if not role.paths or not role.terminating:
            raise documents.malformed(label, "it has no scope, or is not the last to decide")
        for pattern in role.paths:
            check_pattern(pattern, label)
    return tuple(
        ExaminerRole(name=role.name, keyids=role.keyids, threshold=role.threshold, paths=role.paths)
        for role in roles
    )


def _check_lists(signed: _Signed, keys: Mapping[str, PublicKey], what: str) -> None:
    used = {keyid for role in signed.delegations.roles for keyid in role.keyids}
    release = set(signed.release_keys)
    if used | release != keys.keys():
        raise documents.malformed(what, "a key is listed that nothing uses, or is missing")
    if used & release:
        # A release key signs what comes with the program; were it an examiner's too, a build machine could deploy.
        raise documents.malformed(what, "a release key has an examiner's role")
    if signed.version < 1:
        raise documents.malformed(what, "its version is not positive")
    for listed in (signed.release_keys, signed.revoked_keys, signed.revoked_artifacts):
        if list(listed) != sorted(set(listed)) or not all(map(documents.HEX64.match, listed)):
            raise documents.malformed(what, "a list of ids is not sorted, or holds something else")
    for name, serial in signed.min_serial.items():
        documents.check_name(name)
        if serial < 0:
            raise documents.malformed(what, "a least serial is negative")
    if signed.min_runtime is not None:
        runtime_of(signed.min_runtime, what)
