"""`linux.syslog` on real files: the spans tile each file exactly, and an independent count agrees."""

import importlib
import os
import sys
import types
from array import array
from pathlib import Path

import pytest

from casparian import _native
from casparian.contracts.check import split
from casparian.paths import first_party_parsers
from casparian.scout.identify import identify
from casparian.sdk.testing import collect
from casparian.trust.library import load_parser

pytestmark = pytest.mark.corpus

DIRECTORY = first_party_parsers() / "linux.syslog"
PACKAGE = "linux_syslog_under_test"
sys.modules.setdefault(PACKAGE, types.ModuleType(PACKAGE)).__path__ = [str(DIRECTORY)]  # type: ignore[attr-defined]
parser = importlib.import_module(f"{PACKAGE}.parser")
ARTIFACT = load_parser(DIRECTORY)
CONFIG = {name: option.default for name, option in ARTIFACT.manifest.config.items()}

# Rows and quarantined lines of each syslog-like file, decided by reading it: what is set aside are continuation
# lines, and in `syslog` one line whose month is `MMM`.
EXPECTED = {
    "linux/log2timeline-plaso/syslog/syslog": (16, 2),
    "linux/log2timeline-plaso/syslog/syslog_chromeos": (8, 1),
    "linux/log2timeline-plaso/syslog/syslog_cron.log": (9, 0),
    "linux/log2timeline-plaso/syslog/syslog_osx": (2, 0),
    "linux/log2timeline-plaso/syslog/syslog_rsyslog": (5, 0),
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_ForwardFormat": (1, 1),
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_SysklogdFileFormat": (9, 1),
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_SyslogProtocol23Format": (9, 1),
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_TraditionalForwardFormat": (1, 1),
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_traditional": (8, 3),
    "linux/log2timeline-plaso/syslog/syslog_ssh.log": (9, 0),
    "macos/log2timeline-plaso/appfirewall.log": (47, 0),
    "macos/log2timeline-plaso/logd.0.log": (76, 0),
    "macos/log2timeline-plaso/security.log": (9, 0),
    "macos/log2timeline-plaso/wifi.log": (10, 0),
}


def test_spans_tile_every_file_whatever_it_is(corpus: Path) -> None:
    found = {}
    for folder in ("linux", "logs", "macos"):
        for path in sorted((corpus / folder).rglob("*")):
            if not path.is_file():
                continue
            data = path.read_bytes()
            name = str(path.relative_to(corpus))
            collected = collect(
                parser.parse,
                data,
                outputs=ARTIFACT.contract.outputs,
                config=CONFIG,
                display_path=name,
            )
            table, rejected = collected.tables["syslog_events"], collected.quarantine
            for batch in table.to_batches():
                assert split(batch, ARTIFACT.contract.main).rejected.num_rows == 0, name
            with path.open("rb") as file:
                account = _native.account_lines(file.fileno(), len(data))
            tally = _native.Tally(account.window_origin, account.window_bytes)
            for part in (table, rejected):
                tally.add(*(array("Q", part[span].to_pylist()) for span in ("@offset", "@length")))
            assert tally.compare(account) == [], name
            length = sum(table["@length"].to_pylist()) + sum(rejected["@length"].to_pylist())
            assert length + account.blank_bytes == len(data), name
            tags = [tag for tag, _ in identify(data[:4096], os.fsencode(path.name), len(data))]
            if "syslog" in tags:
                found[name] = (table.num_rows, rejected.num_rows)
    assert found == EXPECTED
