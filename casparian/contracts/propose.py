"""From what inference found to a proposed contract, and the questions that are still open.

Rules:
  * Where several readings are left, nothing is chosen: the column stays out of reach until somebody answers.
  * A spelling of "no value" is one only in a column whose type it contradicts; in a column of text it is text.
  * What was never seen is not promised: bounds and enumerations are facts that are shown, and constraints only when asked for.
  * The document is checked like one that was written by hand.

No file access here: what the guest said comes in as JSON values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from casparian import _native
from casparian.contracts.columns import NAME_CHARACTERS_MAX, folded
from casparian.contracts.dataset import dataset_of
from casparian.contracts.document import SCHEMA_VERSION, closest
from casparian.display import show
from casparian.domain.datasets import DELIMITED, JSON_LINES, Dataset
from casparian.domain.lineage import is_reserved_column
from casparian.errors import ContractError, UsageError

TEXT: Final = "text"
JSON: Final = "json"
FIELDS: Final = "fields"  # of a place that holds objects and other values: its fields as columns
LOCAL: Final = "local"  # a time whose zone nobody knows: kept as the clock on the wall showed it
ENUMERATION: Final = "enumeration"  # only the values that were seen are allowed
_NANOSECONDS: Final = "timestamp[ns, UTC]"


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to a question. `examples` are texts of the evidence with what they would become."""

    option: str
    type: str
    examples: tuple[tuple[str, str], ...] = ()


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the files do not say. An answer is `COLUMN=OPTION`; of `zone`, any IANA name or offset is one."""

    column: str
    kind: str  # `reading`, `zone`
    text: str
    options: tuple[Option, ...]


class Ruled(msgspec.Struct, frozen=True, kw_only=True):
    """The first value that ruled out some candidates."""

    value: str
    file: str
    row: int
    offset: int
    ruled_out: tuple[str, ...]


class ColumnFound(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a column. `type` is `None` while a question about it is open."""

    name: str
    source: str | tuple[str, ...]
    type: str | None
    format: str | None
    meaning: str | None
    values: int
    nulls: dict[str, int]
    facts: dict[str, Any]
    evidence: tuple[Ruled, ...]


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A contract, when no question is open."""

    table: str
    files: tuple[str, ...]
    rows: int
    faults: int  # records that no contract of this layout would read
    questions: tuple[Question, ...]
    columns: tuple[ColumnFound, ...]
    document: dict[str, Any] | None

    @property
    def complete(self) -> bool:
        """Whether there is a document."""
        return self.document is not None


def propose(
    found: Mapping[str, Any],
    *,
    table: str,
    match: Sequence[str],
    files: Sequence[str],
    layout: Mapping[str, Any] | None,
    answers: Mapping[str, Sequence[str]],
) -> Proposal:
    """Make what can be made of it.

    Args:
        found: what the native inference reported.
        table: name of the table.
        match: globs of the files that it is for.
        files: by the numbers that `found` has.
        layout: of delimited text; `None` for JSON Lines.
        answers: by column (its name, or its source as it stands in the files).

    Raises:
        UsageError: `infer.answer`: an answer to no question, or none of its options.
        ContractError: the files cannot be a table: nothing was found, or cells of a header cannot be told apart.
    """
    if not found["columns"]:
        raise ContractError("the files have no columns", code="contract.infer")
    maker = _Maker(found, files, layout is not None, answers)
    maker.run()
    document: dict[str, Any] | None = None
    if not maker.questions:
        document = _checked(_document(table, match, found, layout, maker.documents)).document()
    return Proposal(
        table=table,
        files=tuple(files),
        rows=found["rows"],
        faults=found["faults"],
        questions=tuple(maker.questions),
        columns=tuple(maker.columns),
        document=document,
    )


def _checked(document: dict[str, Any]) -> Dataset:
    return dataset_of(document, file="proposal")


def _document(
    table: str,
    match: Sequence[str],
    found: Mapping[str, Any],
    layout: Mapping[str, Any] | None,
    columns: list[dict[str, Any]],
) -> dict[str, Any]:
    place: dict[str, Any]
    if layout is not None:
        place = {**layout, "headers": found["headers"]}
    else:
        place = {"encoding": "utf-8", "known": [column["source"] for column in columns]}
    return {
        "schema_version": SCHEMA_VERSION,
        "table": table,
        "parser": DELIMITED if layout is not None else JSON_LINES,
        "match": list(match),
        "layout": place,
        "columns": columns,
    }


class _Maker:
    """Goes through the columns once."""

    def __init__(
        self,
        found: Mapping[str, Any],
        files: Sequence[str],
        delimited: bool,
        answers: Mapping[str, Sequence[str]],
    ) -> None:
        self._found = found
        self._files = files
        self._delimited = delimited
        self._answers = dict(answers)
        self._taken: set[str] = set()
        self.questions: list[Question] = []
        self.columns: list[ColumnFound] = []
        self.documents: list[dict[str, Any]] = []

    def run(self) -> None:
        names = []
        below: set[tuple[str, ...]] = set()  # places kept as JSON: what is in them is no column
        for column in self._found["columns"]:
            source = column["source"]
            if not self._delimited and any(
                tuple(source[:length]) in below for length in range(1, len(source))
            ):
                continue
            name = self._name(source)
            names.append((name, source))
            if self._column(name, column) == JSON and column.get("has_fields"):
                below.add(tuple(source))
        known = {name for name, _ in names} | {_source_text(source) for _, source in names}
        for key in self._answers:
            if key not in known:
                raise UsageError(
                    f"there is no column `{show(key)}` to answer for",
                    code="infer.answer",
                    hint=closest(key, sorted(known)) or None,
                )

    def _name(self, source: str | list[str]) -> str:
        """A name that SQL can say, different from all others."""
        text = source if isinstance(source, str) else "_".join(source)
        plain = re.sub(r"\W+", "_", text).strip("_")[: NAME_CHARACTERS_MAX - 8]
        if not plain or show(plain) != plain:
            plain = "column"
        if plain[0].isdigit() or is_reserved_column(plain):
            plain = f"c_{plain}"
        name, number = plain, 1
        while folded(name) in self._taken:
            number += 1
            name = f"{plain}_{number}"
        self._taken.add(folded(name))
        return name

    def _column(self, name: str, column: Mapping[str, Any]) -> str | None:
        """Decide one column; the option that was taken."""
        source = column["source"]
        given = [
            *self._answers.get(name, ()),
            *(self._answers.get(_source_text(source), ()) if _source_text(source) != name else ()),
        ]
        reading, zone, enumeration = self._decide(name, column, given)
        nulls = {word["word"]: word["count"] for word in column["words"]}
        text = reading is not None and reading["type"].endswith("utf8") and not reading["meaning"]
        facts: dict[str, Any] = dict(column["facts"])
        if not self._delimited:
            facts |= {"kinds": {k: v["count"] for k, v in column["kinds"].items()}}
            facts |= {"nulls": column["nulls"], "missing": column["missing"]}
        kind = None
        if reading is not None:
            kind = reading["type"]
            if zone == LOCAL:
                kind = kind.replace(", UTC]", "]")
        self.columns.append(
            ColumnFound(
                name=name,
                source=source if isinstance(source, str) else tuple(source),
                type=kind,
                format=None if reading is None else reading["format"],
                meaning=None if reading is None else reading["meaning"],
                values=column["cells"],
                nulls={} if text else nulls,
                facts=facts,
                evidence=self._evidence(column),
            )
        )
        if reading is None or kind is None or reading["option"] == FIELDS:
            return None if reading is None else str(reading["option"])
        allowed: list[str] | None = None
        if enumeration:
            allowed = sorted({*(facts.get("values") or {}), *(nulls if text else ())})
        self.documents.append(
            {
                "name": name,
                "source": source,
                "type": kind,
                "format": reading["format"],
                "zone": None if zone == LOCAL else zone,
                "null": [] if text else sorted(nulls),
                "nullable": self._nullable(column, text=text, nulls=nulls),
                "meaning": reading["meaning"],
                **({"allowed": allowed} if allowed else {}),
            }
        )
        return str(reading["option"])

    def _nullable(self, column: Mapping[str, Any], *, text: bool, nulls: Mapping[str, int]) -> bool:
        if nulls and not text:
            return True
        if self._delimited:
            return any(column["source"] not in header for header in self._found["headers"])
        return bool(column["nulls"] or column["missing"])

    def _decide(
        self, name: str, column: Mapping[str, Any], given: Sequence[str]
    ) -> tuple[dict[str, Any] | None, str | None, bool]:
        """The reading, the zone, and whether only what was seen is allowed; a question where it is open."""
        readings = [_spelt(reading) for reading in column["readings"]]
        options = {reading["option"]: reading for reading in readings}
        plain = _plain(JSON if JSON in options or self._is_no_text(column) else TEXT)
        reading = readings[0] if len(readings) == 1 else None
        zone: str | None = None
        enumeration = False
        for answer in given:
            if answer in options:
                reading = options[answer]
            elif answer == plain["option"]:
                reading = plain
            elif answer == ENUMERATION and column["facts"].get("values"):
                enumeration = True
            elif answer == LOCAL or _is_zone(answer):
                zone = answer
            else:
                raise UsageError(
                    f"`{show(answer)}` is no answer about the column `{show(name)}`",
                    code="infer.answer",
                    hint="answers are " + ", ".join(f"`{o}`" for o in (*options, plain["option"])),
                )
        if reading is None:
            self._ask_reading(name, readings, plain)
            return None, None, False
        if reading["needs_zone"] and zone is None:
            self._ask_zone(name, reading)
            return None, None, False
        if zone is not None and not reading["needs_zone"]:
            raise UsageError(
                f"the column `{show(name)}` needs no zone", code="infer.answer", hint=None
            )
        if enumeration and reading["type"] != "utf8":
            raise UsageError(
                f"the column `{show(name)}` is no text that could be an enumeration",
                code="infer.answer",
            )
        return reading, zone, enumeration

    def _is_no_text(self, column: Mapping[str, Any]) -> bool:
        """Whether a place of JSON documents holds other values than strings."""
        return not self._delimited and any(k not in ("null", "text") for k in column["kinds"])

    def _ask_reading(
        self, name: str, readings: Sequence[dict[str, Any]], plain: dict[str, Any]
    ) -> None:
        listed = list(readings)
        if all(reading["option"] != plain["option"] for reading in listed):
            listed.append(plain)
        question = Question(
            column=name,
            kind="reading",
            text=f"every value of `{show(name)}` can be read in {len(readings)} ways",
            options=tuple(_option(reading) for reading in listed),
        )
        self.questions.append(question)

    def _ask_zone(self, name: str, reading: dict[str, Any]) -> None:
        shown = _option(reading)
        self.questions.append(
            Question(
                column=name,
                kind="zone",
                text=f"times of `{show(name)}` do not say their zone",
                options=(
                    Option(option="UTC", type=reading["type"], examples=shown.examples),
                    Option(option="Europe/Berlin", type=reading["type"]),
                    Option(option=LOCAL, type=reading["type"].replace(", UTC]", "]")),
                ),
            )
        )

    def _evidence(self, column: Mapping[str, Any]) -> tuple[Ruled, ...]:
        return tuple(
            Ruled(
                value=one["value"],
                file=self._files[one["file"]],
                row=one["row"],
                offset=one["offset"],
                ruled_out=tuple(one["ruled_out"]),
            )
            for one in column["evidence"]
        )


def _plain(option: str) -> dict[str, Any]:
    """The reading that is always possible."""
    return {
        "option": option,
        "type": "utf8",
        "format": None,
        "group": None,
        "meaning": JSON if option == JSON else None,
        "needs_zone": False,
        "examples": [],
    }


def _spelt(reading: Mapping[str, Any]) -> dict[str, Any]:
    """A reading with the mark between groups of digits among the words of its format, as contracts have it."""
    group = reading["group"]
    if group is None:
        return dict(reading)
    plain = reading["format"] or ("decimal" if "int" in reading["type"] else "point")
    return {**reading, "format": f"{plain} group {'space' if group == ' ' else group}"}


def _option(reading: Mapping[str, Any]) -> Option:
    return Option(
        option=reading["option"],
        type=reading["type"],
        examples=tuple((text, value) for text, value in reading["examples"]),
    )


def _source_text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else ".".join(source)


def _is_zone(text: str) -> bool:
    try:
        _native.check_format(_NANOSECONDS, "iso8601", text)
    except ValueError:
        return False
    return True
