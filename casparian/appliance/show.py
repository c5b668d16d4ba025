"""Show one row: its columns with their types, and an event record as Windows shows it.

The columns are those that are stored. The event is rendered anew from the evidence's bytes, in a confined guest of a worker of
its own, by code that shares no plan and no column with the decoder. The evidence is hashed first: what is shown comes
from the very bytes that the row came from.
"""

from __future__ import annotations

from typing import Any, Final

import duckdb
import msgspec

from casparian.appliance import evidence
from casparian.appliance.rederive import Rederived
from casparian.appliance.why import parser_on_disk
from casparian.display import show
from casparian.domain.parsers import ParserArtifact, ParserKind
from casparian.errors import CasparianError, IntegrityError, UsageError
from casparian.paths import Home
from casparian.protocol.guest import RENDER_ENTRY, RENDERED
from casparian.query import lineage
from casparian.query.engine import Query
from casparian.query.rows import FoundRow, dataset_of, find_row, read_row_id
from casparian.sinks.catalog_views import rows_sql
from casparian.trust import verdict

_EVTX_ENTRY: Final = "evtx"
_CARVED: Final = "carved"


class ShownColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a row; the value is as JSON carries it."""

    name: str
    type: str
    value: Any


class RenderedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A record of an event log, from its bytes.

    `unfit_for_xml` characters of it are no XML characters: `xml` has U+FFFD for each, `json` has them.
    """

    xml: str
    json: str
    unfit_for_xml: int


class RowShown(msgspec.Struct, frozen=True, kw_only=True):
    """A row, and what its parser is."""

    row_id: str
    columns: tuple[ShownColumn, ...]
    is_event: bool


def show_row(home: Home, row: str) -> RowShown:
    """The columns of a row in the order of its table.

    Raises:
        UsageError: `row.malformed` or `row.unknown`.
        IntegrityError: `row.missing` or `output_file.unreadable`.
    """
    with Query(home) as query:
        found = _found(query, row)
        types = _types(query, found)
        artifact = _artifact_of(home, found)
    return RowShown(
        row_id=str(found.row_id),
        columns=tuple(
            ShownColumn(name=name, type=types.get(name, ""), value=value)
            for name, value in found.values.items()
        ),
        is_event=artifact is not None and _is_event(found, artifact),
    )


def render_event(home: Home, row: str) -> RenderedEvent:
    """Render the event that a row came from.

    Raises:
        UsageError: `show.no_event`: the row is not one of an event log; `row.malformed` or `row.unknown`.
        IntegrityError: `evidence.missing`, `evidence.changed`, `row.missing`.
        CasparianError: `show.unreadable`: the event cannot be read; `rederive.failed`: the worker could not run.
    """
    with Query(home) as query:
        found = _found(query, row)
        recorded = found.recorded
        sightings = lineage.paths_of(query, recorded["source_id"])
    artifact = _artifact_of(home, found)
    if artifact is None:
        raise CasparianError(
            f"The parser `{recorded['parser']}` is not on this machine any more",
            code="show.parser",
            hint="`casparian parser list` shows what is here",
        )
    if not _is_event(found, artifact):
        raise UsageError(
            f"`{found.row_id}` is not an event of a Windows event log: it has no XML",
            code="show.no_event",
            hint="leave out `--xml` to see the row, column by column",
        )
    verdict.verify(artifact, home)
    places = evidence.recorded_places(sightings, (recorded["root"], recorded["source_path"]))
    now = evidence.find(places)
    if now is None:
        raise IntegrityError(
            f"The evidence is not there any more: {evidence.text(place.path for place in places)}",
            code="evidence.missing",
            hint="put it back where it was; without `--xml` the stored row is shown",
        )
    if now.source_hash != recorded["source_hash"]:
        raise IntegrityError(
            f"The evidence has changed since the row was made: {evidence.text([now.path])}",
            code="evidence.changed",
            hint=f"`casparian why {found.row_id}` says what differs",
        )
    return _rendered(home, found, artifact, now)


def _rendered(
    home: Home, found: FoundRow, artifact: ParserArtifact, now: evidence.FoundEvidence
) -> RenderedEvent:
    offset = found.values["_cf_offset"]
    renderer = msgspec.structs.replace(
        artifact, manifest=msgspec.structs.replace(artifact.manifest, entry=RENDER_ENTRY)
    )
    with Rederived(
        home,
        source=now.task(found.recorded["source_path"]),
        parser=renderer,
        config={
            "offset": offset,
            "length": found.values["_cf_length"],
            _CARVED: _CARVED in (found.values["_cf_flags"] or ()),
        },
        outputs=(RENDERED,),
        job_id=found.row_id.job_id,
    ) as made:
        event = made.row(RENDERED.table, "_cf_offset", offset)
    if event is None or event["problem"] is not None:
        problem = "nothing came back" if event is None else event["problem"]
        raise CasparianError(
            f"The event cannot be rendered: {show(problem)}",
            code="show.unreadable",
            hint=f"`casparian why {found.row_id}` proves the row by its parser",
        )
    return RenderedEvent(xml=event["xml"], json=event["json"], unfit_for_xml=event["unfit_for_xml"])


def _found(query: Query, row: str) -> FoundRow:
    row_id = read_row_id(row)
    found = find_row(query, row_id)
    if found is None:
        raise IntegrityError(
            f"The row `{row_id}` was committed, but no file holds it any more",
            code="row.missing",
            hint="`casparian doctor --verify` checks every output",
        )
    return found


def _types(query: Query, found: FoundRow) -> dict[str, str]:
    """The SQL type of each column, as the sink has it."""
    dataset = dataset_of(query, found.recorded)
    if dataset is None:
        return {}
    sql = rows_sql(dataset, attached=query.attached(dataset))
    try:
        described = query.arrow(f"DESCRIBE SELECT * FROM ({sql}) r")
    except duckdb.Error:
        return {}
    names, types = described.column(0).to_pylist(), described.column(1).to_pylist()
    return dict(zip(names, types, strict=True))


def _artifact_of(home: Home, found: FoundRow) -> ParserArtifact | None:
    artifact, _, _ = parser_on_disk(found.recorded, home)
    return artifact


def _is_event(found: FoundRow, artifact: ParserArtifact) -> bool:
    """Whether the row came from a record of an event log: it has its place, and a native decoder made it."""
    manifest = artifact.manifest
    return (
        manifest.kind is ParserKind.NATIVE
        and manifest.entry == _EVTX_ENTRY
        and found.values.get("_cf_offset") is not None
        and found.values.get("_cf_length") is not None
    )
