"""What the guests of a job are told first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from casparian.domain.datasets import SETTING
from casparian.domain.parsers import ConfigValue, ParserKind
from casparian.protocol.guest import GuestJob
from casparian.protocol.worker import OutputTask, ParserTask

_NOTHING: Final[Mapping[str, bytes]] = {}


def to_account(parser: ParserTask) -> GuestJob:
    """Walk the sources: nothing of the parser is needed for it."""
    return GuestJob(
        task="account",
        parser_name=parser.name,
        kind=ParserKind.NATIVE,
        entry="",
        account=parser.account,
        config=_of_walk(parser),
        outputs=(),
        files={},
        limits=parser.limits,
    )


def _of_walk(parser: ParserTask) -> dict[str, ConfigValue]:
    """The settings that say what there is to count."""
    config = parser.config
    if parser.account == "delimited":
        return {SETTING: config[SETTING]}
    return {"carve": True} if config.get("carve") is True else {}


def to_parse(
    parser: ParserTask,
    outputs: Sequence[OutputTask],
    files: Mapping[str, bytes],
    compiled: Mapping[str, bytes] = _NOTHING,
    *,
    threads: int = 1,
) -> GuestJob:
    """Parse the sources with these verified files, compiled by another guest or not; a native decoder on so many threads."""
    return GuestJob(
        task="parse",
        parser_name=parser.name,
        kind=parser.kind,
        entry=parser.entry,
        account=parser.account,
        config=parser.config,
        outputs=tuple(output.contract for output in outputs),
        files=dict(files) if parser.kind is ParserKind.PYTHON else {},
        limits=parser.limits,
        compiled=dict(compiled),
        threads=threads,
    )
