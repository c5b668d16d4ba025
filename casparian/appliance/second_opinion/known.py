"""The other readers: independent programs that read the same kinds of evidence, and what they give."""

from __future__ import annotations

import importlib.util
from importlib import metadata

import msgspec

from casparian.domain.contracts import Column, OutputContract
from casparian.errors import UsageError

EXTRA = "second-opinion"
PROBLEMS = OutputContract(
    table="problems", main=False, columns=(Column(name="message", type="utf8", nullable=False),)
)
_EVENTS = OutputContract(
    table="events",
    main=True,
    columns=(
        Column(name="record_id", type="uint64", nullable=False),
        Column(name="written", type="uint64"),  # 100 ns since 1601
        Column(name="event_id", type="uint32"),
        Column(name="recovered", type="bool", nullable=False),
    ),
)
_KEYS = OutputContract(
    table="keys",
    main=True,
    columns=(
        Column(name="path", type="utf8", nullable=False),
        Column(name="written", type="uint64"),
    ),
)
_VALUES = OutputContract(
    table="values",
    main=False,
    columns=(
        Column(name="path", type="utf8", nullable=False),
        Column(name="name", type="utf8"),
        Column(name="type", type="uint32"),
        Column(name="size", type="uint64"),
    ),
)


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """One other reader. `table` is the main output of ours whose sources it can read; `code` its module in `readers`."""

    name: str
    module: str
    distribution: str
    licence: str
    table: str
    code: str
    outputs: tuple[OutputContract, ...]
    note: str = ""

    @property
    def installed(self) -> bool:
        """Whether the module is there; it is loaded in the confined process only."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def label(self) -> str:
        """Name and version, as a report quotes it."""
        return f"{self.name} {metadata.version(self.distribution)}"


READERS = (
    Reader(
        name="evtx",
        module="evtx",
        distribution="evtx",
        licence="MIT or Apache-2.0",
        table="evtx_events",
        code="evtx_rust",
        outputs=(_EVENTS, PROBLEMS),
    ),
    Reader(
        name="libevtx",
        module="pyevtx",
        distribution="libevtx-python",
        licence="LGPL-3.0-or-later",
        table="evtx_events",
        code="evtx_libevtx",
        outputs=(_EVENTS, PROBLEMS),
    ),
    Reader(
        name="libregf",
        module="pyregf",
        distribution="libregf-python",
        licence="LGPL-3.0-or-later",
        table="registry_keys",
        code="hive_libregf",
        outputs=(_KEYS, _VALUES, PROBLEMS),
        note="it reads no transaction logs: what they change is counted apart",
    ),
)


def chosen(names: tuple[str, ...]) -> tuple[Reader, ...]:
    """The readers of these names, all of them when none is named.

    Raises:
        UsageError: `reader.unknown`; `reader.missing`: one that was named is not installed.
    """
    known = {reader.name: reader for reader in READERS}
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no reader `{name}`",
                code="reader.unknown",
                hint=f"readers: {', '.join(known)}",
            )
        if not known[name].installed:
            raise UsageError(
                f"the reader `{name}` is not installed",
                code="reader.missing",
                hint=how_to_install(),
            )
    return tuple(known[name] for name in names) or READERS


def how_to_install() -> str:
    """What brings the readers."""
    return f"`pip install 'casparian[{EXTRA}]'`, or the packages in `requirements/{EXTRA}.txt`"
