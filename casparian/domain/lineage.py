"""The columns the host adds to every row, and the identity of a row.

A parser can neither set nor shadow them: a column that begins with `_cf_` after case folding and NFKC is refused before the
first write.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import msgspec

LINEAGE_VERSION: Final = 1  # part of every materialization key

# name -> Arrow type, in the order they follow the parser's own columns
LINEAGE_COLUMNS: Final[dict[str, str]] = {
    "_cf_source_hash": "utf8",
    "_cf_source_id": "utf8",
    "_cf_source_path": "utf8",
    "_cf_job_id": "int64",
    "_cf_parser": "utf8",
    "_cf_artifact_hash": "utf8",
    "_cf_contract_hash": "utf8",
    "_cf_processed_at": "timestamp[ns, UTC]",
    "_cf_ordinal": "int64",
    "_cf_offset": "uint64",
    "_cf_length": "uint64",
    "_cf_flags": "list<utf8>",
}

# Not compared when a row is proven: they say when and by which job, not what.
VOLATILE_COLUMNS: Final = frozenset({"_cf_processed_at", "_cf_job_id", "_cf_row_id"})

FLAGS: Final[dict[int, str]] = {
    1: "recovered",
    2: "slack",
    4: "carved",
    8: "crc_bad",
    16: "cut",
    32: "lossy_text",
    64: "inline",
    128: "strange_system",
    256: "year_inferred",
    512: "tz_declared",
}
FLAG_BITS: Final[dict[str, int]] = {name: bit for bit, name in FLAGS.items()}
EXTRA_BITS: Final = FLAG_BITS["slack"] | FLAG_BITS["carved"]  # rows outside the ledger's `present`

_ROW_ID = re.compile(
    r"(?P<table>[A-Za-z_][A-Za-z0-9_]*):(?P<source>[0-9a-f]{16}):(?P<job>\d+):(?P<ordinal>\d+)\Z"
)
_RESERVED_PREFIX = "_cf_"


class RowId(msgspec.Struct, frozen=True, kw_only=True):
    """`table:source_id[:16]:job:ordinal`, parsed."""

    table: str
    source_prefix: str
    job_id: int
    ordinal: int

    def __str__(self) -> str:
        return f"{self.table}:{self.source_prefix}:{self.job_id}:{self.ordinal}"


def parse_row_id(text: str) -> RowId | None:
    """Read a `_cf_row_id`; `None` when the text is not one."""
    match = _ROW_ID.match(text)
    if match is None:
        return None
    return RowId(
        table=match["table"],
        source_prefix=match["source"],
        job_id=int(match["job"]),
        ordinal=int(match["ordinal"]),
    )


def is_reserved_column(name: str) -> bool:
    """Whether a parser's column would collide with lineage, however it is spelt."""
    return unicodedata.normalize("NFKC", name).casefold().startswith(_RESERVED_PREFIX)


def flag_names(bits: int) -> list[str]:
    """Names of the set bits, in bit order; an unknown bit is named `bit_N` rather than lost."""
    names = []
    for position in range(32):
        bit = 1 << position
        if bits & bit:
            names.append(FLAGS.get(bit, f"bit_{position}"))
    return names
