"""The root of trust: who may name the policy, and who may change that (TUF root metadata).

Rules:
  * Each version is signed by its own threshold of people and by that of the version before it.
  * What people compare is the fingerprint of the *signed part*: it is the same however many of the holders have signed.
  * The roles `snapshot` and `timestamp`, which TUF wants to exist, have no keys: nobody can fill them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from casparian.trust import documents
from casparian.trust.keys import KeyRecord, PublicKey, SigningKey, public_key
from casparian.trust.refusals import refused
from casparian.trust.signatures import check_signatures, check_threshold, holders_of

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata

ROOT_KEYS_MAX: Final = 64


class RoleRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role in a document."""

    keyids: tuple[str, ...]
    threshold: int


class _Roles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    root: RoleRecord
    targets: RoleRecord
    snapshot: RoleRecord
    timestamp: RoleRecord


class _Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["root"] = msgspec.field(name="_type")
    consistent_snapshot: bool
    expires: str
    keys: dict[str, KeyRecord]
    roles: _Roles
    spec_version: str
    version: int
    holders: dict[str, str] = msgspec.field(name="x-holders")
    issued: str = msgspec.field(name="x-issued")
    organisation: str = msgspec.field(name="x-organisation")


class SignatureRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signature of a TUF document."""

    keyid: str
    sig: str


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    signatures: tuple[SignatureRecord, ...]
    signed: _Signed


class RootRole(msgspec.Struct, frozen=True, kw_only=True):
    """Who fills a role, and how many of them it takes."""

    keyids: tuple[str, ...]
    threshold: int


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A root whose shape was checked; `check_root` says whether its signatures hold."""

    organisation: str
    version: int
    issued_ns: int
    expires_ns: int
    keys: dict[str, PublicKey]
    holders: dict[str, str]  # a person by key id
    root: RootRole
    policy: RootRole
    fingerprint: str  # SHA-256 of the signed part
    payload: bytes  # the signed part
    signatures: dict[str, bytes]
    raw: bytes


def read_root(raw: bytes) -> Root:
    """Read a root document; its signatures are not looked at.

    Raises:
        Refused: `trust.malformed`, `trust.too_large`, `trust.scheme`, `trust.duplicate_key`.
    """
    what = "the root"
    document = documents.decode(raw, what)
    parsed = documents.shape(document, _Document, what)
    signed = parsed.signed
    payload = signed_part(raw, what)
    keys = read_keys(signed.keys, signed.holders, what)
    roles = {
        name: _role(getattr(signed.roles, name), keys, signed.holders, f"{what}'s role `{name}`")
        for name in ("root", "targets")
    }
    if any(getattr(signed.roles, name).keyids for name in ("snapshot", "timestamp")):
        raise documents.malformed(what, "the roles `snapshot` and `timestamp` have keys")
    listed = {keyid for role in roles.values() for keyid in role.keyids}
    if listed != keys.keys():
        raise documents.malformed(what, "a key is listed that no role uses")
    if signed.version < 1 or not documents.LABEL.match(signed.organisation):
        raise documents.malformed(what, "its version or its organisation's name is not allowed")
    return Root(
        organisation=signed.organisation,
        version=signed.version,
        issued_ns=documents.time_ns(signed.issued, what),
        expires_ns=documents.time_ns(signed.expires, what),
        keys=keys,
        holders=signed.holders,
        root=roles["root"],
        policy=roles["targets"],
        fingerprint=hashlib.sha256(payload).hexdigest(),
        payload=payload,
        signatures=read_signatures(parsed.signatures, what),
        raw=raw,
    )


def check_root(root: Root, before: Root | None) -> None:
    """Return when a root is signed by its own threshold, and by that of the version before it.

    Raises:
        Refused: `trust.root_version`, `trust.rollback`, `trust.fork`, `trust.tampered`,
            `trust.unknown_signer`, `trust.threshold`.
    """
    what = f"the root's version {root.version}"
    if before is not None:
        if root.version < before.version:
            raise refused(
                "trust.rollback", f"{what} is older than version {before.version} in force"
            )
        if root.version == before.version and root.fingerprint != before.fingerprint:
            raise refused("trust.fork", f"there is another version {root.version} of the root")
        if root.version > before.version + 1:
            raise refused(
                "trust.root_version",
                f"{what} came, and version {before.version + 1} must come first",
            )
    for signer in (before, root):
        if signer is not None:
            signers = check_signatures(root.payload, root.signatures, signer.keys, what=what)
            check_threshold(
                signers, signer.root.keyids, signer.root.threshold, signer.holders, what=what
            )


def missing_root_signatures(root: Root, before: Root | None) -> int:
    """How many more people must sign (of the version before it, or its own)."""
    missing = 0
    for signer in (before, root):
        if signer is not None:
            good = [k for k in root.signatures if k in signer.root.keyids]
            missing = max(missing, signer.root.threshold - len(holders_of(good, signer.holders)))
    return missing


def make_root(
    *,
    organisation: str,
    root: Sequence[tuple[PublicKey, str]],
    root_threshold: int,
    policy: Sequence[tuple[PublicKey, str]],
    policy_threshold: int,
    issued_ns: int,
    expires_ns: int,
    version: int = 1,
) -> bytes:
    """A root that nobody has signed yet.

    Args:
        organisation: its name, for people.
        root: keys that may change the root, each with its holder.
        root_threshold: how many different holders it takes.
        policy: keys that may sign the policy, each with its holder.
        policy_threshold: how many different holders that takes.
        issued_ns: now.
        expires_ns: from when on it no longer counts.
        version: one above that of the root it follows.

    Raises:
        Refused: `trust.malformed` and others of `read_root`.
    """
    from tuf.api.metadata import Metadata, Role
    from tuf.api.metadata import Root as TufRoot

    holders: dict[str, str] = {}
    for key, holder in (*root, *policy):
        if holders.setdefault(key.keyid, holder) != holder:
            raise refused("trust.duplicate_key", f"the key {key.keyid[:12]} has two holders")
    none = Role([], 1)
    signed = TufRoot(
        version=version,
        expires=documents.moment(expires_ns),
        keys={key.keyid: key.sslib() for key, _ in (*root, *policy)},
        roles={
            "root": Role(list(dict.fromkeys(key.keyid for key, _ in root)), root_threshold),
            "targets": Role(list(dict.fromkeys(key.keyid for key, _ in policy)), policy_threshold),
            "snapshot": none,
            "timestamp": none,
        },
        consistent_snapshot=False,
        unrecognized_fields={
            "x-holders": holders,
            "x-issued": documents.time_text(issued_ns),
            "x-organisation": organisation,
        },
    )
    raw = documents.encode(Metadata(signed).to_dict())
    read_root(raw)
    return raw


def add_signature(raw: bytes, key: SigningKey, what: str) -> bytes:
    """A TUF document with one more signature; the same key signs it once."""
    payload = signed_part(raw, what)
    document = documents.decode(raw, what)
    signatures = {entry["keyid"]: entry["sig"] for entry in document["signatures"]}
    signatures[key.public.keyid] = key.sign(payload).hex()
    document["signatures"] = [
        {"keyid": keyid, "sig": signatures[keyid]} for keyid in sorted(signatures)
    ]
    return documents.encode(document)


def signed_part(raw: bytes, what: str) -> bytes:
    """The bytes that are signed: TUF's canonical form of `signed`."""
    return _metadata(raw, what).signed_bytes


def read_keys(
    records: Mapping[str, KeyRecord], holders: Mapping[str, str], what: str
) -> dict[str, PublicKey]:
    """Keys of a document by their true id; every key has a holder, and every holder a key."""
    if len(records) > ROOT_KEYS_MAX:
        raise refused("trust.too_large", f"{what} lists more than {ROOT_KEYS_MAX} keys")
    keys = {keyid: public_key(record, keyid) for keyid, record in records.items()}
    if holders.keys() != keys.keys() or not all(map(documents.LABEL.match, holders.values())):
        raise documents.malformed(what, "not every key has one named holder")
    return keys


def read_signatures(records: Sequence[SignatureRecord], what: str) -> dict[str, bytes]:
    """Signatures by key id: each key once, in order, in lower-case hex."""
    try:
        found = {record.keyid: bytes.fromhex(record.sig) for record in records}
    except ValueError:
        raise documents.malformed(what, "a signature is not hexadecimal") from None
    if [record.keyid for record in records] != sorted(found):
        raise documents.malformed(what, "its signatures are not in order, each key once")
    if any(found[record.keyid].hex() != record.sig for record in records):
        raise documents.malformed(what, "a signature is not in lower-case hexadecimal")
    return found


def check_role(
    keyids: Sequence[str],
    threshold: int,
    keys: Mapping[str, PublicKey],
    holders: Mapping[str, str],
    what: str,
) -> None:
    """Refuse a role that cannot be filled, or whose keys are unknown or listed twice."""
    if len(set(keyids)) != len(keyids):
        raise refused("trust.duplicate_key", f"{what} lists a key twice")
    if not set(keyids) <= keys.keys():
        raise documents.malformed(what, "it lists a key that is not in the document")
    if not 1 <= threshold <= len(holders_of(keyids, holders)):
        raise documents.malformed(
            what, f"it needs {threshold} people and its keys belong to fewer, or to nobody"
        )


def _role(
    record: RoleRecord, keys: Mapping[str, PublicKey], holders: Mapping[str, str], what: str
) -> RootRole:
    check_role(record.keyids, record.threshold, keys, holders, what)
    return RootRole(keyids=record.keyids, threshold=record.threshold)


def _metadata(raw: bytes, what: str) -> Metadata[Any]:
    from tuf.api.metadata import Metadata

    try:
        return Metadata.from_dict(documents.decode(raw, what))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise documents.malformed(what, f"it is no TUF metadata ({error})") from error
