"""Other readers over the sources of committed rows: in a real worker and its confined guests, with real readers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from casparian.appliance.second_opinion import known, second_opinion
from casparian.appliance.second_opinion.report import ReaderOpinion
from casparian.contracts.load import load_manifest
from casparian.demo.evtx_writer import System, event_data, event_log, windows_event
from casparian.demo.evtx_writer.values import string
from casparian.errors import ContractError, UsageError
from casparian.guest import preload
from tests.factories.committed import CommittedHome

RECORDS = 40
READERS = ("evtx", "libevtx")


def log(first: int = 1) -> bytes:
    """A log of `RECORDS` events with numbers from `first` on."""
    events = [
        windows_event(
            System(
                provider="Casparian-Test",
                event_id=4600 + number % 7,
                time_created=133_000_000_000_000_001 + number,
                event_record_id=number,
                channel="Security",
                computer="host",
            ),
            event_data(("Name", string(f"value {number}"))),
        )
        for number in range(first, first + RECORDS)
    ]
    return event_log(events).to_bytes()


@pytest.fixture
def committed(tmp_path: Path) -> CommittedHome:
    """Two logs, parsed by our own decoder and committed."""
    home = CommittedHome(tmp_path)
    sources = [home.source("a.evtx", log()), home.source("b.evtx", log(1000))]
    home.run_parser("windows.evtx", sources, home.sink("parquet:outputs"), 1)
    home.publish()
    return home


def ask(committed: CommittedHome, *readers: str, **options: Any) -> tuple[ReaderOpinion, ...]:
    return second_opinion(committed.home, readers=readers, **options).readers


def lose(committed: CommittedHome, record: int) -> None:
    """Take one record out of the committed table, as a decoder would that does not see it."""
    (path,) = (
        f.path for f in committed.files[("evtx_events", committed.sink("parquet:outputs").uri)]
    )
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.not_equal(table["header_record_id"], record)), path)


@pytest.mark.parametrize("reader", READERS)
def test_readers_that_find_the_same_agree(committed: CommittedHome, reader: str) -> None:
    (opinion,) = ask(committed, reader)
    assert [source.path for source in opinion.sources] == ["a.evtx", "b.evtx"]
    assert all(source.agrees and not source.problems for source in opinion.sources)
    totals = opinion.totals["events"]
    assert (totals.ours, totals.theirs, totals.both) == (2 * RECORDS, 2 * RECORDS, 2 * RECORDS)
    assert (opinion.lacking, opinion.not_compared) == (0, ())
    assert opinion.reader.startswith(f"{reader} ")


@pytest.mark.parametrize("reader", READERS)
def test_a_record_that_our_table_lacks_is_found_and_named(
    committed: CommittedHome, reader: str
) -> None:
    lose(committed, 1017)
    (opinion,) = ask(committed, reader)
    whole, lossy = opinion.sources
    assert whole.agrees
    assert (lossy.lacking, opinion.lacking) == (1, 1)
    (one,) = lossy.disagreements["events"]
    assert (one.what, one.identity) == ("only_theirs", (1017,))
    assert one.theirs is not None
    assert one.theirs[1] == 4600 + 1017 % 7


def test_a_value_that_differs_is_no_loss_and_is_said(committed: CommittedHome) -> None:
    (path,) = (
        f.path for f in committed.files[("evtx_events", committed.sink("parquet:outputs").uri)]
    )
    table = pq.read_table(path)
    where = table.column_names.index("event_id")
    pq.write_table(table.set_column(where, "event_id", pc.add(table["event_id"], 1)), path)
    (opinion,) = ask(committed, "evtx", pattern="a.*")
    (source,) = opinion.sources
    assert (source.kinds["events"].differing, source.lacking) == (RECORDS, 0)
    assert not source.agrees


def test_evidence_that_changed_or_is_gone_is_not_compared(committed: CommittedHome) -> None:
    changed = bytearray(log())
    changed[-1] ^= 1
    (committed.evidence / "a.evtx").write_bytes(changed)
    (committed.evidence / "b.evtx").unlink()
    (opinion,) = ask(committed, "evtx")
    assert opinion.sources == ()
    assert sorted((one.path, one.code) for one in opinion.not_compared) == [
        ("a.evtx", "source.changed"),
        ("b.evtx", "evidence.missing"),
    ]


def test_what_a_reader_cannot_read_is_its_own_error(tmp_path: Path) -> None:
    home = CommittedHome(tmp_path)
    damaged = bytearray(log())
    damaged[:8] = bytes(8)  # our decoder walks the chunks all the same
    source = home.source("a.evtx", bytes(damaged))
    home.run_parser("windows.evtx", [source], home.sink("parquet:outputs"), 1)
    home.publish()
    report = second_opinion(home.home, readers=READERS)
    for opinion in report.readers:
        assert opinion.sources == ()
        (failed,) = opinion.not_compared
        assert (failed.path, failed.code) == ("a.evtx", "parser.exception")
        assert failed.message
    assert report.lacking == 0


def verify(committed: CommittedHome, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "casparian", "--home", str(committed.home.root), "verify"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def test_the_command_says_it_in_words_and_in_json_and_by_its_exit_code(
    committed: CommittedHome,
) -> None:
    fine = verify(committed, "--second-opinion", "--reader", "evtx")
    assert fine.returncode == 0, fine.stderr
    assert f"events: {2 * RECORDS} found by both; 0 only by the other reader" in fine.stdout
    lose(committed, 5)
    found = verify(committed, "--second-opinion", "--reader", "evtx")
    assert found.returncode == 7, found.stderr
    assert "only the other reader has 5 (" in found.stdout
    answer = verify(committed, "--second-opinion", "--reader", "evtx", "--json")
    document = json.loads(answer.stdout)
    assert (answer.returncode, document["lacking"], document["agrees"]) == (7, 1, False)
    (reader,) = document["readers"]
    assert reader["totals"]["events"]["only_theirs"] == 1
    assert [source["agrees"] for source in reader["sources"]] == [False, True]
    bare = verify(committed)
    assert bare.returncode == 2
    assert "--second-opinion" in bare.stderr


def test_a_reader_that_is_not_installed_is_said_with_how_to_install_it(
    committed: CommittedHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = [msgspec.structs.replace(r, module="not_there_at_all") for r in known.READERS]
    monkeypatch.setattr(known, "READERS", (known.READERS[0], *absent[1:]))
    report = second_opinion(committed.home)
    assert [opinion.sources[0].agrees for opinion in report.readers] == [True]
    assert [missing.distribution for missing in report.missing] == [
        "libevtx-python",
        "libregf-python",
    ]
    with pytest.raises(UsageError) as named:
        second_opinion(committed.home, readers=("libevtx",))
    assert named.value.code == "reader.missing"
    monkeypatch.setattr(known, "READERS", tuple(absent))
    with pytest.raises(UsageError) as none:
        second_opinion(committed.home)
    assert (none.value.code, known.EXTRA in str(none.value.hint)) == ("reader.missing", True)
    with pytest.raises(UsageError, match="there is no reader"):
        second_opinion(committed.home, readers=("evtxx",))


def test_no_parser_can_ask_for_a_reader() -> None:
    text = (
        'schema_version = 1\nname = "x.y"\nversion = "1.0.0"\nkind = "python"\nentry = "parser.py:parse"\n'
        'tags = ["any"]\nunit = "line"\naccount = "lines"\npreload = ["{}"]\n'
    )
    with pytest.raises(ContractError, match="preload"):
        load_manifest(text.format("reader:evtx").encode())
    assert load_manifest(text.format("evtx").encode()).preload == ("evtx",)
    for name in ("evtx", "reader:json", "reader:os", "reader:"):
        with pytest.raises(preload.PreloadError):
            preload._import_extra(name)
