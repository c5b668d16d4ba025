"""Outputs that most jobs have no rows for: the wide tables of event logs.

There are a hundred of them, so that a job does not carry their contracts: both ends of the bridge, and the sentinel, know them
by number from the list that is compiled into the native module (`parsers/windows.evtx/wide.tsv`), which is part of the parser's
artifact and so of every key. A table without rows is nowhere: no stage, no file, no materialization, no view.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from casparian import _native
from casparian.contracts.overrides import Override, effective
from casparian.domain.contracts import Column, Contract, OutputContract
from casparian.domain.parsers import ConfigValue, ParserArtifact, ParserKind, ParserManifest
from casparian.errors import UsageError

SETTING: Final = "wide"  # the parser's setting that says which tables are made
ENTRY: Final = "evtx"  # the native entry that makes them


@lru_cache(maxsize=1)
def wide_contracts() -> tuple[OutputContract, ...]:
    """The contract of every wide table, by number."""
    head, tail = _native.evtx_wide_common()
    before = tuple(Column(name=name, type=kind, doc=doc) for name, kind, doc in head)
    behind = tuple(Column(name=name, type=kind, doc=doc) for name, kind, doc in tail)
    return tuple(
        OutputContract(
            table=table,
            doc=f"event {event_id} of {provider}, columns by {_ORIGINS[origin]}",
            columns=(
                *before,
                *(
                    Column(name=name, type=kind, doc=_source(source, occurrence))
                    for name, kind, source, occurrence in columns
                ),
                *behind,
            ),
        )
        for table, provider, event_id, origin, columns in _native.evtx_wide_tables()
    )


_ORIGINS: Final = {"template": "its template", "published": "its published description"}


def _source(name: str | None, occurrence: int) -> str:
    what = "value without a name" if name is None else f"`{name}`"
    return what if occurrence == 1 else f"{what}, number {occurrence}"


@lru_cache(maxsize=16)
def _numbers(setting: str) -> frozenset[int]:
    return frozenset(_native.evtx_wide_selection(setting))


def wide_numbers(kind: ParserKind, entry: str, config: Mapping[str, ConfigValue]) -> frozenset[int]:
    """Numbers of the wide tables that a parser with these settings may give rows of.

    Raises:
        UsageError: `parser.setting`: the setting names a table or event that is not in the list.
    """
    if kind is not ParserKind.NATIVE or entry != ENTRY:
        return frozenset()
    setting = str(config.get(SETTING, "none"))
    try:
        return _numbers(setting)
    except ValueError:
        raise UsageError(
            f"the setting `windows.evtx.wide` is `{setting[:200]}`, expected `none`, `curated`, or tables "
            "(`evtx_security_4624`) or events (`Microsoft-Windows-Sysmon/1`) of the list",
            hint="`docs/how-to/wide-tables.md` says which there are, and how to add one",
            code="parser.setting",
            setting=SETTING,
        ) from None


def of_table(manifest: ParserManifest, table: str) -> tuple[OutputContract, ...]:
    """The contract of a parser's wide table of this name; nothing when it has none."""
    if manifest.kind is not ParserKind.NATIVE or manifest.entry != ENTRY:
        return ()
    return tuple(contract for contract in wide_contracts() if contract.table == table)


def tightened(
    artifact: ParserArtifact, override: Override | None
) -> tuple[Contract, dict[str, OutputContract]]:
    """A parser's contract, and those of its wide tables that a laboratory made stricter.

    Returns:
        The parser's own outputs in force; and of the wide tables only those that differ from the list.

    Raises:
        ContractError: as `overrides.effective`.
    """
    contract, manifest = artifact.contract, artifact.manifest
    if override is None or manifest.kind is not ParserKind.NATIVE or manifest.entry != ENTRY:
        return effective(contract, override), {}
    listed = wide_contracts()
    everything = msgspec.structs.replace(contract, outputs=(*contract.outputs, *listed))
    whole = effective(everything, override)
    own = len(contract.outputs)
    changed = {
        now.table: now
        for now, before in zip(whole.outputs[own:], listed, strict=True)
        if now != before
    }
    return Contract(outputs=whole.outputs[:own]), changed
