"""The chain behind a row, a file or a table: bytes, source, job, parser, contract, output file.

Everything here is read from the catalog: what was recorded. `appliance.why` is what checks it.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from casparian.display import show
from casparian.domain.lineage import RowId, parse_row_id
from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.errors import UsageError
from casparian.query.engine import Query
from casparian.query.rows import FoundRow, find_row, materialization

HASH_PREFIX_MIN = 8  # shorter prefixes of a hash could be file names


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One link of a chain.

    `link` is `row`, `bytes`, `source`, `job`, `parser`, `contract`, `output_file` or `table`.
    `verified` is set by who checked it; a chain that was only read leaves it out.
    """

    link: str
    fields: dict[str, Any]
    verified: bool | None = None

    def to_builtins(self) -> dict[str, Any]:
        """As `--json` shows it: the fields beside the link's name."""
        document = {"link": self.link, **self.fields}
        return document if self.verified is None else document | {"verified": self.verified}


def chain(query: Query, subject: str) -> tuple[Link, ...]:
    """The chain behind a row id, a table's name, or a file (its path or a hash of its content).

    Raises:
        UsageError: `row.unknown` or `lineage.unknown`: nothing recorded carries that name.
    """
    row_id = parse_row_id(subject)
    if row_id is not None:
        return row_chain(query, row_id, find_row(query, row_id))
    if subject == QUARANTINE_TABLE or any(d.table == subject for d in query.catalog.datasets):
        return table_chain(query, subject)
    return file_chain(query, subject)


def row_chain(query: Query, row_id: RowId, found: FoundRow | None) -> tuple[Link, ...]:
    """Row, bytes, source, job, parser, contract, output file; or what is left of these."""
    recorded = found.recorded if found is not None else materialization(query, row_id)
    links = [Link(link="row", fields=_row_fields(row_id, found, recorded))]
    if found is not None:
        span = {
            "offset": found.values["_cf_offset"],
            "length": found.values["_cf_length"],
            "flags": found.values["_cf_flags"],
        }
        links.append(Link(link="bytes", fields=span))
    links.append(source_link(query, recorded["source_id"], recorded))
    links += [job_link(query, recorded), _parser_link(recorded), _contract_link(recorded)]
    if found is not None:
        links.append(output_link(query, found))
    return tuple(links)


def file_chain(query: Query, subject: str) -> tuple[Link, ...]:
    """Sources of a path or hash, and for each what was made of it."""
    sources = _sources_named(query, subject)
    if not sources:
        raise UsageError(
            f"nothing recorded is named `{show(subject, width=120)}`",
            code="lineage.unknown",
            hint="give a row id, a table, a file's path or eight digits of its hash",
        )
    links: list[Link] = []
    for source_id in sources:
        recorded = query.fetch(
            f"SELECT * FROM {query.control('materializations')} WHERE source_id = ? "
            "ORDER BY committed_at, table_name",
            [source_id],
        )
        links.append(source_link(query, source_id, recorded[0] if recorded else None))
        jobs = {line["job_id"]: line for line in recorded}
        for job in jobs.values():
            links += [job_link(query, job), _parser_link(job)]
        for line in recorded:
            links += [_table_link(line), _contract_link(line)]
    return tuple(links)


def table_chain(query: Query, table: str) -> tuple[Link, ...]:
    """Datasets of a table, their contracts, parsers and files."""
    links: list[Link] = []
    if table == QUARANTINE_TABLE:
        datasets = [query.catalog.quarantine] if query.catalog.quarantine else []
    else:
        datasets = [d for d in query.catalog.datasets if d.table == table]
    for dataset in datasets:
        totals = query.fetch(
            "SELECT count(*) FILTER (NOT retired) AS sources, "
            "coalesce(sum(rows) FILTER (NOT retired), 0)::BIGINT AS rows "
            f"FROM {query.control('materializations')} WHERE table_name = ? AND sink = ?",
            [table, dataset.sink.uri],
        )[0]
        fields = {"table": table, "sink": dataset.sink.uri, "files": len(dataset.files)}
        links.append(Link(link="table", fields=fields | totals))
        for line in query.fetch(
            "SELECT DISTINCT ON (parser, parser_version, artifact_hash, contract_hash) * "
            f"FROM {query.control('materializations')} WHERE table_name = ? AND sink = ? "
            "ORDER BY committed_at DESC",
            [table, dataset.sink.uri],
        ):
            links += [_parser_link(line), _contract_link(line)]
        for path in dataset.paths:
            links.append(Link(link="output_file", fields=_output_fields(query, path, table)))
    return tuple(links)


def source_link(query: Query, source_id: str, recorded: dict[str, Any] | None = None) -> Link:
    """A source: both hashes, and every path it was seen at."""
    seen = paths_of(query, source_id)
    known = seen[0] if seen else (recorded or {})
    fields = {
        "source_id": source_id,
        "source_hash": known.get("source_hash"),
        "sha256": known.get("sha256"),
        "size_bytes": known.get("size_bytes"),
        "paths": [{"root": line["root"], "path": line["display_path"]} for line in seen],
    }
    companions = (seen[0].get("companions") or []) if seen else []
    if companions:
        fields["companions"] = [
            {
                "role": companion["role"],
                "path": companion["display_path"],
                "source_hash": companion["source_hash"],
                "sha256": companion["sha256"],
                "size_bytes": companion["size_bytes"],
            }
            for companion in companions
        ]
    return Link(link="source", fields=fields)


def companions_of(sightings: list[dict[str, Any]]) -> dict[str, str]:
    """Role and hash of each companion of a source: the same wherever it was seen."""
    companions = (sightings[0].get("companions") or []) if sightings else []
    return {companion["role"]: companion["source_hash"] for companion in companions}


def paths_of(query: Query, source_id: str) -> list[dict[str, Any]]:
    """Lines of `sources` for one source: every path it was seen at."""
    return query.fetch(
        f"SELECT * FROM {query.control('sources')} WHERE source_id = ? ORDER BY root, display_path",
        [source_id],
    )


def job_link(query: Query, recorded: dict[str, Any]) -> Link:
    """The job, with what confined it and who vouched for its parser when the catalog says so."""
    fields: dict[str, Any] = {
        "job_id": recorded["job_id"],
        "epoch": recorded["epoch"],
        "committed_at": f"{str(recorded['committed_at']).removesuffix('Z')}Z",  # UTC, always
        "materialization_key": recorded["materialization_key"],
    }
    if query.has_control("jobs"):
        found = query.fetch(
            f"SELECT * FROM {query.control('jobs')} WHERE job_id = ?", [recorded["job_id"]]
        )
        for name in ("run_id", "state", "isolation", "trust"):
            if found and name in found[0]:
                fields[name] = found[0][name]
        for name in ("isolation", "trust"):
            if fields.get(name):
                fields[name] = msgspec.json.decode(fields[name])
    return Link(link="job", fields=fields)


def output_link(query: Query, found: FoundRow) -> Link:
    """The file that holds a row."""
    return Link(link="output_file", fields=_output_fields(query, found.path, found.row_id.table))


def output_record(query: Query, path: str, table: str) -> dict[str, Any] | None:
    """The line of `outputs` for a file."""
    if not query.has_control("outputs"):
        return None
    found = query.fetch(
        f"SELECT * FROM {query.control('outputs')} WHERE path = ? AND table_name = ? "
        "ORDER BY committed_at DESC LIMIT 1",
        [path, table],
    )
    return found[0] if found else None


def _output_fields(query: Query, path: str, table: str) -> dict[str, Any]:
    recorded = output_record(query, path, table) or {}
    return {
        "path": path,
        "blake3": recorded.get("blake3") or None,
        "rows": recorded.get("rows"),
        "size_bytes": recorded.get("size_bytes") or None,
    }


def _row_fields(row_id: RowId, found: FoundRow | None, recorded: dict[str, Any]) -> dict[str, Any]:
    pair = (recorded["job_id"], recorded["source_id"])
    fields: dict[str, Any] = {
        "row_id": str(row_id),
        "table": row_id.table,
        "ordinal": row_id.ordinal,
        "retired": bool(recorded["retired"]),
    }
    if found is not None:
        fields["in_view"] = pair not in found.dataset.retired + found.dataset.hidden
        fields["values"] = found.values
    return fields


def _parser_link(recorded: dict[str, Any]) -> Link:
    return Link(
        link="parser",
        fields={
            "parser": recorded["parser"],
            "version": recorded["parser_version"],
            "artifact_hash": recorded["artifact_hash"],
            "directory": recorded["artifact_dir"],
            "config": msgspec.json.decode(recorded["parser_config"] or "{}"),
            "engine_hash": recorded["engine_hash"],
        },
    )


def _contract_link(recorded: dict[str, Any]) -> Link:
    return Link(
        link="contract",
        fields={
            "table": recorded["table_name"],
            "contract_hash": recorded["contract_hash"],
            "schema_hash": recorded["schema_hash"],
        },
    )


def _table_link(recorded: dict[str, Any]) -> Link:
    return Link(
        link="table",
        fields={
            "table": recorded["table_name"],
            "sink": recorded["sink"],
            "rows": recorded["rows"],
            "quarantined": recorded["quarantined"],
            "retired": bool(recorded["retired"]),
        },
    )


def _sources_named(query: Query, subject: str) -> list[str]:
    """Source ids of a path (relative or absolute), or of a prefix of any of its hashes."""
    absolute = os.path.abspath(subject)
    sql = (
        f"SELECT DISTINCT source_id FROM {query.control('sources')} "
        "WHERE display_path = $path OR concat(rtrim(root, '/'), '/', display_path) = $absolute "
        "OR (root = $absolute AND (display_path = '' OR ends_with(root, concat('/', display_path))))"
    )
    values: dict[str, Any] = {"path": subject, "absolute": absolute}
    if len(subject) >= HASH_PREFIX_MIN and set(subject.casefold()) <= set("0123456789abcdef"):
        sql += (
            " OR starts_with(source_hash, $hash) OR starts_with(sha256, $hash) "
            "OR starts_with(source_id, $hash)"
        )
        values["hash"] = subject.casefold()
    return [line["source_id"] for line in query.fetch(sql + " ORDER BY source_id", values)]
