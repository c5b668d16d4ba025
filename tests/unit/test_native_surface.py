"""The native module and its stub describe the same surface."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import blake3
import pytest

import casparian
from casparian import _native

STUB = pathlib.Path(casparian.__file__).with_name("_native.pyi")
TREE = ast.parse(STUB.read_text(encoding="utf-8"))
PROJECT = STUB.parent.parent

STUB_CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}
STUB_FUNCTIONS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}
STUB_CONSTANTS = {
    node.target.id
    for node in TREE.body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
}

# Members that every class has, or that the stub need not repeat.
IMPLIED = {"__doc__", "__module__", "__repr__", "__weakref__", "__lt__", "__le__", "__gt__"}
IMPLIED |= {"__ge__", "__hash__"}


def members_of_stub(node: ast.ClassDef) -> set[str]:
    functions = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    return functions - IMPLIED


def test_every_export_has_a_stub_and_every_stub_an_export() -> None:
    exported = {name for name in vars(_native) if not name.startswith("__")}
    assert exported == STUB_CLASSES.keys() | STUB_FUNCTIONS.keys() | STUB_CONSTANTS


@pytest.mark.parametrize("name", sorted(STUB_CLASSES.keys() - {"SourceError"}))
def test_every_member_of_a_class_has_a_stub(name: str) -> None:
    assert set(vars(getattr(_native, name))) - IMPLIED == members_of_stub(STUB_CLASSES[name])


@pytest.mark.parametrize("name", sorted(STUB_FUNCTIONS))
def test_every_function_takes_the_arguments_of_its_stub(name: str) -> None:
    arguments = STUB_FUNCTIONS[name].args
    signature = inspect.signature(getattr(_native, name))
    by_kind: dict[inspect._ParameterKind, list[str]] = {}
    for parameter in signature.parameters.values():
        by_kind.setdefault(parameter.kind, []).append(parameter.name)
    positional = [argument.arg for argument in arguments.args]
    keywords = [argument.arg for argument in arguments.kwonlyargs]
    assert by_kind.get(inspect.Parameter.POSITIONAL_OR_KEYWORD, []) == positional
    assert by_kind.get(inspect.Parameter.KEYWORD_ONLY, []) == keywords


@pytest.mark.parametrize("name", sorted(STUB_CLASSES.keys() | STUB_FUNCTIONS.keys()))
def test_everything_is_documented_in_the_stub_and_in_the_module(name: str) -> None:
    assert ast.get_docstring(STUB_CLASSES.get(name) or STUB_FUNCTIONS[name])
    assert getattr(_native, name).__doc__


def test_build_info_says_what_the_module_was_built_from() -> None:
    info = _native.build_info()
    assert set(info) == {
        "version",
        "profile",
        "features",
        "rustc",
        "engine_sources_hash",
        "source_date",
    }
    assert info["profile"] in {"release", "debug"}
    assert info["rustc"].startswith("rustc 1.")
    assert re.fullmatch("[0-9a-f]{64}", _native.engine_sources_hash())
    assert info["engine_sources_hash"] == _native.engine_sources_hash()


def test_importing_a_release_build_is_silent() -> None:
    if _native.build_info()["profile"] != "release":
        pytest.skip("a debug build warns, as it should")
    code = "import casparian._native"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=PROJECT)


def h(domain: bytes, *fields: bytes) -> str:
    """H as the design defines it, by the independent Python package."""
    hasher = blake3.blake3()
    for field in (domain, *fields):
        hasher.update(len(field).to_bytes(8, "little"))
        hasher.update(field)
    return hasher.hexdigest()


def test_identity_equals_the_definition() -> None:
    assert _native.identity("casparian.test.v1", [b"a", b""]) == h(b"casparian.test.v1", b"a", b"")
    golden = "656d13a409bb7576501dc16fe65247fa9dcaa520add3e7283f3c3363c0fc36e6"
    assert _native.identity("casparian.test.v1", [b"a", b""]) == golden


def test_tree_hash_equals_the_definition_whatever_the_order() -> None:
    files = [("b.py", b"2"), ("a/é.py", b"1"), ("a.py", b"")]
    fields = []
    for path, content in sorted((path.encode(), content) for path, content in files):
        fields += [path, blake3.blake3(content).hexdigest().encode()]
    expected = h(b"d", *fields)
    assert _native.tree_hash("d", files) == _native.tree_hash("d", files[::-1]) == expected


def test_flag_names_are_one_bit_each() -> None:
    assert list(_native.FLAG_NAMES) == [1 << bit for bit in range(len(_native.FLAG_NAMES))]
    assert _native.FLAG_NAMES[1] == "recovered"
