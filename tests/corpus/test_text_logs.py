"""Spans of rows, quarantined lines and blank lines tile each text exactly: no gap, no overlap, no byte over.

Rows and quarantine come from the installed command; blank lines are found here, by a reading of the whole file that
shares nothing with the parser or with the native walk. On the corpus:

  * as a case is read: which files are taken by content, and why others with times in them are not;
  * with every file tagged by hand, also XML, UTF-16 with and without mark, and binary: then it is the
    cutting of lines that is tried, and nearly all lines are quarantined.

Without the corpus the corner cases of the factory are read the same way.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from casparian.demo.syslog_cases import CORNER_CASES
from tests.support.world import World

PARSER = "linux.syslog"
SYSLOG = "log2timeline-plaso/syslog"
SAMPLE_BYTES, NUL_PERCENT = 65_536, 30

TAKEN: dict[str, dict[str, tuple[int, int]]] = {
    "linux": {
        f"{SYSLOG}/syslog": (16, 2),
        f"{SYSLOG}/syslog_chromeos": (8, 1),
        f"{SYSLOG}/syslog_cron.log": (9, 0),
        f"{SYSLOG}/syslog_osx": (2, 0),
        f"{SYSLOG}/syslog_rsyslog": (5, 0),
        f"{SYSLOG}/syslog_rsyslog_ForwardFormat": (1, 1),
        f"{SYSLOG}/syslog_rsyslog_SysklogdFileFormat": (9, 1),
        f"{SYSLOG}/syslog_rsyslog_SyslogProtocol23Format": (9, 1),
        f"{SYSLOG}/syslog_rsyslog_TraditionalForwardFormat": (1, 1),
        f"{SYSLOG}/syslog_rsyslog_traditional": (8, 3),
        f"{SYSLOG}/syslog_ssh.log": (9, 0),
    },
    "logs": {},
    "macos": {
        "log2timeline-plaso/appfirewall.log": (47, 0),
        "log2timeline-plaso/logd.0.log": (76, 0),
        "log2timeline-plaso/security.log": (9, 0),
        "log2timeline-plaso/wifi.log": (10, 0),
    },
}
"""Rows and quarantined lines of each file that is recognised by its content."""

NOT_SYSLOG = {
    "linux/log2timeline-plaso/dpkg.log": "a time without zone, then dpkg's action: no host, no process",
    "linux/log2timeline-plaso/vsftpd.log": "a time with its year at the end, then `[pid 2]`: no host, no tag",
    "logs/log2timeline-plaso/android_logcat.log": "logcat: process and thread ids and a priority letter",
    "logs/log2timeline-plaso/atlassian-bitbucket.log": "log4j: a level and a class, no host or process",
    "logs/log2timeline-plaso/atlassian-confluence.log": "log4j",
    "logs/log2timeline-plaso/atlassian-jira.log": "log4j",
    "logs/log2timeline-plaso/iis/iis10_edge_cases.log": "W3C extended log: fields in columns",
    "logs/log2timeline-plaso/iis/iis7_owa.log": "W3C extended log",
    "logs/log2timeline-plaso/wincc_simatic_s7_proto_suite.log": "a level behind the time, no host or process",
    "macos/log2timeline-plaso/ios_sysdiag.log": "a time with its year at the end, then `[176] <notice>`: no tag",
}
"""Files in which at least half of the lines begin with a date, and why they are no syslog."""

BEYOND_ONE_MEBIBYTE = {"very_long_line": 1}
"""Lines of the corner cases that are well formed but longer than the parser holds: `text.too_long`."""


@dataclass(frozen=True)
class Text:
    """A text as this test reads it: spans of its lines, and which of them are blank."""

    lines: list[tuple[int, int]]
    blank: list[tuple[int, int]]


def read_text(data: bytes) -> Text:
    """Cut a whole file into lines: LF ends a line and belongs to it, a byte-order mark belongs to the first."""
    codec, mark = _encoding(data)
    unit = 2 if codec.startswith("utf-16") else 1
    feed = "\n".encode(codec)
    ends = [
        at + unit for at in range(0, len(data) - unit + 1, unit) if data[at : at + unit] == feed
    ]
    if not ends or ends[-1] < len(data):
        ends.append(len(data))
    spans, blank, start = [], [], 0
    for end in ends:
        if end > start:
            spans.append((start, end - start))
            content = data[start + (mark if start == 0 else 0) : end]
            # Only a line that is terminated can have a CR that belongs to its terminator.
            for terminator in ("\r\n", "\n"):
                if content.endswith(terminator.encode(codec)) and len(content) % unit == 0:
                    content = content[: -unit * len(terminator)]
                    break
            blanks = {" ".encode(codec), "\t".encode(codec)}
            if all(content[at : at + unit] in blanks for at in range(0, len(content), unit)):
                blank.append(spans[-1])
            start = end
    return Text(spans, blank)


def _encoding(data: bytes) -> tuple[str, int]:
    """Codec and bytes of the mark."""
    marks = {
        codecs.BOM_UTF8: "utf-8",
        codecs.BOM_UTF16_LE: "utf-16-le",
        codecs.BOM_UTF16_BE: "utf-16-be",
    }
    for mark, codec in marks.items():
        if data.startswith(mark):
            return codec, len(mark)
    sample = data[:SAMPLE_BYTES]
    even, odd = sample[0::2], sample[1::2]
    nuls_even = even.count(0) * 100 > NUL_PERCENT * len(even)
    nuls_odd = odd.count(0) * 100 > NUL_PERCENT * len(odd)
    if nuls_odd and not nuls_even:
        return "utf-16-le", 0
    if nuls_even and not nuls_odd:
        return "utf-16-be", 0
    return "utf-8", 0


def assert_tiles(name: str, data: bytes, rows: list[Any], quarantined: list[Any]) -> None:
    """The spans of all three kinds, sorted, follow one another from the first byte to the last."""
    text = read_text(data)
    spans = sorted((offset, length) for offset, length in (*rows, *quarantined, *text.blank))
    position = 0
    for offset, length in spans:
        assert offset == position, (
            f"{name}: a span begins at {offset}, the one before ends at {position}"
        )
        assert length > 0, f"{name}: an empty span at {offset}"
        position = offset + length
    assert position == len(data), f"{name}: {position} of {len(data)} bytes are covered"
    assert spans == text.lines, f"{name}: lines are cut elsewhere"


def check_all(world: World) -> dict[str, tuple[int, int]]:
    """Every file that the parser took tiles and balances; gives rows and quarantined lines by path."""
    rows, quarantined = _spans(world, "syslog_events"), _spans(world, "quarantine")
    counts = {}
    for ledger in world.json("ledger")["sources"]:
        assert ledger["parser"].partition("@")[0] == PARSER
        path, source = ledger["source_path"], ledger["source_hash"]
        data = (world.evidence / path).read_bytes()
        assert_tiles(path, data, rows.get(source, []), quarantined.get(source, []))
        counts[path] = (len(rows.get(source, [])), len(quarantined.get(source, [])))
        assert ledger["balanced"], path
        assert (ledger["rows"], ledger["quarantined"]) == counts[path], path
        assert ledger["present"] == sum(counts[path]), path
    return counts


def _spans(world: World, table: str) -> dict[str, list[tuple[int, int]]]:
    """Spans of a table by the content they lie in."""
    found: dict[str, list[tuple[int, int]]] = {}
    if table == "quarantine" or world.json("outputs")["outputs"]:
        sql = f"SELECT _cf_source_hash, _cf_offset, _cf_length FROM {table}"
        for source, offset, length in world.query(sql):
            found.setdefault(source, []).append((offset, length))
    return found


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Any]:
    """Makes a world over a directory of evidence; its sentinel is stopped afterwards."""
    made: list[World] = []

    def make(evidence: Path) -> World:
        directory = tmp_path / f"case{len(made)}"
        directory.mkdir()
        made.append(World(directory, evidence=evidence))
        return made[-1]

    yield make
    for world in made:
        world.stop()


@pytest.mark.corpus
@pytest.mark.parametrize("name", sorted(TAKEN))
def test_files_recognised_as_syslog_tile_exactly(name: str, corpus: Path, case: Any) -> None:
    world = case(corpus / name)
    summary = world.run()
    files = world.json("files")["files"]
    taken = {file["display_path"] for file in files if "syslog" in file["tags"]}
    assert taken == TAKEN[name].keys()
    assert summary["files"]["selected"] == len(taken)
    assert summary["reasons"].get("no_parser", 0) == len(files) - len(taken)
    if taken:
        assert check_all(world) == TAKEN[name]


@pytest.mark.corpus
def test_files_with_dates_that_are_not_taken_are_known(corpus: Path) -> None:
    """Lines that begin with a date are the nearest to syslog there is; each such file is decided on."""
    dated = set()
    for name in TAKEN:
        for path in sorted((corpus / name).rglob("*")):
            lines = (
                [line for line in path.read_bytes().split(b"\n") if line.strip()]
                if path.is_file()
                else []
            )
            if lines and sum(map(_begins_with_a_date, lines)) * 2 >= len(lines):
                dated.add(str(path.relative_to(corpus)))
    taken = {f"{name}/{path}" for name, paths in TAKEN.items() for path in paths}
    assert dated - taken == set(NOT_SYSLOG)


def _begins_with_a_date(line: bytes) -> bool:
    words = line.lstrip(b"<0123456789>" if line.startswith(b"<") else b"").split()[:3]
    months = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    iso = words and len(words[0]) >= 5 and words[0][:4].isdigit() and words[0][4:5] == b"-"
    logcat = words and len(words[0]) == 5 and words[0][2:3] == b"-" and words[0][:2].isdigit()
    return bool(iso or logcat) or any(word in months for word in words[:2])


@pytest.mark.corpus
def test_every_file_of_three_folders_tiles_when_it_is_read_as_lines(
    corpus: Path, case: Any
) -> None:
    seen: Counter[str] = Counter()
    for name in sorted(TAKEN):
        world = case(corpus / name)
        world.json("rule", "add", "**", "syslog")
        summary = world.run("--parser", PARSER)
        assert summary["files"]["failed"] == 0
        counts = check_all(world)
        distinct = {
            file["source_hash"] for file in world.json("files")["files"] if file["source_hash"]
        }
        assert len(counts) == len(distinct), "a file was not read"
        for path in counts:
            seen[_encoding((corpus / name / path).read_bytes())[0]] += 1
    assert seen["utf-8"] > 80
    assert seen["utf-16-le"] >= 4, f"the corpus has UTF-16 texts: {seen}"


def test_corner_cases_tile_exactly_and_give_what_was_put_in(world: World) -> None:
    for name, corner in CORNER_CASES.items():
        world.file(f"{name}/syslog", corner.data)
    world.json("rule", "add", "**", "syslog")
    summary = world.run()
    assert summary["files"]["failed"] == 0
    counts = check_all(world)
    expected = {}
    for name, corner in CORNER_CASES.items():
        bad = corner.unparsable + BEYOND_ONE_MEBIBYTE.get(name, 0)
        expected[f"{name}/syslog"] = (corner.records - bad, bad)
    read_once = {path: counts[path] for path in expected if path in counts}
    assert read_once == {path: expected[path] for path in read_once}
    missing = expected.keys() - counts.keys()
    assert all((world.evidence / path).stat().st_size == 0 for path in missing), missing


@pytest.mark.parametrize(
    ("data", "lines", "blank"),
    [
        (b"", [], []),
        (b"a\nb", [(0, 2), (2, 1)], []),
        (b"\n \t\r\n\r", [(0, 1), (1, 4), (5, 1)], [(0, 1), (1, 4)]),
        (b"\xff\xfea\0\n\0\n\0b", [(0, 6), (6, 2), (8, 1)], [(6, 2)]),
        (b"\xef\xbb\xbf\nx\n", [(0, 4), (4, 2)], [(0, 4)]),
    ],
)
def test_the_reading_that_tiles_are_checked_with(
    data: bytes, lines: list[tuple[int, int]], blank: list[tuple[int, int]]
) -> None:
    assert read_text(data) == Text(lines, blank)


@pytest.mark.parametrize(
    ("rows", "quarantined"),
    [
        ([(0, 2)], []),  # the second line is missing
        ([(0, 2), (2, 1)], [(2, 1)]),  # it is there twice
        ([(0, 3)], []),  # cut elsewhere
        ([(0, 1), (2, 1)], []),  # a gap
    ],
)
def test_a_gap_an_overlap_and_a_wrong_cut_are_seen(rows: list[Any], quarantined: list[Any]) -> None:
    assert_tiles("two lines", b"a\nb", [(0, 2)], [(2, 1)])
    with pytest.raises(AssertionError):
        assert_tiles("two lines", b"a\nb", rows, quarantined)
