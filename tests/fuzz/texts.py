"""What the fuzzers of text begin with: small texts of every layout, whole and harmed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

_RECORDS = (
    'a,b\n1,2\n\n"x ""y""\nz",-5\n',
    'c,a,b\r\n2024-01-02T03:04:05Z,x,1\r\n#c\r\n"open,1\r\n',
    "a||b\r1||2\r'q\\'q'||3\r",
    "aéb\nxé7\n\\éxé8\n",
    'a","\n' * 12,
)
_LINES = (
    '{"a":"x","o":{"n":1.5},"j":[1,{"k":null}],"l":[1,null,-2]}\n{"a":"\\u00e4\\ud83d\\ude00"}\r\n\n',
    '{"a":"x","a":"y"}\n{"a":NaN}\n[1]\n{"a":"\\ud800"}\n{}{}\n{\n}\n',
    '{"o":{"x":[[[{}]]],"n":1e400},"unknown":1}\n',
)


def delimited_texts(corpus: Path | None) -> Iterator[bytes]:
    """Two bytes of choices, and a text."""
    del corpus  # its texts are too long to be changed at the right place
    for text, first, second in itertools.product(_RECORDS, (0, 3, 5, 9, 17, 24, 32), (0, 0x50)):
        yield bytes([first, second]) + text.encode()
    for name, encoding in (("utf-16-le", 1), ("utf-16-be", 2), ("latin-1", 3), ("cp1252", 4)):
        for text in _RECORDS:
            yield bytes([0, encoding | 0x10]) + text.encode(name)


def json_texts(corpus: Path | None) -> Iterator[bytes]:
    """A text."""
    del corpus
    for text in _LINES:
        yield text.encode()
        yield text.encode("utf-16-le")
        yield text.replace("\n", " ").encode()
