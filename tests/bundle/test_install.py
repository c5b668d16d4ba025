"""`install.sh` as a person starts it, in the shell of Debian: what it accepts, and each attack that it refuses."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from casparian.appliance.stick import layout, sshsig
from tests.factories import small_sticks as sticks

FINGERPRINT = sshsig.fingerprint(sticks.DEVELOPMENT.public)
SHELL = shutil.which("dash") or "/bin/sh"


class Room:
    """A copy of a stick, a place to install to, and a note of whether the program ran."""

    def __init__(self, stick: Path, root: Path) -> None:
        self.stick = root / "a stick"
        shutil.copytree(stick, self.stick)
        self.dest = root / "dest folder"
        self.ran = root / "ran"
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(root),
            "CASPARIAN_TEST_RAN": str(self.ran),
        }

    def command(self, *arguments: str, fingerprint: str = FINGERPRINT) -> list[str]:
        return [SHELL, f"{self.stick}/install.sh", *(arguments or [str(self.dest)]), fingerprint]

    def install(self, *arguments, **given):
        return subprocess.run(
            self.command(*arguments, **given),
            env=self.environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
        )

    def refused(self, *arguments, code=4, reason="", **given):
        """Nothing ran, nothing is left, one line says why."""
        done = self.install(*arguments, **given)
        assert done.returncode == code, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("REFUSED: ")]
        assert len(lines) == 1, done.stderr
        assert re.search(reason, lines[0]), lines[0]
        assert not self.ran.exists()
        assert not self.dest.exists()

    def seal(self, lines=None, key=sticks.DEVELOPMENT, remarks=()):
        """Write and sign the list anew: an attack by somebody who has the key."""
        old = (self.stick / layout.SUMS).read_text().splitlines()
        head = [line for line in old if line.startswith("#")]
        if lines is None:
            lines = [
                f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(self.stick)}"
                for path in sorted(self.stick.rglob("*"))
                if path.is_file() and path.name not in (layout.SUMS, layout.SIGNATURE)
            ]
        content = "".join(f"{line}\n" for line in [*head, *remarks, *lines]).encode()
        (self.stick / layout.SUMS).write_bytes(content)
        (self.stick / layout.SIGNATURE).write_bytes(sshsig.sign(content, key, layout.NAMESPACE))

    @property
    def payload(self) -> Path:
        return next((self.stick / "payload").glob("*.tar"))

    def installed(self) -> bool:
        return (self.dest / "bin/casparian").is_file()


@pytest.fixture
def room(stick, tmp_path):
    return Room(stick, tmp_path)


def listing(room):
    return [line for line in (room.stick / layout.SUMS).read_text().splitlines() if line[0] != "#"]


def test_a_good_stick_is_installed_and_nothing_else_is_left(room):
    done = room.install(str(room.dest), "--home", "/tmp/a home")
    assert done.returncode == 0, done.stderr
    assert "installed version 0.1.0" in done.stdout
    assert room.installed()
    said = room.ran.read_text()
    assert said.startswith("--home /tmp/a home bundle install --stick ")
    assert f"--into {room.dest} --fingerprint {FINGERPRINT}" in said
    assert sorted(path.name for path in room.dest.iterdir()) == ["bin", "current", "versions"]
    for path in (room.dest / "versions/one").rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o777 in (0o755, 0o644)


def test_installing_again_works(room):
    assert room.install().returncode == 0
    assert room.install().returncode == 0
    assert room.installed()


def test_it_works_from_a_medium_that_cannot_be_written_or_executed(room):
    for path in (room.stick, *room.stick.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert room.install().returncode == 0
    finally:
        for path in (room.stick, *room.stick.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)


def test_it_can_be_asked_to_verify_alone(room):
    done = room.install("--verify-only")
    assert done.returncode == 0
    assert done.stdout.startswith("good: version 0.1.0, signed by ")
    assert not room.dest.exists()
    assert not room.ran.exists()
    (room.stick / "README.txt").write_text("other")
    done = room.install("--verify-only")
    assert (done.returncode, "README.txt" in done.stderr) == (4, True)


def test_help_and_misuse(room):
    def run(*arguments):
        return subprocess.run(
            [SHELL, f"{room.stick}/install.sh", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("--help").returncode == 0
    assert "usage:" in run("--help").stdout
    for arguments in ([], [str(room.dest)], [FINGERPRINT], ["--frobnicate"], ["a", "b", FINGERPRINT], ["--home"]):  # fmt: skip
        assert run(*arguments).returncode == 2
    assert not room.dest.exists()


def test_another_fingerprint_than_the_keys_is_refused(room):
    other = sshsig.fingerprint(sticks.OTHER.public)
    room.refused(fingerprint=other, reason="the card says SHA256:")
    room.refused(fingerprint=FINGERPRINT[:-1], reason="the card says")
    room.refused(fingerprint="SHA256:*", reason="the card says")


def _paths(stick):
    return sorted(str(path.relative_to(stick)) for path in stick.rglob("*") if path.is_file())


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x20
    path.write_bytes(content)


def _check_flipped(room, path, at):
    target = room.stick / path
    before = target.read_bytes()
    _flip(target, at)
    try:
        if path == "install.sh":  # the program that would run: the card's own commands find it
            done = subprocess.run(
                ["sha256sum", "--check", "--strict", "--quiet", layout.SUMS],
                cwd=room.stick,
                capture_output=True,
                check=False,
            )
            assert done.returncode != 0
        else:
            room.refused()
    finally:
        target.write_bytes(before)


def test_a_flipped_byte_in_each_of_the_important_files_is_refused(room):
    chosen = [path for path in _paths(room.stick) if not path.startswith(("docs/", "licences/"))]
    random.seed(5)
    for path in chosen:
        _check_flipped(room, path, random.randrange((room.stick / path).stat().st_size))


def test_what_stands_behind_the_signature_is_refused(room):
    size = (room.stick / layout.SIGNATURE).stat().st_size
    _check_flipped(room, layout.SIGNATURE, size - 1)  # the line's end: `ssh-keygen` takes it


@pytest.mark.slow
def test_a_flipped_byte_in_any_file_at_any_place_is_refused(room):
    for path in _paths(room.stick):
        size = (room.stick / path).stat().st_size
        places = range(size) if path in (layout.SIGNATURE, layout.RELEASE_KEY) else {0, size // 2, size - 1}  # fmt: skip
        for at in places:
            if path == layout.RELEASE_KEY and at > 80:
                continue  # the comment: covered by its hash, as every file
            _check_flipped(room, path, at)


LOST = ("README.txt", "trust/release.pub", "SHA256SUMS", "SHA256SUMS.sig", "licences", "payload")


@pytest.mark.parametrize("path", LOST)
def test_a_removed_file_is_refused(room, path):
    target = room.stick / path
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    room.refused(reason="missing")


def _extra(stick):
    (stick / "payload/more.so").write_bytes(b"x")


def _hidden(stick):
    (stick / ".hidden").write_bytes(b"x")


def _line_feed(stick):
    (stick / "a\nb").write_bytes(b"x")


def _line_feed_in_a_folder(stick):
    (stick / "CARD.txt\n.").mkdir()
    (stick / "CARD.txt\n./README.txt").write_bytes(b"x")


def _dash(stick):
    (stick / "-rf").write_bytes(b"x")


def _space(stick):
    (stick / "a file").write_bytes(b"x")


def _escape(stick):
    (stick / "a\x1b[2Jb").write_bytes(b"x")


def _not_text(stick):
    with open(os.fsencode(stick) + b"/\xff\xfe", "wb"):
        pass


def _link(stick):
    (stick / "link").symlink_to("/etc/passwd")


def _link_for_a_file(stick):
    (stick / "README.txt").rename(stick.parent / "README.txt")
    (stick / "README.txt").symlink_to(stick.parent / "README.txt")


def _link_for_the_list(stick):
    (stick / "SHA256SUMS").rename(stick.parent / "SHA256SUMS")
    (stick / "SHA256SUMS").symlink_to(stick.parent / "SHA256SUMS")


def _link_for_a_folder(stick):
    (stick / "payload").rename(stick.parent / "payload")
    (stick / "payload").symlink_to(stick.parent / "payload")


def _fifo(stick):
    os.mkfifo(stick / "pipe")


def _fifo_for_a_file(stick):
    (stick / "README.txt").unlink()
    os.mkfifo(stick / "README.txt")


ADDED = [_extra, _hidden, _line_feed, _line_feed_in_a_folder, _dash, _space, _escape, _not_text]
ODD = [_link, _link_for_a_file, _link_for_the_list, _link_for_a_folder, _fifo, _fifo_for_a_file]


@pytest.mark.parametrize("spoil", ADDED)
def test_a_file_that_was_not_signed_is_refused(room, spoil):
    spoil(room.stick)
    room.refused(reason="not signed|stands twice")


@pytest.mark.parametrize("spoil", ODD)
def test_what_is_no_plain_file_is_refused(room, spoil):
    spoil(room.stick)
    room.refused(reason="plain file")


def test_another_key_with_its_own_good_signature_is_refused(room):
    line = sshsig.public_line(sticks.OTHER.public)
    (room.stick / layout.RELEASE_KEY).write_text(line)
    room.seal(key=sticks.OTHER)
    room.refused(reason="the card says")


def test_two_keys_in_the_key_file_are_refused(room):
    with open(room.stick / layout.RELEASE_KEY, "a") as stream:
        stream.write(sshsig.public_line(sticks.OTHER.public))
    room.seal(key=sticks.OTHER)
    room.refused(reason="one key")


def test_a_signature_of_something_else_is_refused(room):
    content = (room.stick / layout.SUMS).read_bytes()
    for signature in (
        sshsig.sign(content, sticks.OTHER, layout.NAMESPACE),
        sshsig.sign(content, sticks.DEVELOPMENT, "file"),
        sshsig.sign(content + b"\n", sticks.DEVELOPMENT, layout.NAMESPACE),
        b"",
        b"-----BEGIN SSH SIGNATURE-----\n",
    ):
        (room.stick / layout.SIGNATURE).write_bytes(signature)
        room.refused(reason="signature")


HASH = "0" * 64
LINES = {
    "path above": f"{HASH}  ../outside",
    "path within": f"{HASH}  docs/../../outside",
    "absolute": f"{HASH}  /etc/passwd",
    "binary mode": f"{HASH} *README.txt",
    "escaped": f"\\{HASH}  READ\\nME.txt",
    "BSD style": f"SHA256 (README.txt) = {HASH}",
    "short": f"{HASH[1:]}  README.txt",
    "upper case": f"{'A' * 64}  README.txt",
    "option": f"{HASH}  --help",
    "space": f"{HASH}  READ ME.txt",
    "command": f"{HASH}  $(touch${{IFS}}x)",
    "tab": f"{HASH}\tREADME.txt",
    "carriage return": f"{HASH}  README.txt\r",
    "blank": "",
    "dot": f"{HASH}  ./README.txt",
}


@pytest.mark.parametrize("name", sorted(LINES))
def test_a_list_with_another_kind_of_line_is_refused_though_it_is_signed(room, name):
    room.seal([*listing(room), LINES[name]])
    room.refused(reason="line that is not a hash and a plain path")


def test_a_list_that_names_a_file_twice_or_lacks_one_is_refused_though_it_is_signed(room):
    lines = listing(room)
    room.seal([*lines, lines[0]])
    room.refused(reason="stands twice")
    room.seal(lines[1:])
    room.refused(reason="not signed")
    room.seal([])
    room.refused(reason="lists nothing|line that")


def _archive(room, make):
    """Replace the archive by what `make` packs below an empty folder, and sign that."""
    work = room.stick.parent / "work"
    work.mkdir()
    make(work, room.payload)
    room.seal()


def _with_link(work, payload):
    (work / "bin").mkdir()
    (work / "bin/casparian").symlink_to("/bin/sh")
    subprocess.run(["tar", "-cf", payload, "-C", work, "bin/casparian"], check=True)


def _with_parent(work, payload):
    (work / "x").write_text("x")
    subprocess.run(["tar", "-cPf", payload, "--transform", "s|^|../../|", "-C", work, "x"], check=True)  # fmt: skip


def _with_absolute(work, payload):
    (work / "x").write_text("x")
    subprocess.run(["tar", "-cPf", payload, f"{work}/x"], check=True)


def _with_fifo(work, payload):
    os.mkfifo(work / "x")
    subprocess.run(["tar", "-cf", payload, "-C", work, "x"], check=True)


def _cut(_work, payload):
    with open(payload, "r+b") as stream:
        stream.truncate(700)


def _no_program(work, payload):
    (work / "x").write_text("x")
    subprocess.run(["tar", "-cf", payload, "-C", work, "x"], check=True)


def _no_archive(_work, payload):
    payload.write_bytes(b"no archive" * 1000)


ARCHIVES = [_with_link, _with_parent, _with_absolute, _with_fifo, _cut, _no_program, _no_archive]


@pytest.mark.parametrize("make", ARCHIVES)
def test_an_odd_archive_is_refused_though_it_is_signed(room, make):
    _archive(room, make)
    room.refused(reason=r"\.tar (is no archive|holds)")
    assert not (room.dest.parent / "x").exists()


def test_a_stick_without_a_program_for_this_machine_is_refused(room):
    text = (room.stick / layout.SUMS).read_text().replace("# payload linux-", "# payload plan9-")
    (room.stick / layout.SUMS).write_text(text)
    room.seal(listing(room))
    room.refused(code=5, reason="no program for it")


def test_too_little_space_is_told_before_anything_is_copied(room):
    text = re.sub(r"(?m)^(# payload \S+ \S+) \d+$", r"\1 99999999999", (room.stick / layout.SUMS).read_text())  # fmt: skip
    (room.stick / layout.SUMS).write_text(text)
    room.seal(listing(room))
    room.refused(code=5, reason="MiB are needed")


def test_a_destination_that_cannot_be_made_is_refused(room):
    room.refused(f"{room.dest}/deep/er", code=5, reason="cannot be made")
    done = room.install(f"{room.stick}/here")
    assert (done.returncode, "on the stick itself" in done.stderr) == (5, True)


def test_a_missing_tool_is_named(room, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "tr", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    room.environment["PATH"] = str(tools)
    room.refused(code=3, reason="ssh-keygen is missing")


def test_the_programs_refusal_is_its_own_and_leaves_nothing(room):
    listed = (room.stick / "payload").glob("*.tar")
    payload = next(listed)
    work = room.stick.parent / "work"
    (work / "bin").mkdir(parents=True)
    (work / "bin/casparian").write_text("#!/bin/sh\necho no >&2\nexit 77\n")
    (work / "bin/casparian").chmod(0o755)
    subprocess.run(["tar", "-cf", payload, "-C", work, "bin/casparian"], check=True)
    room.seal()
    done = room.install()
    assert done.returncode == 77
    assert not room.dest.exists()


def test_a_program_that_cannot_start_is_explained(room):
    work = room.stick.parent / "work"
    (work / "bin").mkdir(parents=True)
    (work / "bin/casparian").write_text("#!/bin/sh\n")
    (work / "bin/casparian").chmod(0o644)  # as if noexec
    subprocess.run(["tar", "-cf", room.payload, "-C", work, "bin/casparian"], check=True)
    room.seal()
    room.refused(code=5, reason="noexec")


def _kill_after(room, seconds):
    child = subprocess.Popen(
        room.command(),
        env=room.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def _check_kills(room, moments):
    started = time.monotonic()
    assert room.install().returncode == 0
    whole = time.monotonic() - started
    killed = 0
    for n in range(moments):
        shutil.rmtree(room.dest)
        killed += _kill_after(room, whole * n / moments) == -signal.SIGKILL
        if room.dest.exists():
            there = {path.name for path in room.dest.iterdir()}
            half = {name for name in there if not name.startswith(".install-")}
            assert half <= {"bin", "current", "versions", "new"}  # the fake program's own
        done = room.install()
        assert done.returncode == 0, done.stderr
        assert room.installed()
        assert not [path for path in room.dest.iterdir() if path.name.startswith(".install-")]
    assert killed


def test_killed_at_some_moment_it_works_when_run_again(room):
    _check_kills(room, 8)


@pytest.mark.slow
def test_killed_at_many_moments_it_works_when_run_again(room):
    _check_kills(room, 120)


def test_interrupted_it_leaves_nothing(room):
    """A payload that never ends its own work: the person ends the shell."""
    work = room.stick.parent / "work"
    (work / "bin").mkdir(parents=True)
    (work / "bin/casparian").write_text('#!/bin/sh\n: >"$CASPARIAN_TEST_RAN"\nexec sleep 600\n')
    (work / "bin/casparian").chmod(0o755)
    subprocess.run(["tar", "-cf", room.payload, "-C", work, "bin/casparian"], check=True)
    room.seal()
    child = subprocess.Popen(room.command(), env=room.environment, stderr=subprocess.DEVNULL)
    while not room.ran.exists():
        assert child.poll() is None
        time.sleep(0.01)
    child.terminate()
    assert child.wait() == 143
    assert not room.dest.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_refused_and_leaves_nothing(room):
    room.dest.parent.joinpath("disk").mkdir()
    disk = room.dest.parent / "disk"
    size = room.payload.stat().st_size
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size + 65536}", "none", disk]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        room.refused(f"{disk}/dest", code=5, reason="MiB are needed")
        # As if another program took the space while we copied: the list promises that little is needed.
        text = re.sub(r"(?m)^(# payload \S+ \S+) \d+$", r"\1 1", (room.stick / layout.SUMS).read_text())  # fmt: skip
        (room.stick / layout.SUMS).write_text(text)
        room.seal(listing(room))
        room.refused(f"{disk}/dest", code=5, reason="cannot be (copied|unpacked)")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)
