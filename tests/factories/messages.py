"""Any message of the protocols, made from its type: a new message is covered the day it is written."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from casparian.domain.numbers import INTEGER_MAX, INTEGER_MIN
from casparian.protocol import control, guest, worker

_SIZE_MAX = 3
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(INTEGER_MIN, INTEGER_MAX),
    _FLOATS,
    st.text(max_size=8),
    st.binary(max_size=8),
    st.lists(st.text(max_size=4), max_size=_SIZE_MAX),
)


def messages_of(module: ModuleType) -> list[type[msgspec.Struct]]:
    """Every struct that a protocol module defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
    ]


MESSAGES: list[type[msgspec.Struct]] = [
    message for module in (control, worker, guest) for message in messages_of(module)
]


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type that a message may hold."""
    return _of(inspect.type_info(kind))


def _of(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType():
            fields = {field.name: _of(field.type) for field in info.fields}
            return st.builds(info.cls, **fields)
        case inspect.UnionType():
            return st.one_of([_of(part) for part in info.types])
        case inspect.IntType():
            low = INTEGER_MIN if info.ge is None else info.ge
            return st.integers(low, INTEGER_MAX if info.le is None else info.le)
        case inspect.FloatType():
            return _FLOATS
        case inspect.StrType():
            return st.text(min_size=info.min_length or 0, max_size=12)
        case inspect.BytesType():
            return st.binary(max_size=12)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.AnyType():
            return _CELLS
        case inspect.EnumType():
            return st.sampled_from(info.cls)
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.VarTupleType():
            return st.lists(_of(info.item_type), max_size=_SIZE_MAX).map(tuple)
        case inspect.TupleType():
            return st.tuples(*[_of(item) for item in info.item_types])
        case inspect.DictType():
            keys, values = _of(info.key_type), _of(info.value_type)
            return st.dictionaries(keys, values, max_size=_SIZE_MAX)
        case _:
            raise NotImplementedError(f"no strategy for {info}: add one")
