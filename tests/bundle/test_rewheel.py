"""A wheel is written again to the same bytes, however the builder ordered, dated and numbered what is in it."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle import rewheel, wheelfile, wheels
from bundle.pruning import Pruned

INFO = "made-1.0.dist-info"
SBOM = f"{INFO}/sboms/made.cyclonedx.json"
PROGRAM = "made-1.0.data/scripts/made"
DATE = 1_700_000_000  # 2023-11-14T22:13:20Z
CONTENT = {
    "made/__init__.py": b"value = 1\n" * 200,
    "made/deep/one.py": b"",
    PROGRAM: b"#!/bin/sh\n",
    f"{INFO}/METADATA": b"Metadata-Version: 2.4\nName: made\nVersion: 1.0\nLicense-Expression: MIT\n",
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/licenses/LICENSE": b"do as you like\n",
}
ROOT = Path("/somebody/casparian tree")  # its address has a %20
MOMENTS = st.integers(1980, 2100).map(lambda year: (year, 2, 3, 4, 5, 6))


def bill(root: Path, serial: str, at: str) -> bytes:
    """A bill of materials as the builder writes it."""
    return json.dumps(
        {
            "serialNumber": serial,
            "metadata": {
                "timestamp": at,
                "component": {"bom-ref": f"path+{root.as_uri()}/native#1"},
            },
            "components": [
                {"name": "a-crate", "version": "2.0", "licenses": [{"expression": "MIT"}]}
            ],
        }
    ).encode()


def build(
    folder: Path,
    *,
    root: Path = ROOT,
    order: list[str] | None = None,
    date: tuple[int, int, int, int, int, int] = (2020, 1, 1, 0, 0, 0),
    mode: int = 0o755,
    serial: str = "urn:uuid:1",
    compression: int = zipfile.ZIP_DEFLATED,
    folders: bool = False,
    changed: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """A wheel as a builder might write it."""
    path = folder / "made-1.0-py3-none-any.whl"
    content = {
        **CONTENT,
        SBOM: bill(root, serial, f"{date[0]}-01-01T00:00:00Z"),
        f"{INFO}/RECORD": b"x",
        **changed,
    }
    with zipfile.ZipFile(path, "w", compression) as archive:
        if folders:
            archive.mkdir("made")
        for name in order or sorted(content):
            entry = zipfile.ZipInfo(name, date)
            bits = mode if name == PROGRAM else mode & 0o666
            entry.external_attr = (stat.S_IFREG | bits) << 16
            archive.writestr(entry, content[name])
    return path


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    path = build(tmp_path)
    rewheel.rewrite(path, DATE, ROOT)
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations([*CONTENT, SBOM, f"{INFO}/RECORD"]),
    date=MOMENTS,
    mode=st.sampled_from([0o755, 0o700, 0o775]),
    serial=st.uuids().map(lambda found: found.urn),
    compression=st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]),
    folders=st.booleans(),
    root=st.sampled_from([ROOT, Path("/elsewhere"), Path("/a/b/c/é")]),
)
def test_the_bytes_depend_on_content_and_date_alone(root: Path, **how: Any) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        paths = [build(Path(one), root=root, **how), build(Path(other))]
        rewheel.rewrite(paths[0], DATE, root)
        rewheel.rewrite(paths[1], DATE, ROOT)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert os.listdir(one) == [paths[0].name]


def test_written_twice_it_stays(tmp_path: Path, expected: bytes) -> None:
    path = tmp_path / "made-1.0-py3-none-any.whl"
    rewheel.rewrite(path, DATE, ROOT)
    assert path.read_bytes() == expected


CHANGES = {
    "a byte of a file": {"made/deep/one.py": b"\n"},
    "another crate": {SBOM: bill(ROOT, "urn:uuid:1", "").replace(b"a-crate", b"b-crate")},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_content_is_another_wheel(tmp_path: Path, expected: bytes, change: str) -> None:
    path = build(tmp_path, changed=CHANGES[change])
    rewheel.rewrite(path, DATE, ROOT)
    assert path.read_bytes() != expected


def test_another_date_is_another_wheel(tmp_path: Path, expected: bytes) -> None:
    path = build(tmp_path)
    rewheel.rewrite(path, DATE + 2, ROOT)
    assert path.read_bytes() != expected


def test_it_installs_and_says_of_itself_what_it_said(
    tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bundle.pruning.unused", lambda *_: []
    )  # those patterns are of other wheels
    (tmp_path / "made-1.0-py3-none-any.whl").write_bytes(expected)
    wheel = wheelfile.read(tmp_path / "made-1.0-py3-none-any.whl")
    assert (wheel.name, wheel.version, wheel.expression) == ("made", "1.0", "MIT")
    (tmp_path / wheels.LOCK).write_text(f"made==1.0 --hash=sha256:{wheelfile.sha256(wheel.path)}\n")
    site = tmp_path / "site"
    site.mkdir()
    wheels.install_wheels(tmp_path, site, Pruned())  # compares every file with the RECORD
    assert (site / "made/__init__.py").read_bytes() == CONTENT["made/__init__.py"]
    with zipfile.ZipFile(wheel.path) as archive:
        entries = archive.infolist()
    assert entries[-1].filename == f"{INFO}/RECORD", "as PEP 427 would have it"
    assert {entry.date_time for entry in entries} == {(2023, 11, 14, 22, 13, 20)}
    runs = [entry.filename for entry in entries if (entry.external_attr >> 16) & 0o111]
    assert runs == [PROGRAM]


def test_the_bill_of_materials_names_crates_and_no_machine(expected: bytes, tmp_path: Path) -> None:
    path = tmp_path / "made-1.0-py3-none-any.whl"
    document = wheelfile.read(path).sboms["sboms/made.cyclonedx.json"]
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert document["metadata"]["component"]["bom-ref"] == "path+file:///casparian/native#1"
    assert document["components"][0]["name"] == "a-crate"
    assert document["serialNumber"].startswith("urn:uuid:")
    assert b"somebody" not in json.dumps(document).encode()
