"""Hand quarantined rows to somebody: as one file with their lineage, or as one file a row with a manifest.

    parquet   all columns, bytes as bytes; with the lineage of each row and what was decided about it
    jsonl     one object a row, bytes in hex
    csv       the same, bytes in hex
    raw-dir   DIR/000001.bin … and DIR/manifest.jsonl: per row its file, size, hashes and lineage

No name of a file comes from evidence. Rows whose bytes are too long to be kept are read from the evidence when it is there and
its hash is the recorded one; else the manifest says that they are missing. An output appears under its name only when it is
whole: it is written beside it, made durable and renamed. Nothing is ever written over.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import blake3
import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from casparian.appliance import evidence
from casparian.errors import CasparianError, UsageError
from casparian.query import quarantine
from casparian.query.lineage import paths_of
from casparian.query.values import json_rows, text_column
from casparian.sinks.durable import sync_directory

if TYPE_CHECKING:
    from casparian.query.engine import Query

FORMATS: Final = ("parquet", "jsonl", "csv", "raw-dir")
MANIFEST: Final = "manifest.jsonl"
MANIFEST_VERSION: Final = 1


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    path: str
    format: str
    rows: int
    size_bytes: int
    blake3: str | None  # of the one file; of the manifest for a directory
    missing: int = 0  # rows whose bytes could not be had


def export(query: Query, chosen: quarantine.Filter, path: str, kind: str) -> Exported:
    """Write the rows that a filter leaves.

    Raises:
        UsageError: `quarantine.exists`: something is there already.
        CasparianError: `quarantine.io`: it cannot be written.
    """
    target = os.path.abspath(path)
    if os.path.lexists(target):
        raise UsageError(
            f"`{path}` exists already, and nothing is written over",
            code="quarantine.exists",
            hint="choose another name with -o",
            path=path,
        )
    fresh = f"{target}.new-{os.getpid()}"
    try:
        if kind == "raw-dir":
            rows, missing = _raw_directory(query, chosen, fresh)
            digest = evidence.file_blake3(os.path.join(fresh, MANIFEST))
            size = sum(entry.stat().st_size for entry in os.scandir(fresh))
        else:
            rows, missing = _one_file(query, chosen, fresh, kind), 0
            digest, size = evidence.file_blake3(fresh), os.stat(fresh).st_size
        _rename(fresh, target)
    except OSError as error:
        raise CasparianError(
            f"`{path}` cannot be written: {os.strerror(error.errno or errno.EIO)}",
            code="quarantine.io",
            path=path,
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if os.path.lexists(fresh) and not os.path.isdir(fresh):
            os.unlink(fresh)
    return Exported(
        path=target, format=kind, rows=rows, size_bytes=size, blake3=digest, missing=missing
    )


def _rename(fresh: str, target: str) -> None:
    """Give a finished output its name; a name that somebody took meanwhile is theirs."""
    if os.path.isdir(fresh):
        os.mkdir(
            target
        )  # atomic, and fails when it is there; a rename over an empty directory is too
        os.rename(fresh, target)
    else:
        os.link(fresh, target)
        os.unlink(fresh)
    sync_directory(os.path.dirname(target))


def _one_file(query: Query, chosen: quarantine.Filter, path: str, kind: str) -> int:
    writers: Mapping[str, Callable[[Iterator[pa.RecordBatch], BinaryIO], int]] = {
        "parquet": _parquet,
        "jsonl": _json_lines,
        "csv": _csv,
    }
    with open(path, "xb") as file:
        count = writers[kind](quarantine.batches(query, chosen), file)
        file.flush()
        os.fsync(file.fileno())
    return count


def _parquet(batches: Iterator[pa.RecordBatch], file: BinaryIO) -> int:
    count = 0
    writer: Any = None
    try:
        for batch in batches:
            writer = writer or pyarrow.parquet.ParquetWriter(file, batch.schema)
            writer.write_batch(batch)
            count += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return count


def _json_lines(batches: Iterator[pa.RecordBatch], file: BinaryIO) -> int:
    count = 0
    for batch in batches:
        for row in json_rows(batch):
            line = dict(zip(batch.schema.names, row, strict=True))
            file.write(msgspec.json.encode(line) + b"\n")
            count += 1
    return count


def _csv(batches: Iterator[pa.RecordBatch], file: BinaryIO) -> int:
    count = 0
    for number, batch in enumerate(batches):
        texts = pa.RecordBatch.from_arrays(
            [text_column(column) for column in batch.columns], names=batch.schema.names
        )
        options = pyarrow.csv.WriteOptions(include_header=number == 0, quoting_style="needed")
        pyarrow.csv.write_csv(texts, file, options)
        count += batch.num_rows
    return count


def _raw_directory(query: Query, chosen: quarantine.Filter, path: str) -> tuple[int, int]:
    os.mkdir(path, 0o700)
    count = missing = 0
    places = _places(query, chosen)  # before the rows are read: one statement at a time
    with open(os.path.join(path, MANIFEST), "xb") as manifest:
        for batch in quarantine.batches(query, chosen):
            contents = batch.column("raw").to_pylist()
            rest = batch.drop_columns(["raw"])
            for raw, values in zip(contents, json_rows(rest), strict=True):
                row = dict(zip(rest.schema.names, values, strict=True))
                count += 1
                if raw is None:
                    raw = _from_evidence(row, places.get(row["_cf_source_id"]))
                line: dict[str, Any] = {"manifest_version": MANIFEST_VERSION, "file": None}
                if raw is None:
                    missing += 1
                else:
                    line["file"] = f"{count:06}.bin"
                    _write(os.path.join(path, line["file"]), raw)
                    line["size_bytes"] = len(raw)
                    line["blake3"] = blake3.blake3(raw).hexdigest()
                    line["sha256"] = hashlib.sha256(raw).hexdigest()
                manifest.write(msgspec.json.encode(line | row) + b"\n")
        manifest.flush()
        os.fsync(manifest.fileno())
    sync_directory(path)
    return count, missing


def _write(path: str, raw: bytes) -> None:
    with open(path, "xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _places(query: Query, chosen: quarantine.Filter) -> dict[str, bytes]:
    """Where the evidence of rows without bytes lies, if it still is what was recorded; each source is hashed once."""
    sql, values = quarantine.relation(query, chosen)
    found: dict[str, bytes] = {}
    for line in query.fetch(
        f"SELECT DISTINCT _cf_source_id, _cf_source_hash, _cf_source_path FROM ({sql}) w WHERE raw IS NULL",
        values,
    ):
        sightings = paths_of(query, line["_cf_source_id"])
        for place in evidence.recorded_places(sightings, ("", line["_cf_source_path"])):
            now = evidence.hashed(place.path)
            if now is not None and now.source_hash == line["_cf_source_hash"]:
                found[line["_cf_source_id"]] = place.path
                break
    return found


def _from_evidence(row: Mapping[str, Any], path: bytes | None) -> bytes | None:
    if path is None or row["_cf_offset"] is None:
        return None
    try:
        raw = evidence.read_span(path, row["_cf_offset"], row["raw_length"])
    except OSError:
        return None
    expected = row["raw_blake3"]
    matches = expected is None or blake3.blake3(raw).hexdigest() == expected
    return raw if matches and len(raw) == row["raw_length"] else None
