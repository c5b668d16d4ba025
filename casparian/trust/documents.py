"""Signed documents as bytes: strict, canonical JSON, and the times, names and paths in them.

Rules:
  * A document has exactly one spelling: sorted keys, no spaces, ASCII. Whatever differs in one byte is refused, so
    that nothing unsigned (white space, a second key, another escape) can hide in it or change its hash.
  * Size first, then JSON without duplicate keys, floats or deep nesting, then shape; unknown fields are refused.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from casparian import plain_json
from casparian.errors import Refused
from casparian.trust.refusals import refused

DOCUMENT_BYTES_MAX: Final = 1 << 20
DAY_NS: Final = 86_400 * 1_000_000_000
PATH_CHARACTERS_MAX: Final = 100  # what one name field of a package holds
NAME: Final = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*\Z")
VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,63}\Z")
HEX64: Final = re.compile(r"[0-9a-f]{64}\Z")
LABEL: Final = re.compile(r"[^\W_][\w .,@'()+-]{0,79}\Z")  # a person, an organisation, a role

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@ -]*\Z")
_WINDOWS: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z", re.ASCII)

T = TypeVar("T")


def encode(document: Any) -> bytes:
    """The one spelling of a JSON document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode(raw: bytes, what: str, *, canonical: bool = True) -> dict[str, Any]:
    """Read a JSON object strictly.

    Args:
        raw: its bytes.
        what: how to call it in an error.
        canonical: false only for bytes that were signed as they are.

    Raises:
        Refused: `trust.too_large`, `trust.malformed`.
    """
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise refused(
            "trust.too_large",
            f"{what} has {len(raw)} bytes, at most {DOCUMENT_BYTES_MAX} are read",
        )
    try:
        document = plain_json.read(raw.decode("ascii" if canonical else "utf-8"))
        same = not canonical or encode(document) == raw
    except (ValueError, RecursionError) as error:
        raise malformed(what, f"it is no plain JSON ({type(error).__name__})") from error
    if not isinstance(document, dict):
        raise malformed(what, "it is no JSON object")
    if not same:
        raise malformed(what, "it is not in canonical form")
    return document


def shape(document: Any, kind: type[T], what: str) -> T:
    """A decoded document as a typed value; a missing, unknown or mistyped field refuses it."""
    try:
        return msgspec.convert(document, kind, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise malformed(what, str(error)) from error


def malformed(what: str, why: str) -> Refused:
    """`trust.malformed` for a document."""
    return refused("trust.malformed", f"{what} cannot be used: {why}")


def time_ns(text: str, what: str) -> int:
    """Nanoseconds since 1970 of `2026-11-23T16:00:00Z`, the only form of a time."""
    try:
        if not _TIME.match(text):
            raise ValueError(text)
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise malformed(what, "a time is not like `2026-11-23T16:00:00Z`") from None
    return int(moment.timestamp()) * 1_000_000_000


def time_text(ns: int) -> str:
    """The form of a time in documents, to the second."""
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(ns: int) -> datetime:
    """An aware time of nanoseconds since 1970, to the second."""
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC)


def check_name(name: str) -> None:
    """Refuse a parser's name that is not plain lower-case ASCII (`trust.name`)."""
    if not NAME.match(name) or len(name) > 64:
        raise refused("trust.name", f"the parser name {name[:80]!a} is not allowed")


def check_paths(paths: list[str]) -> None:
    """Refuse paths that could lead elsewhere or collide on another file system (`trust.path`)."""
    seen: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        parts = path.split("/")
        if len(path) > PATH_CHARACTERS_MAX or not all(map(_is_segment, parts)):
            raise refused("trust.path", f"the path {path[:120]!a} is not allowed")
        folded = path.casefold()
        if folded in seen:
            raise refused("trust.path", f"two paths differ only in case: {path!a}")
        seen.add(folded)
        folders |= {"/".join(parts[:n]).casefold() for n in range(1, len(parts))}
    for both in sorted(seen & folders):
        raise refused("trust.path", f"one path is a file and a folder: {both!a}")


def _is_segment(part: str) -> bool:
    """One name of a path: nothing hidden, nothing that Windows reads otherwise."""
    return (
        _SEGMENT.match(part) is not None
        and not part.endswith((".", " "))
        and not _WINDOWS.match(part.casefold())
    )
