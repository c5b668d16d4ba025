"""The parts that a version tree is made by: ELF reader, RECORDs, pruning, launcher, comparison."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bundle import elf, freeze, launcher, pruning, reproducible, runtime, tree, wheels
from bundle.pruning import Pruned
from casparian import _native


def test_the_elf_reader_agrees_with_readelf() -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("readelf is not here to compare with")
    for path in (Path(_native.__file__), Path(sys.executable).resolve(), Path("/bin/sh").resolve()):
        found = elf.read_elf(path)
        assert found is not None
        said = subprocess.run(
            [readelf, "-dVW", path], capture_output=True, text=True, check=True
        ).stdout
        assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", said)
        needs = said[said.index("Version needs section") :]
        assert set(found.versions) == set(re.findall(r"Name: (\S+)\s+Flags", needs))
        assert found.floor("GLIBC") >= (2, 2)


def test_a_library_of_the_tree_names_itself_and_where_it_looks() -> None:
    library = next(Path(_native.__file__).parent.glob("_native*.so"))
    found = elf.read_elf(library)
    assert found is not None
    assert found.floor("NOSUCH") == ()
    assert elf.dotted(found.floor("GLIBC")).startswith("2.")


def test_what_is_no_elf_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").touch()
    assert elf.read_elf(tmp_path / "text") is None
    assert elf.read_elf(tmp_path / "empty") is None
    assert list(elf.elf_files(tmp_path)) == []


@pytest.mark.parametrize("kept", [6, 20, 63, 64, 100, 500])
def test_a_cut_elf_file_is_refused(tmp_path: Path, kept: int) -> None:
    whole = Path("/bin/sh").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:kept])
    with pytest.raises(elf.BadElfError, match="no whole ELF file"):
        elf.read_elf(tmp_path / "cut")


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("GLIBC_2.28", "GLIBC", (2, 28)),
        ("GLIBC_2.2.5", "GLIBC", (2, 2, 5)),
        ("GLIBC_PRIVATE", "GLIBC", ()),
        ("GLIBCXX_3.4", "GLIBC", ()),
        ("GLIBC_2.9", "GLIBC", (2, 9)),
    ],
)
def test_versions_are_numbers(name: str, family: str, expected: tuple[int, ...]) -> None:
    assert elf.numbers(name, family) == expected
    assert elf.numbers("GLIBC_2.28", "GLIBC") > elf.numbers("GLIBC_2.9", "GLIBC")


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _wheelhouse(
    folder: Path, files: dict[str, bytes], record: dict[str, bytes] | None = None
) -> Path:
    """A wheelhouse with one wheel; `record` says what its RECORD lists instead."""
    folder.mkdir()
    lines = [
        f"{name},sha256={_digest(data)},{len(data)}" for name, data in (record or files).items()
    ]
    lines.append("one-1.0.dist-info/RECORD,,")
    wheel = folder / "one-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("one-1.0.dist-info/RECORD", "\n".join(lines) + "\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / wheels.LOCK).write_text(
        f"# a lock\none==1.0 \\\n    --hash=sha256:{digest}\n", "ascii"
    )
    return folder


_FILES = {"one/__init__.py": b"x = 1\n", "one-1.0.dist-info/METADATA": b"Name: one\n"}


@pytest.fixture
def _no_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_patterns", lambda part: ())


@pytest.mark.usefixtures("_no_pruning")
def test_a_wheel_is_unpacked_as_it_is(tmp_path: Path) -> None:
    house = _wheelhouse(tmp_path / "wheels", _FILES | {"one-1.0.data/scripts/run": b"#!/bin/sh\n"})
    site = tmp_path / "site"
    site.mkdir()
    assert wheels.install_wheels(house, site, Pruned()) == ["one==1.0"]
    assert (site / "one" / "__init__.py").read_bytes() == b"x = 1\n"
    assert not (site / "one-1.0.data").exists()
    assert wheels.check_records(site, Pruned()) == 3


_BAD = {
    "a byte is another": (_FILES, _FILES | {"one/__init__.py": b"x = 2\n"}, "not what its RECORD"),
    "a file is not listed": (_FILES | {"two.py": b""}, _FILES, "does not list"),
    "a listed file is missing": (_FILES, _FILES | {"two.py": b""}, "is missing"),
    "a name goes up": (_FILES | {"../up.py": b""}, None, "holds the name"),
    "a name goes up inside": (_FILES | {"one/../../up.py": b""}, None, "holds the name"),
    "a name is absolute": (_FILES | {"/up.py": b""}, None, "holds the name"),
    "a name has a backslash": (_FILES | {"one\\up.py": b""}, None, "holds the name"),
}


@pytest.mark.usefixtures("_no_pruning")
@pytest.mark.parametrize("what", list(_BAD))
def test_a_bad_wheel_is_refused(tmp_path: Path, what: str) -> None:
    files, record, message = _BAD[what]
    house = _wheelhouse(tmp_path / "wheels", files, record)
    site = tmp_path / "site"
    site.mkdir()
    with pytest.raises(wheels.BadWheelError, match=message):
        wheels.install_wheels(house, site, Pruned())
    assert not (tmp_path / "up.py").exists()


@pytest.mark.usefixtures("_no_pruning")
def test_a_wheel_that_is_not_the_locked_one_is_refused(tmp_path: Path) -> None:
    house = _wheelhouse(tmp_path / "wheels", _FILES)
    with open(house / "one-1.0-py3-none-any.whl", "ab") as file:
        file.write(b"\0")
    with pytest.raises(wheels.BadWheelError, match="0 wheels in"):
        wheels.install_wheels(house, tmp_path / "site", Pruned())


@pytest.mark.usefixtures("_no_pruning")
def test_a_changed_or_extra_file_is_found_afterwards(tmp_path: Path) -> None:
    house = _wheelhouse(tmp_path / "wheels", _FILES)
    site = tmp_path / "site"
    site.mkdir()
    wheels.install_wheels(house, site, Pruned())
    (site / "more.py").touch()
    with pytest.raises(wheels.BadWheelError, match=r"`more\.py` belongs to no wheel"):
        wheels.check_records(site, Pruned())
    (site / "more.py").unlink()
    (site / "one" / "__init__.py").write_bytes(b"y")
    with pytest.raises(wheels.BadWheelError, match="is not what"):
        wheels.check_records(site, Pruned())


@pytest.mark.parametrize("line", ["one", "one>=1", "one==1.0", "-r other.txt", "one==1 ; x=='y'"])
def test_a_lock_locks(tmp_path: Path, line: str) -> None:
    (tmp_path / "lock.txt").write_text(line + "\n")
    with pytest.raises(wheels.BadWheelError, match="locks nothing"):
        list(wheels.locked(tmp_path / "lock.txt"))


def test_patterns_leave_out_what_they_name_and_no_more() -> None:
    assert pruning.reason("wheels", "pyarrow/libarrow_flight.so.2600") == "network"
    assert pruning.reason("wheels", "pyarrow/tests/data/one.parquet") == "tests"
    assert pruning.reason("wheels", "pyarrow/libarrow.so.2600") is None
    assert pruning.reason("standard-library", "test/test_os.py") == "tests"
    assert pruning.reason("standard-library", "unittest/test/testmock/x.py") == "tests"
    assert pruning.reason("standard-library", "doctest.py") is None
    assert pruning.reason("standard-library", "lib-dynload/readline.cpython-311.so") == "libraries"
    assert pruning.unused("wheels", ["pyarrow/libarrow.so.2600"])


def _tree_with(folder: Path, *, frozen: bool) -> Path:
    """A tree whose program tells its name and its arguments."""
    program = folder / ("app/casparian" if frozen else "runtime/bin/python3")
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    launcher.write_launcher(folder, frozen=frozen)
    return folder / "bin" / "casparian"


@pytest.mark.parametrize("frozen", [True, False])
def test_the_launcher_finds_its_program(tmp_path: Path, frozen: bool) -> None:
    start = _tree_with(tmp_path / "a version", frozen=frozen)
    (tmp_path / "bin").mkdir()
    (tmp_path / "current").symlink_to("a version")
    (tmp_path / "bin" / "casparian").symlink_to("../current/bin/casparian")
    (tmp_path / "again").symlink_to(tmp_path / "bin" / "casparian")
    expected = ["run", "a b", "*", "", "-x"]
    if not frozen:
        expected = ["-I", "-B", "-m", "casparian", *expected]
    ways: list[tuple[str, Path, str]] = [
        (str(start), tmp_path, "/nonexistent"),
        (str(tmp_path / "bin" / "casparian"), tmp_path, "/nonexistent"),
        (str(tmp_path / "again"), tmp_path, "/nonexistent"),
        ("bin/casparian", tmp_path, "/nonexistent"),
        ("./casparian", tmp_path / "bin", "/nonexistent"),
        ("casparian", tmp_path, str(tmp_path / "bin")),
    ]
    for name, folder, path in ways:
        program = os.path.join(path, name) if "/" not in name else name
        done = subprocess.run(
            [name, "run", "a b", "*", "", "-x"],
            executable=program,
            cwd=folder,
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout.splitlines(), done.returncode) == (expected, 0), (name, done.stderr)


def test_two_folders_are_compared_byte_by_byte(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "in").mkdir(parents=True)
        (folder / "in" / "same").write_bytes(b"same")
        (folder / "byte").write_bytes(b"0" * 100)
        (folder / "longer").write_bytes(b"1")
        (folder / "mode").touch()
    assert reproducible.differences(one, other) == []
    assert reproducible.main([str(one), str(other)]) == 0
    (other / "byte").write_bytes(b"0" * 50 + b"1" + b"0" * 49)
    (other / "longer").write_bytes(b"12")
    (other / "mode").chmod(0o755)
    (one / "left").touch()
    (other / "right").mkdir()
    found = {one.path: one for one in reproducible.differences(one, other)}
    assert sorted(found) == ["byte", "left", "longer", "mode", "right"]
    assert (found["byte"].offset, found["byte"].sizes) == (50, (100, 100))
    assert (found["longer"].offset, found["longer"].sizes) == (1, (1, 2))
    assert "executable" in str(found["mode"])
    assert reproducible.main([str(one), str(other)]) == 1


def test_a_tarball_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "python.tar.gz").write_bytes(b"not it")
    with (
        pytest.raises(runtime.RuntimeBuildError, match=r"python\.toml pins"),
        runtime.interpreter(tmp_path / "python.tar.gz"),
    ):
        pass


def test_a_tree_of_links_or_of_names_that_fat_mixes_up_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "link").symlink_to("nowhere")
    with pytest.raises(runtime.RuntimeBuildError, match="neither a file nor a folder"):
        tree._settle(tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "Name").touch()
    (tmp_path / "two" / "name").touch()
    with pytest.raises(runtime.RuntimeBuildError, match="case alone"):
        tree._settle(tmp_path / "two")


def test_what_guests_run_is_not_compiled(tmp_path: Path) -> None:
    package = Path(_native.__file__).parent
    freeze.copy_sources(package, tmp_path / "casparian")
    there = {
        path.relative_to(tmp_path / "casparian").as_posix()
        for path in (tmp_path / "casparian").rglob("*")
        if path.is_file()
    }
    assert "sentinel/main.py" in there
    assert "__main__.py" in there
    assert not any(name.startswith(("guest/", "sdk/", "demo/")) for name in there)
    assert {Path(name).suffix for name in there} == {".py"}
