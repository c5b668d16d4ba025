"""The installed command on what is no log any more: carving, and the event behind a row."""

from __future__ import annotations

import json
import random
from xml.etree import ElementTree as ET

import pytest

from casparian.demo.evtx_writer import System, event_data, event_log, windows_event
from casparian.demo.evtx_writer.values import string

EVENTS = 12
HEADER_BYTES = 4096


def log() -> bytes:
    return event_log(
        [
            windows_event(
                System(
                    provider="Casparian-Test",
                    event_id=4624,
                    time_created=133_000_000_000_000_001,
                    event_record_id=number,
                    channel="Security",
                    computer="host",
                ),
                event_data(("TargetUserName", string(f"user \x1b[2J{number}"))),
            )
            for number in range(1, EVENTS + 1)
        ]
    ).to_bytes()


@pytest.fixture
def evidence(tmp_path):
    dice = random.Random(5)
    directory = tmp_path / "evidence"
    directory.mkdir()
    (directory / "whole.evtx").write_bytes(log())
    image = dice.randbytes(70_001) + log()[HEADER_BYTES:] + dice.randbytes(900)
    (directory / "unallocated").write_bytes(image)
    (directory / "notes.txt").write_bytes(b"nothing of interest\n")
    (directory / "nothing").write_bytes(b"")
    return directory


def test_files_that_nobody_takes_are_carved_when_asked_for(casparian, evidence):
    plain = casparian.json("run", evidence)
    assert plain["files"]["selected"] == 1
    carved = casparian.json("run", evidence, "--carve")
    assert carved["files"]["selected"] == 2  # the image and the notes; the log is done
    assert carved["reasons"]["done"] == 1
    rows = casparian.rows(
        "select _cf_source_path, count(*), min(list_contains(_cf_flags, 'carved')) from evtx_events "
        "group by all order by all"
    )
    assert rows == [["unallocated", EVENTS, True], ["whole.evtx", EVENTS, False]]
    same = casparian.rows(
        "select count(*) from (select * exclude (chunk, chunk_crc_ok), _cf_offset - 70001 as place from evtx_events "
        "where _cf_source_path = 'unallocated') a join evtx_events b on a.place = b._cf_offset - 4096 "
        "and a.data_values = b.data_values and a.time_created = b.time_created"
    )
    assert same == [[EVENTS]]
    ledgers = {source["source_path"]: source for source in casparian.json("ledger")["sources"]}
    ledger = ledgers["unallocated"]
    assert ledger["balanced"]
    assert (ledger["present"], ledger["recovered_extra"]) == (0, EVENTS)
    assert [finding["code"] for finding in ledger["findings"]] == ["source.carved"]
    assert ledgers["notes.txt"]["findings"] == []
    (row,) = casparian.rows(
        "select _cf_row_id from evtx_events where _cf_source_path = 'unallocated' limit 1"
    )
    assert casparian.json("why", row[0])["proven"]
    again = casparian.json("run", evidence, "--carve")
    assert again["files"]["selected"] == 0


def test_carving_is_part_of_the_key(casparian, evidence):
    casparian.json("run", evidence)
    changed = casparian.json("run", evidence, "--set", "windows.evtx.carve=true")
    assert changed["reasons"]["config_changed"] == 1
    assert casparian.rows(
        "select count(*) from evtx_events where list_contains(_cf_flags, 'carved')"
    ) == [[EVENTS]]


def test_a_run_without_a_parser_that_carves_says_so(casparian, evidence):
    answer = casparian("run", evidence, "--carve", "--parser", "linux.syslog", "--json", code=2)
    assert answer.json["error"]["code"] == "run.carve"


def test_a_row_and_its_event_are_shown(casparian, evidence):
    casparian.json("run", evidence, "--carve")
    for path in ("whole.evtx", "unallocated"):
        (row,) = casparian.rows(
            f"select _cf_row_id from evtx_events where _cf_source_path = '{path}' and header_record_id = 7"
        )
        columns = {c["name"]: c for c in casparian.json("show", row[0])["columns"]}
        assert columns["event_id"] == {"name": "event_id", "type": "UINTEGER", "value": 4624}
        assert columns["_cf_source_path"]["value"] == path
        text = casparian("show", row[0]).out
        assert "event_id\tUINTEGER\t4624" in text
        xml = casparian("show", row[0], "--xml").out
        assert "\x1b" not in xml
        names = [node.tag.rpartition("}")[2] for node in ET.fromstring(xml).iter()]
        assert names[:4] == ["Event", "System", "Provider", "EventID"]
        event = json.loads(casparian("show", row[0], "--event").out)["Event"]
        assert event["EventData"]["TargetUserName"] == "user \x1b[2J7"
        assert event["System"]["EventRecordID"] == 7
        document = casparian.json("show", row[0], "--xml")
        assert document["event"]["Event"] == event
        assert (document["xml"], document["unfit_for_xml"]) == (xml, 1)
        assert {c["name"] for c in document["columns"]} == set(columns)


def test_what_cannot_be_shown_says_why(casparian, evidence, tmp_path):
    (evidence / "messages").write_bytes(b"<34>1 2024-05-01T10:20:30Z host app 1 - - one\n" * 3)
    casparian.json("run", evidence)
    (line,) = casparian.rows("select _cf_row_id from syslog_events limit 1")
    assert casparian.json("show", line[0])["columns"]
    answer = casparian("show", line[0], "--xml", "--json", code=2)
    assert answer.json["error"]["code"] == "show.no_event"
    (chunk,) = casparian.rows("select _cf_row_id from evtx_chunks limit 1")
    answer = casparian("show", chunk[0], "--xml", "--json", code=1)
    assert answer.json["error"]["code"] == "show.unreadable"
    (row,) = casparian.rows("select _cf_row_id from evtx_events limit 1")
    assert casparian("show", "nonsense", "--json", code=2).json["error"]["code"] == "row.malformed"
    whole = (evidence / "whole.evtx").read_bytes()
    (evidence / "whole.evtx").write_bytes(whole[:-1] + b"x")
    answer = casparian("show", row[0], "--xml", "--json", code=7)
    assert answer.json["error"]["code"] == "evidence.changed"
    (evidence / "whole.evtx").unlink()
    answer = casparian("show", row[0], "--event", "--json", code=7)
    assert answer.json["error"]["code"] == "evidence.missing"
    assert casparian.json("show", row[0])["columns"]
