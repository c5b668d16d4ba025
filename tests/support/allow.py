"""The verdict that lets a test's own parsers run as if somebody had signed them."""

from __future__ import annotations

from casparian.domain.trust import TrustOrigin, TrustRecord, TrustVerdict


def anything(*_given: object, **_named: object) -> TrustRecord:
    """Every parser is trusted."""
    return TrustRecord(verdict=TrustVerdict.VALID, origin=TrustOrigin.HOME, signers=("a test",))
