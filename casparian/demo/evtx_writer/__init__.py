"""Write Windows event logs from nothing, byte by byte, with every corner the format has.

    event = windows_event(System(...), event_data(("TargetUserName", string("ines.marlow"))))
    data = event_log([event]).to_bytes()

`values` encodes, `tree` describes, `binxml` writes tokens, `chunk` and `log` lay out the file, and
`windows` shapes events as Windows does. This package is written from the specifications and shares
nothing with the reader that Casparian decodes logs with, so each can be tested by the other.
"""

from casparian.demo.evtx_writer.chunk import (
    CHUNK_BYTES,
    CHUNK_HEADER_BYTES,
    Chunk,
    seal,
    seal_header,
)
from casparian.demo.evtx_writer.log import (
    FILE_HEADER_BYTES,
    BuiltLog,
    EventLog,
    PlacedRecord,
    event_log,
    seal_file_header,
)
from casparian.demo.evtx_writer.tree import (
    Attribute,
    CData,
    CharacterReference,
    Element,
    EntityReference,
    Event,
    Fragment,
    Instance,
    ProcessingInstruction,
    Slot,
    Template,
    Text,
    element,
    slots_of,
)
from casparian.demo.evtx_writer.values import Value, ValueType, array, to_filetime
from casparian.demo.evtx_writer.windows import (
    System,
    classic_data,
    event_data,
    forwarded_event,
    made_up_guid,
    processing_error,
    user_data,
    windows_event,
)

__all__ = [
    "CHUNK_BYTES",
    "CHUNK_HEADER_BYTES",
    "FILE_HEADER_BYTES",
    "Attribute",
    "BuiltLog",
    "CData",
    "CharacterReference",
    "Chunk",
    "Element",
    "EntityReference",
    "Event",
    "EventLog",
    "Fragment",
    "Instance",
    "PlacedRecord",
    "ProcessingInstruction",
    "Slot",
    "System",
    "Template",
    "Text",
    "Value",
    "ValueType",
    "array",
    "classic_data",
    "element",
    "event_data",
    "event_log",
    "forwarded_event",
    "made_up_guid",
    "processing_error",
    "seal",
    "seal_file_header",
    "seal_header",
    "slots_of",
    "to_filetime",
    "user_data",
    "windows_event",
]
