"""Every attack on trust is refused with its own reason.

An attack gets an organisation whose policy is in force and returns only if it succeeded. The valid cases stand in
`tests/unit/test_trust_verify.py`; an attack that is refused for another reason than its own fails here.
"""

from __future__ import annotations

import pytest

from casparian.errors import CasparianError
from casparian.trust import package
from casparian.trust.refusals import REASONS
from tests.factories.trust import FILES, Organisation
from tests.trust_attacks import (
    bytes_and_folders,
    contents,
    decisions,
    keys_at_rest,
    packages,
    policies,
    roots,
    shapes,
    signers,
    times,
)
from tests.trust_attacks.table import ATTACKS

MODULES = (  # each fills the table when it is imported
    signers,
    contents,
    times,
    bytes_and_folders,
    policies,
    roots,
    packages,
    decisions,
    keys_at_rest,
    shapes,
)


@pytest.fixture(scope="module")
def organisation():
    return Organisation()


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", ATTACKS)


def test_attack(name, organisation, tmp_path):
    code, function = ATTACKS[name]
    with pytest.raises(CasparianError) as refusal:
        function(organisation, tmp_path)
    assert refusal.value.code == code, refusal.value
    assert refusal.value.hint or code.startswith("artifact.")
    assert refusal.value.exit_code == 4


def test_the_table_is_whole():
    assert len(ATTACKS) >= 240
    # These three are about a person at the keyboard or a device: `test_trust_cli.py`.
    elsewhere = {"trust.fingerprint", "trust.words", "trust.token"}
    assert {code for code, _ in ATTACKS.values()} >= REASONS.keys() - elsewhere


def test_every_reason_has_a_next_step():
    for code, reason in REASONS.items():
        assert code.startswith("trust.")
        assert reason.meaning
        assert reason.hint


def test_a_member_as_we_write_it_is_read(organisation):
    """The packages above are refused for what they say of themselves, not for how they were put together."""
    raw = packages.tar_with(organisation, (packages.member("zz"), b""))
    assert set(package.parse_package(raw)[0]) == {*FILES, "zz"}
