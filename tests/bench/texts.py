"""Delimited text to measure with: a firewall's log, the same for every reader."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

SEED = 7
HEADER = ("time", "src", "port", "bytes", "ok", "user", "text")
DATASET = json.dumps(
    {
        "schema_version": 1,
        "table": "firewall",
        "parser": "text.delimited",
        "match": ["*.csv"],
        "layout": {
            "delimiter": ",",
            "quote": '"',
            "escape": "double",
            "header": True,
            "encoding": "utf-8",
            "headers": [list(HEADER)],
        },
        "columns": [
            {
                "name": "time",
                "type": "timestamp[us, UTC]",
                "format": "%Y-%m-%d %H:%M:%S",
                "zone": "UTC",
            },
            {"name": "src", "type": "utf8"},
            {"name": "port", "type": "uint16"},
            {"name": "bytes", "type": "int64"},
            {"name": "ok", "type": "bool", "format": "true/false"},
            {"name": "user", "type": "utf8", "null": [""]},
            {"name": "text", "type": "utf8"},
        ],
    }
)
_USERS = ("", "ines", "karl", "svc-backup", "administrator")
_TEXTS = ("connection closed", 'rule "web", action deny', "handshake failed: timeout, retry", "ok")


def write_csv(path: Path, size_bytes: int) -> int:
    """Write a log of about this size; gives its records. A quarter of the texts need quotes, as real ones do."""
    dice = random.Random(SEED)
    records = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        while file.tell() < size_bytes:
            block = []
            for _ in range(1_000):
                day, second = dice.randrange(1, 29), dice.randrange(86_400)
                clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
                address = ".".join(str(dice.randrange(256)) for _ in range(4))
                block.append(
                    (
                        f"2024-03-{day:02} {clock}",
                        address,
                        dice.randrange(65_536),
                        dice.randrange(1 << 40),
                        "true" if dice.random() < 0.7 else "false",
                        dice.choice(_USERS),
                        dice.choice(_TEXTS),
                    )
                )
            writer.writerows(block)
            records += len(block)
    return records
