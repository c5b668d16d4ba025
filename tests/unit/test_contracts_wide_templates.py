"""The list of wide tables is what templates and publications say, and nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from casparian.contracts.wide_templates import (
    CURATED,
    Seen,
    keys,
    logs_below,
    main,
    merged_order,
    merged_type,
    read_logs,
    read_published,
    render,
    snake_case,
    tables,
)
from casparian.demo.evtx_writer import System, event_data, event_log, windows_event
from casparian.demo.evtx_writer import values as make
from casparian.paths import first_party_parsers

EVENT = ("Example-Provider", 7)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("TargetUserName", "target_user_name"),
        ("SourceProcessGUID", "source_process_guid"),
        ("FWLink", "fw_link"),
        ("EventXML/SessionID", "session_id"),
        ("SourceIsIpv6", "source_is_ipv6"),
        ("Product Name", "product_name"),
        ("param1", "param1"),
        ("EventXML/@Kind", "kind"),
        ("", "data"),
        ("é", "data"),
    ],
)
def test_columns_are_named_in_snake_case(name: str, column: str) -> None:
    assert snake_case(name) == column


@pytest.mark.parametrize(
    ("types", "merged"),
    [
        ({"uint8", "uint32"}, "uint32"),
        ({"int8", "int32"}, "int32"),
        ({"uint32", "int8"}, "int64"),
        ({"uint8", "int8"}, "int16"),
        ({"uint64", "int8"}, "utf8"),
        ({"uint64", "bool"}, "utf8"),
        ({"timestamp[ns, UTC]", "utf8"}, "utf8"),
        ({"binary"}, "binary"),
        (set(), "utf8"),
    ],
)
def test_versions_that_differ_get_the_wider_type(types: set[str], merged: str) -> None:
    assert merged_type(types) == merged


def test_older_names_stand_behind_those_that_they_follow() -> None:
    newest, older = keys(["a", "b", "d", "a"]), keys(["a", "c", "d", "e"])
    assert merged_order([newest, older]) == [
        ("a", 1), ("c", 1), ("b", 1), ("d", 1), ("e", 1), ("a", 2)
    ]  # fmt: skip


def test_a_column_never_has_the_name_of_another() -> None:
    layout = keys(["ProcessId", "process_id", "Name", "name", "Name"])
    seen = {EVENT: Seen(Counter({(0, layout): 1}), {key: {8} for key in layout})}
    (table,) = tables([("evtx_example_7", EVENT)], seen, {})
    names = [name for name, _, _ in table.columns]
    assert names == ["process_id_data", "process_id_data_2", "name", "name_2", "name_3"]
    assert table.origin == "template"


def test_what_no_log_shows_is_published_or_an_error() -> None:
    published = {EVENT: ("evtx_example_7", [("uint32", "Count"), ("utf8", "Name")])}
    (table,) = tables([("evtx_example_7", EVENT)], {}, published)
    assert table.origin == "published"
    assert table.columns == (("count", "uint32", ("Count", 1)), ("name", "utf8", ("Name", 1)))
    # A value that was empty in every record has the published type.
    empty = Seen(Counter({(0, keys(["Count"])): 1}), {("Count", 1): {0}})
    (table,) = tables([("evtx_example_7", EVENT)], {EVENT: empty}, published)
    assert table.columns[0] == ("count", "uint32", ("Count", 1))
    with pytest.raises(KeyError):
        list(tables([("evtx_example_7", EVENT)], {}, {}))


def test_logs_below_a_directory_become_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def event(version: int, *fields: tuple[str, make.Value]) -> bytes:
        system = System(provider=EVENT[0], event_id=7, time_created=133_546_683_011_234_567, event_record_id=1, version=version,
                        channel="c", computer="c")  # fmt: skip
        return event_log([windows_event(system, event_data(*fields))]).to_bytes()

    (tmp_path / "old.evtx").write_bytes(
        event(0, ("Count", make.uint16(1)), ("Gone", make.string("")))
    )
    (tmp_path / "new.EVTX").write_bytes(
        event(1, ("Count", make.uint32(1)), ("When", make.filetime(1)))
    )
    with pytest.raises(SystemExit):  # the curated events are not all published: they need logs
        main([str(tmp_path), "--event=evtx_example_7=Example-Provider/7"])
    seen = read_logs(logs_below([str(tmp_path)]), {EVENT})
    text = render(tables([("evtx_example_7", EVENT)], seen, {}))
    assert text.splitlines()[2:] == [
        "evtx_example_7\t7\tExample-Provider\ttemplate",
        "\tcount\tuint32\tCount",
        "\tgone\tutf8\tGone",
        "\twhen\ttimestamp[ns, UTC]\tWhen",
    ]
    assert "no log has the event" in capsys.readouterr().err


def test_published_events_are_among_the_curated_ones_under_the_same_name() -> None:
    curated = {(p, n): f"evtx_{family}_{n}" for family, p, numbers in CURATED for n in numbers}
    for event, (table, columns) in read_published().items():
        assert curated[event] == table
        assert len({name for _, name in columns}) == len(columns) > 0


def test_the_list_in_the_tree_has_every_curated_table() -> None:
    text = (first_party_parsers() / "windows.evtx" / "wide.tsv").read_text("utf-8")
    listed = [line.split("\t")[0] for line in text.splitlines() if line.startswith("evtx_")]
    assert listed == [f"evtx_{family}_{n}" for family, _, numbers in CURATED for n in numbers]
