"""Tell text from bytes, and syslog from other text, by the first lines of a file.

A file is syslog-like when its lines begin with a header that a syslog daemon writes. The bar is one
line in two of the first twenty that are not blank; when the very first line has a header, one in
four is enough, because logs are rotated between messages (so they begin with a header) and one
message may fill several lines. A document that merely quotes a log line does not begin with it.
Which files of a real collection fall on which side, and why, is a table in the tests.

Headers (`<PRI>` in front is optional for all but RFC 5424):

    Jan 22 07:52:33 host tag…             RFC 3164, also with fractions of a second, without a host
    (macOS), Thu Nov 14 20:14:37.123 …             and with a weekday (macOS wifi.log)
    <14>1 2021-03-06T04:07:38.251280+00:00 …     RFC 5424
    2020-05-31T00:00:45.698463+00:00 …    rsyslog and ChromeOS: RFC 3339 time with a zone
    2021-08-11 05:50:23-0700 name[85]: …  macOS logd: the same with a space, and then a process
"""

from __future__ import annotations

import re
from typing import Final, Literal

LINES_MAX: Final = 20
_NUL_PERCENT: Final = 30
_CONTROL_PERCENT: Final = 5
_MARKS: Final[tuple[tuple[bytes, Literal["utf-8", "utf-16-le", "utf-16-be"]], ...]] = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# All of C0 but tab, line feed, form feed, carriage return, backspace and escape, which terminals'
# logs hold.
_CONTROLS: Final = bytes(code for code in range(32) if code not in b"\t\n\f\r\b\x1b") + b"\x7f"

_MONTH: Final = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK: Final = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_SYSLOG: Final = re.compile(
    rf"""(?:<\d{{1,3}}>)?(?:
        {_MONTH}[ ]+\d{{1,2}}[ ](?:\d{{4}}[ ])?{_CLOCK}(?:[ :]|$)
      | (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[ ]{_MONTH}[ ]+\d{{1,2}}[ ]{_CLOCK}[ ](?!\d{{4}})
      | \d{{4}}-\d\d-\d\dT{_CLOCK}(?:Z|[+-]\d\d:?\d\d)[ ]\S
      | \d{{4}}-\d\d-\d\d[ ]{_CLOCK}[+-]\d{{4}}[ ][\w.-]+\[\d+\]:
    )
    | <\d{{1,3}}>1[ ](?:-|\d{{4}}-\d\d-\d\dT{_CLOCK}(?:Z|[+-]\d\d:\d\d))[ ]\S+[ ]\S+[ ]\S+[ ]\S+""",
    re.VERBOSE,
)


def identify_text(head: bytes, size: int) -> tuple[tuple[str, str], ...]:
    """`syslog` or `text` with the reason, or nothing when the bytes are not text.

    Args:
        head: the first bytes of the file.
        size: of the whole file, in bytes: tells whether the last line of the head is complete.
    """
    text, encoding = decode(head)
    if text is None:
        return ()
    headers, lines, first = count_headers(text, complete=len(head) >= size)
    if headers and (headers * 2 >= lines or (first and headers * 4 >= lines)):
        return (
            (
                "syslog",
                f"content: {headers} of the first {lines} lines have a syslog header ({encoding})",
            ),
        )
    return (("text", f"content: {encoding} text"),)


def decode(head: bytes) -> tuple[str | None, str]:
    """The head as text and its encoding; `None` when it is not text."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return head[len(mark) :].decode(encoding, "replace"), encoding
    if len(head) >= 2:
        low = head[0::2].count(0) * 100 > len(head[0::2]) * _NUL_PERCENT
        high = head[1::2].count(0) * 100 > len(head[1::2]) * _NUL_PERCENT
        if low != high:
            encoding = "utf-16-be" if low else "utf-16-le"
            text = head.decode(encoding, "replace")
            # Little-endian 32-bit numbers have NULs in the same places; they do not give printable
            # text.
            return (text, encoding) if _printable(text) else (None, encoding)
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls * 100 > len(head) * _CONTROL_PERCENT:
        return None, "binary"
    try:
        return head.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        if error.start >= len(head) - 3:  # a character cut by the end of the head
            return head[: error.start].decode("utf-8"), "utf-8"
    # Not UTF-8: an 8-bit encoding if nearly all of it is ASCII letters and the like.
    plain = (
        sum(map(head.count, range(32, 127)))
        + head.count(b"\n")
        + head.count(b"\r")
        + head.count(b"\t")
    )
    if plain * 100 >= len(head) * 75:
        return head.decode("latin-1"), "8-bit"
    return None, "binary"


def count_headers(text: str, *, complete: bool) -> tuple[int, int, bool]:
    """Lines with a syslog header, lines looked at, and whether the first of them has one.

    Only complete lines count, unless there is no other: the head may end within a line.
    """
    lines = text.split("\n")
    if not complete and len(lines) > 1:
        lines.pop()
    looked_at = [line for line in lines if line.strip(" \t\r")][:LINES_MAX]
    found = [_SYSLOG.match(line) is not None for line in looked_at]
    return sum(found), len(found), bool(found and found[0])


def _printable(text: str) -> bool:
    usual = sum(character.isprintable() or character in "\t\r\n" for character in text)
    return usual * 100 >= len(text) * 95
