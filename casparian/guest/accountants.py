"""The independent walks of the native module, by the name that `account` in parser.toml gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from casparian import _native
from casparian.guest.input import Input
from casparian.protocol.guest import GuestJob

Walk = Callable[[Input], _native.Account]


def walk_of(job: GuestJob) -> Walk:
    """What counts the units of a job's sources."""
    if job.account == "evtx" and job.config.get("carve"):
        return _evtx_carved
    if job.account == "delimited":
        return partial(_delimited, dataset=str(job.config["dataset"]))
    return _WALKS[job.account]


def _evtx(given: Input) -> _native.Account:
    return _native.account_evtx(given.descriptor, given.source.size_bytes)


def _evtx_carved(given: Input) -> _native.Account:
    return _native.account_evtx_carved(given.descriptor, given.source.size_bytes)


def _lines(given: Input) -> _native.Account:
    return _native.account_lines(given.descriptor, given.source.size_bytes)


def _delimited(given: Input, dataset: str) -> _native.Account:
    """Where records end is a matter of quotes and delimiters: the contract says which."""
    return _native.account_delimited(given.descriptor, given.source.size_bytes, dataset)


def _hive(given: Input) -> _native.Account:
    return _native.account_hive(given.descriptor, given.source.size_bytes, given.logs)


_WALKS: Final[dict[str, Walk]] = {"evtx": _evtx, "lines": _lines, "hive": _hive}
