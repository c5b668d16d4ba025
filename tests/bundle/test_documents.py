"""What vouches for a stick: the bill of materials names everything and nothing else, the statements of the build verify."""

from __future__ import annotations

import functools
import hashlib
import json
import tomllib
from importlib import resources
from pathlib import Path

import fastjsonschema
import msgspec
import pytest

from bundle import provenance
from bundle.source import ROOT
from casparian.appliance.stick import layout
from casparian.errors import Refused
from casparian.trust import envelope
from casparian.trust.signatures import check_signatures
from tests.factories import small_sticks as sticks

OWN = {"share/sbom/casparian.cdx.json", "share/provenance/version.dsse.json"}


@pytest.fixture(scope="module")
def files(stick):
    """SHA-256 of every file of an installation by path, as the signed documents have them."""
    manifest = msgspec.json.decode((stick / "stick.json").read_bytes(), type=layout.Stick)
    payload = manifest.payloads[0]
    listed = msgspec.json.decode((stick / payload.files).read_bytes(), type=layout.PayloadFiles)
    wheels = {
        f"wheels/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (stick / "wheels" / payload.platform).iterdir()
    }
    return {**{file.path: file.sha256 for file in listed.files}, **wheels}


@pytest.fixture(scope="module")
def bill(stick):
    return json.loads((stick / "sbom/casparian.cdx.json").read_bytes())


def _schema(uri: str) -> dict:
    folder = resources.files("cyclonedx.schema") / "_res"
    name = uri.partition("#")[0].rpartition("/")[2].removesuffix(".schema.json")
    name = name.removesuffix(".SNAPSHOT")
    return json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text("utf-8"))


def _sha256(component):
    return next(part["content"] for part in component["hashes"] if part["alg"] == "SHA-256")


@functools.cache
def _validator():
    handlers = {"http": _schema, "https": _schema}
    return fastjsonschema.compile(_schema("bom-1.6.schema.json"), handlers, use_formats=False)


def validate_bill(bill: dict) -> None:
    """Judge a bill of materials by the official schema."""
    _validator()(bill)


def test_the_bill_is_valid_by_the_official_schema(bill):
    validate_bill(bill)
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate_bill({**bill, "bomFormat": "another"})
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate_bill({**bill, "components": [{"type": "nonsense", "name": "x"}]})


def test_the_bill_names_each_file_by_its_hash_and_no_other(bill, files):
    named = {part["name"]: _sha256(part) for part in bill["components"] if part["type"] == "file"}
    assert named == {path: digest for path, digest in files.items() if path not in OWN}


def test_the_bill_names_each_wheel_and_no_other_with_what_is_compiled_into_it(bill, files):
    wheels = {
        part["bom-ref"]: part
        for part in bill["components"]
        if part.get("purl", "").startswith("pkg:pypi/")
    }
    assert set(wheels) == {path for path in files if path.endswith(".whl")}
    for path, part in wheels.items():
        assert _sha256(part) == files[path]
        assert part["licenses"]
    (example,) = wheels.values()
    assert [part["purl"] for part in example["components"]] == ["pkg:cargo/inner@2.0"]


def test_the_bill_names_each_crate_and_no_other(bill):
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text("utf-8"))
    named = {
        (part["name"], part["version"])
        for part in bill["components"]
        if part["bom-ref"].startswith("crate:")
    }
    assert named == {(package["name"], package["version"]) for package in lock["package"]}


def test_the_bill_of_the_stick_is_the_one_in_the_program(stick, files):
    content = (stick / "sbom/casparian.cdx.json").read_bytes()
    assert files["share/sbom/casparian.cdx.json"] == hashlib.sha256(content).hexdigest()


def test_references_are_unique_and_lead_somewhere(bill):
    def references(parts):
        for part in parts:
            yield part["bom-ref"]
            yield from references(part.get("components", ()))

    found = list(references(bill["components"]))
    assert len(found) == len(set(found))
    assert set(bill["dependencies"][0]["dependsOn"]) <= set(found)


def _statement(raw: bytes) -> dict:
    opened = envelope.open_envelope(raw, "the statement")
    public = sticks.DEVELOPMENT.public
    check_signatures(
        opened.signed_bytes, opened.signatures, {public.keyid: public}, what="the statement"
    )
    return json.loads(opened.payload)


def _subjects(statement):
    return {part["name"]: part["digest"]["sha256"] for part in statement["subject"]}


def test_the_statement_about_the_stick_is_signed_and_covers_every_file(stick):
    statement = _statement((stick / "provenance/build.dsse.json").read_bytes())
    assert statement["predicateType"] == provenance.PREDICATE
    found = {
        path.relative_to(stick).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in stick.rglob("*")
        if path.is_file()
    }
    for after in (layout.SUMS, layout.SIGNATURE, "provenance/build.dsse.json"):
        del found[after]
    assert _subjects(statement) == found
    assert statement["predicate"]["buildDefinition"]["externalParameters"] == {
        "kind": "appliance",
        "release": 7,
        "version": "0.1.0",
    }


def test_the_statement_about_the_version_covers_every_file_of_it(stick, files):
    import tarfile

    with tarfile.open(next((stick / "payload").glob("*.tar"))) as archive:
        raw = archive.extractfile("share/provenance/version.dsse.json").read()
    statement = _statement(raw)
    expected = dict(files)
    del expected["share/provenance/version.dsse.json"]
    assert _subjects(statement) == expected


def test_the_statement_names_source_locks_and_wheels_by_hash(stick):
    import tarfile

    with tarfile.open(next((stick / "payload").glob("*.tar"))) as archive:
        statement = _statement(archive.extractfile("share/provenance/version.dsse.json").read())
    parts = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    named = {part["name"]: part["digest"] for part in parts}
    assert named["source"] == {"gitCommit": sticks.SOURCE.commit}
    for path in ("Cargo.lock", "requirements/runtime.txt", "offline-wheels/locks/linux-x86_64.txt"):
        assert named[path] == {"sha256": hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}
    assert "example-1.0-py3-none-any.whl" in named


def test_a_changed_statement_is_refused(stick):
    raw = (stick / "provenance/build.dsse.json").read_bytes()
    opened = envelope.open_envelope(raw, "the statement")
    forged = envelope.seal(opened.payload.replace(b'"release":7', b'"release":8'), [sticks.OTHER])
    with pytest.raises(Refused):
        _statement(forged)
    document = json.loads(raw)
    document["payload"] = json.loads(forged)["payload"]
    with pytest.raises(Refused):
        _statement(json.dumps(document, separators=(",", ":"), sort_keys=True).encode())


def test_texts_of_every_licence_are_on_the_stick(stick):
    folders = {path.name for path in (stick / "licences").iterdir()}
    assert folders == {"casparian", "example-1.0"}
    for folder in (stick / "licences").iterdir():
        assert any(path.stat().st_size for path in Path(folder).iterdir())
