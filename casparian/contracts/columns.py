"""What a column may be: names, types, and constraints that its type can carry.

Rules:
  * Two columns whose names differ only by case or Unicode form are one column to a database:
    refused.
  * `_cf_` and `@` belong to the host.
  * A constraint must be able to hold: bounds fit the type, a pattern compiles, both only where the
    type has a meaning for them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from casparian.contracts.document import Table, closest
from casparian.display import show
from casparian.domain.contracts import Action, Column
from casparian.domain.lineage import is_reserved_column
from casparian.errors import ContractError
from casparian.protocol.arrow import arrow_type

NAME_CHARACTERS_MAX: Final = 128
PATTERN_CHARACTERS_MAX: Final = 1_000
_TYPE_NAMES: Final = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "utf8", "binary", "date32", "time64[us]", "decimal128(18, 2)"),
    *(f"timestamp[{unit}]" for unit in ("s", "ms", "us", "ns")),
    *(f"timestamp[{unit}, UTC]" for unit in ("s", "ms", "us", "ns")),
    *("list<utf8>", "list<uint8>", "list<int64>"),
)


def folded(name: str) -> str:
    """The form in which two column names must differ."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def check_names(table: Table, names: Iterable[str]) -> None:
    """Refuse reserved, unprintable and clashing column names.

    Raises:
        ContractError: `contract.reserved` or `contract.value`, naming the column.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (
            not name
            or name != name.strip()
            or len(name) > NAME_CHARACTERS_MAX
            or show(name) != name
        ):
            raise table.error(
                "columns",
                f"has the column name {show(repr(name), width=60)},"
                f" expected 1 to {NAME_CHARACTERS_MAX} visible characters",
            )
        if is_reserved_column(name) or unicodedata.normalize("NFKC", name).startswith("@"):
            raise table.error(
                "columns",
                f"has the column `{show(name)}`; a name with `_cf_` or `@` in front is the host's",
                "choose another name",
                code="reserved",
            )
        other = seen.get(folded(name))
        if other is not None:
            raise table.error(
                "columns",
                f"has `{show(other)}` and `{show(name)}`, which a database cannot tell apart",
                "rename one of them",
            )
        seen[folded(name)] = name


def read_column(table: Table) -> Column:
    """A column from its table in `contract.toml`."""
    name = table.text("name")
    type_name = table.text("type")
    kind = column_type(table, type_name)
    column = Column(
        name=name,
        type=type_name,
        nullable=table.boolean("nullable", default=True),
        minimum=table.number("minimum"),
        maximum=table.number("maximum"),
        pattern=table.optional_text("pattern"),
        allowed=table.texts("allowed"),
        unique=table.boolean("unique", default=False),
        action=Action(
            table.choice("action", [action.value for action in Action], Action.QUARANTINE.value)
        ),
        doc=table.text("doc", ""),
    )
    table.finish()
    check_constraints(table, column, kind)
    return column


def column_type(table: Table, name: str) -> pa.DataType:
    """The Arrow type of a type name, or an error that offers the closest name."""
    try:
        return arrow_type(name)
    except ContractError:
        raise table.error(
            "type",
            f"is `{show(name, width=60)}`, which is not a column type",
            closest(name, _TYPE_NAMES) or "types are listed in `docs/reference/contract.md`",
            code="type",
        ) from None


def check_constraints(table: Table, column: Column, kind: pa.DataType) -> None:
    """Refuse a constraint that the column's type cannot carry or that nothing can satisfy."""
    for key in ("minimum", "maximum"):
        bound = getattr(column, key)
        if bound is None:
            continue
        if bound_scalar(bound, kind) is None:
            raise table.error(
                key, f"is `{bound}`, which a column of type `{column.type}` cannot be compared with"
            )
    if (
        column.minimum is not None
        and column.maximum is not None
        and column.minimum > column.maximum
    ):
        raise table.error("minimum", f"is `{column.minimum}`, above the maximum `{column.maximum}`")
    if column.pattern is not None:
        if not pa.types.is_string(kind):
            raise table.error("pattern", f"needs a `utf8` column, this one is `{column.type}`")
        problem = pattern_problem(column.pattern)
        if problem is not None:
            raise table.error("pattern", f"is not a regular expression (RE2 syntax): {problem}")
    if column.allowed is not None:
        if not pa.types.is_string(kind):
            raise table.error("allowed", f"needs a `utf8` column, this one is `{column.type}`")
        if not column.allowed:
            raise table.error("allowed", "is empty: no row could satisfy it")
    if column.unique and (pa.types.is_floating(kind) or pa.types.is_list(kind)):
        raise table.error(
            "unique", f"needs a column whose values are equal or not, this one is `{column.type}`"
        )


@lru_cache(maxsize=1024, typed=True)
def bound_scalar(bound: float, kind: pa.DataType) -> pa.Scalar | None:
    """A bound as a scalar that compares exactly with the type; `None` when it has no meaning.

    A bound of a float32 column is a float64: rounding the bound would move it.
    """
    try:
        if pa.types.is_integer(kind):
            return pa.scalar(bound, kind) if isinstance(bound, int) else None
        if pa.types.is_floating(kind):
            return pa.scalar(float(bound), pa.float64())
        if pa.types.is_decimal(kind):
            return pa.scalar(Decimal(str(bound)))
    except (OverflowError, pa.ArrowInvalid):
        return None
    return None


def whole_text(pattern: str) -> str:
    """The pattern that matches only if the given one matches the whole text."""
    return rf"\A(?:{pattern})\z"


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern cannot be used, or `None`. It must stand alone and inside `whole_text`."""
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        return f"longer than {PATTERN_CHARACTERS_MAX} characters"
    probe = pa.array(["x"], pa.utf8())  # on an empty array nothing is compiled
    for form in (pattern, whole_text(pattern)):
        try:
            pc.match_substring_regex(probe, form)
        except pa.ArrowInvalid as error:
            return re.sub(r"^Invalid regular expression: ", "", show(str(error), width=200))
    return None
