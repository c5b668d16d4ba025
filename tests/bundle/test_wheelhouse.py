"""A wheelhouse that is not exactly what its lock says is not accepted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from wheel_worlds import LINUX, World, locked, wheel

from bundle import locks, platforms, wheelhouse

OTHER_HASH = "0" * 64


def _append_a_byte(world: World) -> None:
    with world.pure.open("ab") as file:
        file.write(b"\0")


def _flip_a_byte(world: World) -> None:
    content = bytearray(world.pure.read_bytes())
    content[len(content) // 2] ^= 1
    world.pure.write_bytes(content)


def _append_and_sum(world: World) -> None:
    before = (world.directory / "lock.txt").read_text()
    _append_a_byte(world)
    every = [locked(path) for path in sorted(world.directory.glob("*.whl"))]
    wheelhouse.write_lists(world.directory, LINUX, every, [])
    (world.directory / "lock.txt").write_text(before)


def _relock(world: World) -> None:
    """Changed, and both lists of the wheelhouse made to agree: the lock of the source tree does not."""
    _append_a_byte(world)
    every = [locked(path) for path in sorted(world.directory.glob("*.whl"))]
    wheelhouse.write_lists(world.directory, LINUX, every, [])


def _edit(name: str, old: str, new: str) -> Callable[[World], None]:
    def edit(world: World) -> None:
        path = world.directory / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return edit


def _replace_compiled(tag: str) -> Callable[[World], None]:
    def replace(world: World) -> None:
        world.compiled.unlink()
        wheel(world.directory, "compiled", tag=tag)
        world.write()

    return replace


def _lies(**said: str | bool | None) -> Callable[[World], None]:
    def replace(world: World) -> None:
        world.pure.unlink()
        wheel(world.directory, "pure", **said)  # type: ignore[arg-type]
        world.write()

    return replace


ATTACKS: dict[str, tuple[Callable[[World], None], str]] = {
    "a byte appended": (_append_a_byte, "its hash is another"),
    "a byte flipped": (_flip_a_byte, "its hash is another"),
    "a byte appended, checksums made again": (_append_and_sum, "its hash is another"),
    "a byte appended, lock and checksums made again": (_relock, "and the lock of linux-x86_64"),
    "a wheel removed": (lambda world: world.pure.unlink(), "there is no wheel of `pure` 1.0"),
    "our own wheel removed": (lambda world: world.own.unlink(), "there is no wheel of `casparian`"),
    "a newer version planted": (
        lambda world: void(wheel(world.directory, "pure", "9.9.9")),
        "`pure-9.9.9-py3-none-any.whl` is not the wheel that the lock names (1.0)",
    ),
    "a package planted": (
        lambda world: void(wheel(world.directory, "planted")),
        "`planted-1.0-py3-none-any.whl`: the lock does not name it",
    ),
    "a package planted and locked": (
        lambda world: (void(wheel(world.directory, "planted")), _sums_again(world))[1],
        "lock.txt names `planted`, and the lock of linux-x86_64 does not",
    ),
    "source code": (
        lambda world: void((world.directory / "pure-1.0.tar.gz").write_bytes(b"x")),
        "is source code",
    ),
    "a file": (
        lambda world: void((world.directory / "note").write_text("x")),
        "does not belong here",
    ),
    "a folder": (lambda world: (world.directory / "sub").mkdir(), "is no regular file"),
    "a link": (
        lambda world: os.symlink(world.pure, world.directory / "link-1.0-py3-none-any.whl"),
        "is no regular file",
    ),
    "a pipe": (lambda world: os.mkfifo(world.directory / "pipe"), "is no regular file"),
    "a hash in the lock edited": (
        _edit("lock.txt", "pure==1.0 ", f"pure==1.0 --hash=sha256:{OTHER_HASH} "),
        "lock.txt has",
    ),
    "another version of our own wheel in the lock": (
        _edit("lock.txt", "casparian==", f"casparian==0 --hash=sha256:{OTHER_HASH}\n#"),
        "there is no wheel of `casparian` 0",
    ),
    "two hashes for our own wheel": (
        _edit(
            "lock.txt",
            f"casparian=={wheelhouse.own_version()} ",
            f"casparian=={wheelhouse.own_version()} --hash=sha256:{OTHER_HASH} ",
        ),
        "lock.txt has 2 hashes of `casparian`",
    ),
    "a version in the lock edited": (_edit("lock.txt", "pure==1.0", "pure==1.1"), "lock.txt has"),
    "a line of the lock removed": (
        _edit("lock.txt", "pure==", "# pure=="),
        "lock.txt lacks `pure`",
    ),
    "an index in the lock": (
        _edit("lock.txt", "pure==", "--index-url http://x\npure=="),
        "is not `name==version",
    ),
    "a line twice in the lock": (
        _edit("lock.txt", "pure==", f"pure==2 --hash=sha256:{OTHER_HASH}\npure=="),
        "`pure` stands twice",
    ),
    "the lock removed": (lambda world: (world.directory / "lock.txt").unlink(), "there is no lock"),
    "the checksums removed": (
        lambda world: (world.directory / "SHA256SUMS").unlink(),
        "there is no SHA256SUMS",
    ),
    "a checksum edited": (_edit("SHA256SUMS", "  pure", "0  pure"), "SHA256SUMS has the line"),
    "a checksum removed": (
        _edit("SHA256SUMS", "pure-1.0", "gone-1.0"),
        "SHA256SUMS does not list `pure-1.0",
    ),
    "a checksum of what is elsewhere": (
        _edit("SHA256SUMS", "  pure", "  ../pure"),
        "SHA256SUMS has the line",
    ),
    "parsers' wheels that no parser names": (
        lambda world: void(
            (world.directory / "parsers.txt").write_text(f"more==1 --hash=sha256:{OTHER_HASH}\n")
        ),
        "the locks of the first-party parsers differ",
    ),
    "for another machine": (
        _replace_compiled("cp311-cp311-manylinux_2_17_aarch64"),
        "is not for linux-x86_64",
    ),
    "above the floor": (
        _replace_compiled("cp311-cp311-manylinux_2_31_x86_64"),
        "is not for linux-x86_64",
    ),
    "for another C library": (
        _replace_compiled("cp311-cp311-musllinux_1_2_x86_64"),
        "is not for linux-x86_64",
    ),
    "for no C library in particular": (
        _replace_compiled("cp311-cp311-linux_x86_64"),
        "is not for linux-x86_64",
    ),
    "for another Python": (
        _replace_compiled("cp312-cp312-manylinux_2_17_x86_64"),
        "is not for linux-x86_64",
    ),
    "for a later stable ABI": (
        _replace_compiled("cp312-abi3-manylinux_2_17_x86_64"),
        "is not for linux-x86_64",
    ),
    "another name within": (_lies(said_name="other"), "says that it is `other`"),
    "another version within": (_lies(said_version="2.0"), "says that it has version 2.0"),
    "another tag within": (_lies(said_tag="py2-none-any"), "is tagged otherwise within"),
    "a licence we do not ship": (_lies(licence="AGPL-3.0-only"), "is outside MIT"),
    "no licence": (_lies(licence=None), "does not say which licence"),
    "no text of a licence": (_lies(text=False), "ships no text of its licence"),
    "a member that leaves its folder": (_lies(members={"../up.py": b""}), "leaves its folder"),  # type: ignore[arg-type]
}


def void(_result: object) -> None:
    """A lambda's statement."""


def _sums_again(world: World) -> None:
    every = [locked(path) for path in sorted(world.directory.glob("*.whl"))]
    wheelhouse.write_lists(world.directory, LINUX, every, [])


def test_what_make_writes_is_accepted(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.problems(strict=True) == []
    report = wheelhouse.verify(world.directory, LINUX, world.folder)
    assert {held.wheel.name for held in report.wheels} == {"pure", "compiled", "casparian"}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_manipulation_is_found(tmp_path: Path, attack: str) -> None:
    world = World(tmp_path)
    change, said = ATTACKS[attack]
    change(world)
    problems = world.problems()
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_every_flipped_byte_of_lock_and_checksums_is_found(tmp_path: Path, step: int) -> None:
    world = World(tmp_path)
    for name in ("lock.txt", "SHA256SUMS"):
        path = world.directory / name
        content = path.read_bytes()
        line_ends = [at for at, byte in enumerate(content) if byte == ord("\n")]
        for at in [*range(0, len(content), step), *line_ends]:
            flipped = bytearray(content)
            flipped[at] ^= 1
            path.write_bytes(flipped)
            assert world.problems(), (name, at)
        path.write_bytes(content)
    assert world.problems() == []


def test_our_own_wheel_of_another_platform_needs_its_builder(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.own.unlink()
    world.write()
    host = platforms.host() == LINUX.name
    report = wheelhouse.verify(world.directory, LINUX, world.folder)
    said = report.problems if host else report.notes
    assert any(wheelhouse.NEEDS_BUILDER in each for each in said)
    assert world.problems(strict=True)


def test_our_own_wheel_above_the_floor_is_said_and_strictly_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.own.unlink()
    wheel(
        world.directory,
        "casparian",
        wheelhouse.own_version(),
        tag="cp311-abi3-manylinux_2_34_x86_64",
    )
    world.write()
    report = wheelhouse.verify(world.directory, LINUX, world.folder)
    assert report.ok
    assert any("needs glibc 2.34" in note for note in report.notes)
    assert any("needs glibc 2.34" in problem for problem in world.problems(strict=True))


@pytest.mark.parametrize("name", platforms.load())
def test_the_locks_hold_what_is_tested_and_one_wheel_of_each(name: str) -> None:
    assert wheelhouse.verify_locks(platforms.load()[name]).problems == []


def test_a_lock_is_read_as_it_is_written(tmp_path: Path) -> None:
    for platform in platforms.load().values():
        held = locks.of_platform(platform)
        assert locks.parse(locks.write(held, "x"), "x") == sorted(held, key=lambda each: each.name)
