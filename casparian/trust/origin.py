"""Where a parser was found: trust asks more of some places than of others."""

from __future__ import annotations

from enum import StrEnum


class Origin(StrEnum):
    """Where a parser was found."""

    FIRST_PARTY = "first-party"  # came with the product, signed by the release key
    DEPLOYED = "deployed"  # HOME/artifacts, put there by the sentinel
    HOME = "home"  # HOME/parsers: being developed
    PATH = "path"  # named by its folder
