"""Which licence each wheel has, whether we may ship it, and the texts that go with it.

A wheel's expression is, in this order: its `License-Expression`; what `License` says, where that is an expression or a known
name; what its classifiers say. A wheel that says nothing that is understood is refused, and so is what a wheel carries
compiled in, as far as it lists that (PEP 770).
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from bundle import spdx
from bundle.locks import canonical
from bundle.platforms import FOLDER
from bundle.wheelfile import Wheel

# The texts of packages that ship none, by canonical name; each file says where its facts are from in the folder's README.
TEXTS: Final = FOLDER / "texts"


@dataclass(frozen=True, kw_only=True)
class Licence:
    """What we may do with one component, and by which texts."""

    stated: str  # the expression, as the component states it
    taken: str  # what we take of it: of a choice, one
    files: dict[str, bytes]


def of_wheel(wheel: Wheel, texts: Path = TEXTS) -> Licence:
    """The licence of a wheel.

    Raises:
        spdx.NotAllowed: it is outside of what we ship, unknown, or there is no text of it.
    """
    stated = stated_by(wheel.expression, wheel.licence, wheel.classifiers)
    if not stated:
        raise spdx.NotAllowed(
            f"{wheel.name} {wheel.version} does not say which licence it has:"
            f" {wheel.licence[:60]!r}, {list(wheel.classifiers)}"
        )
    try:
        taken = spdx.allowed(stated)
        for name, document in wheel.sboms.items():
            carried_in(name, document)
    except spdx.NotAllowed as error:
        raise spdx.NotAllowed(f"{wheel.name} {wheel.version}: {error}") from error
    files = wheel.licence_files or texts_kept(wheel.name, texts)
    if not files:
        raise spdx.NotAllowed(
            f"{wheel.name} {wheel.version} ships no text of its licence ({stated});"
            f" put it into {texts.name}/{canonical(wheel.name)}/"
        )
    return Licence(stated=stated, taken=taken, files=files)


def stated_by(expression: str, licence: str, classifiers: Sequence[str]) -> str:
    """The expression that a package's metadata amount to; empty when they say nothing that is understood."""
    if expression:
        return expression
    if spoken := spdx.spoken(licence):
        return spoken
    if licence and len(licence) < 100:  # else it is a whole text
        try:
            spdx.allowed(licence)
        except spdx.NotAllowed:
            pass
        else:
            return licence
    said = [spdx.spoken(each.rpartition(" :: ")[2]) for each in classifiers]
    if not said or None in said:
        return licence if licence and len(licence) < 100 else ""
    return " AND ".join(sorted({each for each in said if each}))


def carried_in(name: str, document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What a CycloneDX document lists: name, version and the licences taken; empty for those without a statement.

    Crates that are not in the wheel (`licences.toml`) are listed with what they state.

    Raises:
        spdx.NotAllowed: one of them is outside of what we ship.
    """
    found = []
    for component in document.get("components", []):
        taken = []
        for choice in component.get("licenses", []):
            licence = choice.get("license", {})
            stated = choice.get("expression") or licence.get("id") or licence.get("name") or ""
            if _build_only().get(component.get("name")) == stated:
                taken.append(stated)
                continue
            try:
                taken.append(_carried(stated))
            except spdx.NotAllowed as error:
                raise spdx.NotAllowed(
                    f"carries {component.get('name')} {component.get('version')} ({name}): {error}"
                ) from error
        found.append(
            (
                str(component.get("name")),
                str(component.get("version", "")),
                " AND ".join(sorted(set(taken))),
            )
        )
    return found


@cache
def _build_only() -> dict[str, str]:
    """Crates that run while others are compiled, with the licence that they have."""
    document = tomllib.loads((FOLDER / "licences.toml").read_text("utf-8"))
    return {name: table["licence"] for name, table in document["build-only"].items()}


def _carried(stated: str) -> str:
    """Crates of old write `MIT/Apache-2.0` for a choice."""
    return spdx.allowed(spdx.spoken(stated) or stated.replace("/", " OR "))


def texts_kept(name: str, texts: Path = TEXTS) -> dict[str, bytes]:
    """The texts that we keep for a package that ships none."""
    folder = texts / canonical(name)
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
