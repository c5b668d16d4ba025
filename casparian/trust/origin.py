"""Where a parser was found: trust asks more of some places than of others."""

from __future__ import annotations

from casparian.domain.trust import TrustOrigin as Origin

__all__ = ["Origin"]
