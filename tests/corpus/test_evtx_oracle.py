"""Every record that any independent tool found is a row, a recovered row or a quarantined one.

`ORACLE.json` holds what `evtx` (Rust), python-evtx, dissect.eventlog, libevtx and a byte walk found in
each of the 134 logs. Of each tool we compare the number of records, their lowest and highest id, how
many ids there are, and the records of each event id, with our rows outside of the slack. Header ids
are what `evtx`, python-evtx and libevtx report, EventRecordIDs what dissect reports.

Where a tool and we disagree, the bytes decide, and `DECIDED` says how. The table is exact: a
disagreement that is not in it fails, and so does one in it that is gone.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.conftest import EvtxRun

pytestmark = pytest.mark.corpus

LOGS = 134
TOOLS = ("evtx_rust", "python_evtx", "dissect_eventlog", "libevtx")
PLASO = "log2timeline-plaso/evtx"
OMER = "omerbenamram-evtx"
CAPI2 = "E_ShadowCopy6_windows_system32_winevt_logs_Microsoft-Windows-CAPI2%4Operational"


@dataclass(frozen=True)
class Difference:
    """Where a tool and we differ.

    Attributes:
        theirs: records that the tool found. For `libevtx with recovered`: its recovered ones too.
        ours: our rows outside of slack; for `libevtx with recovered` all rows and quarantined records.
        surplus: records, by event id, that the tool has and our rows have not.
    """

    theirs: int
    ours: int
    surplus: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What the bytes say.

    Attributes:
        tools: the difference to each tool that has one.
        why: read from the bytes.
        quarantined: records that a tool has as such and we have in quarantine: the offset in the
            file at which the record's header stands, and the id in it.
    """

    tools: dict[str, Difference]
    why: str
    quarantined: dict[int, int] = field(default_factory=dict)


def _all(names: tuple[str, ...], theirs: int, ours: int) -> dict[str, Difference]:
    return dict.fromkeys(names, Difference(theirs, ours))


DECIDED: dict[str, Decision] = {
    f"{PLASO}/System2.evtx": Decision(
        _all(TOOLS, 194, 283) | {"libevtx with recovered": Difference(194, 283)},
        """The file ends after 64,832 of the 65,536 bytes of its third chunk. No tool reads a chunk that
        is not whole. Its header is: 89 whole records (ids 195 to 283) lie before the cut, each
        closed by its own size. The 90th is cut through and quarantined with the bytes there are.""",
    ),
    f"{OMER}/{CAPI2}.evtx": Decision(
        {
            "libevtx": Difference(436, 459),
            "libevtx with recovered": Difference(450, 473),
        },
        """libevtx reports an error for 23 records with long certificate chains in their UserData (event
        ids 51 and 53). All checksums are good and the records decode; `evtx` and dissect agree.""",
    ),
    f"{OMER}/MSExchange_Management_wec.evtx": Decision(
        {"libevtx": Difference(1, 1, {"None": 1})},
        """libevtx finds the record but cannot decode it (one record error), so it knows no event id. The
        record has no template; `evtx` and dissect read event id 1 as we do.""",
    ),
    f"{OMER}/Microsoft-Windows-HelloForBusiness%4Operational.evtx": Decision(
        {
            "evtx_rust": Difference(6, 5, {"0": 1}),
            "python_evtx": Difference(6, 5),
            "byte_walk": Difference(6, 5),
        },
        """The slot is zero from its byte 4,096 on. The sixth record begins at 3,984 with a header that
        claims 384 bytes, of which 112 are there: its values and its closing size are zeros. `evtx`
        makes an event with id 0 and empty values of it. We give five rows, and the rest of the live
        area, that header first, as one quarantined region.""",
        {8080: 6},
    ),
    f"{OMER}/Microsoft-Windows-LanguagePackSetup%4Operational.evtx": Decision(
        {
            "evtx_rust": Difference(17, 16, {"4000": 1}),
            "python_evtx": Difference(17, 16),
            "byte_walk": Difference(17, 16),
        },
        """The slot is zero from its byte 8,192 on, over the rest of its live area. The 17th record begins at
        7,928 and claims 384 bytes: the first 264 survive, the rest and its closing size do not. `evtx`
        makes an event of what is left. We quarantine the region from its header on, with the bytes.""",
        {12024: 17},
    ),
    f"{OMER}/sample-with-zero-data-size-event.evtx": Decision(
        _all((*TOOLS, "byte_walk"), 335, 449),
        """The third record of the first chunk has a size of 0 at its head. The tools (and a walk by that
        size) leave the chunk there. The next record begins 232 bytes further, and 114 records from there
        on are whole: we give them as recovered, and the 232 bytes as one quarantined region.
        libevtx finds the same 114 and sets them apart as recovered.""",
    ),
    f"{OMER}/sample_with_a_bad_chunk_magic.evtx": Decision(
        {
            "evtx_rust": Difference(270, 298, {"0": 1}),
            "python_evtx": Difference(270, 298),
            "dissect_eventlog": Difference(267, 298),
            "libevtx": Difference(267, 298),
            "byte_walk": Difference(270, 298),
        },
        """Runs of zeros lie over five slots. Two slots (6 and 10) have lost their header, so no tool looks at them; in
        slots 0, 7 and 9 a run begins within a record. 31 records behind a run decode and are recovered
        rows (libevtx counts them among its recovered ones). `evtx`, python-evtx and the walk count
        three records whose header is the last thing before a run; their closing sizes are zeros and
        we quarantine them with the region they begin.""",
        {12224: 46741, 470632: 47640, 650816: 45933},
    ),
    "puffyCid-artemis/eventlogs/Application.evtx": Decision(
        {"python_evtx": Difference(302, 551)},
        """The log was not closed: its file header says 2 chunks, and python-evtx believes it. There are 5,
        all checksums are good.""",
    ),
}


@dataclass(frozen=True)
class Log:
    """What we have of one log.

    Attributes:
        live: (header record id, EventRecordID, event id) of each row outside of slack.
        extra: rows of the slack.
        quarantined: offset and reason of each quarantined unit.
    """

    live: list[tuple[int, int | None, str]]
    extra: int
    quarantined: list[tuple[int, str]]

    @property
    def quarantined_records(self) -> int:
        """Whole records that did not decode, without regions that hold no record."""
        return sum(reason != "record.damaged" for _, reason in self.quarantined)


@pytest.fixture(scope="session")
def oracle(corpus: Path) -> dict[str, dict[str, Any]]:
    files = json.loads((corpus / "ORACLE.json").read_text())["files"]
    found = {
        path.removeprefix("evtx/"): figures
        for path, figures in files.items()
        if path.startswith("evtx/")
    }
    assert len(found) == LOGS
    return found


@pytest.fixture(scope="session")
def logs(evtx_run: EvtxRun) -> dict[str, Log]:
    """Our rows by path, through the content that lies there."""
    by_hash: dict[str, Log] = {}
    for ledger in evtx_run.ledgers.values():
        by_hash[ledger["source_hash"]] = Log([], 0, [])
    for source, header_id, record_id, event_id, is_slack in evtx_run.world.query(
        "SELECT _cf_source_hash, header_record_id, record_id, event_id, list_contains(_cf_flags, 'slack')"
        " FROM evtx_events ORDER BY _cf_source_hash, _cf_offset"
    ):
        log = by_hash[source]
        if is_slack:
            by_hash[source] = Log(log.live, log.extra + 1, log.quarantined)
        else:
            log.live.append((header_id, record_id, str(event_id)))
    for source, offset, reason in evtx_run.world.query(
        "SELECT _cf_source_hash, _cf_offset, reason FROM quarantine ORDER BY 1, 2"
    ):
        by_hash[source].quarantined.append((offset, reason))
    return {path: by_hash[ledger["source_hash"]] for path, ledger in evtx_run.ledgers.items()}


def differences(log: Log, figures: dict[str, Any]) -> dict[str, Difference]:
    """Where the tools and we differ, tool by tool; ids are compared where the counts are equal."""
    found = {}
    events = Counter(event_id for _, _, event_id in log.live)
    for tool in TOOLS:
        theirs = figures[tool]
        ids = [ids[1 if tool == "dissect_eventlog" else 0] for ids in log.live]
        surplus = dict(Counter(theirs.get("by_event_id", events)) - events)
        if theirs["records"] != len(log.live) or surplus:
            found[tool] = Difference(theirs["records"], len(log.live), surplus)
        else:
            assert theirs["min_record_id"] == min(ids, default=None), tool
            assert theirs["max_record_id"] == max(ids, default=None), tool
            assert theirs["distinct_record_ids"] == len(set(ids)), tool
    walked = figures["bytes_read_directly"]["records_walked_in_live_area"]
    if walked != len(log.live):
        found["byte_walk"] = Difference(walked, len(log.live))
    everything = len(log.live) + log.extra + log.quarantined_records
    recovered = figures["libevtx"]["records"] + figures["libevtx"].get("recovered_records", 0)
    if recovered != everything:
        found["libevtx with recovered"] = Difference(recovered, everything)
    return found


def test_each_log_gives_what_the_tools_found_or_the_bytes_decide(
    logs: dict[str, Log], oracle: dict[str, dict[str, Any]]
) -> None:
    found = {path: differences(logs[path], figures) for path, figures in oracle.items()}
    found = {path: tools for path, tools in found.items() if tools}
    assert found == {path: decision.tools for path, decision in DECIDED.items()}


def test_records_that_only_a_tool_has_are_quarantined_where_their_headers_stand(
    logs: dict[str, Log], oracle: dict[str, dict[str, Any]], corpus: Path
) -> None:
    for path, decision in DECIDED.items():
        data = (corpus / "evtx" / path).read_bytes()
        offsets = [offset for offset, _ in logs[path].quarantined]
        for offset, record_id in decision.quarantined.items():
            assert data[offset : offset + 4] == b"\x2a\x2a\0\0"
            assert int.from_bytes(data[offset + 8 : offset + 16], "little") == record_id
            assert offset in offsets, f"{path}: {record_id}"
        covered = {ids[0] for ids in logs[path].live} | set(decision.quarantined.values())
        for tool in ("evtx_rust", "python_evtx", "libevtx"):
            figures = oracle[path][tool]
            assert {figures["min_record_id"], figures["max_record_id"]} <= covered, (
                f"{path}: {tool}"
            )
            ours = len(logs[path].live) + len(decision.quarantined)
            assert figures["records"] <= ours, f"{path}: {tool}"


def test_all_whole_records_of_the_cut_log_are_there(logs: dict[str, Log]) -> None:
    cut = logs[f"{PLASO}/System2.evtx"]
    assert [header_id for header_id, _, _ in cut.live] == list(range(1, 284))
    assert [reason for _, reason in cut.quarantined] == ["record.damaged"]


def test_every_ledger_balances_and_every_loss_of_the_bytes_is_named(
    evtx_run: EvtxRun, oracle: dict[str, dict[str, Any]]
) -> None:
    assert evtx_run.ledgers.keys() == oracle.keys()
    assert evtx_run.summary["files"] == {
        "seen": LOGS, "selected": LOGS, "skipped": 0, "unmatched": 0, "unreadable": 0, "failed": 0,
    }  # fmt: skip
    assert evtx_run.summary["ledger"]["balanced"]
    for path, ledger in evtx_run.ledgers.items():
        sum_of_classes = ledger["rows"] + ledger["recovered_live"] + ledger["quarantined"]
        assert ledger["balanced"], path
        assert (ledger["lost"], ledger["present"]) == (0, sum_of_classes), path
        codes = {finding["code"] for finding in ledger["findings"]}
        bytes_say = oracle[path]["bytes_read_directly"]
        expected = {
            "file.header_crc": not bytes_say["header_crc_ok"],
            "chunk.header_crc": bool(bytes_say["chunk_header_crc_bad"]),
            "chunk.data_crc": bool(bytes_say["chunk_data_crc_bad"]),
            "chunk.cut": bool(bytes_say["tail_bytes"]),
        }
        if path == f"{PLASO}/System2.evtx":
            expected["chunk.data_crc"] = False  # of a cut chunk nothing can be said: `chunk.cut` is
        for code, is_due in expected.items():
            assert not is_due or code in codes, f"{path}: {code}"
        if ledger["declared"] is not None and ledger["declared"] > ledger["present"]:
            assert "source.truncated" in codes, path


def test_both_record_ids_are_kept_where_an_export_renumbered_them(logs: dict[str, Log]) -> None:
    renumbered = [
        path for path, log in logs.items() if any(own != header for header, own, _ in log.live)
    ]
    assert len(renumbered) > LOGS // 2
    assert all(own is not None for log in logs.values() for _, own, _ in log.live)


def test_the_slack_is_told_apart(evtx_run: EvtxRun) -> None:
    ledgers = evtx_run.ledgers.values()
    assert sum(ledger["recovered_extra"] for ledger in ledgers) > 0
    assert sum(ledger["quarantined_extra"] for ledger in ledgers) > 0
