"""From a stick to the current version, to the next one, and back."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
from pathlib import Path

import pytest

from casparian.appliance.stick import installed, layout
from casparian.appliance.stick.preflight import Machine
from tests.factories.sticks import FAILS, PLATFORM, make_stick, unpack_as_tar, version_files


def program_says(store) -> str:
    done = subprocess.run(
        [os.path.join(store.path, "bin", "casparian"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_stick_becomes_the_current_version(place, tmp_path):
    stick = make_stick(tmp_path / "stick", version="1.0.0", release=3)
    done = place.apply(stick)
    assert (done.version, done.before, done.changed) == ("1.0.0-3", None, True)
    assert place.store.current == "1.0.0-3"
    assert place.store.previous is None
    assert place.store.recorded().floor == 3
    assert program_says(place.store) == "casparian 1.0.0"
    assert installed.verify_version(place.store, "1.0.0-3").good
    assert installed.link_problems(place.store) == []
    assert place.checklist.good


def test_modes_are_the_same_whatever_the_umask(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    before = os.umask(0o077)
    try:
        place.apply(stick)
    finally:
        os.umask(before)
    version = Path(place.store.version_path(stick.name))
    for path in (Path(place.store.path), version.parent, version, *version.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        executable = path.is_dir() or path.parent.name == "bin"
        assert mode == (0o755 if executable else 0o644), path


def test_an_update_keeps_the_version_before_and_removes_older_ones(place, tmp_path):
    for release in (1, 2, 3):
        done = place.apply(
            make_stick(tmp_path / f"s{release}", version=f"1.{release}", release=release)
        )
    assert done.removed == ("1.1-1",)
    assert place.store.names() == ["1.2-2", "1.3-3"]
    assert (place.store.current, place.store.previous) == ("1.3-3", "1.2-2")
    assert [c.version for c in place.store.recorded().history] == ["1.1-1", "1.2-2", "1.3-3"]
    assert [c.action for c in place.store.recorded().history] == ["install", "apply", "apply"]


def test_more_versions_stay_when_asked(place, tmp_path):
    for release in (1, 2, 3, 4):
        place.apply(make_stick(tmp_path / f"s{release}", release=release), keep=3)
    assert place.store.names() == ["1.0.0-2", "1.0.0-3", "1.0.0-4"]


def test_the_same_stick_again_changes_nothing(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    place.apply(stick)
    before = place.tree()
    done = place.apply(stick)
    assert not done.changed
    assert place.tree() == before


def test_the_same_stick_puts_an_altered_version_right(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    place.apply(stick)
    before = place.tree()
    version = Path(place.store.version_path(stick.name))
    (version / "bin/casparian").write_bytes(b"#!/bin/sh\n")
    (version / "app/extra.py").write_bytes(b"x")
    (version / "app/part1.bin").unlink()
    os.chmod(version / "app/part2.bin", 0o666)
    found = installed.verify_version(place.store, stick.name).differences
    assert {(d.path, d.problem) for d in found} == {
        ("app/extra.py", "extra"),
        ("app/part1.bin", "missing"),
        ("app/part2.bin", "mode"),
        ("bin/casparian", "changed"),
    }
    place.apply(stick)
    assert installed.verify_version(place.store, stick.name).good
    assert place.tree() == before


@pytest.mark.parametrize(
    "name", [layout.SUMS, layout.SIGNATURE, layout.MANIFEST, "files.json", "release.pub"]
)
def test_an_altered_document_of_a_version_is_seen_and_put_right(place, tmp_path, name):
    stick = make_stick(tmp_path / "stick")
    place.apply(stick)
    path = Path(place.store.version_path(stick.name), "stick", name)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Exception, match=r".") as caught:
        installed.verify_version(place.store, stick.name)
    assert caught.value.code in ("stick.altered", "stick.signature")
    place.apply(stick)
    assert installed.verify_version(place.store, stick.name).good


def test_a_program_that_fails_its_test_is_not_switched_to(place, tmp_path):
    place.apply(make_stick(tmp_path / "one", release=1))
    before = place.tree()
    bad = make_stick(tmp_path / "two", release=2, files=version_files("2", test=FAILS))
    assert place.refusal(bad) == "stick.self_test"
    assert place.tree() == before
    dead = make_stick(tmp_path / "three", release=3, files={"bin/casparian": b"\x7fELF"})
    assert place.refusal(dead) == "stick.self_test"
    assert place.tree() == before


def test_two_commands_do_not_change_one_installation(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    os.makedirs(place.store.versions)
    with open(os.path.join(place.store.path, ".lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert place.refusal(stick) == "stick.busy"
    place.apply(stick)


def test_leftovers_of_a_cut_off_command_are_removed(place, tmp_path):
    os.makedirs(os.path.join(place.store.path, ".stage-0123", "bin"))
    os.makedirs(os.path.join(place.store.versions, ".gone-0123"))
    os.symlink("versions/x", os.path.join(place.store.path, "current.new-0123456789ab"))
    os.makedirs(os.path.join(place.store.path, ".install-999999999.0123"))
    at_work = os.path.join(place.store.path, f".install-{os.getpid()}.abcd")
    os.makedirs(at_work)
    place.apply(make_stick(tmp_path / "stick"))
    assert not [name for name in place.tree() if "0123" in name]
    assert os.path.isdir(at_work)


def test_a_check_changes_nothing(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    assert place.checked(stick) is None
    assert not os.path.exists(place.store.path)
    names = [item.check for item in place.checklist.items]
    assert names[:3] == ["signature", "roots and policy", "release key"]
    assert {"every file", "archive", "floor", "C library", "kernel", "room", "clock"} <= set(names)


MACHINES = {
    "another platform": ({"platform": "linux-aarch64"}, {}, "stick.platform"),
    "an older C library": ({"glibc": "2.27"}, {"glibc": "2.28"}, "stick.glibc"),
    "musl": ({"glibc": None}, {}, "stick.glibc"),
    "an older kernel": ({"kernel": "5.4.0-generic"}, {"kernel": "5.13"}, "stick.kernel"),
    "a clock that is behind": ({}, {"built": "2099-01-01T00:00:00Z"}, "stick.clock"),
}


@pytest.mark.parametrize("case", MACHINES)
def test_a_machine_that_does_not_fit_is_told_before_anything_is_written(place, tmp_path, case):
    machine, stick, code = MACHINES[case]
    made = make_stick(tmp_path / "stick", **stick)
    values = {"platform": PLATFORM, "glibc": "2.36", "kernel": "6.1.0-10-amd64", **machine}
    assert place.checked(made, machine=Machine(**values)) == code
    assert place.refusal(made, machine=Machine(**values)) == code
    assert place.store.names() == []


def test_equal_versions_of_a_machine_suffice(place, tmp_path):
    made = make_stick(tmp_path / "stick", glibc="2.36", kernel="6.1.0")
    machine = Machine(platform=PLATFORM, glibc="2.36", kernel="6.1.0-10-amd64")
    assert place.checked(made, machine=machine) is None


def test_a_folder_that_others_may_write_is_no_place(place, tmp_path):
    os.makedirs(place.store.versions)
    os.chmod(place.store.versions, 0o777)
    assert place.refusal(make_stick(tmp_path / "stick")) == "stick.permission"


# -- floor


def test_an_older_release_is_refused_also_after_a_rollback(place, tmp_path):
    one, two, three = (
        make_stick(tmp_path / f"s{n}", version=f"1.{n}", release=n) for n in (1, 2, 3)
    )
    place.apply(two)
    assert place.refusal(one) == "stick.older"
    place.apply(three)
    assert place.refusal(two) == "stick.older"
    place.roll_back()
    assert place.store.current == two.name
    assert place.refusal(two) == "stick.older"
    place.apply(three)
    assert place.store.current == three.name


def test_another_build_of_the_same_release_is_refused(place, tmp_path):
    place.apply(make_stick(tmp_path / "one", release=2))
    other = make_stick(tmp_path / "two", release=2, files=version_files("other"))
    assert place.refusal(other) == "stick.fork"
    named = make_stick(tmp_path / "three", version="1.1", release=2)
    assert place.refusal(named) == "stick.fork"


# -- rollback


def test_rollback_exchanges_the_two_and_once_more_comes_back(place, tmp_path):
    one, two = (make_stick(tmp_path / f"s{n}", version=f"1.{n}", release=n) for n in (1, 2))
    place.apply(one)
    place.apply(two)
    done = place.roll_back()
    assert (done.version, done.before) == (one.name, two.name)
    assert (place.store.current, place.store.previous) == (one.name, two.name)
    assert program_says(place.store) == "casparian 1.1"
    place.roll_back()
    assert (place.store.current, place.store.previous) == (two.name, one.name)
    assert [c.action for c in place.store.recorded().history] == [
        "install",
        "apply",
        "rollback",
        "rollback",
    ]
    assert place.store.recorded().floor == 2


def test_a_rollback_that_is_only_asked_about_changes_nothing(place, tmp_path):
    for n in (1, 2):
        place.apply(make_stick(tmp_path / f"s{n}", release=n))
    before = place.tree()
    assert place.roll_back(dry_run=True).version == "1.0.0-1"
    assert place.tree() == before


def test_there_is_no_rollback_from_a_first_installation(place, tmp_path):
    place.apply(make_stick(tmp_path / "stick"))
    with pytest.raises(Exception, match="no version to go back to") as caught:
        place.roll_back()
    assert caught.value.code == "stick.no_previous"


def test_an_altered_previous_version_is_not_gone_back_to(place, tmp_path):
    for n in (1, 2):
        place.apply(make_stick(tmp_path / f"s{n}", release=n))
    Path(place.store.version_path("1.0.0-1"), "runtime/bin/python3").write_bytes(b"evil")
    before = place.tree()
    with pytest.raises(Exception, match="is not what was installed") as caught:
        place.roll_back()
    assert caught.value.code == "stick.altered"
    assert place.tree() == before


# -- what `install.sh` unpacked


def test_what_stock_tools_unpacked_is_compared_and_switched_to(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    staged = unpack_as_tar(stick, Path(place.store.path, ".install-1", "tree"))
    os.chmod(staged / "app", 0o775)  # as an ordinary user's umask may leave it
    done = place.apply(stick, staged=str(staged), fingerprint=stick.fingerprint)
    assert done.changed
    assert installed.verify_version(place.store, stick.name).good


STAGED = {
    "altered": lambda d: (d / "bin/casparian").write_bytes(b"#!/bin/sh\n"),
    "missing": lambda d: (d / "app/part1.bin").unlink(),
    "extra": lambda d: (d / "app/more.py").write_bytes(b""),
    "extra folder": lambda d: (d / "more").mkdir(),
    "link": lambda d: ((d / "app/part1.bin").unlink(), (d / "app/part1.bin").symlink_to("/etc/passwd")),
    "linked folder": lambda d: ((d / "app").rename(d.parent / "app"), (d / "app").symlink_to("../app")),
    "fifo": lambda d: ((d / "app/part1.bin").unlink(), os.mkfifo(d / "app/part1.bin")),
    "wheels of its own": lambda d: (d / "wheels").mkdir(),
}  # fmt: skip


@pytest.mark.parametrize("case", STAGED)
def test_what_was_unpacked_and_is_not_what_was_signed_is_refused(place, tmp_path, case):
    stick = make_stick(tmp_path / "stick")
    staged = unpack_as_tar(stick, Path(place.store.path, ".install-1", "tree"))
    STAGED[case](staged)
    assert place.refusal(stick, staged=str(staged), fingerprint=stick.fingerprint) == "stick.staged"
    assert place.store.current is None


def test_a_staged_folder_elsewhere_is_refused(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    elsewhere = unpack_as_tar(stick, tmp_path / "elsewhere")
    assert (
        place.refusal(stick, staged=str(elsewhere), fingerprint=stick.fingerprint) == "stick.staged"
    )
    os.makedirs(place.store.path, exist_ok=True)
    os.symlink(elsewhere, os.path.join(place.store.path, "link"))
    linked = os.path.join(place.store.path, "link")
    assert place.refusal(stick, staged=linked, fingerprint=stick.fingerprint) == "stick.staged"
