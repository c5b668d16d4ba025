"""What the author of a parser imports, and nothing else.

A parser is a folder with `parser.toml`, `contract.toml` and Python files. Its entry (`parser.py:parse`) is a generator:

    from casparian.sdk import Context, RowBuilder

    def parse(ctx: Context):
        rows = RowBuilder("my_events")
        for offset, line in lines_of(ctx.source):
            try:
                yield from rows.append(offset, len(line), 0, time=..., message=...)
            except ValueError as error:
                ctx.quarantine(offset, len(line), "my.bad_line", str(error))
        yield from rows.flush()

It may also yield `(output_name, data)` itself, where data is a `Row`, a list of rows, a dict (with the keys `@offset`, `@length`
and, when not zero, `@flags`), a pyarrow RecordBatch or Table whose first columns are `@offset`, `@length`, `@flags`.

Every row names its span: offset and length, in bytes, of the evidence it was read from. Modules of the parser's own folder are
imported relatively (`from . import grammar`). A value that does not fit its column becomes a quarantined row; a column
that the contract does not have, or a row without a span, is a mistake of the parser and fails the source (`OutputError`).
"""

from __future__ import annotations

from casparian.domain.lineage import FLAG_BITS
from casparian.sdk.context import Context
from casparian.sdk.rows import OutputError, Row, RowBuilder
from casparian.sdk.source import Source

RECOVERED = FLAG_BITS["recovered"]  # read from damage
SLACK = FLAG_BITS["slack"]  # outside the live area
CARVED = FLAG_BITS["carved"]  # found without the structure that should lead to it
LOSSY_TEXT = FLAG_BITS["lossy_text"]  # undecodable bytes were replaced
YEAR_INFERRED = FLAG_BITS["year_inferred"]  # the year is not in the row's own bytes
TZ_DECLARED = FLAG_BITS["tz_declared"]  # the zone comes from the parser's configuration

__all__ = [
    "CARVED",
    "LOSSY_TEXT",
    "RECOVERED",
    "SLACK",
    "TZ_DECLARED",
    "YEAR_INFERRED",
    "Context",
    "OutputError",
    "Row",
    "RowBuilder",
    "Source",
]
