"""Two readers of one source: every item is counted once, and nothing that one lacks is hidden."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from casparian.appliance.second_opinion.compare import (
    EXAMPLES_MAX,
    Comparison,
    Counts,
    Item,
    Ours,
    Theirs,
    compare,
)


def items(*found: tuple[int, Any, Any]) -> tuple[Item, ...]:
    return tuple(Item((number,), (time, event)) for number, time, event in found)


def counts(comparison: Comparison) -> dict[str, int]:
    """Figures that are not zero."""
    return {name: n for name, n in msgspec.structs.asdict(comparison.counts).items() if n}


def test_equal_readings_agree() -> None:
    found = items((1, 10, 4624), (2, 20, 4625), (2, 20, 4625))
    result = compare(Ours(live=found), Theirs(live=found[::-1]))
    assert counts(result) == {"ours": 3, "theirs": 3, "both": 3}
    assert result.disagreements == ()


def test_a_record_that_we_lack_is_named() -> None:
    theirs = items((1, 10, 4624), (2, 20, 4625), (2, 20, 4625))
    result = compare(Ours(live=theirs[:2]), Theirs(live=theirs))
    assert counts(result) == {"ours": 2, "theirs": 3, "both": 2, "only_theirs": 1}
    assert result.counts.lacking == 1
    (one,) = result.disagreements
    assert (one.what, one.identity, one.theirs) == ("only_theirs", (2,), (20, 4625))


def test_what_one_of_them_does_not_know_is_no_difference_and_what_both_know_is() -> None:
    result = compare(
        Ours(live=items((1, None, 4624), (2, 20, None), (3, 30, 1))),
        Theirs(live=items((1, 10, 4624), (2, 20, 4625), (3, 31, 1))),
    )
    assert counts(result) == {"ours": 3, "theirs": 3, "both": 2, "differing": 1}
    (one,) = result.disagreements
    assert (one.what, one.identity, one.ours, one.theirs) == ("differing", (3,), (30, 1), (31, 1))


def test_quarantined_and_recovered_records_are_not_lacking() -> None:
    result = compare(
        Ours(
            live=items((1, 10, 1), (5, 50, 5)),
            extra=items((3, 30, 3), (4, 40, 4)),
            aside=((2,), (2,)),
        ),
        Theirs(
            live=items((1, 10, 1), (2, 20, 2), (3, 30, 3)),
            recovered=items((4, 40, 4), (5, 50, 5), (6, 60, 6)),
        ),
    )
    assert counts(result) == {
        "ours": 2,
        "theirs": 3,
        "both": 1,
        "set_aside": 1,
        "as_recovered": 1,
        "their_recovered": 1,
        "recovered_ours": 2,
        "recovered_theirs": 3,
        "recovered_both": 1,
        "recovered_only_theirs": 1,
    }
    assert result.counts.lacking == 0


def test_what_transaction_logs_change_is_counted_apart() -> None:
    result = compare(
        Ours(live=items((1, 10, 1), (2, 20, 2)), by_logs=frozenset({(2,), (3,)})),
        Theirs(live=items((1, 10, 1), (3, 30, 3), (4, 40, 4))),
    )
    assert counts(result) == {
        "ours": 2,
        "theirs": 3,
        "both": 1,
        "by_logs_ours": 1,
        "by_logs_theirs": 1,
        "only_theirs": 1,
    }


def test_a_list_of_disagreements_is_bounded_and_what_we_lack_comes_first() -> None:
    many = items(*((n, n, n) for n in range(EXAMPLES_MAX + 50)))
    other = items(*((n, n, n) for n in range(10_000, 10_003)))
    result = compare(Ours(live=many), Theirs(live=other))
    assert [one.what for one in result.disagreements] == ["only_theirs"] * 3 + [
        "only_ours"
    ] * EXAMPLES_MAX
    assert result.counts.only_ours == len(many)


_ITEMS = st.lists(
    st.builds(
        lambda number, time, event: Item((number,), (time, event)),
        st.integers(0, 4),
        st.none() | st.integers(0, 2),
        st.none() | st.integers(0, 1),
    ),
    max_size=8,
).map(tuple)
_IDENTITIES = st.lists(st.tuples(st.integers(0, 4)), max_size=3).map(tuple)


@given(_ITEMS, _ITEMS, _IDENTITIES, _IDENTITIES, _ITEMS, _ITEMS)
def test_the_sums_hold_and_every_item_is_counted_once(
    live: tuple[Item, ...],
    extra: tuple[Item, ...],
    aside: tuple[Any, ...],
    by_logs: tuple[Any, ...],
    theirs: tuple[Item, ...],
    recovered: tuple[Item, ...],
) -> None:
    ours = Ours(live=live, extra=extra, aside=aside, by_logs=frozenset(by_logs))
    c = compare(ours, Theirs(live=theirs, recovered=recovered)).counts
    assert c.theirs == sum(
        (c.both, c.differing, c.only_theirs, c.set_aside, c.as_recovered, c.by_logs_theirs)
    )
    assert c.ours == sum((c.both, c.differing, c.only_ours, c.their_recovered, c.by_logs_ours))
    assert c.recovered_theirs == sum(
        (c.recovered_both, c.their_recovered, c.recovered_set_aside, c.recovered_only_theirs)
    )
    numbers = Counter(item.identity for item in (*live, *extra)) + Counter(aside)
    lacking = Counter(item.identity for item in theirs) - numbers
    excused = set(by_logs)
    assert c.lacking >= sum(n for identity, n in lacking.items() if identity not in excused)


@given(_ITEMS)
def test_a_reader_agrees_with_itself(found: tuple[Item, ...]) -> None:
    result = compare(Ours(live=found), Theirs(live=found))
    assert result.counts == Counts(ours=len(found), theirs=len(found), both=len(found))
