"""What a file is that may be no table of text: by its first bytes, for whoever pointed inference at it."""

from __future__ import annotations

import json
import os
from typing import Final

TEXT: Final = "text"
JSON_LINES: Final = "jsonl"
JSON: Final = "json"
BINARY: Final = "binary"
_SAMPLE_BYTES: Final = 1 << 20
_BEGINNING_BYTES: Final = 1 << 10  # a text may be zeroed further on
_SIGNATURES: Final = (
    (b"ElfFile\0", "evtx"),
    (b"regf", "registry"),
    (b"\x1f\x8b", "compressed"),
    (b"\x28\xb5\x2f\xfd", "compressed"),
    (b"\xfd7zXZ\0", "compressed"),
    (b"BZh", "compressed"),
    (b"PK\x03\x04", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"SQLite format 3\0", "sqlite"),
    (b"<?xml", "xml"),
)
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_MARK: Final = b"\xef\xbb\xbf"


def kind_of(descriptor: int, size: int) -> str:
    """`text`, `jsonl`, `json` (one document), `binary`, or one of the kinds that begin with bytes of their own.

    Args:
        descriptor: of the file; its position is not moved.
        size: of the file, in bytes.
    """
    sample = os.pread(descriptor, min(size, _SAMPLE_BYTES), 0)
    for signature, kind in _SIGNATURES:
        if sample.startswith(signature):
            return kind
    if sample.startswith(_UTF_16):
        return TEXT
    text = sample.removeprefix(_MARK).strip()
    begins = text[:_BEGINNING_BYTES]
    # Text of two bytes a character has its zeros in every other place, and so half of them at most.
    if b"\0" in begins and not 0.2 < begins.count(0) / len(begins) <= 0.55:
        return BINARY
    if text[:1] not in (b"{", b"["):
        return TEXT
    first = text.partition(b"\n")[0]
    if text.startswith(b"{") and _is_object(first):
        return JSON_LINES
    if b"\n" not in text and len(sample) < size:
        return TEXT  # whatever it is: its first line is longer than what was read
    # An object over several lines, or a list: one document, and no line of it is one.
    begins_list = text.startswith(b"[") and text[1:].lstrip()[:1] in (b"{", b"]")
    begins_object = text.startswith(b"{") and text[1:].lstrip()[:1] in (b'"', b"}")
    return JSON if begins_list or begins_object else TEXT


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
