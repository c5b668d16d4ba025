"""Put a `ModelFileSystem` and a `ControlStore` under the product's own modules, and take them away again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow.csv as arrow_csv

from casparian import clock
from casparian.db.visible import Dataset
from casparian.sentinel import recovery
from casparian.sentinel.io import promoting, publishing
from casparian.sinks import csv, duckdb, duckdb_file, durable, hashed, part, promote, staging
from casparian.worker import outputs
from tests.crash_model import calls, database
from tests.crash_model.filesystem import ModelFileSystem
from tests.crash_model.scenario import Scenario
from tests.model.control_store import ControlStore

NOW_NS = 1_700_000_000_000_000_000


@contextmanager
def product_over(files: ModelFileSystem, store: ControlStore, scenario: Scenario) -> Iterator[None]:
    """For the time of the block the product's commit code sees only the model."""
    operating_system = calls.ModelOs(files)
    shell = {
        "os": operating_system,
        "shutil": calls.ModelShutil(files),
        "_native": calls.ModelNative(files, by_link=scenario.by_link),
        "secrets": calls.ModelSecrets(files),
        "glob": calls.ModelGlob(files),
        "fcntl": calls.ModelFcntl,
        "subprocess": calls.ModelSubprocess(operating_system),
    }
    sinks = (csv, duckdb, duckdb_file, durable, hashed, part, promote, staging, outputs)
    replaced: list[tuple[Any, str, Any]] = [
        (module, name, value)
        for module in (*sinks, promoting, publishing)
        for name, value in shell.items()
        if hasattr(module, name)
    ]
    reads = _Reads(store)
    replaced += [
        (clock, "now_ns", lambda: NOW_NS),
        (duckdb_file.WorkFile, "_connected", database.connected(files)),
        *([] if scenario.shared else [(staging, "SOURCE_BUFFER_BYTES_MAX", 0)]),
        *([] if scenario.probed else [(promote, "_probe", lambda *_: None)]),
        (csv, "open", lambda path, _mode: io.BytesIO(_content(files, path))),
        (csv, "arrow_csv", _ArrowCsv(files)),
        (recovery, "reads", reads),
        (recovery, "scalar", lambda *_: len(store.materializations)),
        (promoting, "shown", lambda _, dataset, sources: store.shown(dataset, sources)),
        (promoting, "superseded_by", reads.superseded_by),
        (publishing, "visible", reads),
    ]
    with patched(*replaced):
        yield


@contextmanager
def patched(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Set attributes (owner, name, value) for the time of the block."""
    missing = object()
    before = [(owner, name, vars(owner).get(name, missing)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            if value is missing:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def _content(files: ModelFileSystem, path: str) -> bytes:
    content = files.read(path)
    if content is None:
        raise FileNotFoundError(path)
    return content


class _ArrowCsv:
    """`pyarrow.csv`, opening files of the model."""

    def __init__(self, files: ModelFileSystem) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(arrow_csv, name)

    def open_csv(self, path: str, **options: Any) -> Any:
        return arrow_csv.open_csv(io.BytesIO(_content(self._files, path)), **options)


class _Reads:
    """`db.reads` and `db.visible` over the store; the first argument is the connection they would read by."""

    def __init__(self, store: ControlStore) -> None:
        self._store = store

    def live_jobs(self, _: Any) -> list[tuple[Any, ...]]:
        return self._store.live_jobs()

    def known_sinks(self, _: Any) -> list[str]:
        return self._store.known_sinks()

    def recent_replies(self, _: Any, limit: int) -> dict[str, bytes]:
        return self._store.recent_replies(limit)

    def superseded_by(
        self, _: Any, dataset_id: str, parser: str, source_ids: set[str]
    ) -> list[tuple[int, str]]:
        return [
            (m.job_id, m.source_id)
            for m in self._store.living()
            if (m.dataset_id, m.parser) == (dataset_id, parser) and m.source_id in source_ids
        ]

    def datasets(self, _: Any) -> list[Dataset]:
        store, found = self._store, []
        for dataset_id in dict.fromkeys(m.dataset_id for m in store.materializations):
            of_it = [m for m in store.materializations if m.dataset_id == dataset_id]
            shown = store.shown(dataset_id, {m.source_id for m in of_it})
            pairs = {(m.job_id, m.source_id) for m in of_it if m.retired_by is None}
            newest = of_it[-1]
            found.append(
                Dataset(
                    dataset_id=dataset_id,
                    table=newest.table_name,
                    sink=newest.sink,
                    settings=store.documents[newest.sink_config_hash].document,
                    contract=store.documents[newest.contract_hash].document,
                    files=[
                        (o.path, o.job_id, o.epoch, o.rows)
                        for o in store.outputs
                        if o.dataset_id == dataset_id and o.removed_at_ns is None
                    ],
                    retired=sorted(
                        (m.job_id, m.source_id) for m in of_it if m.retired_by is not None
                    ),
                    hidden=sorted(pairs - set(shown)),
                )
            )
        return found

    def output_pairs(self, _: Any) -> dict[str, set[tuple[int, str]]]:
        found: dict[str, set[tuple[int, str]]] = {}
        for pair in self._store.output_pairs:
            found.setdefault(pair.path, set()).add((pair.job_id, pair.source_id))
        return found

    def removed_outputs(self, _: Any) -> list[str]:
        return [o.path for o in self._store.outputs if o.removed_at_ns is not None]

    def tables(self, _: Any) -> dict[str, Any]:
        return {}
