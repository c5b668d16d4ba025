"""What a table promises: columns, types, constraints, and what happens to a value that breaks them.

Type names are the vocabulary that may cross the bridge: `bool`, `int8` … `uint64`, `float32`, `float64`, `utf8`, `binary`,
`date32`, `time64[us]`, `timestamp[s|ms|us|ns]` and the same with `, UTC`, `decimal128(p, s)`, `list<T>`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Action(StrEnum):
    """What a violated constraint does."""

    QUARANTINE = "quarantine"  # the row is set aside with its bytes
    FAIL = "fail"  # the source fails as a whole
    FAIL_JOB = "fail_job"  # the job fails: no source of it is committed


class Column(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One column of an output.

    `minimum` and `maximum` bound numbers inclusively; `pattern` is a regular expression (RE2 syntax) the whole text must
    match; `allowed` lists the only texts permitted. Of a `unique` column no value may come a second time in one source.
    """

    name: str
    type: str
    nullable: bool = True
    minimum: int | float | None = None
    maximum: int | float | None = None
    pattern: str | None = None
    allowed: tuple[str, ...] | None = None
    unique: bool = False
    action: Action = Action.QUARANTINE
    doc: str = ""


class OutputContract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a parser. The rows of its `main` tables are the ledger's units: one table, unless the unit is a cell."""

    table: str
    columns: tuple[Column, ...]
    main: bool = False
    doc: str = ""


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All outputs of one parser version."""

    outputs: tuple[OutputContract, ...]

    @property
    def main(self) -> OutputContract:
        """The first output whose rows are the ledger's units: units that became no row are set aside in its name."""
        return self.mains[0]

    @property
    def mains(self) -> tuple[OutputContract, ...]:
        """Every output whose rows are the ledger's units."""
        return tuple(output for output in self.outputs if output.main)

    def output(self, table: str) -> OutputContract:
        """The contract of one table; `KeyError` when the parser has no such output."""
        for output in self.outputs:
            if output.table == table:
                return output
        raise KeyError(table)
