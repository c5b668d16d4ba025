"""The readers that people use today, each as a command of an environment that holds nothing of Casparian.

    python readers.py [--seconds S] READER [--into DIR] FILE…

Prints one JSON line: records (for hives: keys and values), the sum of their ids, seconds and CPU seconds of one pass, passes.
A pass is repeated until S seconds are over, so that small inputs can be measured too. Imports are not part of a pass.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import importlib
import json
import multiprocessing
import os
import sys
import time

ID_MODULUS = 1_000_003
"""Event record ids are summed modulo this one by one, so that no sum overflows anywhere."""


def evtx_json(paths):
    """The `evtx` wheel's records as JSON text."""
    evtx = importlib.import_module("evtx")
    count = ids = failed = 0
    for path in paths:
        records = evtx.PyEvtxParser(path, number_of_threads=1).records_json()
        while True:
            try:
                for record in records:
                    count += 1
                    ids += record["event_record_id"]
                break
            except RuntimeError:  # a record that it cannot read; the next ones it can
                failed += 1
    return {"records": count, "ids": ids, "failed": failed}


def evtx_json_arrow(paths):
    """The wheel's JSON parsed and put into an Arrow table for each file: what a Python parser does."""
    evtx = importlib.import_module("evtx")
    orjson = importlib.import_module("orjson")
    pa = importlib.import_module("pyarrow")
    count = ids = failed = 0
    for path in paths:
        columns = [[] for _ in range(10)]
        records = evtx.PyEvtxParser(path, number_of_threads=1).records_json()
        while True:
            try:
                record = next(records)
            except StopIteration:
                break
            except RuntimeError:
                failed += 1
                continue
            event = orjson.loads(record["data"])["Event"]
            system = event["System"]
            event_id = system.get("EventID")
            if isinstance(event_id, dict):
                event_id = event_id.get("#text")
            provider = (system.get("Provider") or {}).get("#attributes", {})
            execution = (system.get("Execution") or {}).get("#attributes", {})
            values = (
                record["event_record_id"], record["timestamp"], provider.get("Name"), _whole(event_id),
                _whole(system.get("Level")), system.get("Channel"), system.get("Computer"),
                _whole(execution.get("ProcessID")), _whole(execution.get("ThreadID")),
                orjson.dumps(event.get("EventData") or event.get("UserData")).decode(),
            )  # fmt: skip
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        names = [
            "id",
            "time",
            "provider",
            "event_id",
            "level",
            "channel",
            "computer",
            "process",
            "thread",
            "data",
        ]
        table = pa.table(
            {name: pa.array(column) for name, column in zip(names, columns, strict=True)}
        )
        count += table.num_rows
        ids += sum(columns[0])
    return {"records": count, "ids": ids, "failed": failed}


def _whole(value):
    """A number of the `System` part; template-less records have it as text."""
    return None if value is None else int(value)


def libevtx(paths):
    """libevtx (C), every record as XML."""
    pyevtx = importlib.import_module("pyevtx")
    count = ids = failed = 0
    for path in paths:
        log = pyevtx.file()
        log.open(path)
        for number in range(log.get_number_of_records()):
            try:
                record = log.get_record(number)
                record.get_xml_string()
                ids += record.get_identifier()
                count += 1
            except OSError:
                failed += 1
        log.close()
    return {"records": count, "ids": ids, "failed": failed}


def python_evtx(paths):
    """python-evtx, every record as XML."""
    evtx = importlib.import_module("Evtx.Evtx")
    count = ids = failed = 0
    for path in paths:
        with evtx.Evtx(path) as log:
            for record in log.records():
                try:
                    record.xml()
                    ids += record.record_num()
                    count += 1
                except Exception:  # noqa: BLE001 -- it raises whatever comes up
                    failed += 1
    return {"records": count, "ids": ids, "failed": failed}


def dissect_eventlog(paths):
    """dissect.eventlog, every record as a dictionary; it tells the event's own record id only."""
    evtx = importlib.import_module("dissect.eventlog.evtx")
    count = 0
    for path in paths:
        with open(path, "rb") as handle:
            for _ in evtx.Evtx(handle):
                count += 1
    return {"records": count, "ids": None}


def _hash_and_dump(arguments):
    """Both hashes of a file, and its records as JSON lines; one call of a pool's process."""
    path, into = arguments
    blake3 = importlib.import_module("blake3")
    evtx = importlib.import_module("evtx")
    hasher = blake3.blake3()
    hasher.update_mmap(path)
    with open(path, "rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    failed = 0
    with open(f"{into}/{os.getpid()}.jsonl", "a", encoding="utf-8") as lines:
        records = evtx.PyEvtxParser(path, number_of_threads=1).records_json()
        while True:
            try:
                for record in records:
                    lines.write(record["data"])
                    lines.write("\n")
                break
            except RuntimeError:
                failed += 1
    return hasher.hexdigest(), sha256, failed


def jsonl_duckdb(paths, into):
    """evtx → JSON lines on disk → DuckDB → Parquet, and BLAKE3 and SHA-256 of each file; two processes, two threads."""
    duckdb = importlib.import_module("duckdb")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        done = pool.map(_hash_and_dump, [(path, into) for path in paths], chunksize=1)
    database = duckdb.connect()
    database.execute("SET threads = 2")
    attribute = "'$.System.{}.\"#attributes\".{}'"
    database.execute(
        f"""COPY (
            SELECT TRY_CAST(e->>'$.System.EventRecordID' AS UBIGINT) AS record_id,
                TRY_CAST(e->>{attribute.format("TimeCreated", "SystemTime")} AS TIMESTAMPTZ) AS time_created,
                e->>{attribute.format("Provider", "Name")} AS provider_name,
                TRY_CAST(coalesce(e->>'$.System.EventID."#text"', e->>'$.System.EventID') AS INTEGER) AS event_id,
                e->>'$.System.Level' AS level, e->>'$.System.Channel' AS channel, e->>'$.System.Computer' AS computer,
                e->>{attribute.format("Execution", "ProcessID")} AS process_id,
                e->'$.EventData' AS event_data, e->'$.UserData' AS user_data
            FROM (SELECT Event AS e FROM read_json('{into}/*.jsonl', format = 'newline_delimited',
                maximum_object_size = 100000000, columns = {{Event: 'JSON'}}))
        ) TO '{into}/events.parquet' (FORMAT parquet, COMPRESSION zstd)"""
    )
    figures = (
        f"SELECT count(*), sum(record_id % {ID_MODULUS})::UBIGINT FROM '{into}/events.parquet'"
    )
    count, ids = database.execute(figures).fetchone()
    for path in glob.glob(f"{into}/*.jsonl"):
        os.unlink(path)
    return {"records": count, "ids": ids, "failed": sum(failed for _, _, failed in done)}


def blake3_files(paths):
    """BLAKE3 of each file on one core, mapped."""
    blake3 = importlib.import_module("blake3")
    for path in paths:
        blake3.blake3().update_mmap(path).hexdigest()
    return {"records": len(paths), "ids": None}


def _blake3_of(path):
    blake3 = importlib.import_module("blake3")
    return blake3.blake3().update_mmap(path).hexdigest()


def blake3_tree(paths):
    """BLAKE3 of each file, two processes."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return {"records": len(pool.map(_blake3_of, paths, chunksize=16)), "ids": None}


def query_parquet(paths):
    """Events by provider and id, by DuckDB over the baseline's Parquet."""
    duckdb = importlib.import_module("duckdb")
    sql = "SELECT provider_name, event_id, count(*) AS n FROM read_parquet(?) GROUP BY ALL ORDER BY n DESC, 1, 2"
    found = duckdb.connect().execute(sql, [paths]).fetchall()
    return {"records": sum(row[2] for row in found), "ids": None}


def regrs(paths):
    """regrs (Rust): every key with its time, every value with its data."""
    module = importlib.import_module("regrs")
    count = 0
    for path in paths:
        hive = module.Hive.open(path) if hasattr(module.Hive, "open") else module.Hive(path)
        keys = [_called(hive.root_key)]
        while keys:
            key = keys.pop()
            count += 1
            for value in _called(key.values):
                _ = value.name, value.data
                count += 1
            keys.extend(_called(key.subkeys))
    return {"records": count, "ids": None}


def _called(attribute):
    return attribute() if callable(attribute) else attribute


def regipy_rs(paths):
    """regipy over its Rust backend."""
    module = importlib.import_module("regipy.registry_rs")
    count = 0
    for path in paths:
        for key in module.RegistryHive(path).recurse_subkeys(as_json=False):
            count += 1 + len(key.values or [])
    return {"records": count, "ids": None}


def libregf(paths):
    """libregf (C): every key with name and time, every value typed."""
    pyregf = importlib.import_module("pyregf")
    count = 0
    for path in paths:
        hive = pyregf.file()
        hive.open(path)
        keys = [hive.get_root_key()]
        while keys:
            key = keys.pop()
            count += 1
            key.get_last_written_time_as_integer()
            key.get_name()
            for number in range(key.get_number_of_values()):
                value = key.get_value(number)
                value.get_name()
                count += 1
                kind = value.get_type()
                with contextlib.suppress(OSError):
                    if kind in (1, 2):
                        value.get_data_as_string()
                    elif kind in (4, 5, 11):
                        value.get_data_as_integer()
                    elif kind == 7:
                        value.get_data_as_multi_string()
                    else:
                        value.get_data()
            keys.extend(key.get_sub_key(number) for number in range(key.get_number_of_sub_keys()))
        hive.close()
    return {"records": count, "ids": None}


def python_registry(paths):
    """python-registry."""
    module = importlib.import_module("Registry.Registry")
    count = 0
    for path in paths:
        keys = [module.Registry(path).root()]
        while keys:
            key = keys.pop()
            count += 1
            key.timestamp()
            for value in key.values():
                count += 1
                value.name()
                with contextlib.suppress(Exception):
                    value.value()
            keys.extend(key.subkeys())
    return {"records": count, "ids": None}


def duckdb_sniffed(paths):
    """DuckDB's sniffer over all rows, and its reader over every value of every column."""
    duckdb = importlib.import_module("duckdb")
    count = 0
    for path in paths:
        connection = duckdb.connect(config={"threads": len(os.sched_getaffinity(0))})
        row = connection.execute(
            "SELECT count(*), max(COLUMNS(*))::VARCHAR FROM read_csv(?, sample_size=-1)", [path]
        ).fetchone()
        count += row[0]
        connection.close()
    return {"records": count, "ids": None}


def duckdb_json_sniffed(paths):
    """DuckDB's sniffer over all lines of JSON, and its reader over every value of every key at the top."""
    duckdb = importlib.import_module("duckdb")
    count = 0
    for path in paths:
        connection = duckdb.connect(config={"threads": len(os.sched_getaffinity(0))})
        row = connection.execute(
            "SELECT count(*), max(COLUMNS(*))::VARCHAR "
            "FROM read_json_auto(?, format='newline_delimited', sample_size=-1)",
            [path],
        ).fetchone()
        count += row[0]
        connection.close()
    return {"records": count, "ids": None}


def pyarrow_csv(paths):
    """pyarrow's reader of CSV on one thread: typed columns in Arrow."""
    pyarrow, reader = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.csv")
    types = {
        "time": pyarrow.timestamp("us"),
        "src": pyarrow.utf8(),
        "port": pyarrow.uint16(),
        "bytes": pyarrow.int64(),
        "ok": pyarrow.bool_(),
        "user": pyarrow.utf8(),
        "text": pyarrow.utf8(),
    }
    options = {
        "read_options": reader.ReadOptions(use_threads=False),
        "parse_options": reader.ParseOptions(newlines_in_values=True),
        "convert_options": reader.ConvertOptions(column_types=types),
    }
    count = 0
    for path in paths:
        for batch in reader.open_csv(path, **options):
            count += batch.num_rows
    return {"records": count, "ids": None}


def duckdb_csv(paths):
    """DuckDB's reader of CSV on one thread, told the types: typed columns in Arrow."""
    duckdb = importlib.import_module("duckdb")
    columns = (
        "{'time': 'TIMESTAMP', 'src': 'VARCHAR', 'port': 'USMALLINT', 'bytes': 'BIGINT', 'ok': 'BOOLEAN',"
        " 'user': 'VARCHAR', 'text': 'VARCHAR'}"
    )
    options = f"header = true, delim = ',', quote = '\"', escape = '\"', columns = {columns}"
    connection = duckdb.connect(config={"threads": 1})
    count = 0
    for path in paths:
        found = connection.sql(f"SELECT * FROM read_csv(?, {options})", params=[path])
        for batch in found.to_arrow_reader(65_536):
            count += batch.num_rows
    return {"records": count, "ids": None}


READERS = {
    "evtx_json": (evtx_json, ("evtx",)),
    "evtx_json_arrow": (evtx_json_arrow, ("evtx", "orjson", "pyarrow")),
    "libevtx": (libevtx, ("pyevtx",)),
    "python_evtx": (python_evtx, ("Evtx.Evtx",)),
    "dissect_eventlog": (dissect_eventlog, ("dissect.eventlog.evtx",)),
    "jsonl_duckdb": (jsonl_duckdb, ("evtx", "duckdb", "blake3")),
    "blake3_files": (blake3_files, ("blake3",)),
    "blake3_tree": (blake3_tree, ("blake3",)),
    "query_parquet": (query_parquet, ("duckdb",)),
    "duckdb_sniffed": (duckdb_sniffed, ("duckdb",)),
    "duckdb_json_sniffed": (duckdb_json_sniffed, ("duckdb",)),
    "pyarrow_csv": (pyarrow_csv, ("pyarrow.csv",)),
    "duckdb_csv": (duckdb_csv, ("duckdb", "pyarrow")),
    "regrs": (regrs, ("regrs",)),
    "regipy_rs": (regipy_rs, ("regipy_rs", "regipy.registry_rs")),
    "libregf": (libregf, ("pyregf",)),
    "python_registry": (python_registry, ("Registry.Registry",)),
}
"""Each reader with the modules that it needs, which are imported before the clock starts."""


def main():
    """Read and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--into")
    parser.add_argument(
        "--list", action="store_true", help="print the readers whose modules are there"
    )
    parser.add_argument("reader", nargs="?")
    parser.add_argument("files", nargs="*", help="files, or @FILE with one name a line")
    given = parser.parse_args()
    if given.list:
        print(json.dumps({name: _missing(modules) for name, (_, modules) in READERS.items()}))
        return
    read, modules = READERS[given.reader]
    for module in modules:
        importlib.import_module(module)
    paths = []
    for name in given.files:
        if name.startswith("@"):
            with open(name[1:], encoding="utf-8") as names:
                paths.extend(names.read().splitlines())
        else:
            paths.append(name)
    more = [given.into] if given.into else []
    passes = 0
    started, used = time.perf_counter(), time.process_time()
    while not passes or time.perf_counter() - started < given.seconds:
        found = read(paths, *more)
        passes += 1
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    json.dump(
        {**found, "seconds": seconds / passes, "cpu_seconds": cpu / passes, "passes": passes},
        sys.stdout,
    )


def _missing(modules):
    """The first module that cannot be imported, with the reason; None when all can."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 -- told, whatever it is
            return f"{module}: {type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    main()
