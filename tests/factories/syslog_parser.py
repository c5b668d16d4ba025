"""The parser `linux.syslog` in this process, and what it makes of bytes."""

import importlib
import sys
import tempfile
import types
from typing import Any

import pyarrow as pa

from casparian import _native
from casparian.paths import first_party_parsers
from casparian.sdk.testing import Collected, collect
from casparian.trust.library import load_parser

DIRECTORY = first_party_parsers() / "linux.syslog"
PACKAGE = "linux_syslog_under_test"

sys.modules.setdefault(PACKAGE, types.ModuleType(PACKAGE)).__path__ = [str(DIRECTORY)]  # type: ignore[attr-defined]
parser = importlib.import_module(f"{PACKAGE}.parser")
lines = importlib.import_module(f"{PACKAGE}.lines")
times = importlib.import_module(f"{PACKAGE}.times")
grammar = importlib.import_module(f"{PACKAGE}.grammar")

ARTIFACT = load_parser(DIRECTORY)
CONFIG = {name: option.default for name, option in ARTIFACT.manifest.config.items()}
LOSSY, YEAR, ZONE = 32, 256, 512


def run(data: bytes, path: str = "messages", **config: Any) -> Collected:
    outputs = ARTIFACT.contract.outputs
    return collect(
        parser.parse, data, outputs=outputs, config={**CONFIG, **config}, display_path=path
    )


def rows(text: str | bytes, path: str = "messages", **config: Any) -> list[dict[str, Any]]:
    """Rows of `syslog_events`; times as text with nanoseconds."""
    data = text.encode() if isinstance(text, str) else text
    table = run(data, path, **config).tables["syslog_events"]
    table = table.set_column(3, "time", table["time"].cast(pa.timestamp("ns")).cast(pa.utf8()))
    return [dict(row) for row in table.to_pylist()]


def times_of(text: str, path: str = "messages", **config: Any) -> list[str | None]:
    return [None if row["time"] is None else row["time"][:19] for row in rows(text, path, **config)]


def quarantined(data: bytes, **config: Any) -> list[tuple[int, int, str]]:
    rejected = run(data, **config).quarantine
    return [(row["@offset"], row["@length"], row["reason"]) for row in rejected.to_pylist()]


def spans(collected: Collected) -> list[tuple[int, int]]:
    tables = (collected.tables["syslog_events"], collected.quarantine)
    return sorted(
        span
        for table in tables
        for span in zip(table["@offset"].to_pylist(), table["@length"].to_pylist(), strict=True)
    )


def accounted(data: bytes) -> Any:
    """The independent count of the same bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return _native.account_lines(file.fileno(), len(data))


def check_tiles(data: bytes, **config: Any) -> None:
    """Rows, quarantined and blank lines cover the bytes once, and an independent count agrees with each span."""
    found = spans(run(data, **config))
    end = 0
    for offset, length in found:
        assert offset >= end
        assert length > 0
        end = offset + length
    assert end <= len(data)
    account = accounted(data)
    assert len(found) == account.present
    assert sum(length for _, length in found) + account.blank_bytes == len(data)
    tally = _native.Tally(account.window_origin, account.window_bytes)
    pack = [
        b"".join(part.to_bytes(8, "little") for part in column)
        for column in zip(*found, strict=True)
    ]
    if pack:
        tally.add(*pack)
    assert tally.compare(account) == []
