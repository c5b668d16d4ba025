"""Infer the columns of text inside the guest: source after source into one state; each answer is what is known so far.

The sources of the job are the files in their order. The first one decides form and dialect when the settings do not say them;
what could not be decided is a question, and nothing is inferred until it is answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from casparian import _native
from casparian.guest.input import Input
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.guest import INFERRED, GuestJob


class _State:
    """What a job knows: a guest serves one."""

    def __init__(self) -> None:
        self.dialect: dict[str, Any] | None = None
        self.delimited: _native.DelimitedInference | None = None
        self.lines: _native.JsonlInference | None = None


_STATE: Final = _State()


def infer(given: Input, job: GuestJob) -> Iterator[tuple[str, Any]]:
    """One row: a JSON document of all sources up to this one."""
    columns = [
        pa.array([0], pa.uint64()),
        pa.array([given.source.size_bytes], pa.uint64()),
        pa.array([0], pa.uint32()),
        pa.array([given.source.index], pa.int64()),
        pa.array([json.dumps(_add(given, job))]),
    ]
    yield INFERRED.table, pa.record_batch(columns, schema=bridge_schema(INFERRED))


def _add(given: Input, job: GuestJob) -> dict[str, Any]:
    wanted: dict[str, Any] = json.loads(str(job.config["infer"]))
    if _STATE.dialect is None:
        _STATE.dialect = _dialect(given, wanted)
        layout = _STATE.dialect.get("layout")
        if _STATE.dialect["form"] == "jsonl":
            _STATE.lines = _native.JsonlInference()
        elif layout is not None:
            _STATE.delimited = _native.DelimitedInference(**layout)
    answer: dict[str, Any] = {"dialect": _STATE.dialect, "found": None}
    if _STATE.lines is not None:
        _STATE.lines.add(given.descriptor, given.source.size_bytes)
        answer["found"] = json.loads(_STATE.lines.report())
    elif _STATE.delimited is not None:
        _STATE.delimited.add(given.descriptor, given.source.size_bytes, threads=job.threads)
        answer["found"] = json.loads(_STATE.delimited.report())
    return answer


def _dialect(given: Input, wanted: dict[str, Any]) -> dict[str, Any]:
    """What was found about the form, and the layout when only one is left."""
    found: dict[str, Any] = json.loads(
        _native.text_dialect(
            given.descriptor,
            given.source.size_bytes,
            encoding=wanted.get("encoding"),
            delimiter=wanted.get("delimiter"),
            header=wanted.get("header"),
        )
    )
    if found["form"] == "jsonl":
        return found
    left = [
        {
            "delimiter": one["delimiter"],
            "quote": wanted.get("quote", one["quote"]),
            "escape": one["escape"],
            "header": header,
            "skip_lines": 0,
            "comment": None,
            "encoding": found["encoding"],
        }
        for one in found["layouts"]
        for header in one["header"]
    ]
    found["options"] = left
    found["layout"] = left[0] if len(left) == 1 else None
    return found
