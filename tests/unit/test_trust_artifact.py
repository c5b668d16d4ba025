"""A parser folder is read whole, once, and named by what was read."""

import os
from pathlib import Path

import pytest

from casparian import _native
from casparian.errors import CasparianError
from casparian.trust import artifact
from casparian.trust.artifact import hash_artifact, read_artifact


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_every_file_counts_but_caches_and_hidden_ones(tmp_path: Path) -> None:
    kept = {"a.py": b"a", "parser.toml": b"", "sub/ü.txt": b"\xff", "sub.py": b"s"}
    ignored = {".git/x": b"", "sub/.x": b"", "__pycache__/a.cpython-311.pyc": b"", "b.pyc": b""}
    files = read_artifact(str(folder(tmp_path, kept | ignored)))
    assert files == kept
    assert list(files) == sorted(kept, key=str.encode)


def test_the_hash_is_the_one_that_the_build_computes(tmp_path: Path) -> None:
    files = read_artifact(str(folder(tmp_path, {"b/c": b"1", "b-c": b"2", "é": b"3"})))
    assert hash_artifact(files) == _native.tree_hash("casparian.artifact.v1", list(files.items()))


@pytest.mark.parametrize(
    "change",
    [{"a": b"x"}, {"a": b"1", "b": b""}, {"A": b"1"}, {"a/": b"1"}, {}],
    ids=["content", "one more file", "name", "path", "nothing"],
)
def test_every_change_of_a_folder_changes_its_hash(change: dict[str, bytes]) -> None:
    assert hash_artifact(change) != hash_artifact({"a": b"1"})


def test_moving_bytes_between_files_changes_the_hash() -> None:
    assert hash_artifact({"a": b"xy", "b": b""}) != hash_artifact({"a": b"x", "b": b"y"})


def make_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def make_folder_link(path: Path) -> None:
    path.symlink_to("/etc")


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [make_link, make_folder_link, make_fifo])
def test_what_is_not_a_regular_file_refuses_the_folder(make, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(CasparianError) as raised:
        read_artifact(str(tmp_path))
    assert raised.value.code == "artifact.special_file"
    assert "`x`" in raised.value.message


def test_a_name_that_is_not_utf8_refuses_the_folder(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):
        pass
    with pytest.raises(CasparianError) as raised:
        read_artifact(str(tmp_path))
    assert raised.value.code == "artifact.name"


def test_the_wrong_folder_ends_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, {f"{number}": b"xx" for number in range(5)})
    monkeypatch.setattr(artifact, "FILES_MAX", 4)
    with pytest.raises(CasparianError) as raised:
        read_artifact(str(tmp_path))
    assert raised.value.code == "artifact.too_large"
    monkeypatch.setattr(artifact, "FILES_MAX", 5)
    monkeypatch.setattr(artifact, "BYTES_MAX", 9)
    with pytest.raises(CasparianError) as raised:
        read_artifact(str(tmp_path))
    assert raised.value.code == "artifact.too_large"
    monkeypatch.setattr(artifact, "BYTES_MAX", 10)
    assert len(read_artifact(str(tmp_path))) == 5


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CasparianError) as raised:
        read_artifact(str(tmp_path / name))
    assert raised.value.code == "artifact.missing"
    assert name in raised.value.message
