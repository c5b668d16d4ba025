"""Figures of an account that no source of its size can have are refused, however well they agree with each other."""

from __future__ import annotations

import os

import msgspec
import pytest

from casparian import _native
from casparian.domain.ledger import Ledger
from casparian.worker.balance import Units, balance
from casparian.worker.session import _check_figures


def account(content: bytes) -> _native.Account:
    descriptor = os.memfd_create("text")
    try:
        os.write(descriptor, content)
        return _native.account_lines(descriptor, len(content))
    finally:
        os.close(descriptor)


class Claims:
    """An account that says what it wants."""

    def __init__(self, **figures: object) -> None:
        self.findings: list[tuple[str, int, int, str]] = []
        self.present = self.slack_records = self.blank_units = self.blank_bytes = 0
        vars(self).update(figures)


@pytest.mark.parametrize("content", [b"", b"x", b"\n", b"\n\n\n", b"a\nb\n", b"a" * 5000])
def test_an_honest_account_passes(content: bytes) -> None:
    _check_figures(account(content), len(content))


@pytest.mark.parametrize(
    "figures",
    [
        {"present": 101},
        {"present": 2**64 - 1},
        {"slack_records": 101},
        {"blank_units": 101},
        {"blank_bytes": 101},
        {"findings": [("a", 2**63, 0, "")]},
        {"findings": [("a", 0, 2**64 - 1, "")]},
    ],
)
def test_an_account_beyond_its_source_is_refused(figures: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="more than 100 bytes can hold"):
        _check_figures(Claims(**figures), 100)  # type: ignore[arg-type]


def test_what_evidence_claims_of_itself_is_cut_to_what_a_column_holds() -> None:
    plain = account(b"").to_bytes()  # magic, version, unit, then whether anything is declared
    assert plain[6] == 0
    boastful = _native.Account.from_bytes(plain[:6] + b"\x01" + b"\xff" * 9 + b"\x01" + plain[7:])
    assert boastful.declared == 2**64 - 1
    ledger = balance(Units("lines"), boastful, "line")
    assert ledger.declared == 2**63 - 1
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ledger), type=Ledger) == ledger
