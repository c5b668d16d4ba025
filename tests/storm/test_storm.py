"""The storm in small: the kills are spread over every sink and mode. `make storm` is the long form."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.storm.__main__ import storm
from tests.storm.arena import MODES, SINKS

_KILLS = 25


@pytest.mark.timeout(3600)  # of a hang; how long it takes is no matter of this test
def test_twenty_five_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("CASPARIAN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed} (set CASPARIAN_SEED to repeat)")
    count = storm(tmp_path, kills=_KILLS, seed=seed, sinks=SINKS, modes=MODES, steps=2, short=True)
    killed = sum(number for name, number in count.items() if name.startswith("kill "))
    assert killed >= _KILLS - len(SINKS) * len(MODES), f"too few were caught (seed {seed}): {count}"
