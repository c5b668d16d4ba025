"""The bill of materials of a version: CycloneDX 1.6 (ECMA-424), the same bytes for the same inputs.

It names the wheels with what they say is compiled into them (PEP 770) and what `bundle.inside` finds there, the crates of the
native module, CPython with the libraries in it and those that came along, and every file of the installation with its SHA-256.
What was found in a wheel that declares nothing is no complete list, and is marked so. The bill itself and the statement about the
build, which is made after it, are not in it: the signed list of files has their hashes.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from bundle import inside, licences
from bundle.source import ROOT, Source
from bundle.wheelfile import Wheel

_NAMESPACE: Final = uuid.UUID("5a4de1c6-7a0f-5d6c-9b1e-6f0f8f5f3c11")  # of our serial numbers
_REGISTRY: Final = "registry+https://github.com/rust-lang/crates.io-index"

Json = dict[str, Any]


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a bill is about."""

    version: str
    release: int
    platform: str
    python: str
    source: Source
    tree: Mapping[str, Any]  # the document beside a tree; empty without one
    files: Mapping[str, str]  # SHA-256 by path in the installation, wheels too


def make_sbom(about: Described, wheels: Iterable[Wheel]) -> bytes:
    """The document.

    Raises:
        spdx.NotAllowed: a wheel has a licence that we do not ship.
    """
    name = f"casparian-{about.version}-{about.platform}"
    held = [_wheel(wheel, about.files) for wheel in wheels]
    crates = list(_crates())
    within = inside.of_python(about.tree.get("inside", ()))
    python = _python(about, within)
    libraries = [
        _library(library, about.files, inside.of_file(library, within))
        for library in about.tree.get("libraries", ())
    ]
    files = [_file(path, digest) for path, digest in sorted(about.files.items())]
    subject = {
        "bom-ref": name,
        "type": "application",
        "name": "casparian",
        "version": about.version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "properties": _properties(
            release=about.release, platform=about.platform, commit=about.source.commit
        ),
    }
    document: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": about.source.built,
            "tools": {"components": list(_tools(about))},
            "component": subject,
        },
        "components": [python, *libraries, *held, *crates, *files],
        "dependencies": [
            {
                "ref": name,
                "dependsOn": sorted(
                    part["bom-ref"] for part in (python, *libraries, *held, *crates)
                ),
            }
        ],
        "compositions": list(_compositions(name, [python, *held])),
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}"
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _compositions(name: str, holders: Sequence[Json]) -> Iterable[Json]:
    """What is known to be all of it, and what was only recognised from outside."""
    yield {"aggregate": "complete", "assemblies": [name]}
    recognised = [
        holder["bom-ref"]
        for holder in holders
        if any(inside.was_found(part) for part in holder.get("components", ()))
    ]
    if recognised:
        yield {"aggregate": "incomplete", "assemblies": sorted(recognised)}


def _wheel(wheel: Wheel, files: Mapping[str, str]) -> Json:
    path = f"wheels/{wheel.path.name}"
    licence = licences.of_wheel(wheel)
    component: Json = {
        "bom-ref": path,
        "type": "library",
        "name": wheel.name,
        "version": wheel.version,
        "purl": f"pkg:pypi/{wheel.named.name}@{quote(wheel.version)}?file_name={quote(wheel.path.name)}",
        "hashes": [_sha256(files[path])],
        "licenses": [{"expression": licence.stated}],
    }
    carried = [
        _carried(part, f"{path}#{name}#{number}")
        for name, document in sorted(wheel.sboms.items())
        for number, part in enumerate(document.get("components", ()))
    ]
    declared = {str(part.get("name")) for part in carried}
    carried += [each.component(f"{path}#{each.name}") for each in inside.of_wheel(wheel, declared)]
    if carried:
        component["components"] = carried
    return component


def _carried(part: Json, reference: str) -> Json:
    """A component of a wheel's own bill, with a reference that is unique here."""
    kept: Json = {
        key: part[key]
        for key in ("type", "name", "version", "purl", "hashes", "licenses", "scope")
        if key in part
    }
    inside = part.get("components", ())
    if inside:
        kept["components"] = [
            _carried(each, f"{reference}.{number}") for number, each in enumerate(inside)
        ]
    return {**kept, "bom-ref": reference}


def _crates() -> Iterable[Json]:
    """The crates that `Cargo.lock` pins, ours among them."""
    known = _crate_licences()
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text("utf-8"))
    for package in lock["package"]:
        name, version = package["name"], package["version"]
        component: Json = {
            "bom-ref": f"crate:{name}@{version}",
            "type": "library",
            "name": name,
            "version": version,
        }
        if package.get("source") == _REGISTRY:
            component["purl"] = f"pkg:cargo/{name}@{quote(version)}"
        if "checksum" in package:
            component["hashes"] = [_sha256(package["checksum"])]
        if stated := known.get((name, version)):
            component["licenses"] = [{"expression": stated.replace("/", " OR ")}]
        yield component


def _crate_licences() -> dict[tuple[str, str], str]:
    """What the crates state, from the sources that were compiled; nothing where they are not at hand."""
    try:
        done = subprocess.run(
            ["cargo", "metadata", "--format-version", "1", "--locked", "--offline"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {
        (package["name"], package["version"]): package["license"]
        for package in json.loads(done.stdout)["packages"]
        if package.get("license")
    }


def _python(about: Described, within: Sequence[inside.Library]) -> Json:
    component: Json = {
        "bom-ref": "cpython",
        "type": "platform",
        "name": "cpython",
        "version": about.python,
        "purl": f"pkg:generic/cpython@{about.python}",
        "licenses": [{"license": {"id": "Python-2.0"}}],
    }
    if within:
        component["components"] = [each.component(f"cpython#{each.name}") for each in within]
    if digest := about.files.get("runtime/bin/python3"):
        component["hashes"] = [_sha256(digest)]
    if origin := about.tree.get("python_origin"):
        component["properties"] = _properties(
            origin=origin, pinned=str(bool(about.tree.get("pinned"))).lower()
        )
    return component


def _library(name: str, files: Mapping[str, str], known: inside.Library | None) -> Json:
    """A library that the interpreter needs, brought along from the machine it was built on."""
    component: Json = {"bom-ref": f"library:{name}", "type": "library", "name": name}
    if known is not None:
        component["licenses"] = [{"expression": known.licence}]
        component["properties"] = _properties(part_of=f"cpython#{known.name}")
        if known.version is not None:
            component["version"] = known.version
    if digest := files.get(f"runtime/lib/{name}"):
        component["hashes"] = [_sha256(digest)]
    return component


def _file(path: str, digest: str) -> Json:
    return {"bom-ref": f"file:{path}", "type": "file", "name": path, "hashes": [_sha256(digest)]}


def _tools(about: Described) -> Iterable[Json]:
    yield {"type": "application", "name": "casparian bundle.build", "version": about.version}
    if compiler := about.tree.get("compiler"):
        said = compiler if isinstance(compiler, str) else json.dumps(compiler, sort_keys=True)
        yield {"type": "application", "name": "nuitka", "description": said}


def _properties(**values: object) -> list[Json]:
    return [{"name": f"casparian:{name}", "value": str(value)} for name, value in values.items()]


def _sha256(digest: str) -> Json:
    return {"alg": "SHA-256", "content": digest}


def tree_document(tree: Path) -> Json:
    """What `bundle.tree` wrote beside a tree; empty when there is none."""
    path = tree.with_name(f"{tree.name}.json")
    if not path.is_file():
        return {}
    document = json.loads(path.read_bytes())
    return document if isinstance(document, dict) else {}
