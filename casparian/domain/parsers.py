"""What a parser says about itself: manifest, settings, limits; and the artifact that was found on disk."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from casparian.domain.contracts import Contract

ConfigValue = str | int | float | bool
Unit = Literal["record", "line", "cell"]  # what a ledger counts
AccountName = Literal[
    "evtx", "lines", "hive", "delimited"
]  # the independent walk that says what is present


class ParserKind(StrEnum):
    """How a parser is executed; always in a confined guest."""

    NATIVE = "native"  # an entry of the native module
    PYTHON = "python"  # a generator function in the parser's own files
    EXECUTABLE = (
        "executable"  # a static program among the parser's own files; only ever when signed
    )


class ConfigOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One setting a parser takes; its value is part of the materialization key."""

    type: Literal["string", "integer", "number", "boolean"]
    default: ConfigValue
    doc: str = ""
    choices: tuple[ConfigValue, ...] | None = None


_ROWS_FREE = 1 << 20  # of a source of any size: a small compressed file may hold many


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of one guest; crossing one ends the source with a reason code."""

    memory_mb: int = 1024
    cpu_seconds: int = 3600
    wall_seconds: int = (
        3600  # that the host waits for the guest, per source; a slow sink never counts
    )
    idle_seconds: int = 120  # nothing received from the guest for so long
    rows_max: int = 500_000_000  # per source
    rows_per_kb_max: int = 65_536  # of input, above the first million rows of a source
    output_mb_max: int = 262_144  # bytes over the bridge, per source
    log_kb_max: int = 80  # kept of what a guest prints; the middle is left out and counted
    log_mb_max: int = 64  # printed for one source; more ends it

    def rows_allowed(self, source_bytes: int) -> int:
        """Rows that one source of this size may give, all outputs and quarantine together."""
        by_size = _ROWS_FREE + self.rows_per_kb_max * (source_bytes // 1024 + 1)
        return min(self.rows_max, by_size)


COMPANIONS_MAX: Final = 7  # of one source: a guest gets all descriptors at once


def companion_role(suffix: str) -> str:
    """What a companion is called: its suffix without the dot or dash, in upper case."""
    return suffix[1:].upper()


class ParserManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`parser.toml`. `entry` is a native entry's name, `file.py:function`, or a program's path inside the artifact.

    `environment` is the path of the lock of its packages, of a Python parser that has any (`contracts.requirements`).
    """

    name: str
    version: str
    kind: ParserKind
    entry: str
    tags: tuple[str, ...]
    companions: tuple[str, ...] = ()  # suffixes to a source's name: `.LOG1` of a hive, `-wal`
    unit: Unit
    account: AccountName
    doc: str = ""
    config: dict[str, ConfigOption] = {}
    limits: Limits = Limits()
    preload: tuple[str, ...] = ()
    environment: str = ""


class ParserArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A parser folder as read: every byte of it is in `artifact_hash`."""

    manifest: ParserManifest
    contract: Contract
    directory: str
    artifact_hash: str
    files: tuple[str, ...]  # relative paths, sorted
    requirements: tuple[str, ...] = ()  # canonical lines of the environment's lock

    @property
    def label(self) -> str:
        """`name@version`, as `_cf_parser` shows it."""
        return f"{self.manifest.name}@{self.manifest.version}"
