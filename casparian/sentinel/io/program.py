"""What happened to the program since a home was last served, from its installation's record onto the home's tape.

A switch of versions happens while no sentinel runs, and one installation may serve many homes. So each sentinel looks as it
starts: `DEST/installation.json` has who put which version in the place of which, and `DEST/current` tells what came of it. That
the record cannot be read is no reason not to start: it is in the log, and `casparian doctor` looks at installations.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from casparian.db import operations as op
from casparian.db.writer import DatabaseWriter

_RECORD_BYTES_MAX: Final = 4 << 20
_LOG = logging.getLogger(__name__)


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    at: str
    action: str
    version: str
    before: str | None
    key: str
    by: str


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    history: tuple[_Change, ...] = ()


def record_changes(writer: DatabaseWriter, version: Path | None, *, now_ns: int) -> int:
    """Append what is not on the tape yet; how many entries that made.

    Args:
        writer: of the home's database.
        version: the folder of the version that runs, `DEST/versions/NAME`; of any other folder nothing is known.
        now_ns: when it is recorded; when it happened is a field of the entry.
    """
    if version is None or (versions := version.resolve().parent).name != "versions":
        return 0
    installation = versions.parent
    try:
        changes = _changes(installation)
    except (OSError, ValueError) as error:
        _LOG.warning(
            "the record of the installation cannot be read",
            extra={"fields": {"installation": str(installation), "why": str(error)}},
        )
        return 0
    operation = op.RecordProgramChanges(
        at_ns=now_ns, installation=str(installation), changes=changes
    )
    (outcome,) = writer.apply([[operation]])
    if isinstance(outcome, Exception):
        raise outcome
    return int(outcome[0])


def _changes(installation: Path) -> tuple[op.ProgramChange, ...]:
    with open(installation / "installation.json", "rb") as file:
        found = msgspec.json.decode(file.read(_RECORD_BYTES_MAX), type=_Record).history
    used = os.path.basename(os.readlink(installation / "current"))
    changes = []
    for change in reversed(found):
        if change.action == "remove":
            outcome = "removed"
        else:
            outcome = "switched" if change.version == used else "not_switched"
            # What was in use when the change was made is what those before it have come to.
            used = change.before or used
        release = int(change.version.rpartition("-")[2])  # as `layout.version_folder` joins them
        changes.append(
            op.ProgramChange(**msgspec.structs.asdict(change), release=release, outcome=outcome)
        )
    return tuple(reversed(changes))
