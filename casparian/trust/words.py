"""A fingerprint as people compare it: twelve words, `SHA256:` and digits, and a picture for a printed card.

The words are BIP-39's: the first 128 bits of the fingerprint and a checksum, so that one wrong word is noticed by itself.
"""

from __future__ import annotations

import io
import unicodedata
from typing import Final

from casparian.trust.refusals import refused

WORDS: Final = 12
_BYTES: Final = 16
_PREFIX: Final = "SHA256:"


def words_of(fingerprint: str) -> tuple[str, ...]:
    """The twelve words of a fingerprint (64 hexadecimal digits)."""
    from mnemonic import Mnemonic

    phrase: str = Mnemonic("english").to_mnemonic(bytes.fromhex(fingerprint)[:_BYTES])
    return tuple(phrase.split())


def fingerprint_text(fingerprint: str) -> str:
    """`SHA256:` and the digits."""
    return f"{_PREFIX}{fingerprint}"


def grouped(fingerprint: str) -> str:
    """The digits in groups of four, for reading aloud."""
    return " ".join(fingerprint[n : n + 4] for n in range(0, len(fingerprint), 4))


def check_fingerprint(fingerprint: str, given: str) -> None:
    """Return when what a person gave is this fingerprint: the digits with or without `SHA256:`, or the twelve words.

    Raises:
        Refused: `trust.fingerprint`, `trust.words`.
    """
    text = unicodedata.normalize("NFKC", given).strip()
    typed = tuple(text.casefold().split())
    if len(typed) == WORDS and all(word.isalpha() for word in typed):
        check_words(fingerprint, typed)
        return
    digits = "".join(typed).removeprefix(_PREFIX.casefold()).replace(":", "")
    if digits != fingerprint:
        raise refused(
            "trust.fingerprint",
            f"the root's fingerprint is {fingerprint_text(fingerprint)}, not the one that was given",
        )


def check_words(fingerprint: str, typed: tuple[str, ...]) -> None:
    """Return when twelve words are those of a fingerprint; `trust.words` says whether they are a typing error."""
    if typed == words_of(fingerprint):
        return
    from mnemonic import Mnemonic

    if Mnemonic("english").check(" ".join(typed)):
        raise refused("trust.words", "these are the words of another root")
    raise refused("trust.words", "the words are not right: one of them is mistyped, or missing")


def qr_svg(text: str) -> str:
    """A QR code as an SVG document."""
    import segno

    out = io.BytesIO()
    segno.make(text, error="m").save(out, kind="svg", scale=6, border=4, xmldecl=True)
    return out.getvalue().decode()


def qr_text(text: str) -> str:
    """A QR code in half blocks, dark on light, for a terminal or a printed page."""
    import segno

    rows = [list(row) for row in segno.make(text, error="m").matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        lines.append(
            "".join(
                "█" if a and b else "▀" if a else "▄" if b else " "
                for a, b in zip(upper, lower, strict=True)
            )
        )
    return "\n".join(lines)


def card_text(organisation: str, version: int, fingerprint: str) -> str:
    """What a printed card says."""
    words = words_of(fingerprint)
    lines = [
        f"Root of trust of {organisation} (version {version})",
        "",
        *(
            "  ".join(f"{n + 1:>2} {words[n]:<9}" for n in range(row, row + 4)).rstrip()
            for row in (0, 4, 8)
        ),
        "",
        fingerprint_text(fingerprint),
        *(f"  {grouped(fingerprint)[n : n + 39]}" for n in range(0, 80, 40)),
        "",
        "On another machine:  casparian trust init --root FILE",
        "shows these words. When one differs, do not go on.",
    ]
    return "\n".join(lines)


def qr_content(fingerprint: str) -> str:
    """What the picture says."""
    return f"CASPARIAN-ROOT:1:{fingerprint}"
