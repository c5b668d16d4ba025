"""File systems that are full, read-only or `noexec`: refused before anything is written, or with nothing half left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from casparian.appliance.stick import preflight
from casparian.appliance.stick.installation_store import InstallationStore
from tests.factories.sticks import make_stick, version_files


@pytest.fixture
def small(tmp_path):
    """Mount a file system of a few megabytes; needs root in a place where mounting is allowed."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(
                f"a file system cannot be mounted here: {done.stderr.strip() or 'not allowed'}"
            )
        mounted.append(folder)
        return folder

    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_too_little_room_is_told_before_anything_is_written(place, small, tmp_path):
    place.store = InstallationStore(small("size=4m") / "casparian")
    stick = make_stick(
        tmp_path / "stick", files=version_files("1") | {"app/big": os.urandom(4 << 20)}
    )
    assert place.checked(stick) == "stick.space"
    assert not os.path.exists(place.store.path)
    assert place.refusal(stick) == "stick.space"
    assert place.store.names() == []


def test_too_few_names_are_told(place, small, tmp_path):
    place.store = InstallationStore(small("size=8m,nr_inodes=12") / "casparian")
    assert place.checked(make_stick(tmp_path / "stick")) == "stick.space"


def test_a_disk_that_fills_up_meanwhile_leaves_the_old_version(place, small, tmp_path, monkeypatch):
    disk = small("size=6m")
    place.store = InstallationStore(disk / "casparian")
    place.apply(make_stick(tmp_path / "one", release=1))
    before = place.tree()
    stick = make_stick(
        tmp_path / "two", release=2, files=version_files("2") | {"app/big": os.urandom(3 << 20)}
    )
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - (2 << 20)))
    monkeypatch.setattr(preflight, "_room", lambda *_: "as it was a moment ago")
    assert place.refusal(stick) == "stick.space"
    assert place.tree() == before
    (disk / "filler").unlink()
    place.apply(stick)
    assert place.store.current == stick.name


def test_a_read_only_file_system_is_told(place, small, tmp_path):
    disk = small("size=6m")
    place.store = InstallationStore(disk / "casparian")
    place.apply(make_stick(tmp_path / "one", release=1))
    remount(disk, "ro")
    stick = make_stick(tmp_path / "two", release=2)
    assert place.checked(stick) == "stick.permission"
    assert place.refusal(stick) == "stick.permission"
    assert place.store.current == "1.0.0-1"


def test_a_file_system_without_programs_is_told(place, small, tmp_path):
    place.store = InstallationStore(small("size=6m,noexec") / "casparian")
    stick = make_stick(tmp_path / "one", release=1)
    assert place.checked(stick) == "stick.noexec"
    assert place.refusal(stick) == "stick.noexec"
    assert place.store.names() == []


def test_a_stick_that_is_mounted_read_only_without_programs_is_enough(place, small, tmp_path):
    disk = small("size=6m")
    stick = make_stick(disk / "stick")
    remount(disk, "ro,noexec,nosuid,nodev")
    place.apply(stick)
    assert place.store.current == stick.name
