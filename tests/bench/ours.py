"""Our native readers, each as a command: `python -m tests.bench.ours [--seconds S] READER FILE…`; prints what `readers` prints.

Batches are imported by pyarrow without a copy and dropped, as any caller would that writes them on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from casparian import _native
from tests.bench.texts import DATASET

SLACK = next(bit for bit, name in _native.FLAG_NAMES.items() if name == "slack")


def _batches(reader: Callable[..., Any], paths: list[str]) -> Any:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for output, batch in reader(descriptor, os.fstat(descriptor).st_size):
                yield output, pa.record_batch(batch)
        finally:
            os.close(descriptor)


def evtx(paths: list[str], *, check: bool) -> dict[str, Any]:
    """Event logs to Arrow; live records, and with `check` the sum of the ids in their headers."""
    count = ids = 0
    for output, batch in _batches(_native.EvtxReader, paths):
        if output != "evtx_events":
            continue
        count += batch.num_rows
        if check:
            live = batch.filter(pc.equal(pc.bit_wise_and(batch["@flags"], SLACK), 0))
            count += live.num_rows - batch.num_rows
            ids += pc.sum(live["header_record_id"]).as_py() or 0
    return {"records": count, "ids": ids if check else None}


def hive(paths: list[str], *, check: bool) -> dict[str, Any]:
    """Hives to Arrow; with `check` only live keys and values count."""
    count = 0
    for output, batch in _batches(_native.HiveReader, paths):  # type: ignore[attr-defined, unused-ignore]
        if output in ("registry_keys", "registry_values"):
            count += pc.sum(pc.equal(batch["state"], "live")).as_py() if check else batch.num_rows
    return {"records": count, "ids": None}


def blake3_files(paths: list[str], *, check: bool) -> dict[str, Any]:
    """BLAKE3 of each file on one core."""
    del check
    digests = _native.digest_files([os.fsencode(path) for path in paths], threads=1, sha256=False)
    assert all(digest.error is None for digest in digests)
    return {"records": len(digests), "ids": None}


def infer_csv(paths: list[str], *, check: bool) -> dict[str, Any]:
    """Types of a CSV file's columns from every value in it, dialect included, on all cores that are given."""
    del check
    cores = len(os.sched_getaffinity(0))
    rows = 0
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            (layout,) = json.loads(_native.text_dialect(descriptor, size))["layouts"]
            inference = _native.DelimitedInference(
                delimiter=layout["delimiter"], quote=layout["quote"], escape=layout["escape"],
                header=layout["header"][0], skip_lines=0, comment=None, encoding="utf-8",
            )  # fmt: skip
            inference.add(descriptor, size, threads=cores)
            rows += json.loads(inference.report())["rows"]
        finally:
            os.close(descriptor)
    return {"records": rows, "ids": None}


def infer_jsonl(paths: list[str], *, check: bool) -> dict[str, Any]:
    """Types of every key of JSON Lines from every value in it, on all cores that are given."""
    del check
    inference = _native.JsonlInference()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            inference.add(descriptor, size, threads=len(os.sched_getaffinity(0)))
        finally:
            os.close(descriptor)
    return {"records": json.loads(inference.report())["rows"], "ids": None}


def delimited(paths: list[str], *, check: bool) -> dict[str, Any]:
    """Delimited text to Arrow, typed as its contract says; with `check` what was set aside fails it."""
    count = 0
    for output, batch in _batches(partial(_text, DATASET), paths):
        assert not check or output == "firewall"
        count += batch.num_rows
    return {"records": count, "ids": None}


def _text(dataset: str, descriptor: int, size: int) -> Any:
    return _native.TextReader(descriptor, size, dataset)


READERS: dict[str, tuple[Callable[..., dict[str, Any]], str]] = {
    "evtx": (evtx, "EvtxReader"),
    "hive": (hive, "HiveReader"),
    "delimited": (delimited, "TextReader"),
    "blake3_files": (blake3_files, "digest_files"),
    "infer_csv": (infer_csv, "DelimitedInference"),
    "infer_jsonl": (infer_jsonl, "JsonlInference"),
}
"""Each with what it needs of the native module."""


def main() -> None:
    """Read and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.0, help="repeat for so long")
    parser.add_argument("--check", action="store_true", help="count what can be compared, untimed")
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("files", nargs="+")
    given = parser.parse_args()
    read = READERS[given.reader][0]
    passes = 0
    started, used = time.perf_counter(), time.process_time()
    while not passes or time.perf_counter() - started < given.seconds:
        found = read(given.files, check=given.check)
        passes += 1
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    json.dump(
        {**found, "seconds": seconds / passes, "cpu_seconds": cpu / passes, "passes": passes},
        sys.stdout,
    )


if __name__ == "__main__":
    main()
