"""`casparian bundle …` as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from casparian.cli.main import run
from tests.factories.sticks import make_stick, unpack_as_tar


@pytest.fixture
def typed(place, capsys):
    """Type a command; its exit code and its JSON document."""

    def type_(*words: str):
        code = run(["--home", str(place.home.root), "--json", "bundle", *words])
        out = capsys.readouterr().out
        return code, json.loads(out)

    return type_


@pytest.fixture
def words(place, capsys):
    """Type a command; its exit code and what it says."""

    def type_(*words: str):
        code = run(["--home", str(place.home.root), "bundle", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return type_


def test_from_check_to_rollback(place, typed, tmp_path):
    one, two = (make_stick(tmp_path / f"s{n}", version=f"1.{n}", release=n) for n in (1, 2))
    into = ("--into", place.store.path)
    code, document = typed("check", str(one.path), *into)
    assert (code, document["accepted"]) == (0, True)
    assert all(item["passed"] and item["message"] for item in document["checks"])
    assert not os.path.exists(place.store.path)
    for stick in (one, two):
        code, document = typed("apply", str(stick.path), *into)
        assert (code, document["version"], document["changed"]) == (0, stick.name, True)
    code, document = typed("list", *into)
    assert code == 0
    assert (document["current"], document["previous"], document["floor"]) == (two.name, one.name, 2)
    assert [v["role"] for v in document["versions"]] == ["previous", "current"]
    assert {v["key"] for v in document["versions"]} == {one.fingerprint}
    assert all(v["by"].endswith(f"(uid {os.getuid()})") for v in document["versions"])
    code, document = typed("verify", "--all", "--fingerprint", one.fingerprint, *into)
    assert (code, document["intact"], len(document["versions"])) == (0, True, 2)
    code, document = typed("rollback", *into)
    assert (code, document["version"], document["before"]) == (0, one.name, two.name)
    code, document = typed("apply", str(one.path), *into)
    assert (code, document["error"]["code"]) == (4, "stick.older")


def test_what_is_refused_is_marked_with_its_reason(place, words, tmp_path):
    stick = make_stick(tmp_path / "stick")
    stick.write("README.txt", b"altered")
    code, out, _ = words("check", str(stick.path), "--into", place.store.path)
    assert code == 4
    assert "✓ signature" in out
    assert "✗ every file" in out
    assert "[stick.sum]" in out
    assert "hint: " in out
    assert "REFUSED; nothing was changed" in out


def test_an_altered_installation_is_named_file_by_file(place, typed, words, tmp_path):
    stick = make_stick(tmp_path / "stick")
    place.apply(stick)
    Path(place.store.version_path(stick.name), "app/part1.bin").write_bytes(b"altered")
    os.unlink(os.path.join(place.store.path, "bin", "casparian"))
    code, document = typed("verify", "--into", place.store.path)
    assert (code, document["intact"]) == (7, False)
    (found,) = document["versions"][0]["differences"]
    assert (found["path"], found["problem"]) == ("app/part1.bin", "changed")
    assert "bin/casparian" in document["links"][0]
    code, out, _ = words("verify", "--into", place.store.path)
    assert code == 7
    assert "app/part1.bin" in out
    code, document = typed(
        "verify", "--fingerprint", "SHA256:" + "A" * 43, "--into", place.store.path
    )
    assert (code, document["error"]["code"]) == (4, "stick.fingerprint")


def test_what_the_installer_calls(place, typed, tmp_path):
    stick = make_stick(tmp_path / "stick")
    staged = unpack_as_tar(stick, Path(place.store.path, ".install-1", "tree"))
    words = [
        "install",
        "--stick",
        str(stick.path),
        "--staged",
        str(staged),
        "--into",
        place.store.path,
    ]
    code, document = typed(*words, "--fingerprint", "SHA256:" + "A" * 43)
    assert (code, document["error"]["code"]) == (4, "stick.fingerprint")
    code, document = typed(*words, "--fingerprint", stick.fingerprint)
    assert (code, document["version"]) == (0, stick.name)


def test_a_dry_run_is_a_check(place, typed, tmp_path):
    stick = make_stick(tmp_path / "stick")
    code, document = typed("apply", str(stick.path), "--dry-run", "--into", place.store.path)
    assert (code, document["accepted"]) == (0, True)
    assert not os.path.exists(place.store.path)


@pytest.mark.parametrize("word", ["list", "verify", "rollback"])
def test_without_an_installation_it_says_how_to_get_one(typed, word):
    code, document = typed(word)
    assert (code, document["error"]["code"]) == (4, "stick.no_installation")
    assert "install.sh" in document["error"]["hint"]


def test_a_program_without_an_installation_takes_no_program(typed, tmp_path):
    code, document = typed("apply", str(make_stick(tmp_path / "stick").path))
    assert (code, document["error"]["code"]) == (4, "stick.no_installation")
    code, document = typed("apply", str(make_stick(tmp_path / "trust", kind="trust").path))
    assert (code, document["kind"]) == (0, "trust")


def test_of_two_commands_at_once_one_does_it_and_the_other_says_so(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    command = [
        sys.executable, "-m", "casparian", "--home", str(place.home.root), "--json", "bundle", "apply",
        str(stick.path), "--into", place.store.path,
    ]  # fmt: skip
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    documents = [json.loads(process.communicate()[0]) for process in started]
    codes = sorted(process.returncode for process in started)
    assert codes in ([0, 0], [0, 8])
    if codes == [0, 8]:
        (refused,) = (document["error"] for document in documents if "error" in document)
        assert refused["code"] == "stick.busy"
    assert place.store.current == stick.name
    assert len(place.store.recorded().history) == 1


@pytest.mark.slow
def test_the_program_of_this_tree_passes_its_own_test(typed):
    code, document = typed("self-test")
    assert (code, document["passed"]) == (0, True)
    assert "rows" in document["message"]
