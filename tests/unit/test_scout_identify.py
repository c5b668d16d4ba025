"""What a file is: content first, name second."""

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.scout.identify import identify

HEAD = 4096
EVTX_HEADER = (
    b"ElfFile\0" + struct.pack("<QQQIHHHH", 0, 1, 2, 128, 1, 3, 4096, 1) + bytes(76 + 8)
).ljust(4096, b"\0")
SYSLOG = "Jan 22 07:52:33 host app[1]: text\n"


def tags(content: bytes, name: bytes = b"file", head: int = HEAD) -> list[str]:
    found = identify(content[:head], name, len(content))
    assert all(why.startswith(("content: ", "name: ")) for _, why in found)
    return [tag for tag, _ in found]


CONTENT = {
    "evtx": EVTX_HEADER + b"ElfChnk\0",
    "registry": b"regf" + bytes(4092),
    "registry-log": b"regf" + bytes(24) + b"\x06\0\0\0" + bytes(100),
    "sqlite": b"SQLite format 3\0" + bytes(84),
    "zip": b"PK\x03\x04" + bytes(30),
    "gzip": b"\x1f\x8b\x08" + bytes(30),
    "xz": b"\xfd7zXZ\0" + bytes(30),
    "lnk": b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(60),
    "prefetch": b"\x1e\0\0\0SCCA" + bytes(80),
    "evt": b"0\0\0\0LfLe" + bytes(80),
    "mft": b"FILE0\0" + bytes(1000),
    "ese": bytes(4) + b"\xef\xcd\xab\x89" + bytes(600),
    "pe": b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(100),
    "empty": b"",
    "text": b"hello\nworld\n",
    "syslog": SYSLOG.encode() * 3,
}


@pytest.mark.parametrize("tag", CONTENT)
def test_content_is_enough(tag: str) -> None:
    assert tags(CONTENT[tag]) == [tag]


def test_compressed_prefetch() -> None:
    assert tags(b"MAM\x04" + bytes(60), b"CMD.EXE-1234.pf") == ["prefetch"]


@pytest.mark.parametrize("tag", [tag for tag in CONTENT if tag not in ("evtx", "empty")])
def test_a_name_that_promises_an_event_log_is_a_mismatch(tag: str) -> None:
    content = CONTENT[tag].ljust(70_000, b"\n" if tag in ("text", "syslog") else b"\0")
    assert tags(content, b"Security.evtx") == [tag, "name-mismatch"]


def test_random_bytes_named_evtx_are_a_mismatch_only() -> None:
    assert tags(bytes(range(256)) * 300, b"x.EVTX") == ["name-mismatch"]


def test_an_empty_file_is_empty_whatever_its_name() -> None:
    assert tags(b"", b"Security.evtx") == ["empty"]


DAMAGED = {
    "magic broken": (b"\0" * 8 + EVTX_HEADER[8:], b"x", HEAD),
    "header zeroed, chunk seen": (bytes(4096) + b"ElfChnk\0" + bytes(600), b"x", 8192),
    "header overwritten, chunk seen": (b"\xa5" * 4096 + b"ElfChnk\0" + bytes(600), b"x", 8192),
    "header missing": (b"ElfChnk\0" + bytes(70_000), b"x", HEAD),
    "header zeroed, only the header kept": (bytes(4096) + b"?" * 9000, b"Security.evtx", HEAD),
    "both headers gone, a record seen": (bytes(4608) + b"**\0\0" + bytes(600), b"x.evtx", 8192),
}


@pytest.mark.parametrize(("content", "name", "head"), DAMAGED.values(), ids=list(DAMAGED))
def test_an_event_log_with_a_damaged_header_is_still_one(
    content: bytes, name: bytes, head: int
) -> None:
    assert tags(content, name, head) == ["evtx"]


def test_a_zeroed_file_without_a_promising_name_is_nothing() -> None:
    assert tags(bytes(90_000)) == []
    assert tags(bytes(90_000), b"x.evtx", 8192) == ["name-mismatch"]


SYSLOG_LINES = {
    "RFC 3164": "Jan 22 07:52:33 host app[1]: text",
    "RFC 3164 with PRI": "<34>Oct  1 22:14:15 mymachine su: 'su root' failed",
    "RFC 5424": "<165>1 2003-10-11T22:14:15.003Z host evntslog - ID47 [a@1 b='c'] x",
    "RFC 5424 without a time": "<165>1 - host app - - - x",
    "rsyslog": "2020-05-31T00:00:45.698463+00:00 localhost systemd[1]: x",
    "rsyslog with PRI": "<15>2021-03-06T04:07:33.194677+00:00 hostname log_tag x",
    "logd": "2021-08-11 05:50:23-0700 logd_helper[85]: x",
    "wifi.log": "Thu Nov 14 20:14:37.123 ***Starting Up***",
}
OTHER_LINES = {
    "prose": "On Jan 22 07:52:33 the host failed",
    "dpkg": "2009-02-25 11:45:23 conffile /etc/X11/Xsession keep",
    "log4j": "2022-07-12 01:08:59,489 INFO [main] started",
    "ctime": "Mon Jun  6 18:43:28 2016 [pid 2] CONNECT: Client",
    "chat": "dec 31 21:11:55 --> You are now talking on #x",
    "logcat": "01-01 01:02:03.123  1234  1234 D tag: text",
    "JSON": '{"time": "2016-01-07T16:49:10.0Z"}',
    "bracketed": "[2018-08-19T03:09:13.120Z] I santad: action=X",
    "XML": '<?xml version="1.0"?>',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line", SYSLOG_LINES.values(), ids=list(SYSLOG_LINES))
def test_syslog_headers_in_every_encoding(line: str, encoding: str) -> None:
    assert tags(f"{line}\r\n{line}\r\n".encode(encoding)) == ["syslog"]


@pytest.mark.parametrize("line", OTHER_LINES.values(), ids=list(OTHER_LINES))
def test_other_logs_are_text(line: str) -> None:
    assert tags(f"{line}\n".encode() * 5) == ["text"]


OTHER = "not a header\n"
SHARES = {
    "half": (OTHER + SYSLOG, ["syslog"]),
    "less than half, and not the first": (OTHER + SYSLOG + OTHER, ["text"]),
    "a stack trace under each message": ((SYSLOG + OTHER * 3) * 5, ["syslog"]),
    "more trace than that": (SYSLOG + OTHER * 4, ["text"]),
    "blank lines do not count": ("\n \n\t\n" * 9 + SYSLOG, ["syslog"]),
    "only twenty lines count": (SYSLOG * 20 + OTHER * 50, ["syslog"]),
    "a line cut by the end of the head": (SYSLOG + "x" * 5000, ["syslog"]),
    "one line longer than the head": ("Jan 22 07:52:33 host app: " + "x" * 9000, ["syslog"]),
    "undecodable bytes": (SYSLOG * 3, ["syslog"]),
}


@pytest.mark.parametrize(("text", "expected"), SHARES.values(), ids=list(SHARES))
def test_how_many_headers_make_a_log(text: str, expected: list[str]) -> None:
    raw = text.encode()
    assert tags(raw) == expected
    assert tags(raw.replace(b"text", b"t\xe9xt")) == expected  # an 8-bit encoding


# The syslog-like files of the collection; everything else in these folders is not, for the reasons in OTHER_LINES or
# because it is no text. `1 of 2`: raw captures of forwarded messages have almost no line breaks.
CORPUS_SYSLOG = {
    "linux/log2timeline-plaso/syslog/syslog": "RFC 3164, 16 of 18 lines",
    "linux/log2timeline-plaso/syslog/syslog_chromeos": "RFC 3339 times with a level, 8 of 9",
    "linux/log2timeline-plaso/syslog/syslog_cron.log": "RFC 3164",
    "linux/log2timeline-plaso/syslog/syslog_osx": "RFC 3164 with macOS levels",
    "linux/log2timeline-plaso/syslog/syslog_rsyslog": "RFC 3339 times",
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_ForwardFormat": "1 of 2, the first",
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_SysklogdFileFormat": "RFC 3164, 9 of 10",
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_SyslogProtocol23Format": "RFC 5424, 9 of 10",
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_TraditionalForwardFormat": "1 of 2, the first",
    "linux/log2timeline-plaso/syslog/syslog_rsyslog_traditional": "RFC 3164, 8 of 11",
    "linux/log2timeline-plaso/syslog/syslog_ssh.log": "RFC 3164",
    "macos/log2timeline-plaso/appfirewall.log": "RFC 3164 with macOS levels",
    "macos/log2timeline-plaso/logd.0.log": "ISO times and a process",
    "macos/log2timeline-plaso/security.log": "RFC 3164 without a host",
    "macos/log2timeline-plaso/wifi.log": "a weekday in front",
}
CORPUS_TAG = {
    "evtx": "evtx",
    "prefetch": "prefetch",
    "lnk": "lnk",
    "sqlite": "sqlite",
    "browser": "sqlite",
    "evt": "evt",
}


@pytest.mark.corpus
def test_the_syslog_files_of_the_collection_are_found_and_no_others(corpus: Path) -> None:
    found = set()
    for folder in ("linux", "logs", "macos"):
        for path in (corpus / folder).rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    result = identify(file.read(HEAD), os.fsencode(path.name), path.stat().st_size)
                if any(tag == "syslog" for tag, _ in result):
                    found.add(str(path.relative_to(corpus)))
    assert found == set(CORPUS_SYSLOG)


@pytest.mark.corpus
@pytest.mark.parametrize("folder", CORPUS_TAG)
def test_files_of_one_kind_are_known_by_their_content(folder: str, corpus: Path) -> None:
    paths = [path for path in (corpus / folder).rglob("*") if path.is_file()]
    assert paths
    for path in paths:
        with path.open("rb") as file:
            result = identify(file.read(HEAD), b"no-name", path.stat().st_size)
        assert [tag for tag, _ in result] in ([CORPUS_TAG[folder]], ["sqlite-wal"]), path


@given(st.binary(max_size=300), st.binary(max_size=20), st.integers(0, 10**6))
def test_no_bytes_and_no_name_make_it_fail(head: bytes, name: bytes, more: int) -> None:
    found = identify(head, name, len(head) + more)
    assert len({tag for tag, _ in found}) == len(found)
