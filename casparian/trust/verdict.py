"""Decide whether a parser may run in a home, and say what that rests on.

Rules:
  * What came with the product is judged by the statement that was compiled in and by the release key (with a policy: by the
    release keys that it lists); any other parser by the statement in its folder and the policy of the home.
    `trust.verify` holds the checks and their order.
  * A parser without a statement runs only where an approval allows unsigned parsers, and only when it is Python.
    A bad signature is never treated as none.
  * The verdict is about bytes, not about a folder: whoever runs a parser passes the very files that it hands to the guest.

The host decides, before a job is made and again before the guest is given a byte; the guest has no say. Verdicts are kept for a
minute by artifact, statement and state of trust: expiry is noticed within it, a revocation at once.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from casparian import clock
from casparian.display import show
from casparian.domain.parsers import ParserArtifact
from casparian.domain.trust import TrustOrigin, TrustRecord, TrustVerdict
from casparian.errors import Refused
from casparian.paths import Home
from casparian.trust.artifact import hash_artifact, read_signed

if TYPE_CHECKING:
    from casparian.trust.state import TrustState
    from casparian.trust.verify import ReleaseKey

_KEPT_NS: Final = 60 * 1_000_000_000
_KEPT_MAX: Final = 1024

# What a proof of old rows may overlook: the parser was trusted when it made them, and its bytes are the recorded ones.
PROVABLE: Final = frozenset(
    {
        "trust.expired",
        "trust.no_policy",
        "trust.out_of_scope",
        "trust.revoked_artifact",
        "trust.revoked_key",
        "trust.rollback",
        "trust.threshold",
        "trust.unknown_signer",
        "trust.unsigned",
    }
)

_kept: dict[tuple[str, ...], tuple[int, TrustRecord | Refused]] = {}


def verify(artifact: ParserArtifact, home: Home) -> TrustRecord:
    """The record of a parser that may run.

    Raises:
        Refused: `trust.…`, what keeps it from running; `trust.artifact_changed`, it was edited since it was read.
        CasparianError: its folder cannot be read any more.
    """
    files, statement = read_signed(artifact.directory)
    if hash_artifact(files) != artifact.artifact_hash:
        raise Refused(
            f"the parser `{show(artifact.manifest.name)}` changed while it was read",
            code="trust.artifact_changed",
            hint="try again once nobody edits it",
        )
    return verify_files(
        home,
        name=artifact.manifest.name,
        directory=artifact.directory,
        files=files,
        statement=statement,
    )


def verify_files(
    home: Home,
    *,
    name: str,
    directory: str,
    files: Mapping[str, bytes],
    statement: bytes | None,
) -> TrustRecord:
    """The same for files that were read already; nothing but `files` may be handed to a guest afterwards.

    Raises:
        Refused: `trust.…`.
    """
    from casparian import _native

    compiled_in = _native.first_party_statements().get(name)
    artifact_hash = hash_artifact(files)
    if compiled_in is not None:
        if artifact_hash == _native.first_party_parsers().get(name) and not home.trust.exists():
            return _of_this_build(name)
        origin, statement = TrustOrigin.FIRST_PARTY, compiled_in.encode()
    else:
        origin = _origin(home, directory)
    key = (
        name,
        origin.value,
        artifact_hash,
        "" if statement is None else hashlib.sha256(statement).hexdigest(),
        _fingerprint(home.trust),
    )
    now = clock.monotonic_ns()
    found = _kept.get(key)
    if found is None or now - found[0] > _KEPT_NS:
        if len(_kept) >= _KEPT_MAX:
            _kept.clear()
        found = _kept[key] = (now, _judge(home, origin, files, statement))
    if isinstance(found[1], Refused):
        raise _again(found[1])
    return found[1]


@cache
def _of_this_build(name: str) -> TrustRecord:
    """The record of a parser that came with the program, in a home that trusts nothing else.

    The hash of its files, the statement about them and the key were compiled in together: no signature could say more than that
    they are the same. Verifying one would cost each process its libraries; `doctor` does it. A home with a policy always does.
    """
    from casparian import _native

    public, development = _native.release_key()
    record = {"keytype": "ed25519", "keyval": {"public": public}, "scheme": "ed25519"}
    canonical = msgspec.json.encode(record, order="sorted")
    envelope = msgspec.json.decode(_native.first_party_statements()[name])
    payload = msgspec.json.decode(base64.b64decode(envelope["payload"]))
    return TrustRecord(
        verdict=TrustVerdict.VALID,
        origin=TrustOrigin.FIRST_PARTY,
        signers=("release",),
        keyids=(hashlib.sha256(canonical).hexdigest(),),
        serial=payload["predicate"]["serial"],
        development=development,
    )


def verify_first_party(name: str, files: Mapping[str, bytes]) -> TrustRecord:
    """Verify the compiled-in statement of a parser that came with the program, in full, whatever the home trusts.

    Raises:
        Refused: `trust.…`.
    """
    from casparian import _native
    from casparian.trust.state import TrustState

    statement = _native.first_party_statements()[name].encode()
    found = _examined(TrustState(), TrustOrigin.FIRST_PARTY, files, statement)
    if isinstance(found, Refused):
        raise found
    return found


def verify_deployment(
    home: Home, name: str, files: Mapping[str, bytes], statement: bytes | None
) -> TrustRecord:
    """The record of a parser that may be deployed: stricter than running what was deployed.

    Raises:
        Refused: `trust.…`; also for an unsigned parser, whatever may run from a folder.
    """
    if statement is None:
        raise Refused(
            f"nobody has signed the parser `{show(name)}`",
            code="trust.unsigned",
            hint="`casparian parser sign DIR --key FILE`, then pack it again",
            parser=name,
        )
    found = _judge(home, TrustOrigin.DEPLOYED, files, statement, deploying=True)
    if isinstance(found, Refused):
        raise found
    return found


def _judge(
    home: Home,
    origin: TrustOrigin,
    files: Mapping[str, bytes],
    statement: bytes | None,
    *,
    deploying: bool = False,
) -> TrustRecord | Refused:
    from casparian.trust import state as trust_state

    try:
        state = trust_state.load(home.trust)
    except Refused as error:
        return error
    return _examined(state, origin, files, statement, deploying=deploying)


def _examined(
    state: TrustState,
    origin: TrustOrigin,
    files: Mapping[str, bytes],
    statement: bytes | None,
    *,
    deploying: bool = False,
) -> TrustRecord | Refused:
    from casparian.trust.origin import Origin
    from casparian.trust.verify import verify_parser

    try:
        verified = verify_parser(
            state,
            files,
            statement,
            release_key(),
            origin=Origin(origin.value),
            deploying=deploying,
        )
    except Refused as error:
        return error
    return TrustRecord(
        verdict=TrustVerdict(verified.verdict.value),
        origin=origin,
        signers=tuple(sorted(set(verified.signers))),
        keyids=tuple(sorted(verified.keyids)),
        serial=verified.serial,
        policy_version=verified.policy_version,
        development=verified.development,
        approval=verified.approval_id or "",
        notes=verified.warnings,
    )


@cache
def release_key() -> ReleaseKey:
    """The key that this program's own parsers were signed with when it was built."""
    from casparian import _native
    from casparian.trust.keys import KeyRecord, public_key
    from casparian.trust.verify import ReleaseKey

    public, development = _native.release_key()
    record = KeyRecord(keytype="ed25519", keyval=KeyRecord.Value(public=public), scheme="ed25519")
    return ReleaseKey(public=public_key(record), development=development)


def _origin(home: Home, directory: str) -> TrustOrigin:
    parent = os.path.dirname(os.path.abspath(directory))
    if parent == str(home.artifacts):
        return TrustOrigin.DEPLOYED
    return TrustOrigin.HOME if parent == str(home.parsers) else TrustOrigin.PATH


def _fingerprint(trust: Path) -> str:
    """Changes whenever a file of the trust state does; its files are few and small, and replaced by rename."""
    hasher = hashlib.sha256()
    for folder, _, names in sorted(os.walk(trust)):
        for name in sorted(names):
            path = os.path.join(folder, name)
            hasher.update(f"{path}\0".encode(errors="surrogateescape"))
            try:
                with open(path, "rb") as file:
                    hasher.update(hashlib.sha256(file.read()).digest())
            except OSError as error:
                hasher.update(str(error.errno).encode())
    return hasher.hexdigest()


def _again(error: Refused) -> Refused:
    """The same error without the frames of where it was first found."""
    fresh = Refused(error.message, hint=error.hint, code=error.code)
    fresh.fields = error.fields
    return fresh


__all__ = [
    "PROVABLE",
    "release_key",
    "verify",
    "verify_deployment",
    "verify_files",
    "verify_first_party",
]
