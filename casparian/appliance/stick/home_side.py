"""What an update needs of a home: asked of whoever may speak to its sentinel."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from casparian.paths import Home


class HomeCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a home's control database, and how far its record reached.

    Changes of the program count for nothing there: whatever serves the copy takes them up again.
    """

    file: str
    schema: int
    tape_seq: int
    tape_hash: str


class ParserOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one parser package of a stick."""

    package: str
    outcome: str  # deployed, present, refused
    message: str
    code: str | None = None
    hint: str | None = None


class HomeSide(Protocol):
    """One home while the program under it is replaced."""

    @property
    def home(self) -> Home:
        """Which one."""

    def import_trust(self, documents: tuple[bytes, ...]) -> str:
        """Put newer roots and a policy into force; what happened."""

    def rest(self) -> bool:
        """Let jobs finish and stop the sentinel; whether one ran that is to run again."""

    def copy(self) -> HomeCopy | None:
        """Copy the control database into the home's backups; `None` where there is none."""

    def state(self) -> HomeCopy | None:
        """What a copy would say, without leaving one; `None` where there is no database."""

    def copies(self) -> list[HomeCopy]:
        """The copies that are there, newest first."""

    def restore(self, file: str) -> str:
        """Put a copy in the database's place; where the newer database is now."""

    def wake(self, program: str) -> None:
        """Start the sentinel again, by the program that is current now."""

    def deploy(self, program: str, folder: str) -> list[ParserOutcome]:
        """Deploy every package in a folder, by a program; each outcome."""


def outcome_of(document: Any) -> ParserOutcome:
    """An outcome as another process told it."""
    return msgspec.convert(document, ParserOutcome, strict=True)
