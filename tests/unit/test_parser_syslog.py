"""`linux.syslog`: lines tile the file, headers are read as written."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from casparian.protocol.arrow import bridge_schema
from tests.factories.syslog_parser import (
    ARTIFACT,
    LOSSY,
    check_tiles,
    lines,
    parser,
    quarantined,
    rows,
)


def test_the_contract_is_the_schema_of_the_rows() -> None:
    assert bridge_schema(ARTIFACT.contract.main).equals(parser._SCHEMA)


# ---------------------------------------------------------------- headers

FIELDS = (
    "format",
    "priority",
    "severity_name",
    "hostname",
    "app_name",
    "proc_id",
    "msg_id",
    "message",
)
HEADERS = {
    "RFC 3164, its first example": (
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        ("rfc3164", 34, "crit", "mymachine", "su", None, None, "'su root' failed for lonvick on /dev/pts/8"),
    ),
    "RFC 3164 in a file": (
        "Feb  6 15:16:30 victoria process[2085]: Test message",
        ("rfc3164", None, None, "victoria", "process", "2085", None, "Test message"),
    ),
    "a path for a tag": (
        "Dec 31 17:54:32 h.example /sbin/anacron[1234]: x",
        ("rfc3164", None, None, "h.example", "/sbin/anacron", "1234", None, "x"),
    ),
    "no tag": (
        "Jan 22 07:54:32 h.example Job `cron.daily' terminated",
        ("rfc3164", None, None, "h.example", None, None, None, "Job `cron.daily' terminated"),
    ),
    "a tag with a colon inside": (
        "Mar 11 19:26:39 mac kernel[0]: NHIType2::prePCIWake - up",
        ("rfc3164", None, None, "mac", "kernel", "0", None, "NHIType2::prePCIWake - up"),
    ),
    "no host": (
        "Nov 18 08:30:20 kernel: [997.390602] sda2: rw=0",
        ("rfc3164", None, None, None, "kernel", None, None, "[997.390602] sda2: rw=0"),
    ),
    "an address for a host": (
        "Nov 18 08:30:20 fe80::1 app: x",
        ("rfc3164", None, None, "fe80::1", "app", None, None, "x"),
    ),
    "macOS level": (
        "Nov  2 04:07:35 mac.local socketfilterfw[112] <Error>: Logging: creating",
        ("rfc3164", None, "err", "mac.local", "socketfilterfw", "112", None, "Logging: creating"),
    ),
    "macOS level without a host": (
        "Dec  6 19:11:01 secd[1] <Notice> [user{} ]: text",
        ("rfc3164", None, "notice", None, "secd", "1", None, "[user{} ]: text"),
    ),
    "a repetition": (
        "Nov 18 01:15:43: --- last message repeated 5 times ---",
        ("rfc3164", None, None, None, None, None, None, "--- last message repeated 5 times ---"),
    ),
    "a message that begins with spaces keeps all but one": (
        "Mar 11 22:55:30 host sshd[3]:   Failed password",
        ("rfc3164", None, None, "host", "sshd", "3", None, "  Failed password"),
    ),
    "a time and nothing else": (
        "Mar 11 22:55:30",
        ("rfc3164", None, None, None, None, None, None, ""),
    ),
    "RFC 5424, its first example": (
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed",
        ("rfc5424", 34, "crit", "mymachine.example.com", "su", None, "ID47", "'su root' failed"),
    ),
    "RFC 5424 without a message": (
        "<165>1 2003-10-11T22:14:15.003Z h evntslog 12 ID47 [a@1 b=\"c\"]",
        ("rfc5424", 165, "notice", "h", "evntslog", "12", "ID47", ""),
    ),
    "RFC 5424, everything missing": ("<0>1 - - - - - -", ("rfc5424", 0, "emerg", None, None, None, None, "")),
    "rsyslog": (
        "2020-05-31T00:00:45.738158+00:00 localhost systemd[1]: Reloaded",
        ("rsyslog_iso", None, None, "localhost", "systemd", "1", None, "Reloaded"),
    ),
    "rsyslog, forwarded": (
        "<30>2021-03-06T04:07:33.2Z hostname log_tag this is debug",
        ("rsyslog_iso", 30, "info", "hostname", None, None, None, "log_tag this is debug"),
    ),
    "ChromeOS": (
        "2016-10-25T12:37:24.987014-07:00 DEBUG kernel: [  316.559919] wlan0",
        ("chromeos", None, "debug", None, "kernel", None, None, "[  316.559919] wlan0"),
    ),
    "macOS wifi.log": (
        "Thu Nov 14 20:36:37.222 <airportd[88]> en0 attached",
        ("mac_wifi", None, None, None, "airportd", "88", None, "en0 attached"),
    ),
    "macOS wifi.log, no process": (
        "Thu Nov 14 20:14:37.123 ***Starting Up***",
        ("mac_wifi", None, None, None, None, None, None, "***Starting Up***"),
    ),
    "macOS logd": (
        "2021-08-11 05:50:23-0700 logd_helper[85]: Migrating",
        ("mac_logd", None, None, None, "logd_helper", "85", None, "Migrating"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), HEADERS.values(), ids=list(HEADERS))
def test_headers(line: str, expected: tuple[Any, ...]) -> None:
    (row,) = rows(line)
    assert tuple(row[name] for name in FIELDS) == expected
    assert row["encoding"] == "utf-8"


def test_a_priority_is_split_into_facility_and_severity() -> None:
    (row,) = rows("<165>Aug 24 05:34:00 h app: x")
    assert (row["priority"], row["facility"], row["facility_name"]) == (165, 20, "local4")
    assert (row["severity"], row["severity_name"]) == (5, "notice")
    (padded,) = rows("<007>Aug 24 05:34:00 h app: x")
    assert padded["priority"] == 7


STRUCTURED = {
    '[a@1 b="c"]': {"a@1": {"b": "c"}},
    '[a@1 b="c" d="e"][f]': {"a@1": {"b": "c", "d": "e"}, "f": {}},
    r'[a x="q\"b\\c\]d\n"]': {"a": {"x": r"q" + '"' + r"b\c]d\n"}},
    '[a x="1" x="2" x="3"]': {"a": {"x": ["1", "2", "3"]}},
    '[a x="" y="é\u202e"]': {"a": {"x": "", "y": "é\u202e"}},
}


@pytest.mark.parametrize("text", STRUCTURED)
def test_structured_data_is_json(text: str) -> None:
    (row,) = rows(f"<1>1 - h a - - {text} message")
    assert json.loads(row["structured_data"]) == STRUCTURED[text]
    assert row["message"] == "message"


BAD = {
    "no header": ("hello", "syslog.no_header"),
    "a continuation": ("\tmore of the message", "syslog.no_header"),
    "an unknown month": ("MMM 22 07:54:32 host app: x", "syslog.no_header"),
    "lower-case month": ("dec 31 21:11:55 --> chat", "syslog.no_header"),
    "ctime": ("Mon Jun  6 18:43:28 2016 [pid 2] CONNECT", "syslog.no_header"),
    "a numeric date without a zone": ("2022-07-12 01:08:59,489 INFO [main] x", "syslog.no_header"),
    "logd without a process": ("2021-08-11 05:50:23-0700 started", "syslog.no_header"),
    "ISO time alone": ("2020-05-31T00:00:45Z ", "syslog.no_header"),
    "RFC 5424 cut": ("<1>1 2003-10-11T22:14:15Z host app", "syslog.no_header"),
    "RFC 5424 version 2": ("<1>2 2003-10-11T22:14:15Z host app - - - x", "syslog.no_header"),
    "January 32": ("Jan 32 07:52:33 host app: x", "syslog.bad_time"),
    "February 30 in any year": ("Feb 30 07:52:33 host app: x", "syslog.bad_time"),
    "24 o'clock": ("Jan 22 24:00:00 host app: x", "syslog.bad_time"),
    "a leap second": ("1990-12-31T23:59:60Z host app: x", "syslog.bad_time"),
    "month 13": ("2020-13-01T00:00:00Z host app: x", "syslog.bad_time"),
    "zone +25:00": ("2020-01-01T00:00:00+25:00 host app: x", "syslog.bad_time"),
    "beyond 64 bits": ("2900-01-01T00:00:00Z host app: x", "syslog.bad_time"),
    "year 0": ("0000-01-01T00:00:00Z host app: x", "syslog.bad_time"),
    "priority 192": ("<192>Jan 22 07:52:33 host app: x", "syslog.bad_priority"),
    "open structured data": ('<1>1 - h a - - [a b="c x', "syslog.bad_structured_data"),
    "unquoted value": ("<1>1 - h a - - [a b=c] x", "syslog.bad_structured_data"),
    "no structured data": ("<1>1 - h a - - text", "syslog.bad_structured_data"),
    "the same element twice": ("<1>1 - h a - - [a][a] x", "syslog.bad_structured_data"),
    "text right behind": ("<1>1 - h a - - [a]x", "syslog.bad_structured_data"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=list(BAD))
def test_bad_lines_are_set_aside_with_span_and_reason(line: str, reason: str) -> None:
    good = "Jan 22 07:52:33 host app: x\n"
    raw = line.encode()
    assert quarantined((good + line + "\n" + good).encode()) == [(len(good), len(raw) + 1, reason)]
    assert quarantined(raw) == [(0, len(raw), reason)]


# ---------------------------------------------------------------- text


def test_undecodable_bytes_in_a_good_line_are_replaced_and_flagged() -> None:
    row, clean = rows(b"Jan 22 07:52:33 h app: caf\xe9\nJan 22 07:52:33 h app: ok\n")
    assert (row["message"], row["@flags"] & LOSSY) == ("caf\ufffd", LOSSY)
    assert clean["@flags"] & LOSSY == 0
    assert quarantined(b"\xff\xfe\xfd\xfcJan 22 07:52:33"[2:]) == [(0, 17, "text.undecodable")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_terminators(encoding: str, end: str) -> None:
    text = end.join(
        ["Jan 22 07:52:33 h app: é", "", " \t", "bad \U0001f600\u0a0a", "Jan 22 07:52:34 h app: z"]
    )
    data = text.encode(encoding)
    first, last = rows(data)
    assert (first["message"], last["message"]) == ("é", "z")
    assert first["encoding"] == {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(
        encoding, encoding
    )
    assert first["@offset"] == 0
    assert last["@offset"] + last["@length"] == len(data)
    check_tiles(data)


def test_a_long_line_is_one_unit_and_never_held() -> None:
    limit = lines.LINE_BYTES_MAX
    header = b"Jan 22 07:52:33 h app: "
    for over in (-1, 0, 1, limit, 3 * limit):
        size = limit + over
        long = header + b"x" * (size - len(header) - 1) + b"\n"
        data = header + b"a\n" + long + b" " * (2 * limit) + b"\r\n" + header + b"b"
        expected = [(len(header) + 2, size, "text.too_long")] if over > 0 else []
        assert quarantined(data) == expected
        assert [row["message"][:1] for row in rows(data)] == (
            ["a", "b"] if over > 0 else ["a", "x", "b"]
        )
        check_tiles(data)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_reading_holds_a_bounded_part_of_the_file(encoding: str) -> None:
    unit = len("x".encode(encoding))
    line = ("Jan 22 07:52:33 h app: x\n" * 4000 + "y" * (5 << 20) + "\n").encode(encoding)
    content = line * 3
    held = 0

    def pread(length: int, offset: int) -> bytes:
        return content[offset : offset + length]

    for part in lines.read_lines(pread, len(content), lines.Encoding(encoding, unit, 0)):
        if isinstance(part, lines.Lines):
            held = max(held, sum(part.lengths))
    assert held <= lines.BLOCK_BYTES + lines.LINE_BYTES_MAX
    check_tiles(content)


BYTES = [
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"x",
    b"\n\n",
]
STARTS = [
    b"Jan 22 07:52:33 h a: b",
    b"<13>1 - h a - - - b",
    b"2020-01-01T00:00:00Z h a: b",
    b"Feb 30 00:00:00 h",
]
PIECES = st.sampled_from([*BYTES, *STARTS])
MARKS = st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])


@settings(max_examples=300, deadline=None)
@given(MARKS, st.lists(PIECES, max_size=12), st.booleans())
@example(b"\xff\xfe", [b"\n", b"\0", b"x"], False)
@example(b"", [b"\r"], False)
@example(b"", [b"\r", b"\r\n"], False)
@example(b"\xef\xbb\xbf", [], False)
def test_spans_tile_any_text(mark: bytes, pieces: list[bytes], wide: bool) -> None:
    body = b"".join(pieces)
    check_tiles(mark + (body.decode("latin-1").encode("utf-16-le") if wide else body))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_spans_tile_any_bytes(data: bytes) -> None:
    check_tiles(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120), st.integers(1, 9), st.integers(1, 9))
def test_spans_do_not_depend_on_where_a_read_ends(data: bytes, block: int, longest: int) -> None:
    def cut(block_bytes: int, line_bytes: int) -> list[tuple[int, int, bool]]:
        kept = lines.BLOCK_BYTES, lines.LINE_BYTES_MAX
        lines.BLOCK_BYTES, lines.LINE_BYTES_MAX = block_bytes, line_bytes
        try:
            found = []
            for part in lines.read_lines(
                lambda n, at: data[at : at + n], len(data), lines.detect(data)
            ):
                if isinstance(part, lines.LongLine):
                    found.append((part.offset, part.length, part.blank))
                    continue
                offset = part.offset
                for text, length in zip(part.texts, part.lengths, strict=True):
                    found.append((offset, length, lines.is_blank(text)))
                    offset += length
            return found
        finally:
            lines.BLOCK_BYTES, lines.LINE_BYTES_MAX = kept

    # Even, for UTF-16, and never so small that a read ends within the mark.
    assert cut(block * 2 + 2, longest) == cut(1 << 20, 1 << 20)
