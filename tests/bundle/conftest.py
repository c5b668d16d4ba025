"""One finished stick for the tests that only read it."""

from __future__ import annotations

import pytest

from tests.factories import small_sticks as sticks


@pytest.fixture(scope="session")
def stick(tmp_path_factory):
    """A stick with the program, signed with the development key; tests copy what they change."""
    return sticks.make_stick(tmp_path_factory.mktemp("stick"))
