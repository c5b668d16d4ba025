"""One arena for each kind of user; it serves all attacks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.attacks.arena import ORDINARY_UID, Arena


def _may_mount() -> bool:
    """Whether a mount namespace of our own can be had, which an ordinary user's view needs."""
    tried = subprocess.run(
        ["/usr/bin/unshare", "-m", "--propagation", "private", "/usr/bin/true"],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


@pytest.fixture(scope="session", params=["ordinary user", "root"])
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    """The system, run by this kind of user."""
    if request.param == "root" and os.getuid() != 0:
        pytest.skip("not run: only root can try what happens when root starts the program")
    uid = os.getuid()
    if request.param == "ordinary user" and uid == 0:
        if not _may_mount():
            pytest.skip("not run: root without the right to mount cannot become an ordinary user")
        uid = ORDINARY_UID
    made = Arena(uid)
    yield made
    made.close()
