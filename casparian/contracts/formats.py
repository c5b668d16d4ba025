"""How the texts of a dataset's columns may be spelt: the native grammar decides, the same that reads the values."""

from __future__ import annotations

from casparian import _native
from casparian.domain.datasets import DatasetColumn


def element_type(kind: str) -> str:
    """The type of a list's elements, or the type itself."""
    while kind.startswith("list<") and kind.endswith(">"):
        kind = kind[5:-1]
    return kind


def format_problem(column: DatasetColumn) -> str | None:
    """Why no value could be read as the column says, or `None`."""
    try:
        _native.check_format(column.type, column.format, zone=column.zone, meaning=column.meaning)
    except ValueError as error:
        return str(error)
    return None


def reads(column: DatasetColumn, text: str) -> bool:
    """Whether the column can have this text as a value, spellings of null aside."""
    value = _native.read_value(
        text.encode(), column.type, column.format, zone=column.zone, meaning=column.meaning
    )
    return value is not None
