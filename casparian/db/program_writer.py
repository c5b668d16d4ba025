"""Changes of the program itself on a home's tape: which version took the place of which, by whom, signed with which key.

An installation keeps the history, and many homes may be used with it. Each home notes how far it has read, in `cf_meta`, in the
transaction that makes the entries: a copy of the database that is restored reads on from where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from casparian.db import operations as op
from casparian.db.rows import first_row

if TYPE_CHECKING:
    import duckdb

KIND: Final = "program.changed"  # of the entry; what the program can write again, and no work


class ProgramWriter:
    """Handlers of these operations, inside the transaction of `DatabaseWriter`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, tape: Callable[..., None]) -> None:
        self._connection = connection
        self._tape = tape
        self.handlers: dict[type[Any], Callable[[Any], Any]] = {
            op.RecordProgramChanges: self._record
        }

    def _record(self, o: op.RecordProgramChanges) -> int:
        name = f"program {o.installation}"
        row = first_row(self._connection, "SELECT value FROM cf_meta WHERE name = ?", [name])
        read = None if row is None else msgspec.json.decode(row[0], type=op.ProgramChange)
        found = unread(o.changes, read)
        if not found:
            return 0
        for change in found:
            self._tape(
                o.at_ns,
                KIND,
                action=change.action,
                version_from=change.before,
                version_to=change.version,
                release=change.release,
                key=change.key,
                outcome=change.outcome,
                changed_at=change.at,
                actor=change.by,
                installation=o.installation,
            )
        mark = msgspec.json.encode(found[-1]).decode()
        self._connection.execute("INSERT OR REPLACE INTO cf_meta VALUES (?, ?)", [name, mark])
        return len(found)


def unread(
    changes: Sequence[op.ProgramChange], read: op.ProgramChange | None
) -> Sequence[op.ProgramChange]:
    """Which changes are to be recorded, when those up to `read` were.

    A home that has read nothing yet takes how the version in use came to be; what was before is not its own past. A change whose
    outcome is another by now is recorded again. A history that does not hold `read` is a new installation's in the same place.
    """
    if read is None:
        last = [n for n, change in enumerate(changes) if change.action != "remove"]
        return changes[last[-1] :] if last else ()
    same = [
        number
        for number, change in enumerate(changes)
        if msgspec.structs.replace(change, outcome=read.outcome) == read
    ]
    if not same:
        return changes
    return changes[same[-1] + (changes[same[-1]].outcome == read.outcome) :]
