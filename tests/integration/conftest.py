"""What the worker's tests share: services that are made once a module, because a zygote takes its time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from worker_world import home_at

from casparian.worker.executor import Services


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A worker's services in a home of their own."""
    made = Services(home_at(tmp_path_factory.mktemp("worker")))
    yield made
    made.close()
