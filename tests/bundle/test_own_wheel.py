"""Our own wheel is the same bytes wherever it is built: by the real builder and compiler, of a crate in small."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from offline_tree import HOST, OfflineTree, needs_platform
from wheel_worlds import wheel

from bundle import own_wheel, wheelfile
from bundle.platforms import Platform, load
from bundle.steps import Failed

pytestmark = needs_platform


@pytest.mark.skipif(shutil.which("cargo") is None, reason="there is no Rust compiler")
def test_two_trees_give_one_wheel_which_names_neither(tmp_path: Path) -> None:
    """By `make.py`, as everyone makes it; the second tree lies elsewhere and holds an older wheel of ours."""
    trees = [OfflineTree(tmp_path / name) for name in ("here", "there/deeper")]
    trees[1].house.mkdir(parents=True)
    wheel(trees[1].house, "casparian", "0.0.9")
    made = []
    for tree in trees:
        tree.add_crate()
        done = tree.run(
            "make.py", "--from", str(tree.stock), "--json", SOURCE_DATE_EPOCH="1700000000"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ok"]
        (found,) = tree.house.glob("casparian-*.whl")
        made.append(found)
    assert made[0].name == made[1].name
    assert made[0].read_bytes() == made[1].read_bytes()

    held = wheelfile.read(made[0])
    assert (held.version, held.expression) == ("0.1.0", "Apache-2.0")
    assert all(system.startswith("manylinux_") for _, _, system in held.tags)
    with zipfile.ZipFile(made[0]) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    for name, data in content.items():
        assert str(tmp_path).encode() not in data, name
    program = tmp_path / "program"
    program.write_bytes(
        next(data for name, data in content.items() if name.endswith("/scripts/casparian"))
    )
    program.chmod(0o755)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert said == "/casparian/shared/src/lib.rs\n", "a path that the compiler put into the program"


def test_a_build_that_fails_leaves_the_wheel_that_was_there(tmp_path: Path) -> None:
    tree = OfflineTree(tmp_path)  # there is no crate in it
    own = tree.add_own_wheel()
    before = own.read_bytes()
    done = tree.run("make.py", "--from", str(tree.stock))
    assert done.returncode == 1
    assert "maturin" in done.stderr
    assert own.read_bytes() == before
    assert [path.name for path in tree.house.iterdir() if path.name.startswith(".")] == []


def test_another_platforms_wheel_is_not_built_here(tmp_path: Path) -> None:
    other: Platform = next(each for name, each in load().items() if name != HOST)
    with pytest.raises(Failed, match="needs a native builder"):
        own_wheel.build(other, tmp_path)


def test_zig_needs_a_floor_to_link_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = load()["windows-x86_64"]
    monkeypatch.setattr("bundle.platforms.host", lambda: windows.name)
    with pytest.raises(Failed, match="has none"):
        own_wheel.build(windows, tmp_path, zig=True)
    assert list(tmp_path.iterdir()) == []


DATES = {
    "as told": ("1700000000", 1_700_000_000),
    "before archives hold dates": ("1", 315_532_800),
    "nothing told, no repository": ("", 315_532_800),
}


@pytest.mark.parametrize("case", DATES)
def test_the_date_is_what_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    told, expected = DATES[case]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", told)
    assert own_wheel.source_date(tmp_path) == expected


def test_else_the_date_is_that_of_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    for variable in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
        monkeypatch.setenv(variable, "1600000000 +0300")
    person = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], [*person, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    assert own_wheel.source_date(tmp_path) == 1_600_000_000


def test_a_date_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(Failed, match="`today`"):
        own_wheel.source_date(tmp_path)
