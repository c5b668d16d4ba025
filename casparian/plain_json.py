"""JSON that has one meaning: what readers of other programs could understand otherwise is refused."""

from __future__ import annotations

import json
from typing import Any, Final

INTEGER_MAX: Final = 2**63 - 1  # what every reader can hold
_DIGITS_MAX: Final = 19


def read(text: str) -> Any:
    """A document in which no key stands twice and every number is a whole one that 64 bits hold.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deep.
    """
    return json.loads(
        text,
        object_pairs_hook=_object,
        parse_float=_no_number,
        parse_constant=_no_number,
        parse_int=_integer,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text[:20]} is no whole number")


def _integer(text: str) -> int:
    number = int(text) if len(text.lstrip("-")) <= _DIGITS_MAX else INTEGER_MAX + 1
    if abs(number) > INTEGER_MAX:
        raise ValueError(f"{text[:20]} is too large")
    return number
