"""The only road from evidence text to a screen.

File names, log messages and registry values may hold escape codes, terminal titles, bidirectional tricks or
markup. `show()` turns every control, bidi, zero-width and undecodable character into a visible escape; stored values are
never altered, only their display.
"""

from __future__ import annotations

import re
import unicodedata

_SAFE = re.compile(r"[\x20-\x7e]*\Z")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def show(text: str, *, width: int | None = None) -> str:
    """Return text that is safe to print: one line, nothing hidden, nothing interpreted.

    Args:
        text: any string from evidence or from a peer.
        width: when given, longer text is cut to this many characters and ends in `…`.
    """
    safe = text if _SAFE.match(text) else "".join(map(_visible, text))
    if width is not None and len(safe) > width:
        return safe[: max(width - 1, 0)] + "…"
    return safe


def show_bytes(raw: bytes) -> str:
    r"""Show bytes that are mostly text: UTF-8 where it decodes, `\xNN` where it does not."""
    return show(path_text(raw))


def path_text(raw: bytes) -> str:
    r"""Text form of byte-exact path: bytes that are not UTF-8 become `\xNN` (a literal backslash is kept)."""
    return raw.decode("utf-8", "backslashreplace")


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def size_text(size_bytes: int) -> str:
    """Human size with a binary unit: `1.4 MiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
