"""What may be shipped is decided by the licence that a package states, and nothing else passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wheel_worlds import LINUX, World, wheel

from bundle import components, crates, licences, locks, platforms, spdx, wheelfile

TAKEN = {
    "MIT": "MIT",
    "GPL-3.0-only OR MIT": "MIT",
    "MIT OR Apache-2.0": "MIT",
    "Apache-2.0 AND MIT": "Apache-2.0 AND MIT",
    "(GPL-2.0-only OR Apache-2.0) AND BSD-3-Clause": "Apache-2.0 AND BSD-3-Clause",
    "Apache-2.0 WITH LLVM-exception": "Apache-2.0 WITH LLVM-exception",
    "AGPL-3.0-only OR (MIT AND Unlicense) OR PSF-2.0": "PSF-2.0",
}
REFUSED = [
    *(
        "",
        " ",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT",
        "MIT)",
        "MIT MIT",
        "OR",
        "MIT OR",
        "AND MIT",
    ),
    *(
        "Apache-2.0 WITH Classpath-exception-2.0",
        "MIT WITH",
        "mit",
        "MIT; rm",
        "(" * 100 + "MIT" + ")" * 100,
    ),
    *("CC0-1.0", "Unicode-3.0", "MIT AND (Unlicense OR CC0-1.0)", "LicenseRef-Ours"),
]


@pytest.mark.parametrize("expression", TAKEN)
def test_of_a_choice_the_first_that_is_allowed_is_taken(expression: str) -> None:
    assert spdx.allowed(expression) == TAKEN[expression]


@pytest.mark.parametrize("expression", REFUSED)
def test_anything_else_is_refused(expression: str) -> None:
    with pytest.raises(spdx.NotAllowed):
        spdx.allowed(expression)


_EXPRESSIONS = st.recursive(
    st.sampled_from([("MIT", True), ("Apache-2.0", True), ("GPL-3.0-only", False), ("X", False)]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]} OR {two[1][0]})", two[0][1] or two[1][1])
        ),
        st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]} AND {two[1][0]})", two[0][1] and two[1][1])
        ),
    ),
    max_leaves=12,
)


@given(_EXPRESSIONS)
def test_an_expression_is_judged_as_logic_has_it(case: tuple[str, bool]) -> None:
    expression, good = case
    try:
        spdx.allowed(expression)
    except spdx.NotAllowed:
        assert not good
    else:
        assert good


@pytest.mark.parametrize(
    ("expression", "licence", "classifiers", "stated"),
    [
        ("MIT", "GPL", [], "MIT"),
        ("", "Apache Software License", [], "Apache-2.0"),
        ("", "MIT OR Apache-2.0", [], "MIT OR Apache-2.0"),
        ("", "GPL-3.0-only", ["License :: OSI Approved :: MIT License"], "MIT"),
        ("", "", ["License :: OSI Approved :: MIT License", "License :: Other"], ""),
        ("", "", [], ""),
        ("", "Proprietary", [], "Proprietary"),
    ],
)
def test_older_ways_to_state_a_licence(
    expression: str, licence: str, classifiers: list[str], stated: str
) -> None:
    assert licences.stated_by(expression, licence, classifiers) == stated


def test_what_a_wheel_has_compiled_in_is_judged_too(tmp_path: Path) -> None:
    def bill(expression: str) -> bytes:
        component = {"name": "inner", "version": "1", "licenses": [{"expression": expression}]}
        return json.dumps({"components": [component]}).encode()

    good = wheel(
        tmp_path, "good", members={"good-1.0.dist-info/sboms/a.json": bill("MIT OR GPL-3.0-only")}
    )
    licences.of_wheel(wheelfile.read(good))
    bad = wheel(tmp_path, "bad", members={"bad-1.0.dist-info/sboms/a.json": bill("GPL-3.0-only")})
    with pytest.raises(spdx.NotAllowed, match="carries inner 1"):
        licences.of_wheel(wheelfile.read(bad))


def test_what_is_installed_here_may_be_shipped() -> None:
    problems, absent = components.installed(locks.of_platform(LINUX))
    assert problems == []
    runtime = {each.name for each in locks.read(platforms.ROOT / "requirements/runtime.txt")}
    assert not runtime & set(absent)


@pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")
def test_every_crate_of_the_native_module_may_be_shipped_and_has_its_text() -> None:
    found = {each.name: each for each in crates.linked(LINUX)}
    assert {"pyo3", "seccompiler", "casparian-core", "rust-std"} <= found.keys()
    assert "proptest" not in found
    assert "pyo3-macros" not in found
    for crate in found.values():
        assert crate.licence.files or crate.name == "rust-std"
        assert crate.own or crate.name == "rust-std" or (crate.sha256 and len(crate.sha256) == 64)


def test_texts_and_index_are_written_for_each_component(tmp_path: Path) -> None:
    world = World(tmp_path)
    found = components.of_wheels(world.directory, LINUX, world.folder)
    assert [(each.name, each.purl) for each in found][:2] == [
        ("casparian", f"pkg:pypi/casparian@{found[0].version}"),
        ("compiled", "pkg:pypi/compiled@1.0"),
    ]
    components.write_licences(found, tmp_path / "licences")
    for each in found:
        text = tmp_path / "licences" / "wheels" / f"{each.name}-{each.version}" / "LICENSE"
        assert text.read_bytes() == b"do as you like\n"
    index = (tmp_path / "licences" / "INDEX.tsv").read_text().splitlines()
    assert len(index) == 1 + len(found)
