"""A finished stick: stock tools accept it, it is the same bytes each time, and what cannot be on one is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest

from bundle import build, make, ustar
from bundle.folder import NotForAStick, StickWriter
from bundle.make import NotBuilt, build_appliance
from bundle.release_key import DEVELOPMENT_SEED
from casparian import _native
from casparian.appliance.stick import layout, sshsig
from casparian.errors import CasparianError
from casparian.trust.keys import PrivateKey
from tests.factories import small_sticks as sticks


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_commands_of_the_card_accept_it(stick, tmp_path):
    card = (stick / "CARD.txt").read_text()
    lines = [line.strip() for line in card.splitlines()]
    commands = [line for line in lines if line.startswith(("(printf", "ssh-keygen", "sha256sum"))]
    assert len(commands) == 3
    done = subprocess.run(
        ["sh", "-e", "-c", "\n".join(commands)],
        cwd=stick,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    fingerprint = sshsig.fingerprint(sticks.DEVELOPMENT.public)
    assert done.stdout.startswith("Good ")
    assert done.stdout.splitlines() == [done.stdout.strip()]
    assert done.stdout.rstrip().endswith(fingerprint)
    assert fingerprint in card
    assert "DEVELOPMENT" in card


def _read_picture(rows):
    """What an independent reader of QR codes finds in rows of dark (true) and light modules."""
    import zxingcpp

    scale, quiet = 4, 4
    width = len(rows[0]) + 2 * quiet
    light = [[False] * width] * quiet
    padded = [[False] * quiet + list(row) + [False] * quiet for row in rows]
    pixels = b"".join(
        b"".join((b"\0" if dark else b"\xff") * scale for dark in row) * scale
        for row in (*light, *padded, *light)
    )
    image = memoryview(pixels).cast("B", [len(pixels) // (width * scale), width * scale])
    return [(found.text, found.format) for found in zxingcpp.read_barcodes(image)]


def test_the_picture_on_the_card_is_read_as_the_fingerprint(stick):
    from zxingcpp import BarcodeFormat

    lines = (stick / "CARD.txt").read_text("utf-8").splitlines()
    blocks = [line for line in lines if line.strip() and not set(line) - set(" █▀▄")]
    width = max(map(len, blocks))
    rows = [
        [block in dark for block in line.ljust(width)] for line in blocks for dark in ("█▀", "█▄")
    ]
    expected = [(sshsig.fingerprint(sticks.DEVELOPMENT.public), BarcodeFormat.QRCode)]
    assert _read_picture(rows) == expected
    broken = [[not dark for dark in row] if 8 < n < 28 else row for n, row in enumerate(rows)]
    assert _read_picture(broken) != expected


def test_the_picture_beside_the_card_is_the_same_one(stick):
    text = (stick / "CARD.svg").read_text("utf-8")
    scale, border = 6, 4
    path = re.search(r' d="([^"]+)"', text)[1]
    size = int(re.search(r'width="(\d+)"', text)[1]) // scale - 2 * border
    rows = [[False] * size for _ in range(size)]
    x = y = 0.0
    # Strokes along the middle of each row: `M` and `m` move, `h` draws dark modules.
    for step, given in re.findall(r"([Mmh])([-0-9. ]+)", path):
        numbers = [float(one) for one in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", given)]
        if step == "h":
            for column in range(int(x) - border, int(x + numbers[0]) - border):
                rows[int(y) - border][column] = True
            x += numbers[0]
        else:
            x, y = numbers if step == "M" else (x + numbers[0], y + numbers[1])
    ((found, _),) = _read_picture(rows)
    assert found == sshsig.fingerprint(sticks.DEVELOPMENT.public)


def test_only_a_development_stick_says_so(tmp_path):
    stick = sticks.make_stick(tmp_path, sticks.OTHER)
    for name in ("CARD.txt", "README.txt"):
        assert "DEVELOPMENT" not in (stick / name).read_text()
    assert not json.loads((stick / "stick.json").read_bytes())["development"]


def test_two_builds_are_the_same_bytes(stick, tmp_path):
    before = os.umask(0o077)
    try:
        again = sticks.make_stick(tmp_path)
    finally:
        os.umask(before)
    assert files_below(again) == files_below(stick)


def test_the_archive_and_its_list_say_the_same(stick, tmp_path):
    manifest = msgspec.json.decode((stick / "stick.json").read_bytes(), type=layout.Stick)
    payload = manifest.payloads[0]
    listed = msgspec.json.decode((stick / payload.files).read_bytes(), type=layout.PayloadFiles)
    with tarfile.open(stick / payload.archive) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [file.path for file in listed.files]
        for member, file in zip(members, listed.files, strict=True):
            assert member.isreg()
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mode == (0o755 if file.executable else 0o644)
            assert member.mtime == sticks.SOURCE.date
            assert not member.pax_headers
            content = archive.extractfile(member).read()
            assert len(content) == file.size
            assert hashlib.sha256(content).hexdigest() == file.sha256
    assert {"bin/casparian", "share/sample/expected.json"} <= {file.path for file in listed.files}
    wheels = sum(path.stat().st_size for path in (stick / "wheels").rglob("*") if path.is_file())
    assert payload.needs.disk_bytes == sum(file.size for file in listed.files) + wheels


def test_the_development_seed_is_the_one_that_is_compiled_in():
    public, development = _native.release_key()
    assert development
    assert PrivateKey.from_seed(DEVELOPMENT_SEED, "release").public.public == public


def test_a_key_that_the_program_was_not_built_with_is_refused(tmp_path):
    tree = sticks.make_tree(tmp_path / "tree", sticks.OTHER)
    with pytest.raises(NotBuilt, match="build both with the same"):
        sticks.make_stick(tmp_path, tree=tree)
    assert not (tmp_path / "stick").exists()


def link(tree):
    (tree / "app").symlink_to("bin")


def fifo(tree):
    os.mkfifo(tree / "pipe")


def long_name(tree):
    (tree / ("x" * 120)).touch()


def other_script(tree):
    (tree / "größe").touch()


def wheels_inside(tree):
    (tree / "wheels").mkdir()
    (tree / "wheels/a.whl").touch()


def share_inside(tree):
    (tree / "share").mkdir()
    (tree / "share/x").touch()


def no_program(tree):
    (tree / "bin/casparian").unlink()


def silent(tree):
    (tree / "runtime/bin/python3").write_text("#!/bin/sh\nexit 3\n")


@pytest.mark.parametrize(
    "spoil",
    [link, fifo, long_name, other_script, wheels_inside, share_inside, no_program, silent],
)
def test_a_tree_that_no_stick_can_hold_is_refused(spoil, tmp_path):
    tree = sticks.make_tree(tmp_path / "tree")
    spoil(tree)
    with pytest.raises(ValueError, match=r"\w"):
        sticks.make_stick(tmp_path, tree=tree)
    assert not (tmp_path / "stick").exists()


NAMES = ["../x", "a/../b", "/a", "a//b", "a b", "-a", ".a", "ä", "a:b", "con",
         "Aux.txt", "a.", "a\nb", "", "x" * 256]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_fat_or_a_shell_would_change_is_refused(name, tmp_path):
    writer = StickWriter(tmp_path / "stick")
    writer.begin()
    with pytest.raises(NotForAStick):
        writer.write(name, b"")


@pytest.mark.parametrize(
    ("first", "second"), [("a/b", "A/c"), ("a", "A"), ("a", "a/b"), ("a/b", "A")]
)
def test_names_that_fat_takes_for_one_are_refused(first, second, tmp_path):
    writer = StickWriter(tmp_path / "stick")
    writer.begin()
    writer.write(first, b"")
    with pytest.raises(NotForAStick):
        writer.write(second, b"")


def test_a_file_that_fat_cannot_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bundle.folder.FILE_BYTES_MAX", 10)
    writer = StickWriter(tmp_path / "stick")
    writer.begin()
    writer.write("small", b"0123456789")
    with pytest.raises(NotForAStick, match="4 GiB"):
        writer.write("large", b"0123456789a")


def test_a_stick_that_reads_back_differently_is_not_finished(tmp_path, monkeypatch):
    real = make._check_finished

    def damaged(folder):
        (folder / "README.txt").write_text("other")
        real(folder)

    monkeypatch.setattr(make, "_check_finished", damaged)
    with pytest.raises(CasparianError) as caught:
        sticks.make_stick(tmp_path)
    assert caught.value.code == "stick.sum"
    assert not (tmp_path / "stick").exists()


def test_a_stick_of_parsers_and_trust_has_no_program(tmp_path):
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "1.root.json").write_text("{}")
    (trust / "policy.json").write_text("{}")
    package = tmp_path / "lab-1.0.0.casparian"
    package.write_bytes(b"package")
    stick = sticks.make_trust_stick(tmp_path, trust=trust, parsers=(package,))
    assert set(files_below(stick)) == {
        "CARD.svg", "CARD.txt", "README.txt", "SHA256SUMS", "SHA256SUMS.sig", "parsers/lab-1.0.0.casparian",
        "provenance/build.dsse.json",
        "stick.json", "trust/policy.json", "trust/release.pub", "trust/roots/1.root.json",
    }  # fmt: skip
    assert json.loads((stick / "stick.json").read_bytes())["kind"] == "trust"


def test_the_command_builds_says_what_it_built_and_keeps_nothing_of_a_dry_run(tmp_path, capsys):
    sticks.make_tree(tmp_path / "tree")
    sticks.make_wheels(tmp_path / "wheels")
    out = tmp_path / "out"
    given = ["--tree", f"{tmp_path}/tree", "--wheels", f"{tmp_path}/wheels", "--out", str(out)]
    assert build.main([*given, "--dry-run", "--json", "--release", "3"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["stick"]["release"] == 3
    assert "DEVELOPMENT KEY" in printed.err
    assert not out.exists()
    assert build.main([*given, "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == len(files_below(out))
    assert build.main([*given, "--json", "--quiet"]) == 1  # it is there already
    assert "there already" in capsys.readouterr().err


def test_the_command_takes_a_key_from_a_file(tmp_path, capsys):
    from cryptography.hazmat.primitives import serialization

    pem = tmp_path / "release.pem"
    pem.write_bytes(
        sticks.OTHER._secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    sticks.make_tree(tmp_path / "tree", sticks.OTHER)
    sticks.make_wheels(tmp_path / "wheels")
    given = ["--tree", f"{tmp_path}/tree", "--wheels", f"{tmp_path}/wheels"]
    assert build.main([*given, "--out", f"{tmp_path}/a", "--key", str(pem), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["fingerprint"] == sshsig.fingerprint(sticks.OTHER.public)
    assert "DEVELOPMENT" not in printed.err
    assert build.main([*given, "--out", f"{tmp_path}/b", "--json"]) == 1
    assert "build both with the same" in capsys.readouterr().err


def test_a_file_that_changes_while_it_is_packed_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)

    class Growing:
        def write(self, data):
            with open(tmp_path / "a", "ab") as stream:
                stream.write(b"more")

    with pytest.raises(ustar.NotPackable, match="changed"):
        ustar.pack({"a": tmp_path / "a"}, Growing(), 0)


def test_an_empty_stick_is_not_built(tmp_path):
    with pytest.raises(NotBuilt, match="--parsers or --trust"):
        sticks.make_trust_stick(tmp_path)
    with pytest.raises(NotBuilt, match="--tree and --wheels"):
        build_appliance(sticks.inputs(tmp_path, tree=None), StickWriter(tmp_path / "stick"))
