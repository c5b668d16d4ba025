"""Dataset contracts as tests need them: a small firewall log, and what can be done to it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from casparian.contracts.dataset import dataset_of
from casparian.domain.datasets import Dataset

FIREWALL: dict[str, Any] = {
    "schema_version": 1,
    "table": "firewall",
    "parser": "text.delimited",
    "match": ["fw-*.csv"],
    "layout": {
        "delimiter": ",",
        "quote": '"',
        "escape": "double",
        "header": True,
        "skip_lines": 0,
        "comment": None,
        "encoding": "utf-8",
        "headers": [["time", "src", "n"]],
    },
    "columns": [
        {
            "name": "time",
            "source": "time",
            "type": "timestamp[us, UTC]",
            "format": "%Y-%m-%d %H:%M:%S",
            "zone": "UTC",
            "null": [""],
        },
        {"name": "src", "source": "src", "type": "utf8"},
        {"name": "n", "source": "n", "type": "int32", "minimum": 0},
    ],
}

EVENTS: dict[str, Any] = {
    "schema_version": 1,
    "table": "events",
    "parser": "text.jsonl",
    "match": ["*.jsonl"],
    "layout": {"encoding": "utf-8", "known": []},
    "columns": [
        {"name": "id", "source": ["id"], "type": "int64"},
        {"name": "user_name", "source": ["user", "name"], "type": "utf8"},
    ],
}


def document(
    change: Callable[[dict[str, Any]], None] | None = None, *, base: dict[str, Any] = FIREWALL
) -> dict[str, Any]:
    """A copy of a document, changed."""
    copied = copy.deepcopy(base)
    if change is not None:
        change(copied)
    return copied


def dataset(
    change: Callable[[dict[str, Any]], None] | None = None, *, base: dict[str, Any] = FIREWALL
) -> Dataset:
    """A checked contract."""
    return dataset_of(document(change, base=base))


def with_user(values: dict[str, Any]) -> None:
    """The second version of the application: a column more, under a new header."""
    values["layout"]["headers"].append(["time", "src", "n", "user"])
    values["columns"].append({"name": "user", "source": "user", "type": "utf8"})


def as_bytes(values: dict[str, Any]) -> bytes:
    """A document as a file."""
    return json.dumps(values, indent=1).encode()
