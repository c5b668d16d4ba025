"""The parsers that come with the product, run as the worker runs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from worker_world import World, rows

from casparian import _native
from casparian.contracts.load import load_contract, load_manifest
from casparian.demo.evtx_writer import Event, System, event_data, event_log, windows_event
from casparian.demo.evtx_writer.values import string
from casparian.paths import first_party_parsers
from casparian.protocol import identity
from casparian.protocol.worker import ParserTask, Receipt, SourceTask
from casparian.trust.artifact import hash_artifact, read_artifact
from casparian.worker.executor import Services

CORPUS = os.environ.get("CASPARIAN_CORPUS")


@pytest.fixture
def world(tmp_path: Path, services: Services) -> World:
    return World(tmp_path, services)


def run(world: World, parser: str, **config: str) -> Receipt:
    """Run a first-party parser over the world's sources."""
    folder = str(first_party_parsers() / parser)
    files = read_artifact(folder)
    manifest = load_manifest(files["parser.toml"])
    world.outputs = load_contract(files["contract.toml"]).outputs
    task = ParserTask(
        name=manifest.name,
        version=manifest.version,
        kind=manifest.kind,
        entry=manifest.entry,
        directory=folder,
        artifact_hash=hash_artifact(files),
        account=manifest.account,
        unit=manifest.unit,
        config={name: option.default for name, option in manifest.config.items()} | config,
        limits=manifest.limits,
    )
    return world.run(parser=task)


def log_of(events: int) -> bytes:
    """A clean log whose events carry their number."""

    def event(number: int) -> Event:
        system = System(
            provider="Example",
            event_id=7,
            time_created=133_500_000_000_000_000 + number,
            event_record_id=number + 1,
            channel="Application",
            computer="ws.example.org",
        )
        return windows_event(system, event_data(("Number", string(str(number)))))

    return event_log(map(event, range(events))).to_bytes()


def test_native_parser_reads_every_event_in_a_guest(world: World) -> None:
    world.source(log_of(700), name="made.evtx")
    receipt = run(world, "windows.evtx")
    assert [source.code for source in receipt.sources] == [None]
    ledger = receipt.sources[0].ledger
    assert ledger is not None
    assert (ledger.present, ledger.rows, ledger.lost) == (700, 700, 0)
    assert ledger.balanced
    values = [row["data_values"][0] for row in rows(receipt, "evtx_events")]
    assert values == [str(number) for number in range(700)]
    assert receipt.sources[0].rows["evtx_chunks"] == len(rows(receipt, "evtx_chunks")) > 1


def test_sector_of_zeros_is_never_silent(world: World) -> None:
    clean = log_of(200)
    for number, sector in enumerate(range(4096 + 1024, 4096 + 65536, 8192)):
        damaged = bytearray(clean)
        damaged[sector : sector + 512] = bytes(512)
        if damaged != clean:
            world.source(bytes(damaged), name=f"damaged-{number}.evtx")
    receipt = run(world, "windows.evtx")
    for source in receipt.sources:
        assert source.code is None
        assert source.ledger is not None
        assert source.ledger.findings
        assert source.quarantined
        ledger = source.ledger
        live = ledger.rows + ledger.recovered_live + ledger.quarantined + ledger.lost
        assert ledger.present == live


def test_fault_on_purpose_is_refused_by_a_build_that_has_none(world: World) -> None:
    if "sabotage" in _native.build_info()["features"]:
        pytest.skip("this build loses rows on purpose when asked to")
    world.source(log_of(10))
    receipt = run(world, "windows.evtx", fault="drop-record:3")
    assert receipt.sources[0].code == "parser.exception"


def test_build_that_loses_rows_turns_the_ledger_red(world: World) -> None:
    if "sabotage" not in _native.build_info()["features"]:
        pytest.skip("needs the native module built with the feature `sabotage`")
    world.source(log_of(700))
    receipt = run(world, "windows.evtx", fault="drop-record:100")
    ledger = receipt.sources[0].ledger
    assert ledger is not None
    assert not ledger.balanced
    assert ledger.lost == 700 - ledger.rows > 0


def test_file_that_is_no_log_gives_findings_and_no_row(world: World) -> None:
    world.source(b"this is not an event log\n" * 400)
    receipt = run(world, "windows.evtx")
    ledger = receipt.sources[0].ledger
    assert ledger is not None
    assert ledger.findings


def test_python_parser_tiles_its_source_in_a_guest(world: World) -> None:
    content = (
        b"Nov 23 10:00:00 host sshd[1]: Accepted\n"
        b"this is no syslog line\n\n"
        b"Nov 23 10:00:01 host cron[2]: \xff run"
    )
    world.source(content, name="syslog-20261123")
    receipt = run(world, "linux.syslog")
    assert [source.code for source in receipt.sources] == [None]
    ledger = receipt.sources[0].ledger
    assert ledger is not None
    assert ledger.balanced
    assert (ledger.present, ledger.quarantined, ledger.blank_bytes) == (3, 1, 1)
    spans = [
        row["_cf_length"]
        for table in ("syslog_events", "quarantine")
        for row in rows(receipt, table)
    ]
    assert sum(spans) + ledger.blank_bytes == len(content)


def corpus(world: World, folder: str, suffix: str = "") -> None:
    assert CORPUS is not None
    for path in sorted(Path(CORPUS, folder).rglob(f"*{suffix}")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            digest = _native.digest_files([os.fsencode(path)])[0].blake3
            assert digest is not None
            world.sources.append(
                SourceTask(
                    index=len(world.sources),
                    source_id=identity.source_id(digest),
                    source_hash=digest,
                    sha256="0" * 64,
                    size_bytes=len(content),
                    path=os.fsencode(path),
                    display_path=str(path.relative_to(CORPUS)),
                )
            )


@pytest.mark.corpus
@pytest.mark.skipif(CORPUS is None, reason="CASPARIAN_CORPUS is not set")
@pytest.mark.parametrize(
    ("parser", "folder", "suffix"),
    [
        ("windows.evtx", "evtx", ".evtx"),
        ("linux.syslog", "linux", ""),
        ("linux.syslog", "logs", ""),
    ],
)
def test_every_file_of_the_corpus_balances(
    world: World, parser: str, folder: str, suffix: str
) -> None:
    corpus(world, folder, suffix)
    receipt = run(world, parser)
    assert receipt.code is None
    assert world.sources
    red = {
        world.sources[source.index].display_path: source
        for source in receipt.sources
        if source.ledger is None or not source.ledger.balanced
    }
    assert red == {}
