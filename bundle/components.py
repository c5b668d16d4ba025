"""What the appliance is made of, as a bill of materials and an index of licences need it: wheels and crates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bundle import crates, licences, locks, wheelhouse
from bundle.locks import Locked
from bundle.platforms import FOLDER, ROOT, Platform
from bundle.steps import Failed


@dataclass(frozen=True, kw_only=True)
class Component:
    """One wheel or crate."""

    kind: Literal["wheel", "crate"]
    name: str
    version: str
    purl: str
    stated: str  # licence expression, as the component states it
    licence: str  # what we take of it
    sha256: (
        str | None
    )  # of the wheel or the crate's archive; `None` for our own crates and Rust's library
    file: str | None  # name of the wheel
    files: dict[str, bytes]  # texts of its licence, by name
    carried: tuple[
        tuple[str, str, str], ...
    ] = ()  # what a wheel says to have compiled in: name, version, licence
    sboms: dict[str, Any] = field(
        default_factory=dict
    )  # CycloneDX documents of the wheel (PEP 770)


def of_wheels(directory: Path, platform: Platform, folder: Path = FOLDER) -> list[Component]:
    """The wheels of a wheelhouse, sorted by name; each was checked.

    Raises:
        Failed: the wheelhouse is not what its lock says.
    """
    report = wheelhouse.verify(directory, platform, folder)
    if not report.ok:
        raise Failed(f"{directory} is no sound wheelhouse: {'; '.join(report.problems[:3])}")
    found = []
    for held in report.wheels:
        name = locks.canonical(held.wheel.name)
        carried = [
            one
            for path, document in held.wheel.sboms.items()
            for one in licences.carried_in(path, document)
        ]
        found.append(
            Component(
                kind="wheel",
                name=name,
                version=held.wheel.version,
                purl=f"pkg:pypi/{name}@{held.wheel.version}",
                stated=held.licence.stated,
                licence=held.licence.taken,
                sha256=held.sha256,
                file=held.wheel.path.name,
                files=held.licence.files,
                carried=tuple(sorted(set(carried))),
                sboms=held.wheel.sboms,
            )
        )
    return sorted(found, key=lambda each: (each.name, each.version))


def of_crates(platform: Platform, root: Path = ROOT) -> list[Component]:
    """The crates that are linked into our native module, and Rust's standard library.

    Raises:
        spdx.NotAllowed: one of them is outside of what we ship.
        Failed: cargo does not know them.
    """
    return [
        Component(
            kind="crate",
            name=each.name,
            version=each.version,
            purl=each.purl,
            stated=each.licence.stated,
            licence=each.licence.taken,
            sha256=each.sha256,
            file=None,
            files=each.licence.files,
        )
        for each in crates.linked(platform, root)
    ]


def write_licences(components: list[Component], out: Path) -> None:
    """Write the texts of all components and an index: `out/INDEX.tsv`, `out/{wheels,crates}/NAME-VERSION/…`.

    Args:
        components: each name and version of a kind once.
        out: a new folder; names in it fit FAT.

    Raises:
        FileExistsError: it is there.
    """
    out.mkdir(parents=True)
    lines = ["kind\tname\tversion\tstated\ttaken\ttexts"]
    for each in sorted(components, key=lambda one: (one.kind, one.name, one.version)):
        place = out / f"{each.kind}s" / f"{each.name}-{each.version}"
        place.mkdir(parents=True)
        written = []
        for name, content in sorted(each.files.items()):
            flat = name.removeprefix("licenses/").replace("/", "__")
            (place / flat).write_bytes(content)
            written.append(flat)
        lines.append(
            "\t".join(
                [each.kind, each.name, each.version, each.stated, each.licence, ", ".join(written)]
            )
        )
        lines += [
            f"within\t{name}\t{version}\t\t{licence}\tin {each.name} {each.version}"
            for name, version, licence in each.carried
        ]
    (out / "INDEX.tsv").write_text("\n".join(lines) + "\n", "utf-8")


def installed(locked: list[Locked]) -> tuple[list[str], list[str]]:
    """Judge what is installed beside the running interpreter, without network: problems, and names that are not installed."""
    from importlib import metadata

    from bundle import spdx

    problems, absent = [], []
    for each in locked:
        try:
            document = metadata.metadata(each.name)
        except metadata.PackageNotFoundError:
            absent.append(each.name)
            continue
        classifiers = [
            one for one in document.get_all("Classifier") or [] if one.startswith("License :: ")
        ]
        stated = licences.stated_by(
            _field(document, "License-Expression"), _field(document, "License"), classifiers
        )
        try:
            spdx.allowed(stated)
        except spdx.NotAllowed as error:
            problems.append(f"{each.name}: {error}")
    return problems, absent


def _field(document: Any, name: str) -> str:
    """A field of a package's metadata; empty when it is not there."""
    return str(document[name]) if name in document else ""
