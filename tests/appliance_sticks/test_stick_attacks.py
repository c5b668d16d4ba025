"""Every way to tamper with a stick is refused with a reason of its own, and leaves the installation as it was."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from casparian.appliance.stick import folder as folders
from casparian.appliance.stick import layout, sshsig, verify
from casparian.appliance.stick.refusals import REASONS
from casparian.errors import CasparianError
from tests.factories.sticks import (
    DEVELOPMENT,
    OTHER_KEY,
    make_stick,
    release_key,
)

SMALL = {"bin/casparian": b"#!/bin/sh\n", "app/a": b"a"}


@pytest.fixture
def installed_place(place, tmp_path):
    """Version 1 is in use."""
    place.apply(make_stick(tmp_path / "one", version="1.0", release=1))
    return place


@pytest.fixture
def stick(tmp_path):
    """The next one, untouched."""
    return make_stick(tmp_path / "two", version="2.0", release=2)


def refuse(place, stick, *codes):
    """Refused by `check` and by `apply`; nothing of the installation changes."""
    before = place.tree()
    assert place.checked(stick) in codes
    assert place.tree() == before
    code = place.refusal(stick)
    assert code in codes
    assert place.tree() == before
    return code


# -- one byte


def test_a_flipped_byte_in_any_file_is_refused(installed_place, tmp_path):
    stick = make_stick(tmp_path / "two", version="2.0", release=2)
    before = installed_place.tree()
    for path in stick.files():
        whole = (stick.path / path).read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 1}:
            raw = bytearray(whole)
            raw[position] ^= 1 << position % 8
            stick.write(path, bytes(raw))
            assert installed_place.checked(stick) is not None, (path, position)
            code = installed_place.refusal(stick)
            assert code.startswith("stick."), (path, position)
            assert installed_place.tree() == before, (path, position)
        stick.write(path, whole)
    assert installed_place.checked(stick) is None


@pytest.mark.slow
def test_a_flipped_bit_in_each_byte_of_the_signed_documents_is_refused(tmp_path):
    stick = make_stick(tmp_path / "two", version="2.0", release=2, files=SMALL)
    for path in (layout.SUMS, layout.SIGNATURE, layout.RELEASE_KEY, layout.MANIFEST):
        whole = (stick.path / path).read_bytes()
        for position in range(len(whole)):
            raw = bytearray(whole)
            raw[position] ^= 1 << position % 8
            stick.write(path, bytes(raw))
            with folders.StickFolder(stick.path) as folder, pytest.raises(CasparianError) as caught:
                verify.read_signed(folder)
            assert caught.value.code.startswith("stick."), (path, position)
        stick.write(path, whole)
    with folders.StickFolder(stick.path) as folder:
        assert verify.read_signed(folder).stick == stick.stick


def test_a_removed_file_is_refused(installed_place, stick):
    for path in stick.files():
        whole = (stick.path / path).read_bytes()
        (stick.path / path).unlink()
        expected = (
            "stick.not_a_stick" if path in (layout.SUMS, layout.SIGNATURE) else "stick.missing"
        )
        refuse(installed_place, stick, expected)
        stick.write(path, whole)


def test_a_cut_off_file_is_refused(installed_place, stick):
    for path in stick.files():
        whole = (stick.path / path).read_bytes()
        stick.write(path, whole[:-1])
        assert installed_place.checked(stick) is not None, path
        stick.write(path, whole)


@pytest.mark.parametrize(
    "path",
    [
        "extra.txt",
        "docs/more.md",
        "payload/second.tar",
        "parsers/evil-1.0.casparian",
        "wheels/x.whl",
    ],
)
def test_an_added_file_is_refused(installed_place, stick, path):
    stick.write(path, b"evil")
    refuse(installed_place, stick, "stick.extra")


# -- signatures and keys


def test_another_sticks_signature_is_refused(installed_place, stick, tmp_path):
    other = make_stick(tmp_path / "other", version="3.0", release=3)
    stick.write(layout.SIGNATURE, (other.path / layout.SIGNATURE).read_bytes())
    refuse(installed_place, stick, "stick.signature")


def test_a_signature_for_something_else_is_refused(installed_place, stick):
    sums = (stick.path / layout.SUMS).read_bytes()
    stick.write(layout.SIGNATURE, sshsig.sign(sums, stick.key, "file"))
    refuse(installed_place, stick, "stick.signature")


def test_another_key_is_refused(installed_place, stick):
    other = release_key(OTHER_KEY)
    stick.write(layout.RELEASE_KEY, sshsig.public_line(other.public).encode())
    stick.seal(other)
    refuse(installed_place, stick, "stick.key")


def test_another_key_that_hides_behind_the_right_one_is_refused(installed_place, stick):
    stick.seal(release_key(OTHER_KEY))
    refuse(installed_place, stick, "stick.key_file")


def test_a_fingerprint_that_was_typed_must_be_the_keys(place, stick):
    assert place.refusal(stick, fingerprint="SHA256:" + "A" * 43) == "stick.fingerprint"
    other = make_stick(stick.path.parent / "other", key=release_key(OTHER_KEY))
    assert place.refusal(other) == "stick.key"
    place.apply(other, fingerprint=other.fingerprint)
    assert place.store.current == other.name


# -- what is no file


def _replace(path: Path, make) -> None:
    path.unlink()
    make(path)


def _linked(path: Path) -> None:
    path.with_name("real.txt").write_bytes(b"Read the card first.\n")
    path.symlink_to("real.txt")


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


ODD = {
    "a link to the same content": lambda p: _replace(p, _linked),
    "a link that leads nowhere": lambda p: _replace(p, lambda q: q.symlink_to("/nonexistent")),
    "a link to a device": lambda p: _replace(p, lambda q: q.symlink_to("/dev/zero")),
    "a FIFO": lambda p: _replace(p, os.mkfifo),
    "a socket": lambda p: _replace(p, _socket),
    "a link beside": lambda p: (p.parent / "more").symlink_to("docs"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_what_is_no_plain_file_is_refused(installed_place, stick, case):
    ODD[case](stick.path / "README.txt")
    refuse(installed_place, stick, "stick.not_regular")


def test_a_folder_that_is_a_link_is_refused(installed_place, stick, tmp_path):
    (stick.path / "docs").rename(tmp_path / "docs")
    (stick.path / "docs").symlink_to(tmp_path / "docs")
    refuse(installed_place, stick, "stick.not_regular")


def test_a_link_that_takes_a_files_place_after_the_listing_is_refused(
    installed_place, stick, monkeypatch
):
    """The stick changes between looking and reading."""
    real = folders.StickFolder.files

    def look_then_swap(self):
        found = real(self)
        path = stick.path / "README.txt"
        content = path.read_bytes()
        path.unlink()
        path.with_name("hidden").write_bytes(content)
        path.symlink_to("hidden")
        return found

    monkeypatch.setattr(folders.StickFolder, "files", look_then_swap)
    assert installed_place.checked(stick) == "stick.not_regular"


# -- the list itself, signed by the right key


def sums_of(stick) -> str:
    return (stick.path / layout.SUMS).read_text()


LISTS = {
    "a path out of it": (lambda t: t.replace("  README.txt", "  ../README.txt"), "stick.name"),
    "an absolute path": (lambda t: t.replace("  README.txt", "  /etc/passwd"), "stick.name"),
    "a backslash": (lambda t: t.replace("  README.txt", "  docs\\README.txt"), "stick.name"),
    "a leading dash": (lambda t: t.replace("  README.txt", "  -rf"), "stick.name"),
    "a hidden name": (lambda t: t.replace("  README.txt", "  .README"), "stick.name"),
    "a name that Windows reads otherwise": (lambda t: t.replace("  README.txt", "  NUL.txt"), "stick.name"),
    "a name in another case": (lambda t: t + f"{'0' * 64}  readme.TXT\n", "stick.name"),
    "a file that is a folder": (lambda t: t + f"{'0' * 64}  docs\n", "stick.name"),
    "binary mode": (lambda t: t.replace("  README.txt", " *README.txt"), "stick.malformed"),
    "an escaped line": (lambda t: t.replace("  README.txt", "  READ\\nME.txt"), "stick.name"),
    "a line twice": (lambda t: t + t.splitlines()[-1] + "\n", "stick.malformed"),
    "upper-case digits": (lambda t: re.sub(r"(?m)^[0-9a-f]{64}", lambda m: m[0].upper(), t), "stick.malformed"),
    "carriage returns": (lambda t: t.replace("\n", "\r\n"), "stick.malformed"),
    "no end of the last line": (lambda t: t[:-1], "stick.malformed"),
    "itself": (lambda t: t + f"{'0' * 64}  {layout.SUMS}\n", "stick.malformed"),
    "letters beyond ASCII": (lambda t: t.replace("  README.txt", "  RÉADME.txt"), "stick.malformed"),
    "an empty line": (lambda t: t + "\n", "stick.malformed"),
    "a file that is not there": (lambda t: t + f"{'0' * 64}  docs/none.md\n", "stick.missing"),
    "one file less": (lambda t: re.sub(r"(?m)^.*  docs/index.md\n", "", t), "stick.extra"),
    "no manifest": (lambda t: re.sub(r"(?m)^.*  stick.json\n", "", t), "stick.extra"),
    "another hash": (lambda t: re.sub(r"(?m)^[0-9a-f]{64}(?=  README)", "0" * 64, t), "stick.sum"),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_no_builder_writes_is_refused(installed_place, stick, case):
    change, code = LISTS[case]
    changed = change(sums_of(stick))
    assert changed != sums_of(stick)
    stick.sign(changed.encode())
    refuse(installed_place, stick, code)


MANIFESTS = {
    "unknown field": b'{"schema_version":1,"x":1}',
    "no JSON": b"{",
    "a list": b"[]",
    "a key twice": b'{"kind":"appliance","kind":"trust"}',
    "nested": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a float": b'{"release":1.5}',
    "huge number": b'{"release":' + b"9" * 5_000 + b"}",
    "bytes that are no text": b'{"kind":"\xff"}',
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_no_builder_writes_is_refused(installed_place, stick, case):
    stick.write(layout.MANIFEST, MANIFESTS[case])
    stick.seal()
    refuse(installed_place, stick, "stick.malformed")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"release": 0}, "stick.malformed"),
        ({"release": -1}, "stick.malformed"),
        ({"version": "../../etc"}, "stick.malformed"),
        ({"version": "1.0/2"}, "stick.malformed"),
        ({"version": ""}, "stick.malformed"),
        ({"payloads": ()}, "stick.malformed"),
        ({"kind": "trust"}, "stick.malformed"),
    ],
)
def test_a_manifest_whose_values_are_none_is_refused(installed_place, stick, changes, code):
    stick.describe(**changes)
    refuse(installed_place, stick, code)


def test_a_document_beyond_its_limit_is_refused_before_it_is_read_whole(installed_place, stick):
    stick.write(layout.MANIFEST, b" " * (2 << 20))
    stick.seal()
    refuse(installed_place, stick, "stick.too_large")


@pytest.mark.parametrize("path", ["README.txt", "payload"])
def test_a_file_without_end_is_not_read_to_its_end(installed_place, stick, path):
    """A hole of many gigabytes takes no room on the stick, and hours to read."""
    if path == "payload":
        path = stick.stick.payloads[0].archive
    os.truncate(stick.path / path, 1 << 40)
    codes = {"README.txt": ("stick.too_large",)}.get(
        path, ("stick.too_large", "stick.archive_end", "stick.space")
    )
    refuse(installed_place, stick, *codes)


def test_a_folder_that_is_no_stick_is_refused(place, tmp_path):
    assert place.checked(tmp_path / "none") == "stick.not_a_stick"
    (tmp_path / "empty").mkdir()
    assert place.checked(tmp_path / "empty") == "stick.not_a_stick"


# -- the stick goes away


@pytest.mark.parametrize("step", ["accepted", "checked", "stage made"])
def test_a_stick_that_is_pulled_out_leaves_the_old_version(installed_place, stick, step):
    before = installed_place.tree()

    def pull(name):
        if name == step:
            shutil.rmtree(stick.path)

    code = installed_place.refusal(stick, step=pull)
    assert code in ("stick.missing", "stick.unreadable", "stick.not_a_stick")
    assert installed_place.tree() == before


def test_a_stick_that_fails_while_it_is_read_leaves_the_old_version(
    installed_place, stick, monkeypatch
):
    """EIO after so many reads, at every number of reads there is."""
    before, real = installed_place.tree(), os.read
    left = [0]

    def failing(descriptor, count):
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(stick.path)):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", failing)
    good = 0
    while good < 500:
        left[0] = good
        try:
            done = installed_place.apply(stick)
        except CasparianError as error:
            assert error.code == "stick.unreadable", good  # noqa: PT017 - at the end it gets through
            assert installed_place.tree() == before, good
            good += 7
        else:
            assert done.changed
            assert good > 20
            return
    pytest.fail("it never got through")


def test_a_file_that_changes_after_it_was_verified_is_not_what_is_installed(installed_place, stick):
    """The archive is altered when everything else was checked already."""
    before = installed_place.tree()
    archive = stick.path / stick.stick.payloads[0].archive

    def alter(name):
        if name == "checked":
            raw = bytearray(archive.read_bytes())
            raw[1030] ^= 1  # the first file is empty, this is within the second
            archive.write_bytes(raw)

    assert installed_place.refusal(stick, step=alter) == "stick.archive"
    assert installed_place.tree() == before


def test_every_reason_says_what_to_do():
    for code, reason in REASONS.items():
        assert code.startswith("stick."), code
        assert len(reason.meaning) > 10, code
        assert len(reason.hint) > 10, code


def test_the_key_that_is_no_secret_is_told(place, stick):
    assert release_key(DEVELOPMENT).public == stick.key.public
    place.checked(stick)
    (key,) = (item for item in place.checklist.items if item.check == "release key")
    assert "DEVELOPMENT" in key.message


def test_the_folder_that_ext4_adds_is_passed_over_where_nobody_may_read_it(installed_place, stick):
    added = stick.path / "lost+found"
    added.mkdir(mode=0o700)
    with folders.StickFolder(stick.path) as folder:
        listed = folder.files()
        if os.geteuid() == 0:
            os.seteuid(65534)
        else:
            added.chmod(0)
        try:
            assert folder.files() == listed
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            added.chmod(0o700)
    assert installed_place.checked(stick) is None
    (added / "evil").write_bytes(b"not signed")
    refuse(installed_place, stick, "stick.extra")
