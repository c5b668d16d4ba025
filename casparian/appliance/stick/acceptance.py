"""Whose signature counts for a stick, in one home.

Rules, in the order they are applied:
  * Roots and a policy on the stick that are newer than the home's are looked at first: they carry their own signatures, and
    a policy that revokes the very stick's key is honoured.
  * A revoked key never counts, whatever else speaks for it.
  * A fingerprint that a person typed from the card must be the key's.
  * Where a policy is in force its release keys count, and no others; one that is past its date lets nothing new in.
  * Without a policy the key counts that this program was built with. Nothing is trusted because it came first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from casparian.appliance.stick import sshsig
from casparian.appliance.stick.refusals import refused
from casparian.errors import Refused
from casparian.paths import Home

if TYPE_CHECKING:
    from casparian.trust.keys import PublicKey
    from casparian.trust.state import TrustState


class TrustNews(msgspec.Struct, frozen=True, kw_only=True):
    """What a stick's roots and policy change in a home."""

    state: TrustState  # with them
    documents: tuple[bytes, ...] = ()  # the newer ones, to import in this order
    message: str = ""


def load(home: Home) -> TrustState:
    """What is trusted in a home now.

    Raises:
        Refused: `trust.…`: it is damaged, or was taken back.
    """
    from casparian.trust import state as states

    return states.load(home.trust)


def news(before: TrustState, roots: Sequence[bytes], policy: bytes | None) -> TrustNews:
    """The state after the newer ones of a stick's documents.

    A home without a root takes none: whoever sets up trust compares the card first.

    Raises:
        Refused: `stick.trust`: a newer document does not hold.
    """
    from casparian.trust import state as states
    from casparian.trust.policy import read_policy
    from casparian.trust.root import read_root

    if not roots and policy is None:
        return TrustNews(state=before, message="none on the stick")
    if before.root is None:
        return TrustNews(
            state=before,
            message="not taken: this home has no root of trust; compare the card, then"
            " `casparian trust init --root STICK/trust/roots --fingerprint SHA256:…`",
        )
    state, taken, told = before, [], []
    try:
        now_ns = states.now(before)
        for raw in sorted(roots, key=lambda raw: read_root(raw).version):
            assert state.root is not None
            if read_root(raw).version > state.root.version:
                state = states.with_root(state, raw)
                taken.append(raw)
        if taken:
            told.append(f"root version {before.root.version} -> {state.root.version}")  # type: ignore[union-attr]  # it only grew
        if policy is not None:
            version = read_policy(policy).version
            if version >= state.floors.policy_version:  # of the same version it must be the same
                after = states.with_policy(state, policy, now_ns)
                if version > state.floors.policy_version or state.policy is None:
                    taken.append(policy)
                    told.append(f"policy version {before.policy_version or 'none'} -> {version}")
                    state = after
    except Refused as error:
        raise refused(
            "stick.trust",
            f"the stick's roots or policy do not hold: {error.message}",
            hint=f"{error.code}: {error.hint}; `--without-trust` leaves them and takes the program alone",
        ) from error
    return TrustNews(
        state=state, documents=tuple(taken), message=", ".join(told) or "not newer than this home's"
    )


def check_key(key: PublicKey, state: TrustState, *, fingerprint: str | None = None) -> str:
    """Return why a key counts, or refuse it.

    Args:
        key: whose signature the stick carries; it holds.
        state: what is trusted, the stick's own newer documents included.
        fingerprint: what a person typed from the card.

    Raises:
        Refused: `stick.revoked_key`, `stick.fingerprint`, `stick.policy`, `stick.key`.
    """
    from casparian.trust import state as states
    from casparian.trust.documents import time_text
    from casparian.trust.verdict import release_key

    name, policy = sshsig.fingerprint(key), state.policy
    check_revoked(key, state)
    if policy is None and (state.policy_problem is not None or state.floors.policy_version):
        why = f": {state.policy_problem[1]}" if state.policy_problem else ""
        raise refused("stick.policy", f"this home's policy is not in force{why}")
    if fingerprint is not None:
        if fingerprint.strip() != name:
            raise refused("stick.fingerprint", f"the stick was signed with the key {name}")
        return f"{name}, as typed from the card"
    if policy is not None:
        if policy.expires_ns <= states.now(state):
            raise refused(
                "stick.policy", f"this home's policy expired on {time_text(policy.expires_ns)}"
            )
        if key.keyid not in policy.release_keyids:
            raise refused(
                "stick.key",
                f"the key {name} is no release key of the policy's version {policy.version}",
            )
        return f"{name}, a release key of the policy's version {policy.version}"
    own = release_key()
    if key != own.public:
        raise refused("stick.key", f"the key {name} is not the one this program was made with")
    return f"{name}, the key this program was made with" + (
        " (DEVELOPMENT: everybody has it)" if own.development else ""
    )


def check_revoked(key: PublicKey, state: TrustState) -> None:
    """Refuse a key that the policy revokes (`stick.revoked_key`)."""
    policy = state.policy
    if policy is not None and key.keyid in policy.revoked_keys:
        raise refused(
            "stick.revoked_key",
            f"the policy's version {policy.version} revokes the key {sshsig.fingerprint(key)}",
        )
