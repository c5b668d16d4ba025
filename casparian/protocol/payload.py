"""Payloads: MessagePack of a known type, or a `ProtocolError`. The one place where bytes of a peer become values.

msgspec checks shapes, bounds its recursion and allocates nothing for a length that was only claimed. Two of its ways to fail are
easy to miss: text that is not UTF-8 is a plain `UnicodeDecodeError`, and numbers may be wider than what the control
database holds (a signed 64-bit integer) or no number at all (NaN).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from casparian.domain.numbers import INTEGER_MAX, INTEGER_MIN
from casparian.errors import ProtocolError

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Decoder(Protocol[T_co]):
    """What `msgspec.msgpack.Decoder` offers; it cannot name a union as its parameter."""

    def decode(self, payload: Any, /) -> T_co:
        """Read one value."""
        ...


def decode(decoder: Decoder[T], payload: Any, what: str) -> T:
    """Read one payload.

    Raises:
        ProtocolError: `protocol.payload`; nothing but this comes of any bytes.
    """
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise ProtocolError(f"malformed {what}: {error}", code="protocol.payload") from error


def check_numbers(message: Any, what: str) -> None:
    """Refuse integers beyond 64 bits with sign, and floats that are no numbers, anywhere in a small message.

    Raises:
        ProtocolError: `protocol.payload`.
    """
    pending: list[Any] = [message]
    while pending:
        value = pending.pop()
        match value:
            case bool() | str() | bytes() | None:
                continue
            case int():
                if not INTEGER_MIN <= value <= INTEGER_MAX:
                    raise _out_of_range(what, value)
            case float():
                if not math.isfinite(value):
                    raise _out_of_range(what, value)
            case msgspec.Struct():
                pending += [getattr(value, name) for name in value.__struct_fields__]
            case Mapping():
                pending += [*value.keys(), *value.values()]
            case Iterable():
                pending += value
            case _:
                continue


def _out_of_range(what: str, value: float) -> ProtocolError:
    return ProtocolError(
        f"malformed {what}: the number {value} is out of range", code="protocol.payload"
    )
