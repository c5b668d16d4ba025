"""Real delimited text and JSON Lines, with Python's readers as a second opinion on every cell and value."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.factories.text import delimited, json_lines, read

pytestmark = pytest.mark.corpus

JSON_LINES = (
    "cloud/log2timeline-plaso/ios_app_privacy_report.ndjson",
    "cloud/log2timeline-plaso/jsonl/aws_cloudtrail.jsonl",
    "cloud/log2timeline-plaso/jsonl/azure_activity_log.jsonl",
    "cloud/log2timeline-plaso/jsonl/gcp_logging.jsonl",
    "cloud/log2timeline-plaso/jsonl/microsoft_audit_log.jsonl",
)
# Delimiter and encoding of each, as Python calls it.
DELIMITED = {
    "logs/log2timeline-plaso/password.csv": (",", "utf-8"),
    "logs/log2timeline-plaso/AccessProtectionLog.txt": ("\t", "utf-8-sig"),
    "windows-misc/log2timeline-plaso/PcaAppLaunchDic.txt": ("|", "utf-8"),
    "windows-misc/log2timeline-plaso/PcaGeneralDb0.txt": ("|", "utf-8"),
}


@pytest.mark.parametrize("name", JSON_LINES)
def test_every_document_is_a_row_with_its_values(name: str, corpus: Path) -> None:
    raw = (corpus / name).read_bytes()
    documents = [json.loads(line) for line in raw.decode().split("\n") if line.strip()]
    keys = sorted({key for document in documents for key in document})
    # Columns of their own names: keys that differ by case only are two keys, and would be one column.
    columns = {
        f"c{number}": {"type": "utf8", "meaning": "json", "source": [key]}
        for number, key in enumerate(keys)
    }
    reading = read(raw, json_lines(columns))
    assert reading.quarantine == []
    assert reading.ledger.balanced
    assert len(reading.rows) == len(documents)
    for row, document in zip(reading.rows, documents, strict=True):
        for number, key in enumerate(keys):
            value = row[f"c{number}"]
            assert (None if value is None else json.loads(value)) == document.get(key)


@pytest.mark.parametrize("name", DELIMITED)
def test_every_record_has_the_cells_that_python_sees(name: str, corpus: Path) -> None:
    delimiter, encoding = DELIMITED[name]
    raw = (corpus / name).read_bytes()
    text = raw.decode(encoding)
    theirs = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    width = len(theirs[0])
    columns = {f"c{number}": "utf8" for number in range(width)}
    layout = encoding.removesuffix("-sig")
    reading = read(raw, delimited(columns, delimiter=delimiter, header=False, encoding=layout))
    assert reading.ledger.balanced
    assert set(reading.reasons) <= {"text.cells"}
    assert [list(row.values()) for row in reading.rows] == [
        row for row in theirs if len(row) == width
    ]
    assert sum(length for _, length in reading.spans) + reading.ledger.blank_bytes == len(raw)
