"""What CPython and wheels have compiled into them and no list of theirs declares, as components of a bill of materials.

`inside.toml` says how each is recognised and which licence it has. A version is asked of the interpreter or of the library, or
read from text in the compiled file that holds it; it is never guessed. What cannot be determined has no version and says so.
"""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from bundle import spdx
from bundle.locks import canonical
from bundle.wheelfile import Wheel

_TABLE: Final = Path(__file__).with_suffix(".toml")
_QUESTION: Final = Path(__file__).with_name("inside_question.py")
# What auditwheel copies in, beside the package: libNAME-HASH.so.NUMBERS.
_COPIED: Final = re.compile(r"[^/]+\.libs/(?P<stem>lib[^/]+?)(?:-[0-9a-f]{8})?\.so[.\d]*")
_MODULE: Final = re.compile(r"\.(?:so(?:\.[\d.]+)?|pyd|dll)\Z")
_MODULE_BYTES_MAX: Final = 1 << 30
_PROPERTY: Final = "casparian:version-found"


class Library(msgspec.Struct, frozen=True, kw_only=True):
    """One library within something else."""

    name: str
    version: str | None
    how: str  # the version was found, or why it was not
    licence: str  # as the library states it
    kind: str = "generic"  # of its package URL
    cpe: str | None = None  # vendor and product, where the national database has both

    def component(self, reference: str) -> dict[str, Any]:
        """As CycloneDX has it."""
        found: dict[str, Any] = {
            "bom-ref": reference,
            "type": "library",
            "name": self.name,
            "purl": f"pkg:{self.kind}/{quote(self.name)}",
            "licenses": [{"expression": self.licence}],
            "properties": [{"name": _PROPERTY, "value": self.how}],
        }
        if self.version is not None:
            found["version"] = self.version
            found["purl"] += f"@{quote(self.version)}"
            if self.cpe is not None:
                found["cpe"] = f"cpe:2.3:a:{self.cpe}:{self.version}:*:*:*:*:*:*:*"
        return found


def was_found(component: Mapping[str, Any]) -> bool:
    """Whether a component was recognised here, and not declared by what holds it."""
    return any(each["name"] == _PROPERTY for each in component.get("properties", ()))


def ask(run: Callable[[str], str]) -> list[dict[str, Any]]:
    """Ask an interpreter what is in it, for the document beside a tree.

    Args:
        run: runs Python code in it and gives what it printed.
    """
    answered: list[dict[str, Any]] = json.loads(run(_QUESTION.read_text("utf-8")))
    return answered


def of_python(answered: Sequence[Mapping[str, Any]]) -> list[Library]:
    """The libraries that an interpreter answered.

    Raises:
        spdx.NotAllowed: nobody has written down the licence of one, or it is outside of what we ship.
    """
    known = _table()["python"]
    found = []
    for each in answered:
        if each["name"] not in known:
            raise spdx.NotAllowed(
                f"CPython holds {each['name']}: bundle/inside.toml does not know it"
            )
        found.append(
            _library(each["name"], known[each["name"]], each["version"], each["how"], "CPython")
        )
    return found


def of_file(name: str, libraries: Sequence[Library]) -> Library | None:
    """Which of these a copied file belongs to: `libcrypto.so.3` to OpenSSL."""
    stem = name.partition(".so")[0]
    known = _table()["python"]
    return next((one for one in libraries if stem in known[one.name].get("files", ())), None)


def of_wheel(wheel: Wheel, declared: Collection[str] = ()) -> list[Library]:
    """The libraries in a wheel's compiled modules and in what auditwheel copied beside them, sorted by name.

    Args:
        wheel: its archive is read.
        declared: names that the wheel itself declares; they are left out.

    Raises:
        spdx.NotAllowed: nobody has written down the licence of one, or it is outside of what we ship.
    """
    entries: dict[str, Any] = _table()["wheel"].get(wheel.named.name, {})
    with zipfile.ZipFile(wheel.path) as archive:
        names = sorted(archive.namelist())
        copied = [match for name in names if (match := _COPIED.fullmatch(name))]
        found = [_copied(match, entries, wheel) for match in copied]
        for name in names:
            if name.endswith("/_vendor/vendor.txt"):
                found += _vendored(name, _content(archive, name).decode("utf-8"), wheel)
        modules = [name for name in names if _MODULE.search(name)] if entries else []
        seen: dict[str, dict[str, set[str]]] = {}
        for name in modules:
            for library, versions in _recognised(_content(archive, name), entries):
                seen.setdefault(library, {})[name] = versions
    for library, places in sorted(seen.items()):
        if library in declared or any(one.name == library for one in found):
            continue
        versions = set().union(*places.values())
        if len(versions) == 1:
            where = min(name for name, said in places.items() if said)
            version, how = next(iter(versions)), f"text in {where}"
        else:
            version = None
            how = (
                f"several: {', '.join(sorted(versions))}"
                if versions
                else f"no text in {min(places)} says it"
            )
        found.append(
            _library(library, entries[library], version, how, f"{wheel.name} {wheel.version}")
        )
    return sorted(found, key=lambda one: one.name)


def _copied(match: re.Match[str], entries: Mapping[str, Any], wheel: Wheel) -> Library:
    """The number after `.so` is of the interface, not of the library."""
    holder = f"{wheel.name} {wheel.version}"
    for name, entry in entries.items():
        if match["stem"] in entry.get("files", ()):
            return _library(name, entry, None, f"the file {match[0]} does not say it", holder)
    raise spdx.NotAllowed(f"{holder} holds {match[0]}: bundle/inside.toml does not know it")


def _vendored(name: str, text: str, wheel: Wheel) -> Iterator[Library]:
    """Python packages that were copied in, as pip lists them: `NAME==VERSION`, some lines indented."""
    known = _table()["vendored"]
    holder = f"{wheel.name} {wheel.version}"
    for line in text.splitlines():
        package, _, version = line.partition("#")[0].strip().partition("==")
        if not package:
            continue
        package = canonical(package)
        if package not in known or not version:
            raise spdx.NotAllowed(
                f"{holder} holds {line.strip()}: bundle/inside.toml does not know it"
            )
        found = _library(package, known[package], version, f"listed in {name}", holder)
        yield msgspec.structs.replace(found, kind="pypi")


def _recognised(content: bytes, entries: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    for name, entry in entries.items():
        if "marker" not in entry or not re.search(entry["marker"].encode(), content):
            continue
        pattern = entry.get("version")
        said = re.findall(pattern.encode(), content) if pattern else ()
        yield name, {one.decode("ascii") for one in said}


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MODULE_BYTES_MAX:
        raise spdx.NotAllowed(f"{name} is too large to look for libraries in it")
    return archive.read(name)


def _library(
    name: str, entry: Mapping[str, Any], version: str | None, how: str, holder: str
) -> Library:
    by_version = entry["licence"]
    if isinstance(by_version, str):
        by_version = {"0": by_version}
    holds = max(
        (since for since in by_version if version is None or _numbers(since) <= _numbers(version)),
        key=_numbers,
    )
    judged = by_version.values() if version is None else [by_version[holds]]
    for licence in judged:
        _judge(licence, f"{holder} holds {name} {version or ''}".rstrip())
    return Library(
        name=name, version=version, how=how, licence=by_version[holds], cpe=entry.get("cpe")
    )


def _judge(licence: str, what: str) -> None:
    if licence in _table()["permissive"]:
        return
    try:
        spdx.allowed(licence)
    except spdx.NotAllowed as error:
        raise spdx.NotAllowed(f"{what}: {error}") from error


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(_TABLE.read_text("utf-8"))
