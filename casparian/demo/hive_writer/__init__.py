"""Write registry hives and their transaction logs from nothing, cell by cell.

    root = Key(name="ROOT", subkeys=(Key(name="Run", values=(text("OneDrive", "o.exe"),)),))
    built = Hive(root=root).build()   # .data, and .cells: where each key and value landed

`tree` describes, `cells` places, `hive` writes a hive, `logs` writes what a cut-short write leaves behind. This package is
written from the specification and shares nothing with the readers, so that each can be tested by the other.
"""

from casparian.demo.hive_writer.hive import (
    BASE_BYTES,
    SECTOR_BYTES,
    BuiltHive,
    Hive,
    PlacedCell,
    seal,
)
from casparian.demo.hive_writer.logs import (
    entry_log,
    interrupted,
    marvin32,
    sector_log,
    sequence_of,
)
from casparian.demo.hive_writer.tree import (
    Key,
    State,
    Value,
    ValueType,
    binary,
    dword,
    qword,
    security_descriptor,
    sid,
    text,
    texts,
)

__all__ = [
    "BASE_BYTES",
    "SECTOR_BYTES",
    "BuiltHive",
    "Hive",
    "Key",
    "PlacedCell",
    "State",
    "Value",
    "ValueType",
    "binary",
    "dword",
    "entry_log",
    "interrupted",
    "marvin32",
    "qword",
    "seal",
    "sector_log",
    "security_descriptor",
    "sequence_of",
    "sid",
    "text",
    "texts",
]
