"""Messages of the bridge between worker (host) and guest. Nothing that a guest says is trusted.

One job on one AF_UNIX stream socket:

    host  -> guest   BRIDGE_JOB GuestJob                      flags: 0
    guest -> host    BRIDGE_READY Ready
    host  -> guest   BRIDGE_SOURCE GuestSource + open descriptors (SCM_RIGHTS on the frame's first byte):
                     the source's, then one for each of its companions, in their order
    guest -> host    BRIDGE_BATCH …                       flags: output number (below); payload: one Arrow record-batch message
    guest -> host    BRIDGE_END SourceEnd | BRIDGE_FAILED SourceFailed          then the host sends the next source
    host  -> guest   BRIDGE_SOURCES GuestSources + as many descriptors          several small sources for a native decoder
    guest -> host    BRIDGE_BATCH …                       rows of each output in the order of the sources
    guest -> host    BRIDGE_END GroupEnd | BRIDGE_FAILED SourceFailed
    host  -> guest   BRIDGE_FINISH
    (an accounting guest answers each source, of a group as well, with one BRIDGE_ACCOUNT or BRIDGE_FAILED instead;
    a guest that attacks itself takes the attack's name as the source's path and answers with BRIDGE_ATTACKED;
    one that compiles gets no source and sends one BRIDGE_COMPILED Compiled after its BRIDGE_READY)

The header's number is the job's epoch in both directions. Output numbers: 0 is quarantine, 1… are the job's outputs in
order; `QUARANTINE_OF | n` are rows of output n that do not fit its columns. A batch is decoded against the host's own
schema: three bookkeeping columns, then the contract's columns. A BRIDGE_FAILED of index -1 is about the job: the parser
could not be loaded.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from casparian.domain.contracts import Column, OutputContract
from casparian.domain.parsers import COMPANIONS_MAX, ConfigValue, Limits, ParserKind

QUARANTINE_OUTPUT: Final = 0
QUARANTINE_OF: Final = 0x8000
JOB_INDEX: Final = -1  # in SourceFailed: not about one source
RAW_INLINE_BYTES_MAX: Final = 65_536  # longer quarantined bytes are kept by offset, length and hash
BATCH_ROWS_MAX: Final = 1 << 20
DESCRIPTORS_MAX: Final = 1 + COMPANIONS_MAX  # of one frame: a source and its companions

# Small sources of one job cross the bridge together where the decoder can take them so: a file's share of batches, checks and
# wake-ups costs more than its bytes. A guest may have 64 descriptors open.
GROUP_ENTRIES: Final = frozenset({"evtx"})
GROUP_SOURCES_MAX: Final = 48
GROUP_BYTES_MAX: Final = 4 << 20  # of all sources together
GROUP_SOURCE_BYTES_MAX: Final = 512 << 10  # of each

BOOKKEEPING: Final = (
    Column(name="@offset", type="uint64", nullable=False),
    Column(name="@length", type="uint64", nullable=False),
    Column(name="@flags", type="uint32", nullable=False),
)

QUARANTINE_COLUMNS: Final = (
    Column(name="reason", type="utf8", nullable=False),
    Column(name="field", type="utf8"),
    Column(name="message", type="utf8", nullable=False),
    Column(name="raw", type="binary"),
)

RENDER_ENTRY: Final = "evtx_render"  # renders one record; settings: offset, length, carved
RENDERED: Final = OutputContract(
    table="rendered",
    main=True,
    columns=(
        Column(name="xml", type="utf8", nullable=False),
        Column(name="json", type="utf8", nullable=False),
        Column(name="unfit_for_xml", type="int64", nullable=False),
        Column(name="problem", type="utf8"),
    ),
)

INFER_ENTRY: Final = "infer"  # infers the columns of text; setting: infer, JSON of what is known
INFERRED: Final = OutputContract(
    table="inferred",
    main=True,
    columns=(
        Column(name="source", type="int64", nullable=False),
        Column(name="found", type="utf8", nullable=False),
    ),
)


class GuestJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest is to do. `files` holds the verified bytes of a Python parser, by relative path.

    `compiled` holds what another guest made of the same bytes (`Compiled`); it is only ever loaded in a guest.
    """

    task: Literal["parse", "account", "self_attack", "compile"]
    parser_name: str
    kind: ParserKind
    entry: str
    account: str
    config: dict[str, ConfigValue]
    outputs: tuple[OutputContract, ...]
    files: dict[str, bytes]
    limits: Limits
    compiled: dict[str, bytes] = {}
    threads: int = 1  # of a native decoder, where it can use several


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The guest has closed what it does not need, is limited, and has loaded the parser."""

    isolation: dict[str, str]


class Companion(msgspec.Struct, frozen=True, kw_only=True):
    """A file that belongs to the source, as far as a guest needs to know it."""

    role: str
    size_bytes: int


class GuestSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One source; its descriptors are open for reading only. `display_path` serves parsers whose rules read the path."""

    index: int
    size_bytes: int
    display_path: str
    companions: tuple[Companion, ...] = ()


class GuestSources(msgspec.Struct, frozen=True, kw_only=True):
    """Several small sources, and as many descriptors in the same order."""

    sources: tuple[GuestSource, ...]


class Attacked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one self-attack, as the guest sees it: `done`, `denied ERRNO`, `unproven …`."""

    name: str
    outcome: str


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """Code objects of a parser's modules, marshalled, by relative path; a module that cannot be compiled is left out."""

    modules: dict[str, bytes]


class SourceEnd(msgspec.Struct, frozen=True, kw_only=True):
    """All batches of this source were sent: rows by output number, for the host to compare with what it received."""

    index: int
    rows: dict[int, int]


class GroupEnd(msgspec.Struct, frozen=True, kw_only=True):
    """All batches of these sources were sent: rows of each source by output number, in the order of the sources."""

    rows: tuple[dict[int, int], ...]


class SourceFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The parser gave up on this source."""

    index: int
    code: str
    message: str
