"""The command that starts Casparian with faults built in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_LAUNCHER = Path(__file__).parent / "launcher.py"


def launched(plan_path: Path, **plan: Any) -> list[str]:
    """Write the plan, return what takes the place of `casparian` (see `launcher.py` for what a plan may hold)."""
    plan_path.write_text(json.dumps(plan))
    return [sys.executable, "-B", str(_LAUNCHER), str(plan_path), "casparian"]
