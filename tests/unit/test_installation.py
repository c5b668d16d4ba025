"""Where the program finds itself in each of its forms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from casparian import __main__ as program
from casparian import installation, processes
from casparian.paths import Home, first_party_parsers


def _version(folder: Path, *, launcher: bool = True) -> Path:
    package = folder / "runtime" / "lib" / "python3.11" / "site-packages" / "casparian"
    package.mkdir(parents=True)
    if launcher:
        (folder / "bin").mkdir()
        (folder / "bin" / "casparian").touch()
    return package


def test_the_tree_is_no_installation() -> None:
    assert installation.root() is None
    assert installation.wheelhouse() is None
    assert installation.share() is None
    assert installation.interpreter() == sys.executable
    assert installation.program() == [sys.executable, "-I", "-B"]
    assert (installation.package() / "db" / "migrations").is_dir()
    assert (first_party_parsers() / "windows.evtx" / "parser.toml").is_file()


def test_a_package_in_a_runtime_beside_a_launcher_is_an_installation(tmp_path: Path) -> None:
    package = _version(tmp_path / "0.1.0-1")
    assert installation._root(package, frozen=False) == tmp_path / "0.1.0-1"


@pytest.mark.parametrize(
    "place",
    [
        "usr/lib/python3.11/site-packages/casparian",
        "home/.venv/lib/python3.11/site-packages/casparian",
        "runtime/lib/python3.11/dist-packages/casparian",
        "src/casparian",
        "casparian",
    ],
)
def test_any_other_place_is_none(tmp_path: Path, place: str) -> None:
    package = tmp_path / place
    package.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "casparian").touch()
    assert installation._root(package, frozen=False) is None


def test_a_runtime_without_a_launcher_is_not_an_installation(tmp_path: Path) -> None:
    package = _version(tmp_path / "0.1.0-1", launcher=False)
    assert installation._root(package, frozen=False) is None


def test_the_frozen_program_uses_the_runtime_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "0.1.0-1"
    _version(version)
    (version / "wheels").mkdir()
    monkeypatch.setattr(installation, "FROZEN", True)
    monkeypatch.setattr(installation, "root", lambda: version)
    home = Home.at(tmp_path / "home")
    python = str(version / "runtime" / "bin" / "python3")
    assert installation.interpreter() == python
    assert processes.command("guest", home)[:4] == [python, "-I", "-B", "-m"]
    host = str(version / "app" / "casparian")
    assert processes.command("worker", home)[:5] == [host, "-I", "-B", "-m", "casparian.worker"]
    assert first_party_parsers() == installation._site(version) / "parsers"
    assert installation.wheelhouse() == version / "wheels"
    assert installation.share() is None


def test_without_its_runtime_the_frozen_program_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "root", lambda: tmp_path)
    with pytest.raises(RuntimeError, match="installation is damaged"):
        installation.join_runtime()


def test_the_rest_of_a_package_is_found_in_the_runtime(tmp_path: Path) -> None:
    folder = tmp_path / "half" / "inner"
    folder.mkdir(parents=True)
    (folder / "rest.py").write_text("VALUE = 7\n")
    (tmp_path / "alone.py").write_text("")
    finder = installation._RestOfPackages([str(tmp_path)])
    found = finder.find_spec("half.inner.rest", ["/nonexistent"])
    assert found is not None
    assert found.origin == str(folder / "rest.py")
    assert finder.find_spec("alone", None) is not None
    assert finder.find_spec("half.other", ["/nonexistent"]) is None


def test_only_our_processes_are_started_in_the_interpreters_place() -> None:
    assert program._role(["casparian", "-I", "-B", "-m", "casparian.worker", "--home", "/h"]) == (
        "worker"
    )
    for arguments in (
        ["casparian"],
        ["casparian", "-I", "-B", "-m"],
        ["casparian", "-I", "-B", "-m", "casparian.guest"],
        ["casparian", "-I", "-B", "-m", "pip"],
        ["casparian", "-m", "casparian.worker"],
        ["casparian", "-I", "-B", "-c", "casparian.worker"],
    ):
        assert program._role(arguments) is None


def test_a_tree_does_not_take_an_interpreters_arguments() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "casparian", "-I", "-B", "-m", "casparian.db", "--help"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
