"""The printed card and the stick's first page: what a person compares and types. `python -m bundle.card STICK` prints a card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from casparian.appliance.stick import layout, sshsig
from casparian.trust import words
from casparian.trust.keys import PublicKey

_DEVELOPMENT = """
  !!  DEVELOPMENT BUILD: signed with a key that everybody has. It proves nothing.  !!
  !!  Never take evidence with it; never accept such a stick from anybody.         !!
"""


def card_text(key: PublicKey, version: str, release: int, *, development: bool) -> str:
    """What the card says: it is printed, and travels apart from the stick."""
    fingerprint = sshsig.fingerprint(key)
    digits = fingerprint.removeprefix("SHA256:")
    spoken = words.words_of(sshsig.fingerprint_hex(key))
    groups = [digits[at : at + 4] for at in range(0, len(digits), 4)]
    rows = (
        "  " + "  ".join(f"{n + 1:>2} {spoken[n]:<9}" for n in range(row, row + 4)).rstrip()
        for row in (0, 4, 8)
    )
    return "\n".join(
        [
            f"Casparian {version}, release {release}: the release key",
            *([_DEVELOPMENT] if development else []),
            "",
            "Print this card and carry it apart from the stick: what is printed cannot be changed on the way.",
            "",
            f"  {fingerprint}",
            "",
            "  " + "  ".join(groups[:6]),
            "  " + "  ".join(groups[6:]),
            "",
            *rows,
            "",
            "The same fingerprint as a picture, for a reader that is not connected (CARD.svg prints it larger):",
            "",
            *(line.rstrip() for line in words.qr_text(fingerprint).strip("\n").splitlines()),
            "",
            "On the disconnected machine, in the folder of the stick, type these three lines:",
            "",
            f"  (printf '{layout.IDENTITY} '; cat {layout.RELEASE_KEY}) > ~/allowed",
            f"  ssh-keygen -Y verify -f ~/allowed -I {layout.IDENTITY} -n {layout.NAMESPACE}"
            f" -s {layout.SIGNATURE} < {layout.SUMS}",
            f"  sha256sum --check --strict --quiet {layout.SUMS}",
            "",
            f"The second prints a line that begins with `Good` and ends with {fingerprint};",
            "the third prints nothing. When either says anything else: stop, and do not use the stick.",
            "",
            "Then, and only then:",
            "",
            f"  sh {layout.INSTALLER} DEST {fingerprint}",
            "",
        ]
    )


def card_picture(key: PublicKey) -> str:
    """The fingerprint as a QR code, as an SVG document: the same bytes for the same key."""
    return words.qr_svg(sshsig.fingerprint(key))


def readme_text(stick: layout.Stick, fingerprint: str) -> str:
    """The first page of a stick."""
    lines = [f"Casparian {stick.version}, release {stick.release}, of {stick.built}"]
    if stick.development:
        lines.append(_DEVELOPMENT)
    lines.append("")
    if stick.kind == "appliance":
        lines += [
            "First installation: compare with the printed card (CARD.txt is its text; a card that came on the",
            "stick itself proves nothing), check the stick with its commands, then",
            "",
            f"  sh install.sh DEST {fingerprint[:11]}…",
            "",
            "Update of an installation:",
        ]
    else:
        lines.append("This stick carries parsers, roots or a policy, and no program:")
    lines += [
        "",
        "  casparian bundle check STICK",
        "  casparian bundle apply STICK",
        "",
        "What lies here:",
        "",
        "  SHA256SUMS, SHA256SUMS.sig  every file, and the release key's signature over the list",
        "  stick.json                  what this is",
    ]
    if stick.kind == "appliance":
        lines += [
            "  payload/                    the program, an uncompressed tar, and the list of its files",
            "  wheels/                     the packages that parsers may ask for",
            "  sbom/  provenance/          what it is made of, and how",
            "  licences/  docs/            start with docs/how-to/airgap.md",
        ]
    lines += [
        "  parsers/                    signed parsers",
        "  trust/                      the release key; roots of trust and policy",
        "",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the card of a stick."""
    parser = argparse.ArgumentParser(prog="python -m bundle.card", description=__doc__)
    parser.add_argument("stick", type=Path)
    given = parser.parse_args(arguments)
    sys.stdout.write((given.stick / "CARD.txt").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
