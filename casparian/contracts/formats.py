"""How the texts of a dataset's columns may be spelt: which formats each type takes.

Which values a format reads is decided by the native grammar alone. Here it is only said whether a contract makes sense, so
that a format which no column of this type could ever have is refused before anybody approves it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from casparian import _native

MEANINGS: Final = (
    *("ipv4", "ipv6", "ip", "cidr", "uuid", "mac", "sid", "md5", "sha1", "sha256", "sha512", "hex"),
    *("time", "json"),
)
CODES: Final = frozenset("YmdeHMSfbBaAyjpIzZ")  # of `strftime`, those that can be read back exactly
NAMED_TIMES: Final = (
    *("epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "filetime", "iso8601", "rfc2822"),
)
FORMAT_CHARACTERS_MAX: Final = 200
_ZONE: Final = re.compile(r"(UTC|[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*|[+-]\d{2}:?\d{2})\Z")
_INTEGER: Final = re.compile(r"u?int(8|16|32|64)\Z")


def element_type(kind: str) -> str:
    """The type of a list's elements, or the type itself."""
    while kind.startswith("list<") and kind.endswith(">"):
        kind = kind[5:-1]
    return kind


def format_problem(kind: str, text: str | None) -> str | None:
    """Why a column of this type cannot have this format, or `None`."""
    kind = element_type(kind)
    if text is None:
        needs = kind == "date32" or kind.startswith("timestamp")
        return "is missing: a time has no plain spelling" if needs else None
    if not text or len(text) > FORMAT_CHARACTERS_MAX:
        return f"has {len(text)} characters, expected 1 to {FORMAT_CHARACTERS_MAX}"
    if _INTEGER.match(kind):
        return _one_of(text, ("decimal", "hex"), kind)
    if kind.startswith(("decimal", "float")):
        return _one_of(text, ("point", "comma"), kind)
    if kind == "bool":
        words = text.split("/")
        two = len(words) == 2 and all(words) and words[0] != words[1]
        return None if two else "is not two different words with a `/` between, like `true/false`"
    if kind == "date32" or kind.startswith("timestamp"):
        return _time_problem(kind, text)
    return f"has no meaning for the type `{kind}`"


def zone_problem(kind: str, zone: str | None) -> str | None:
    """Why a column of this type cannot have this zone, or `None`."""
    if zone is None:
        return None
    if not (element_type(kind).startswith("timestamp") and ", UTC]" in kind):
        return "needs a type `timestamp[…, UTC]`: only moments have a zone"
    return (
        None
        if _ZONE.match(zone)
        else "is neither a zone like `Europe/Berlin` nor one like `+02:00`"
    )


def group_problem(kind: str, text: str | None, group: str | None) -> str | None:
    """Why the digits of such a number cannot be grouped so, or `None`."""
    if group is None:
        return None
    kind = element_type(kind)
    if not (_INTEGER.match(kind) or kind.startswith(("decimal", "float"))) or text == "hex":
        return "needs a number in decimal digits"
    if len(group) != 1 or group.isalnum() or group in "+-":
        return "is not one character between digits, like `,` or a space"
    if group == ("," if text == "comma" else "."):
        return "is the decimal sign"
    return None


def meaning_problem(kind: str, meaning: str | None) -> str | None:
    """Why a column of this type cannot have this meaning, or `None`."""
    if meaning is None:
        return None
    if element_type(kind) not in ("utf8", "binary"):
        return f"needs a column of text, this one is `{kind}`"
    return _one_of(meaning, MEANINGS, "text")


def native_problem(kind: str, text: str | None, zone: str | None) -> str | None:
    """What the native grammar has against a format, where this build has it."""
    check: Any = getattr(_native, "check_format", None)
    if check is None:
        return None
    try:
        check(element_type(kind), text, zone)
    except ValueError as error:
        return str(error)
    return None


def _one_of(text: str, words: tuple[str, ...], kind: str) -> str | None:
    listed = ", ".join(f"`{word}`" for word in words)
    return None if text in words else f"is not one that `{kind}` has: {listed}"


def _time_problem(kind: str, text: str) -> str | None:
    if text in NAMED_TIMES:
        epoch = text.startswith("epoch") or text == "filetime"
        if epoch and kind == "date32":
            return "counts time, which a `date32` column cannot hold"
        return None
    codes = re.findall(r"%(?:-(?=[mdHIMS]))?(.?)", text.replace("%%", ""), re.DOTALL)
    unknown = [code for code in codes if code not in CODES]
    if not codes or unknown:
        what = f"has `%{unknown[0]}`" if unknown else "has no `%`"
        return (
            f"{what}, expected codes like `%Y-%m-%d %H:%M:%S`, or one of {', '.join(NAMED_TIMES)}"
        )
    if len(set(codes)) != len(codes):
        return "says one part twice"
    clock = set(codes) & set("HMSfpIzZ")
    if kind == "date32" and clock:
        return f"has `%{min(clock)}`, a time of day, which a `date32` column cannot hold"
    return None
