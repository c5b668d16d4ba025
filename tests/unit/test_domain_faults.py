"""The table of reasons: complete, and the only place that says what happens next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import casparian
from casparian.domain.faults import FAULTS, FaultKind, is_remembered, kind_of, meaning_of

PACKAGE = Path(casparian.__file__).parent
RAISED = {"GuestFault", "SourceExcluded", "JobFault", "StagingFault"}


def codes_raised() -> Iterator[tuple[str, str]]:
    """Every literal code that execution plane and sinks give to one of their faults."""
    for folder in ("worker", "sinks"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                if node.func.id not in RAISED:
                    continue
                given = [k.value for k in node.keywords if k.arg == "code"] or node.args[:1]
                for value in given:
                    if isinstance(value, ast.Constant) and "." in str(value.value):
                        yield str(value.value), f"{path.name}:{node.lineno}"


def test_every_code_that_is_raised_has_a_line() -> None:
    raised = dict(codes_raised())
    assert len(raised) > 15
    assert {code: place for code, place in raised.items() if code not in FAULTS} == {}


def test_every_line_says_what_it_means_in_one_sentence() -> None:
    for code, fault in FAULTS.items():
        assert fault.meaning, code
        assert not fault.meaning.endswith("."), code
        assert meaning_of(code) == fault.meaning


REMEMBERED = {
    "source.changed": False,
    "staging.fsync": False,
    "worker.lost": False,
    "isolation.too_low": False,
    "guest.killed": False,
    "guest.crash": True,
    "limit.memory": True,
    "confinement.violation": True,
    "parser.exception": True,
    "quarantine.limit": True,
    "parser.of_its_own": True,
    "evtx.made_up": True,
    "source.made_up": False,
    "sink.made_up": False,
}


@pytest.mark.parametrize("code", REMEMBERED)
def test_faults_of_the_place_are_not_held_against_a_source(code: str) -> None:
    assert is_remembered(code) == REMEMBERED[code]


def test_transient_faults_are_never_remembered() -> None:
    for code, fault in FAULTS.items():
        if fault.kind is FaultKind.TRANSIENT:
            assert not is_remembered(code), code


def test_an_unknown_code_is_permanent_and_says_nothing() -> None:
    assert kind_of("parser.of_its_own") is FaultKind.PERMANENT
    assert meaning_of("parser.of_its_own") == ""
