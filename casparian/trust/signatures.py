"""Count signatures by people, not by keys, and say exactly why they do not suffice.

Rule: a signature that is listed under a known key and does not fit is always `trust.tampered`, also where others would
suffice: whoever made such a document changed it after it was signed. Signatures of keys that nobody here knows are
passed over: the same parser may be signed for several organisations.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping

import msgspec

from casparian.trust.keys import PublicKey
from casparian.trust.refusals import refused


class Signers(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signatures hold, over one payload."""

    keyids: tuple[str, ...]  # known keys whose signature holds, sorted
    revoked: tuple[str, ...]  # those of them that the policy revokes


def check_signatures(
    payload: bytes,
    signatures: Mapping[str, bytes],
    keys: Mapping[str, PublicKey],
    *,
    what: str,
    revoked: Collection[str] = (),
) -> Signers:
    """The known keys that signed a payload.

    Args:
        payload: exactly the signed bytes.
        signatures: signature by key id, as the document lists them.
        keys: the keys that are known here, by id.
        what: how to call the document in an error.
        revoked: ids of keys that count no more.

    Raises:
        Refused: `trust.tampered`, `trust.unknown_signer`.
    """
    known = sorted(keyid for keyid in signatures if keyid in keys)
    for keyid in known:
        if not keys[keyid].verifies(signatures[keyid], payload):
            raise refused(
                "trust.tampered",
                f"{what} was altered: the signature of the key {keyid[:12]} does not fit",
                keyid=keyid,
            )
    if not known:
        listed = ", ".join(sorted(keyid[:12] for keyid in signatures)) or "nobody"
        raise refused(
            "trust.unknown_signer", f"{what} is signed by keys that are not known here: {listed}"
        )
    return Signers(
        keyids=tuple(keyid for keyid in known if keyid not in revoked),
        revoked=tuple(keyid for keyid in known if keyid in revoked),
    )


def holders_of(keyids: Iterable[str], holders: Mapping[str, str]) -> set[str]:
    """The people behind keys, whatever the spelling of their name; a key without one is a person of its own."""
    return {_folded(holders[keyid]) if keyid in holders else f"key:{keyid}" for keyid in keyids}


def check_threshold(
    signers: Signers,
    role: Collection[str],
    threshold: int,
    holders: Mapping[str, str],
    *,
    what: str,
) -> tuple[str, ...]:
    """The keys of a role that signed, when they are those of enough people.

    Raises:
        Refused: `trust.revoked_key`, `trust.threshold`.
    """
    mine = tuple(keyid for keyid in signers.keyids if keyid in role)
    people = holders_of(mine, holders)
    if len(people) >= threshold:
        return mine
    lost = [keyid for keyid in signers.revoked if keyid in role]
    if len(holders_of((*mine, *lost), holders)) >= threshold:
        raise refused(
            "trust.revoked_key",
            f"{what} needs the signature of the revoked key {lost[0][:12]}",
            keyid=lost[0],
        )
    raise refused(
        "trust.threshold", f"{what} is signed by {len(people)} of the {threshold} people it needs"
    )


def _folded(holder: str) -> str:
    return unicodedata.normalize("NFKC", holder).casefold()
