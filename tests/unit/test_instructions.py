"""The guard of the hot loops reads what callgrind writes, and fails on growth with the names of what grew."""

from __future__ import annotations

from tests.instructions.callgrind import self_costs
from tests.instructions.loops import TOLERANCE, compare

WRITTEN = """\
version: 1
events: Ir

fl=(1) /src/decoder.rs
fn=(1) core::Decoder::run::h0123456789abcdef
10 300
+2 50
cfn=(2) core::text::push'2
calls=7 20
11 9000
-1 25
fi=(2) /src/inlined.rs
* 5
fn=(2)
20 9000

fn=(1)
10 1000
"""


def test_costs_are_of_the_function_itself_and_names_are_found_again() -> None:
    costs = self_costs(WRITTEN.splitlines(keepends=True))
    assert costs == {"core::Decoder::run": 300 + 50 + 25 + 5 + 1000, "core::text::push": 9000}


def test_growth_beyond_the_tolerance_names_the_functions_that_grew_most_first() -> None:
    before = {"": 1_000, "a": 500, "b": 300, "gone": 200}
    now = {"": 1_060, "a": 520, "b": 300, "new": 240}
    verdict = compare("decode", before, now)
    assert verdict.grown
    assert not verdict.shrunk
    assert [name for name, then, after in verdict.functions if after > then] == ["new", "a"]
    assert str(verdict).splitlines()[1].split() == ["0", "→", "240", "new"]
    assert "gone" not in str(verdict)


def test_growth_within_the_tolerance_is_no_failure_and_a_gain_is_told() -> None:
    assert not compare("x", {"": 1_000}, {"": int(1_000 * TOLERANCE) + 999}).grown
    assert compare("x", {"": 1_000}, {"": 900}).shrunk
