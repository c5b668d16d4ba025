"""The evidence by which a new installation tests itself: three files of our own making, and what a complete reading finds.

`expected.json`: `tables`, rows by table, counted by the writers of the evidence (casparian/demo), not by a parser.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from casparian.demo.story.registry import system_hive
from casparian.demo.world import EvidenceFile, build_evidence

SEED: Final = 7
EVIDENCE: Final = {  # path of the sample: file of the demonstration
    "evidence/Security.evtx": "FIN-WS07/Windows/System32/winevt/Logs/Security.evtx",
    "evidence/SYSTEM": "FIN-WS07/Windows/System32/config/SYSTEM",
    "evidence/auth.log": "gw01/var/log/auth.log",
}


def sample_files() -> dict[str, bytes]:
    """The sample's files by path; the same bytes each time."""
    with tempfile.TemporaryDirectory() as folder:
        built = build_evidence(Path(folder) / "case", seed=SEED)
        given = {path: built.file(source) for path, source in EVIDENCE.items()}
        files = {path: (built.directory / file.path).read_bytes() for path, file in given.items()}
    files["expected.json"] = (json.dumps(_expected(given), indent=1) + "\n").encode()
    return files


def _expected(given: dict[str, EvidenceFile]) -> dict[str, object]:
    log, _, text = given.values()
    cells = system_hive().build().cells
    return {
        "schema_version": 1,
        "files": len(given),
        # Records that were deleted are rows as well, marked as recovered.
        "tables": {
            "evtx_events": log.records + log.slack_records,
            "registry_keys": sum(cell.key is not None for cell in cells),
            "registry_values": sum(cell.value is not None for cell in cells),
            "syslog_events": text.records + text.slack_records,
        },
    }
