"""Killed at any change of the disk: the version in use is whole, nothing half is current, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from casparian.appliance.stick import durable, installed
from tests.appliance_sticks.dying import die_at
from tests.factories.sticks import make_stick, unpack_as_tar

MOMENTS = 130  # more than an update has; the test of completeness says so


@pytest.fixture
def two(place, tmp_path):
    """Version 1 is in use, and version 2 lies on a stick."""
    one = make_stick(tmp_path / "one", version="1.0", release=1)
    place.apply(one)
    return one, make_stick(tmp_path / "two", version="2.0", release=2)


def check_whole(place) -> str:
    """What `current` and `previous` name is exactly what was signed, and runs; the current version."""
    current = place.store.current
    assert current is not None
    for name in {current, place.store.previous} - {None}:
        assert installed.verify_version(place.store, name, threads=1).differences == (), name
    program = os.path.join(place.store.path, "bin", "casparian")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"casparian {current.rpartition('-')[0]}\n"
    return current


def settled(place) -> dict[str, str]:
    """The installation without times of the history."""
    found = place.tree()
    found.pop("installation.json")
    return found


@pytest.mark.sampled(6)
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_an_update_killed_at_any_moment(place, two, moment):
    one, stick = two
    die_at(moment, lambda: place.apply(stick))
    assert check_whole(place) in (one.name, stick.name)
    assert place.store.recorded().floor in (1, 2)
    place.apply(stick)
    assert check_whole(place) == stick.name
    assert place.store.previous == one.name
    assert place.store.recorded().floor == 2
    assert [c.version for c in place.store.recorded().history] == [one.name, stick.name]
    assert place.store.names() == [one.name, stick.name]
    assert not [
        name for name in place.tree() if ".stage-" in name or ".gone-" in name or ".new-" in name
    ]


def test_the_moments_are_all_that_there_are(place, two):
    _, stick = two
    assert not die_at(MOMENTS, lambda: place.apply(stick))
    assert place.store.current == stick.name


@pytest.mark.sampled(10)
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_first_installation_killed_at_any_moment(place, tmp_path, moment):
    stick = make_stick(tmp_path / "stick", version="1.0", release=1)
    staged = Path(place.store.path, ".install-1", "tree")
    unpack_as_tar(stick, staged)
    die_at(moment, lambda: place.apply(stick, staged=str(staged), fingerprint=stick.fingerprint))
    if place.store.current is not None:
        assert installed.verify_version(place.store, place.store.current).good
    again = Path(place.store.path, ".install-2", "tree")  # `install.sh` unpacks anew
    unpack_as_tar(stick, again)
    place.apply(stick, staged=str(again), fingerprint=stick.fingerprint)
    assert check_whole(place) == stick.name
    assert len(place.store.recorded().history) == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("moment", range(24))
@pytest.mark.parametrize("exchange", [True, False])
def test_a_rollback_killed_at_any_moment(place, two, monkeypatch, moment, exchange):
    one, stick = two
    place.apply(stick)
    if not exchange:
        monkeypatch.setattr(durable, "exchange", lambda _one, _other: False)
    die_at(moment, place.roll_back)
    if check_whole(place) == stick.name or place.store.previous == one.name:
        place.roll_back()
    assert check_whole(place) == one.name
    assert place.store.previous == stick.name
    place.apply(stick)
    assert check_whole(place) == stick.name


@pytest.mark.sampled(8)
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_repair_killed_at_any_moment(place, two, moment):
    """The version in use was altered, and its stick is applied again."""
    one, _ = two
    before = settled(place)
    Path(place.store.version_path(one.name), "app/part1.bin").write_bytes(b"altered")
    die_at(moment, lambda: place.apply(one))
    program = os.path.join(place.store.path, "bin", "casparian")
    subprocess.run([program, "--version"], capture_output=True, check=True)
    place.apply(one)
    assert check_whole(place) == one.name
    assert settled(place) == before


def test_an_update_killed_between_its_steps(place, two):
    """The named steps, in order: none is left out."""
    one, stick = two
    seen: list[str] = []
    place.apply(stick, step=seen.append)
    assert seen == [
        "locked", "accepted", "checked", "stage made", "unpacked", "wheels", "staged", "tested", "rested",
        "copied", "named", "recorded", "switched", "deployed",
    ]  # fmt: skip
    assert check_whole(place) == stick.name
    assert place.store.previous == one.name


@pytest.mark.slow
def test_the_command_killed_at_random_moments(place, two, tmp_path):
    """The real process, killed after more and more time, until it gets through."""
    one, stick = two
    command = [
        sys.executable, "-I", "-m", "casparian", "--home", str(place.home.root), "bundle", "apply",
        str(stick.path), "--into", place.store.path,
    ]  # fmt: skip
    delay, killed = 0.0, 0
    while True:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            process.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            assert check_whole(place) in (one.name, stick.name)
        else:
            assert process.returncode == 0
            break
        delay += 0.02
    assert killed > 3
    assert check_whole(place) == stick.name
    assert place.store.previous == one.name
