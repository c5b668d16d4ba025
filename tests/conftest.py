"""What all tests share: the corpus, worlds, and the rule that nothing is left running."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so; the tests of ctrl-C would wait for ever, and so would the programs they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of an exhaustive set (`@pytest.mark.sampled(n)`) every n-th case runs always; the others are slow tests."""
    seen: dict[str, int] = {}
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is None:
            continue
        group = item.nodeid.partition("[")[0]
        number = seen[group] = seen.get(group, -1) + 1
        if number % mark.args[0]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The development corpus; tests that need it say so when it is not there."""
    chosen = os.environ.get("CASPARIAN_CORPUS")
    if not chosen or not Path(chosen, "ORACLE.json").is_file():
        pytest.skip("needs the development corpus: set CASPARIAN_CORPUS to its directory")
    return Path(chosen).resolve()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty world; its sentinel is stopped afterwards."""
    made = World(tmp_path)
    yield made
    made.stop()
