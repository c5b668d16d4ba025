"""Inference over real logs: what is proposed reads every line of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from casparian import _native
from casparian.contracts.propose import propose

pytestmark = pytest.mark.corpus
CLOUD = "cloud/log2timeline-plaso"


@pytest.mark.parametrize(
    "name",
    [
        f"{CLOUD}/jsonl/gcp_logging.jsonl",
        f"{CLOUD}/jsonl/microsoft_audit_log.jsonl",
        f"{CLOUD}/jsonl/aws_cloudtrail.jsonl",
        f"{CLOUD}/jsonl/azure_activity_log.jsonl",
        f"{CLOUD}/ios_app_privacy_report.ndjson",
    ],
)
def test_a_contract_of_a_cloud_log_reads_all_of_its_lines(corpus: Path, name: str) -> None:
    path = corpus / name
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        assert json.loads(_native.text_dialect(descriptor, size))["form"] == "jsonl"
        inference = _native.JsonlInference()
        inference.add(descriptor, size)
        found: dict[str, Any] = json.loads(inference.report())
        answers: dict[str, list[str]] = {}
        for _ in range(3):  # a reading, then a zone
            made = propose(
                found, table="log", match=["*"], files=[name], layout=None, answers=answers
            )
            for question in made.questions:
                answers.setdefault(question.column, []).append(question.options[0].option)
        assert made.document is not None, made.questions
        rows = set_aside = 0
        dataset = json.dumps(made.document)
        for output, batch in _native.TextReader(descriptor, size, dataset):
            count = _rows(batch)
            rows, set_aside = (
                (rows + count, set_aside) if output == "log" else (rows, set_aside + count)
            )
    finally:
        os.close(descriptor)
    assert (rows, set_aside) == (found["rows"] - found["faults"], found["faults"])
    assert rows > 0


def _rows(batch: Any) -> int:
    import pyarrow as pa

    return int(pa.record_batch(batch).num_rows)
