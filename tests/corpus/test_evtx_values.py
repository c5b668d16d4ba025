"""Every value of every event agrees with the `evtx` wheel's, or a named rule says why not.

Not a sample: all values of all records that both read are compared, columns of `System` and
the lists alike, names and order included; ten thousand would do. `CASPARIAN_TEST_SEED=N` only chooses
the values that the report shows. The rules are exact: a difference that none explains fails,
and so does a rule that explains nothing.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpus.conftest import EvtxRun
from tests.corpus.wheel_leaves import WheelRecord, portable, records

pytestmark = pytest.mark.corpus

SEED = int(os.environ.get("CASPARIAN_TEST_SEED", "20240305"))
VALUES_MIN = 200_000
RECORDS_READ_BY_BOTH = 9_201
FILETIME, SYSTEMTIME, ARRAY = 17, 18, 0x80

COLUMNS = {
    "provider_name": "Provider/@Name",
    "provider_guid": "Provider/@Guid",
    "event_source_name": "Provider/@EventSourceName",
    "event_id": "EventID",
    "qualifiers": "EventID/@Qualifiers",
    "version": "Version",
    "level": "Level",
    "task": "Task",
    "opcode": "Opcode",
    "keywords": "Keywords",
    "time_created": "TimeCreated/@SystemTime",
    "record_id": "EventRecordID",
    "activity_id": "Correlation/@ActivityID",
    "related_activity_id": "Correlation/@RelatedActivityID",
    "process_id": "Execution/@ProcessID",
    "thread_id": "Execution/@ThreadID",
    "channel": "Channel",
    "computer": "Computer",
    "user_sid": "Security/@UserID",
}
"""Columns, and where the wheel has them."""

TIMES = ("time_created", "time_written")


@dataclass(frozen=True)
class Compared:
    """One value: ours, what the wheel has, and where."""

    place: str
    column: str  # of `COLUMNS`, or `data`
    kind: int | None  # BinXML type, in the lists
    ours: Any
    theirs: str | None  # None: the wheel has no such value


@dataclass(frozen=True)
class Rule:
    """A difference that is no contradiction."""

    why: str
    explains: Callable[[Compared], bool]


def _iso(nanoseconds: int | None, digits: int) -> str:
    """Nanoseconds since 1970 as ISO 8601, cut to so many digits."""
    if nanoseconds is None:
        return "no time"
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09}"[: 20 + digits] + "Z"


def _is_guid_in_braces(found: Compared) -> bool:
    return (
        found.column in {"provider_guid", "activity_id", "related_activity_id"}
        and found.theirs is not None
        and found.ours == found.theirs.strip("{}").upper()
    )


RULES = {
    "null is printed as nothing": Rule(
        "XML has no null, so a null and an empty text look the same",
        lambda found: found.ours is None and found.theirs == "",
    ),
    "an optional null is left out": Rule(
        "a template marks the element as optional and its value is null: Windows leaves the element out, the "
        "wheel prints it empty",
        lambda found: found.column == "data" and found.ours is LEFT_OUT and found.theirs == "",
    ),
    "blank text is lost in the indentation": Rule(
        "the wheel indents empty elements, so that a text of line breaks and spaces cannot be told from none",
        lambda found: (
            found.theirs == "" and isinstance(found.ours, str) and not found.ours.strip("\n ")
        ),
    ),
    "FILETIME is cut to microseconds": Rule(
        "a FILETIME counts 100 ns; the wheel prints six digits and drops the seventh",
        lambda found: found.kind == FILETIME and f"{found.ours[:-2]}Z" == found.theirs,
    ),
    "SYSTEMTIME is padded to microseconds": Rule(
        "a SYSTEMTIME counts milliseconds, which we print; the wheel adds three zeros",
        lambda found: found.kind == SYSTEMTIME and f"{found.ours[:-1]}000Z" == found.theirs,
    ),
    "the event's time is cut to microseconds": Rule(
        "the column has 100 ns; the wheel prints six digits of a FILETIME",
        lambda found: found.column == "time_created" and _iso(found.ours, 6) == found.theirs,
    ),
    "the event's time as text": Rule(
        "in an event without a template the time is text, with as many digits as it was written with",
        lambda found: (
            found.column == "time_created"
            and found.theirs is not None
            and len(found.theirs) > len("2021-11-19T16:52:33.833733Z")
            and _iso(found.ours, 9) == found.theirs.rstrip("Z").ljust(29, "0") + "Z"
        ),
    ),
    "the time of writing in the wheel's own form": Rule(
        "the wheel gives the record header's time as `2016-07-22T17:02:01.0571267Z UTC`",
        lambda found: (
            found.column == "time_written"
            and found.theirs is not None
            and _written(found.ours) == found.theirs
        ),
    ),
    "a time of zero is null": Rule(
        "an exported log may have no time in the record header; the wheel shows the year 1601",
        lambda found: (
            found.column == "time_written"
            and found.ours is None
            and found.theirs == "1601-01-01T00:00:00Z UTC"
        ),
    ),
    "GUIDs without braces, in capitals": Rule(
        "a GUID has one form here, whether the event has it as a value or as text",
        _is_guid_in_braces,
    ),
    "keywords are a number": Rule(
        "the column is a uint64; XML has hexadecimal",
        lambda found: found.column == "keywords" and f"0x{found.ours:x}" == found.theirs,
    ),
}

LEFT_OUT = object()


def _written(nanoseconds: int | None) -> str:
    return _iso(nanoseconds, 9).rstrip("Z0").rstrip(".") + "Z UTC"


def explanation(found: Compared) -> str | None:
    """`equal`, the name of the rule that explains the difference, or nothing."""
    ours = found.ours
    if found.column in TIMES and ours is not None:
        equal = False
    elif isinstance(ours, str):
        equal = portable(ours) == found.theirs
    else:
        equal = ours is not None and ours is not LEFT_OUT and str(ours) == found.theirs
    if equal:
        return "equal"
    return next((name for name, rule in RULES.items() if rule.explains(found)), None)


def rows_by_log(run: EvtxRun) -> dict[str, dict[int, dict[str, Any]]]:
    """Our rows outside of slack: path -> header record id -> row; times in nanoseconds."""
    (output,) = (found for found in run.summary["outputs"] if found["table"] == "evtx_events")
    by_path: dict[str, dict[int, dict[str, Any]]] = {}
    for path in output["files"]:
        table = pq.read_table(path)
        for name in TIMES:
            index = table.schema.get_field_index(name)
            table = table.set_column(index, name, table[name].cast(pa.int64()))
        table = table.drop_columns(["_cf_processed_at"])
        for row in table.to_pylist():
            if "slack" not in row["_cf_flags"]:
                log = by_path.setdefault(row["_cf_source_path"], {})
                assert log.setdefault(row["header_record_id"], row) is row, "an id came twice"
    return by_path


def compare(place: str, row: dict[str, Any], record: WheelRecord) -> Iterator[Compared]:
    """All values of one event, ours and the wheel's; what only one side has is there too."""
    seen = set()
    for column, path in COLUMNS.items():
        theirs = record.system.get(path)
        if row[column] is not None or theirs:
            seen.add(path)
            yield Compared(place, column, None, row[column], theirs)
    yield Compared(place, "time_written", None, row["time_written"], record.written)
    ours: list[tuple[str | None, Any, int]] = []
    for name, value, kind in zip(
        row["data_names"], row["data_values"], row["data_types"], strict=True
    ):
        if name is not None and name.startswith("System/"):
            path = name.removeprefix("System/")
            seen.add(path)
            yield Compared(place, f"data {name}", kind, value, record.system.get(path))
        else:
            ours.append((name, value, kind))
    for path in record.system.keys() - seen:
        if record.system[path]:
            yield Compared(place, f"System/{path}", None, None, record.system[path])
    yield from _compare_lists(place, ours, record.payload)


def _compare_lists(
    place: str, ours: list[tuple[str | None, Any, int]], theirs: list[tuple[str | None, str]]
) -> Iterator[Compared]:
    """Both lists in order; an empty element that we do not have is one that we left out."""
    at = 0
    for name, text in theirs:
        if at < len(ours) and ours[at][0] == name:
            _, value, kind = ours[at]
            at += 1
            yield Compared(f"{place} {name}", "data", kind, value, text)
        else:
            yield Compared(f"{place} {name}", "data", None, LEFT_OUT, text)
    for name, value, kind in ours[at:]:
        yield Compared(f"{place} {name}", "data", kind, value, None)


def test_every_value_agrees_with_the_independent_reader_or_a_rule_says_why(
    evtx_run: EvtxRun, corpus: Path
) -> None:
    dice = random.Random(SEED)
    print(f"CASPARIAN_TEST_SEED={SEED}")
    used: Counter[str] = Counter()
    unexplained: list[Compared] = []
    read_by_both = 0
    for path, rows in sorted(rows_by_log(evtx_run).items()):
        for record in records((corpus / "evtx" / path).read_bytes()):
            row = rows.get(record.header_record_id)
            if row is None:
                continue  # which ones, and why, is `test_evtx_oracle`'s table
            read_by_both += 1
            for found in compare(f"{path} #{record.header_record_id}", row, record):
                name = explanation(found)
                if name is None:
                    unexplained.append(found)
                else:
                    used[name] += 1
    print(f"{read_by_both} records, {used.total()} values agree: {dict(used)}")
    shown = dice.sample(unexplained, min(20, len(unexplained)))
    assert not unexplained, f"{len(unexplained)} differ; some: " + "\n".join(map(repr, shown))
    assert used.total() > VALUES_MIN
    assert read_by_both == RECORDS_READ_BY_BOTH
    assert set(used) == {"equal", *RULES}, "a rule that explains nothing must go"


def test_the_comparison_sees_what_differs() -> None:
    """A value changed, one too many, one too few, a name changed, two swapped: none is explained."""
    record = WheelRecord(1, "", {}, [("a", "1"), ("b", "2"), (None, "")])
    right = [("a", "1", 1), ("b", "2", 1), (None, "", 1)]
    wrong = [
        [("a", "9", 1), *right[1:]],
        right[:1] + right[2:],
        right[:-2],
        [*right, ("c", "3", 1)],
        [("A", "1", 1), *right[1:]],
        [right[1], right[0], right[2]],
    ]

    def verdicts(ours: list[Any]) -> set[str | None]:
        return {explanation(found) for found in _compare_lists("", ours, record.payload)}

    assert verdicts(right) == {"equal"}
    for ours in wrong:
        assert None in verdicts(ours), ours
    time = 1_469_206_921_057_126_700
    good = Compared("", "time_created", None, time, "2016-07-22T17:02:01.057126Z")
    assert explanation(good) == "the event's time is cut to microseconds"
    assert explanation(Compared("", "time_created", None, time + 1000, good.theirs)) is None
