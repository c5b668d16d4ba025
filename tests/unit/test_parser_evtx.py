"""`windows.evtx`: its contract is what the native decoder sends, field by field."""

import tempfile

import pyarrow as pa

from casparian import _native
from casparian.contracts.check import split
from casparian.demo.evtx_writer import System, event_data, event_log, windows_event
from casparian.demo.evtx_writer.values import string
from casparian.domain.parsers import ParserKind
from casparian.paths import first_party_parsers
from casparian.protocol.arrow import bridge_schema
from casparian.scout.identify import identify
from casparian.trust.library import load_parser

ARTIFACT = load_parser(first_party_parsers() / "windows.evtx")


def log() -> bytes:
    events = [
        windows_event(
            System(
                provider="Casparian-Test",
                event_id=4624,
                time_created=133_000_000_000_000_001,
                event_record_id=number,
                channel="Security",
                computer="host",
            ),
            event_data(("TargetUserName", string("ines.marlow"))),
        )
        for number in (1, 2, 3)
    ]
    return event_log(events).to_bytes()


def decoded(data: bytes) -> dict[str, list[pa.RecordBatch]]:
    found: dict[str, list[pa.RecordBatch]] = {}
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        for name, batch in _native.EvtxReader(file.fileno(), len(data)):
            found.setdefault(name, []).append(pa.record_batch(batch))
    return found


def test_the_manifest_asks_for_the_native_decoder_and_its_own_account() -> None:
    manifest = ARTIFACT.manifest
    assert (manifest.kind, manifest.entry, manifest.tags) == (ParserKind.NATIVE, "evtx", ("evtx",))
    assert (manifest.unit, manifest.account) == ("record", "evtx")
    assert [output.table for output in ARTIFACT.contract.outputs] == ["evtx_events", "evtx_chunks"]
    assert ARTIFACT.contract.main.table == "evtx_events"
    assert all(column.doc for output in ARTIFACT.contract.outputs for column in output.columns)


def test_a_log_gives_batches_that_keep_the_contract() -> None:
    data = log()
    assert [tag for tag, _ in identify(data[:4096], b"x", len(data))] == ["evtx"]
    batches = decoded(data)
    assert set(batches) == {"evtx_events", "evtx_chunks"}
    for output in ARTIFACT.contract.outputs:
        expected = bridge_schema(output)
        for batch in batches[output.table]:
            assert [(f.name, f.type) for f in batch.schema] == [(f.name, f.type) for f in expected]
            bridged = pa.RecordBatch.from_arrays(batch.columns, schema=expected)
            assert split(bridged, output).rejected.num_rows == 0
    assert sum(batch.num_rows for batch in batches["evtx_events"]) == 3


def test_damage_gives_quarantine_in_its_shape() -> None:
    data = bytearray(log())
    data[4096 + 512 : 4096 + 516] = b"\xff" * 4  # the first record's magic
    (batch,) = decoded(bytes(data))["@quarantine"]
    assert [(f.name, f.type) for f in batch.schema] == [
        (f.name, f.type) for f in bridge_schema(None)
    ]
    assert batch["reason"].to_pylist() == ["record.damaged"]


def test_a_log_is_known_by_its_fields_when_its_magic_is_gone() -> None:
    data = bytes(8) + log()[8:]
    assert [tag for tag, _ in identify(data[:4096], b"x", len(data))] == ["evtx"]
