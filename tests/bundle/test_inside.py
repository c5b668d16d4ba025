"""Libraries within CPython and wheels are in the bill of materials: with the version that they say, or with none."""

from __future__ import annotations

import json
import sqlite3
import ssl
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from test_documents import validate_bill
from wheel_worlds import wheel

from bundle import inside, sbom, spdx, wheelfile
from tests.factories import small_sticks as sticks


def _ask_this_interpreter(code: str) -> str:
    command = [sys.executable, "-I", "-B", "-c", code]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


@pytest.fixture(scope="module")
def answered():
    return inside.ask(_ask_this_interpreter)


def _described(tree, files=None) -> sbom.Described:
    return sbom.Described(
        version="0.1.0",
        release=7,
        platform="linux-x86_64",
        python="3.11.7",
        source=sticks.SOURCE,
        tree=tree,
        files=files or {},
    )


def _libraries(folder: Path, name: str, content: dict[str, bytes], **changes):
    made = wheel(folder, name, members=content, **changes)
    return {each.name: each for each in inside.of_wheel(wheelfile.read(made))}


def test_the_interpreter_says_which_versions_are_in_it(answered):
    found = {each["name"]: each["version"] for each in answered}
    assert ssl.OPENSSL_VERSION.startswith(f"OpenSSL {found['openssl']} ")
    assert found["sqlite"] == sqlite3.sqlite_version
    assert found["zlib"] == zlib.ZLIB_RUNTIME_VERSION
    assert {"expat", "bzip2", "xz", "libffi", "libmpdec"} <= found.keys()
    assert inside.ask(_ask_this_interpreter) == answered


def test_the_bill_lists_them_below_the_interpreter_and_is_valid(answered):
    answered = [one for one in answered if one["name"] != "readline"]  # left out of the runtime
    tree = {"inside": answered, "libraries": ["libcrypto.so.3", "libuuid.so.1", "libother.so.1"]}
    made = sbom.make_sbom(_described(tree), [])
    assert made == sbom.make_sbom(_described(tree), [])
    bill = json.loads(made)
    validate_bill(bill)
    parts = {part["bom-ref"]: part for part in bill["components"]}
    held = {part["name"]: part for part in parts["cpython"]["components"]}
    assert held.keys() == {one["name"] for one in answered}
    for one in answered:
        part = held[one["name"]]
        assert part.get("version") == one["version"]
        assert part["properties"] == [{"name": "casparian:version-found", "value": one["how"]}]
    openssl = held["openssl"]
    assert openssl["purl"] == f"pkg:generic/openssl@{openssl['version']}"
    assert openssl["cpe"].startswith(f"cpe:2.3:a:openssl:openssl:{openssl['version']}:")
    assert parts["library:libcrypto.so.3"]["version"] == openssl["version"]
    assert "version" not in parts["library:libuuid.so.1"]
    assert "licenses" not in parts["library:libother.so.1"]
    assert {"aggregate": "incomplete", "assemblies": ["cpython"]} in bill["compositions"]


@pytest.mark.parametrize(
    ("name", "version"),
    [("openssl", "1.1.1w"), ("openssl", None), ("readline", None), ("unheard-of", "1.0")],
)
def test_a_library_that_we_do_not_ship_or_know_stops_the_build(name, version):
    tree = {"inside": [{"name": name, "version": version, "how": "asked"}]}
    with pytest.raises(spdx.NotAllowed, match=name):
        sbom.make_sbom(_described(tree), [])


def test_the_licence_is_that_of_the_version():
    def licence(version):
        (found,) = inside.of_python([{"name": "xz", "version": version, "how": "asked"}])
        return found.licence

    assert licence("5.4.1") == "LicenseRef-Public-Domain"
    assert licence("5.6.0") == licence("5.10.2") == "0BSD"


def test_a_version_is_read_from_the_compiled_file_and_never_guessed(tmp_path):
    module = b"\x7fELF\0OpenSSL 3.6.5 2 Jun 2026\0N6snappy4SinkE\0"
    found = _libraries(
        tmp_path,
        "pyarrow",
        {"pyarrow/libarrow.so.2600": module, "pyarrow/notes.txt": b"mimalloc: "},
    )
    assert found.keys() == {"openssl", "snappy"}
    assert (found["openssl"].version, found["openssl"].how) == (
        "3.6.5",
        "text in pyarrow/libarrow.so.2600",
    )
    assert found["snappy"].version is None
    assert "version" not in found["snappy"].component("x")
    two = {
        "pyarrow/a.so": b"libcurl/8.1.0\0",
        "pyarrow/b.so": b"libcurl/8.2.0\0",
    }
    curl = _libraries(tmp_path / "two", "pyarrow", two)["curl"]
    assert (curl.version, curl.how) == (None, "several: 8.1.0, 8.2.0")


def test_what_a_wheel_declares_is_not_listed_twice(tmp_path):
    members = {
        "pyarrow/a.so": b"libcurl/8.1.0\0 6snappy",
        "pyarrow-1.0.dist-info/sboms/a.json": json.dumps(
            {"components": [{"type": "library", "name": "curl", "version": "8.1.0"}]}
        ).encode(),
    }
    made = wheelfile.read(wheel(tmp_path, "pyarrow", members=members))
    files = {f"wheels/{made.path.name}": "0" * 64}
    bill = json.loads(sbom.make_sbom(_described({}, files), [made]))
    validate_bill(bill)
    (held,) = [part for part in bill["components"] if part["name"] == "pyarrow"]
    assert [part["name"] for part in held["components"]] == ["curl", "snappy"]


def test_a_licence_in_a_wheel_that_we_do_not_ship_stops_the_build(tmp_path):
    with pytest.raises(spdx.NotAllowed, match=r"pyarrow 1\.0 holds openssl 1\.1\.1"):
        _libraries(tmp_path, "pyarrow", {"pyarrow/a.so": b"OpenSSL 1.1.1 11 Sep 2018\0"})


def test_a_copied_library_that_nobody_described_stops_the_build(tmp_path):
    with pytest.raises(spdx.NotAllowed, match=r"libsecret-0a1b2c3d\.so\.3"):
        _libraries(tmp_path, "pure", {"pure.libs/libsecret-0a1b2c3d.so.3": b"\x7fELF"})


def test_packages_that_were_copied_in_are_those_of_the_list(tmp_path):
    path = "pip/_vendor/vendor.txt"
    text = b"CacheControl==0.14.4\n# why\nrequests==2.34.2\n    urllib3==2.8.0  # within\n"
    found = _libraries(tmp_path, "pip", {path: text})
    assert [one.component("x")["purl"] for one in found.values()] == [
        "pkg:pypi/cachecontrol@0.14.4",
        "pkg:pypi/requests@2.34.2",
        "pkg:pypi/urllib3@2.8.0",
    ]
    with pytest.raises(spdx.NotAllowed, match="unheard-of==1"):
        _libraries(tmp_path / "more", "pip", {path: text + b"unheard-of==1\n"})


def test_a_real_module_is_recognised(tmp_path):
    yaml = pytest.importorskip("yaml._yaml")
    content = Path(yaml.__file__).read_bytes()
    found = _libraries(tmp_path, "pyyaml", {f"yaml/{Path(yaml.__file__).name}": content})
    assert found["libyaml"].version == yaml.get_version_string()
