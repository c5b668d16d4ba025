"""A lock is resolved and written again from a package index, here a folder of made wheels; pinned are the tools as well."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from wheel_worlds import LINUX, locked, wheel

from bundle import fetch, locks, own_wheel, platforms
from bundle.steps import Failed

OLD_AND_NEW = ("1.0", "2.0")


class Index:
    """A package index in a folder (PEP 503), the inputs of a wheelhouse and the constraints of a source tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "offline-wheels"
        self.out = root / "wheels"
        self.wheels: dict[str, list[Path]] = {}
        for folder in (self.folder, self.out, root / "requirements"):
            folder.mkdir(parents=True)
        for name in ("runtime", "second-opinion", "tokens"):
            (root / "requirements" / f"{name}.txt").write_text("")
        (self.folder / "inputs.in").write_text("pure\ncompiled\n")

    @property
    def address(self) -> str:
        return (self.root / "index").as_uri()

    def add(self, name: str, version: str, *tags: str) -> list[Path]:
        folder = self.root / "index" / name
        made = [wheel(folder, name, version, tag=tag) for tag in tags]
        self.wheels.setdefault(name, []).extend(made)
        links = "".join(
            f'<a href="{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>\n'
            for path in self.wheels[name]
        )
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
        return made

    def constrain(self, line: str) -> None:
        (self.root / "requirements/runtime.txt").write_text(line + "\n")

    def lock(self) -> list[locks.Locked]:
        path = fetch.lock(
            LINUX,
            self.out,
            index=self.address,
            folder=self.folder,
            root=self.root,
            tell=lambda _: None,
        )
        return locks.read(path)


@pytest.fixture
def index(tmp_path):
    made = Index(tmp_path)
    for version in OLD_AND_NEW:
        made.add("pure", version, "py3-none-any")
    made.add("compiled", "1.0", "cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-win_amd64")
    return made


def test_a_lock_has_the_one_wheel_of_the_platform_in_the_version_that_is_tested(index):
    index.constrain("pure==1.0")
    linux, pure = index.wheels["compiled"][0], index.wheels["pure"][0]
    assert index.lock() == [locked(linux), locked(pure)]
    assert {path.name for path in index.out.glob("*.whl")} == {linux.name, pure.name}
    text = (index.folder / "locks/linux-x86_64.txt").read_bytes()
    index.lock()
    assert (index.folder / "locks/linux-x86_64.txt").read_bytes() == text


def test_locking_again_takes_the_new_version_and_removes_the_old_wheel(index):
    index.constrain("pure==1.0")
    index.lock()
    index.constrain("pure==2.0")
    assert {one.name: one.version for one in index.lock()} == {"compiled": "1.0", "pure": "2.0"}
    assert [path.name for path in index.out.glob("pure-*")] == ["pure-2.0-py3-none-any.whl"]


def test_what_cannot_be_resolved_leaves_the_lock_as_it_was(index):
    index.lock()
    before = (index.folder / "locks/linux-x86_64.txt").read_bytes()
    index.constrain("pure==9.0")
    with pytest.raises(Failed, match="pure"):
        index.lock()
    assert (index.folder / "locks/linux-x86_64.txt").read_bytes() == before


@pytest.mark.parametrize("other", [["--from", "."], ["--dry-run"]])
def test_locking_needs_the_index_and_changes_the_lock_or_is_refused(other):
    done = subprocess.run(
        [sys.executable, platforms.FOLDER / "make.py", "--lock", *other],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "neither --from nor --dry-run" in done.stderr


def test_zig_is_pinned_by_version_and_hash_and_no_other_links(monkeypatch, tmp_path):
    (pinned,) = locks.read(platforms.ROOT / "requirements/zig.txt")
    assert pinned.name == "ziglang"
    assert pinned.hashes
    monkeypatch.setattr(platforms, "host", lambda: LINUX.name)
    for version in ("0.0.1", None):

        def installed(name, version=version):
            if version is None:
                raise metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(metadata, "version", installed)
        with pytest.raises(Failed, match=f"needs ziglang {pinned.version}"):
            own_wheel.build(LINUX, tmp_path, zig=True, tell=lambda _: None)
