"""What was found about a parser when it was about to run: who signed it, and under which policy. Kept with each job.

There are two records and no third: `valid` and `unsigned`. A parser whose signature is bad never runs, so no receipt carries it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class TrustVerdict(StrEnum):
    """What a parser that may run is."""

    VALID = "valid"  # its signatures meet the policy, or it came with the product
    UNSIGNED = "unsigned"  # nobody signed it, and an approval lets such parsers run


class TrustOrigin(StrEnum):
    """Where a parser comes from."""

    FIRST_PARTY = "first-party"  # came with the product, signed by the release key
    DEPLOYED = "deployed"  # HOME/artifacts, put there by the sentinel
    HOME = "home"  # HOME/parsers, being developed
    PATH = "path"  # named by its folder


UNSIGNED_SUFFIX = " (unsigned)"  # of `_cf_parser`


class TrustRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict on one parser artifact at one moment.

    Args:
        verdict: signed, or unsigned and allowed.
        origin: where it was found.
        signers: the people (holders) behind the keys that counted, sorted.
        keyids: the keys that counted, sorted.
        serial: of the statement.
        policy_version: that decided; `None` when there is no policy and the program's own release key did.
        development: signed by the development key, which everybody has.
        approval: that lets unsigned parsers run.
        notes: what a reader should know: an expired signature that policy lets go on, …
    """

    verdict: TrustVerdict
    origin: TrustOrigin
    signers: tuple[str, ...] = ()
    keyids: tuple[str, ...] = ()
    serial: int | None = None
    policy_version: int | None = None
    development: bool = False
    approval: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_unsigned(self) -> bool:
        """Whether nobody signed it."""
        return self.verdict is TrustVerdict.UNSIGNED

    def label(self, name: str, version: str) -> str:
        """`name@version` as rows carry it; an unsigned parser's says so."""
        return f"{name}@{version}{UNSIGNED_SUFFIX if self.is_unsigned else ''}"

    def sentence(self) -> str:
        """One line for a person."""
        if self.is_unsigned:
            by = f" (approval {self.approval})" if self.approval else ""
            return f"UNSIGNED, allowed{by}; {self.origin.value}"
        who = ", ".join(self.signers) or "the release key"
        keys = ", ".join(keyid[:12] for keyid in self.keyids)
        said = f"signed by {who}" + (f" ({keys})" if keys else "")
        if self.development:
            said += ", which is the development key that everybody has"
        if self.policy_version is not None:
            said += f", policy {self.policy_version}"
        return "; ".join((f"{said}; {self.origin.value}", *self.notes))
