"""Which command a unit runs: one that stays right when the version under it is replaced."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from casparian import installation
from casparian.appliance.stick import layout


def destination() -> Path | None:
    """Folder of the installation that this program belongs to; `None` when no stick installed it."""
    version = installation.root()
    if version is None:
        return None
    version = Path(os.path.realpath(version))  # by way of `current` it is the same version
    return version.parents[1] if version.parent.name == layout.VERSIONS else None


def stable_command() -> tuple[str, ...]:
    """How to call the program from a unit.

    An installation is called through its link `current`: an update or a rollback needs no new unit. Any other program is called
    as it runs now.
    """
    place = destination()
    if place is not None:
        return (str(place / layout.CURRENT / "bin" / "casparian"),)
    version = installation.root()
    if version is not None:
        return (str(version / "bin" / "casparian"),)
    return (sys.executable, "-I", "-B", "-m", "casparian")
