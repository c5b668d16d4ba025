"""Infer the columns of text inside the guest: source after source into one state; each answer is what is known so far.

The sources of the job are the files in their order. The first one decides form and dialect when the settings do not say them,
and each other one may contradict it: then that is the answer. What the first one leaves open the others may decide: then
nothing is inferred yet, and whoever asked gives what is left as settings. What is open behind the last file is a question.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from casparian import _native
from casparian.guest.input import Input
from casparian.guest.kinds import JSON_LINES, TEXT, kind_of
from casparian.protocol.arrow import bridge_schema
from casparian.protocol.guest import INFERRED, GuestJob

_NAMED_MAX: Final = 20  # of each kind, for a person who must say which are meant


class _State:
    """What a job knows: a guest serves one."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, Any]] = {}
        self.dialect: dict[str, Any] | None = None
        self.delimited: _native.DelimitedInference | None = None
        self.lines: _native.JsonlInference | None = None
        self.contradicted = False


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
    kind = _note_kind(given)
    if _STATE.dialect is None:
        _STATE.dialect = _dialect(given, wanted, kind)
        layout = _STATE.dialect.get("layout")
        if _STATE.dialect["form"] == "jsonl":
            _STATE.lines = _native.JsonlInference()
        elif layout is not None:
            _STATE.delimited = _native.DelimitedInference(**layout)
    elif not _STATE.contradicted:
        _hold(_STATE.dialect, given, wanted, kind)
    answer: dict[str, Any] = {"dialect": _STATE.dialect, "found": None, "kinds": _STATE.kinds}
    if _STATE.contradicted:
        return answer
    if _STATE.lines is not None:
        _STATE.lines.add(given.descriptor, given.source.size_bytes, threads=job.threads)
        answer["found"] = json.loads(_STATE.lines.report())
    elif _STATE.delimited is not None:
        _STATE.delimited.add(given.descriptor, given.source.size_bytes, threads=job.threads)
        answer["found"] = json.loads(_STATE.delimited.report())
    return answer


def _ask(given: Input, wanted: dict[str, Any], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        _native.text_dialect(given.descriptor, given.source.size_bytes, **wanted, **more)
    )
    return found


def _note_kind(given: Input) -> str:
    """Count the file among those of its kind."""
    kind = kind_of(given.descriptor, given.source.size_bytes)
    known = _STATE.kinds.setdefault(kind, {"files": 0, "sources": []})
    known["files"] += 1
    if len(known["sources"]) < _NAMED_MAX:
        known["sources"].append(given.source.index)
    return kind


def _is_other(kind: str, wanted: dict[str, Any]) -> bool:
    """Whether a file is no text that could be a table; who says how it is cut knows better."""
    return kind not in (TEXT, JSON_LINES) and "delimiter" not in wanted


def _dialect(given: Input, wanted: dict[str, Any], kind: str) -> dict[str, Any]:
    """What was found about the form, and the layout when only one is left."""
    if _is_other(kind, wanted):
        return {"form": kind}
    found = _ask(given, wanted)
    if found["form"] == "jsonl":
        return found
    found["options"] = [
        {
            "delimiter": one["delimiter"],
            "quote": one["quote"],
            "escape": one["escape"],
            "header": header,
            "skip_lines": one["skip_lines"],
            "comment": one["comment"],
            "encoding": found["encoding"],
        }
        for one in found["layouts"]
        for header in one["header"]
    ]
    found["layout"] = _only(found["options"])
    return found


def _hold(dialect: dict[str, Any], given: Input, wanted: dict[str, Any], kind: str) -> None:
    """Rule out what this file contradicts; when nothing is left, say that it is this file, and why."""
    if dialect["form"] not in ("jsonl", "delimited"):
        return  # the first file is no table: that is the answer
    expected = JSON_LINES if dialect["form"] == "jsonl" else TEXT
    if "delimiter" not in wanted and kind not in (TEXT, expected):
        _contradict(dialect, given, {"why": "", "kind": kind})
        return
    left, against = [], {}
    options: list[dict[str, Any]] = dialect.get("options", [])
    for option in options:
        asked = {**option, "quote": option["quote"] or "", "comment": option["comment"] or ""}
        # What somebody said about header and cells is so, whatever a file shows.
        if "header" not in wanted:
            del asked["header"]
        found = _ask(given, asked, strict=not {"delimiter", "quote"} <= wanted.keys())
        fits = [one for one in found["layouts"] if option["header"] in one["header"]]
        if fits and (problem := _undecodable(given, option)) is None:
            left.append(option)
            continue
        if fits:
            against = {"why": problem}
        elif found["layouts"]:
            (one,) = found["layouts"][:1]
            against = {"why": one["header_why"]}
        else:
            against = found["ruled_out"][0]
    if dialect["form"] == "jsonl":
        if _ask(given, wanted)["form"] == "jsonl":
            return
        against = {"why": "its first line is no JSON object", "kind": kind}
    elif left or not options:
        dialect["options"] = left
        dialect["layout"] = dialect["layout"] or _only(left)
        return
    _contradict(dialect, given, against)


def _contradict(dialect: dict[str, Any], given: Input, against: dict[str, Any]) -> None:
    _STATE.contradicted = True
    dialect["contradiction"] = {"source": given.source.index, **against}


def _undecodable(given: Input, option: dict[str, Any]) -> str | None:
    """Why the file has another encoding, when it shows that."""
    if option["encoding"] != "utf-8":
        return None
    shown = json.loads(
        _native.text_dialect(
            given.descriptor,
            given.source.size_bytes,
            delimiter=option["delimiter"],
            quote=option["quote"] or "",
            escape=option["escape"],
        )
    )
    return None if shown["encoding"] == "utf-8" else str(shown["encoding_why"])


def _only(options: list[dict[str, Any]]) -> dict[str, Any] | None:
    return options[0] if len(options) == 1 else None
