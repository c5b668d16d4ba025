"""Text logs that readers get wrong, one special thing each, with what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from casparian.demo.syslog_writer import (
    Encoding,
    Entry,
    LogFile,
    rfc3164,
    rfc5424,
    rsyslog_iso,
    year_rollover,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CornerCase:
    """A file that readers get wrong.

    Attributes:
        title: what is special about it.
        file: the lines and their form.
        records: lines that are not blank.
        unparsable: lines among them that no format explains; they go to quarantine.
    """

    title: str
    file: LogFile
    records: int
    unparsable: int = 0

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.file.to_bytes()


def _entry(message: str, *, zone: str = "Z", time: datetime | None = None) -> Entry:
    return Entry(
        time=time or datetime(2024, 3, 11, 22, 5, 1, 234567, tzinfo=UTC),
        host="gw01",
        application="app",
        process_id=42,
        message=message,
        zone=zone,
    )


def _case(
    title: str,
    lines: Sequence[str | bytes],
    *,
    unparsable: int = 0,
    encoding: Encoding = "utf-8",
    bom: bool = False,
    newline: str = "\n",
    final_newline: bool = True,
) -> CornerCase:
    file = LogFile(
        lines=lines, encoding=encoding, bom=bom, newline=newline, final_newline=final_newline
    )
    return CornerCase(title=title, file=file, records=file.record_count, unparsable=unparsable)


_PLAIN: Final = [rfc3164(_entry(f"message {number}")) for number in range(3)]
_ISO: Final = [rsyslog_iso(_entry(f"message {number}")) for number in range(3)]
_LEAP_DAY: Final = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
_STRUCTURED: Final = [("meta@32473", [("note", 'a "quoted" \\ and ] bracket'), ("empty", "")])]

CORNER_CASES: Final[dict[str, CornerCase]] = {
    "empty": _case("a file of no bytes", []),
    "only_newline": _case("one blank line and nothing else", [""]),
    "only_bom": _case("a byte-order mark and nothing else", [], bom=True),
    "no_final_newline": _case("the last line is not terminated", _PLAIN, final_newline=False),
    "crlf": _case("CR LF terminators", _PLAIN, newline="\r\n"),
    "blank_lines": _case(
        "empty lines, and lines of spaces and tabs", ["", _PLAIN[0], "  ", "\t", _PLAIN[1], ""]
    ),
    "bad_lines": _case(
        "lines that no format explains, between good ones",
        [_PLAIN[0], "    at Frame.run(Frame.java:7)", "Mar 99 99:99:99 gw01 app: no such day",
         "<999>1 - - - - - - priority too big", _PLAIN[1]],
        unparsable=3,
    ),
    "utf8_bom": _case("UTF-8 with a byte-order mark", _PLAIN, bom=True),
    "utf16_le_bom": _case("UTF-16 LE with BOM, CR LF", _PLAIN, encoding="utf-16-le", bom=True,
                          newline="\r\n"),
    "utf16_be_bom": _case("UTF-16 BE with BOM", _PLAIN, encoding="utf-16-be", bom=True),
    "utf16_le_bare": _case("UTF-16 LE without BOM", _PLAIN, encoding="utf-16-le"),
    "utf16_astral": _case(
        "UTF-16 LE, characters outside the BMP, one unit that ends in the byte of LF",
        [rfc3164(_entry("key \U0001f511 \u0a0a \u010a"))], encoding="utf-16-le", bom=True,
    ),
    "non_ascii": _case("UTF-8 beyond ASCII", [rfc3164(_entry("naïve café \U0001f511 漢字"))]),
    "latin1_bytes": _case(
        "a line in Latin-1 between UTF-8 lines",
        [_PLAIN[0], rfc3164(_entry("café for señor")).encode("latin-1"), _PLAIN[1]],
    ),
    "nul_bytes": _case(
        "NULs inside a line, and a run of NULs where a machine lost power",
        [*_PLAIN * 4, rfc3164(_entry("a\0b")), bytes(64) + _PLAIN[0].encode(), *_PLAIN * 4],
        unparsable=1,
    ),
    "very_long_line": _case("a line of 1 MiB", [rfc3164(_entry("x" * (1 << 20))), _PLAIN[0]]),
    "lone_cr": _case("a CR inside a line, which does not end it", [rfc3164(_entry("10%\r20%"))]),
    "escape_codes": _case(
        "terminal escapes, markup and bidi controls",
        [rfc3164(_entry("\x1b[31mred\x1b[0m <script>alert(1)</script> \u202egnp.exe"))],
    ),
    "iso_zones": _case(
        "offsets of all kinds, one instant",
        [rsyslog_iso(_entry("same instant", zone=zone))
         for zone in ("Z", "+00:00", "-00:00", "+05:45", "-09:30", "+14:00")],
    ),
    "iso_digits": _case(
        "fractions of a second from none to six digits",
        [rsyslog_iso(_entry("digits"), digits=digits) for digits in range(7)],
    ),
    "leap_day": _case(
        "29 February, in a year that no RFC 3164 line names",
        [rfc3164(_entry("leap", time=_LEAP_DAY)), rsyslog_iso(_entry("leap", time=_LEAP_DAY))],
    ),
    "year_rollover": _case(
        "December to January", [rfc3164(entry) for entry in year_rollover(2023)]
    ),
    "priority": _case(
        "RFC 3164 with a priority", [rfc3164(_entry("with priority"), priority=True)]
    ),
    "structured_data": _case(
        "RFC 5424 with escapes in structured data, BOM in the message, nothing but dashes",
        [
            rfc5424(
                Entry(
                    time=datetime(2024, 3, 11, 22, 5, 1, 3, tzinfo=UTC),
                    host="gw01",
                    application="app",
                    message="naïve",
                    message_id="ID47",
                    structured_data=_STRUCTURED,
                ),
                message_bom=True,
            ),
            "<0>1 - - - - - -",
            '<191>1 2024-03-11T22:05:01.000003-00:00 h a - - [a@1 k="v"][b@2 k="v" k="w"]',
        ],
    ),
    "mixed_formats": _case(
        "a file whose format changed with an upgrade",
        [*_PLAIN, *_ISO, rfc5424(_entry("third format"))],
    ),
}  # fmt: skip
