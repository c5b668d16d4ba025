"""Every event that is rendered from its bytes says what the `evtx` wheel's XML says, or a named rule says why not.

Not a sample: all values of all records that both render. The rules are exact: a difference that none
explains fails, and so does a rule that explains nothing. The JSON rendering is compared with our XML, value by value.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from casparian import _native
from casparian.domain.lineage import EXTRA_BITS
from tests.corpus.reading import event_logs, in_memory
from tests.corpus.wheel_leaves import leaves, records

pytestmark = pytest.mark.corpus

RECORDS_READ_BY_BOTH: Final = 9_201
CONTROL = re.compile("[\ue000-\ue01f\uf0fe\uf0ff]")
GUID = re.compile(r"\{([0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12})\}\Z")
TICKS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z\Z")
MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")

Leaf = tuple[str | None, str]


def rule_of(ours: str | None, theirs: str | None) -> str | None:
    """`equal`, the name of the rule that explains a difference, or nothing."""
    if ours == theirs:
        return "equal"
    if ours is None:
        return "an optional null is left out" if theirs == "" else None
    if theirs is None:
        return None
    if TICKS.match(ours) and f"{ours[:-2]}Z" == theirs:
        return "a FILETIME is cut to microseconds"
    if MILLISECONDS.match(ours) and f"{ours[:-1]}000Z" == theirs:
        return "a SYSTEMTIME is padded to microseconds"
    braced = GUID.match(ours)
    if braced and braced[1] == theirs:
        return "Windows writes GUIDs in braces"
    if "\ufffd" in ours and CONTROL.sub("\ufffd", theirs) == ours:
        return "XML cannot hold control characters"
    return None


RULES: Final = {
    "equal",
    "an optional null is left out",
    "a FILETIME is cut to microseconds",
    "a SYSTEMTIME is padded to microseconds",
    "Windows writes GUIDs in braces",
    "XML cannot hold control characters",
}


def pairs(ours: list[Leaf], theirs: list[Leaf]) -> Iterator[tuple[str | None, str | None]]:
    """Values by place; what only one side has is paired with `None`."""
    at = 0
    for name, text in theirs:
        if at < len(ours) and ours[at][0] == name:
            yield ours[at][1], text
            at += 1
        else:
            yield None, text
    for _, text in ours[at:]:
        yield text, None


def spans(descriptor: int, size: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Header record id, and offset and length, of each row outside of slack."""
    for name, exported in _native.EvtxReader(descriptor, size):
        if name == "evtx_events":
            batch = pa.record_batch(exported)
            columns = (batch.column(n).to_pylist() for n in range(3))
            numbers = batch.column("header_record_id").to_pylist()
            for offset, length, flags, number in zip(*columns, numbers, strict=True):
                if not flags & EXTRA_BITS:
                    yield number, (offset, length)


def json_leaves(value: Any) -> Iterator[str]:
    """All values of a JSON rendering, as text."""
    if isinstance(value, dict):
        for item in value.values():
            yield from json_leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from json_leaves(item)
    elif isinstance(value, bool):
        yield "true" if value else "false"
    else:
        yield "" if value is None else str(value)


def test_every_rendered_value_is_the_wheels_or_a_rule_says_why(corpus: Path) -> None:
    used: Counter[str] = Counter()
    unexplained: list[object] = []
    rendered = 0
    for path in event_logs(corpus):
        log = path.read_bytes()
        with in_memory(log) as descriptor:
            places = dict(spans(descriptor, len(log)))
            for record in records(log):
                if record.header_record_id not in places:
                    continue  # which ones, and why, is `test_evtx_oracle`'s table
                place = places[record.header_record_id]
                xml, _, _ = _native.render_evtx(descriptor, len(log), *place)
                rendered += 1
                system, payload = leaves(xml)
                compared = [
                    (system.get(name), record.system.get(name))
                    for name in system.keys() | record.system.keys()
                ]
                for ours, theirs in [*compared, *pairs(payload, record.payload)]:
                    rule = rule_of(ours, theirs)
                    if rule is None:
                        unexplained.append((path.name, record.header_record_id, ours, theirs))
                    else:
                        used[rule] += 1
    print(f"{rendered} records: {dict(used)}")
    assert not unexplained, f"{len(unexplained)} differ; some: {unexplained[:10]}"
    # Equal content lies at several paths: each is read here.
    assert rendered >= RECORDS_READ_BY_BOTH
    assert set(used) == RULES, "a rule that explains nothing must go"


def test_json_has_every_value_that_xml_has(corpus: Path) -> None:
    compared = 0
    for path in event_logs(corpus):
        log = path.read_bytes()
        with in_memory(log) as descriptor:
            for _, place in spans(descriptor, len(log)):
                xml, text, unfit = _native.render_evtx(descriptor, len(log), *place)
                system, payload = leaves(xml)
                found = Counter(json_leaves(json.loads(text)))
                for value in [*system.values(), *(value for _, value in payload)]:
                    braced = GUID.match(value)
                    plain = braced[1] if braced and not found[value] else value
                    if not unfit and plain:
                        assert found[plain], (path.name, place, value)
                        found[plain] -= 1
                        compared += 1
    assert compared > 200_000


def test_carved_records_render_as_those_of_their_log(corpus: Path) -> None:
    """A log behind garbage of an odd length, without its file header: each event is the same."""
    log = next(path for path in event_logs(corpus) if path.stat().st_size == 69_632).read_bytes()
    image = b"\xa5" * 12_345 + log[4_096:]
    with in_memory(log) as descriptor, in_memory(image) as carved:
        found = [place for _, place in spans(descriptor, len(log))]
        assert found
        for offset, length in found:
            moved = offset - 4_096 + 12_345
            assert _native.render_evtx(
                carved, len(image), moved, length, carved=True
            ) == _native.render_evtx(descriptor, len(log), offset, length)
