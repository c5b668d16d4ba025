"""What a run says while it is under way, where nothing can be drawn."""

from __future__ import annotations

import pytest
from msgspec import structs

from casparian.cli.output import Output
from casparian.cli.progress import RunProgress
from casparian.protocol import control

WAITS = control.CommitWaits(
    job_id=7, code="sink.locked", message="`o.duckdb` is open", tried=1, pause_ns=1_500_000_000
)


def test_a_sink_that_cannot_be_written_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(Output()) as progress:
        progress(WAITS)
        progress(structs.replace(WAITS, job_id=8, tried=2))
        progress(structs.replace(WAITS, message="`p.duckdb` is full\x1b[2J"))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("waiting  job 7 ")
    assert "`o.duckdb` is open; tried again in 1.5 s" in said[0]
    assert "\x1b" not in said[1]
