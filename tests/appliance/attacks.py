"""Sticks that were tampered with, put into a room that has an installation: each is refused, and the installation stays."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.appliance.log import Log
from tests.appliance.room import STICK, Room

_INSTALLER_TOO = re.compile(r"(SHA256SUMS(\.sig)?|stick\.json|install\.sh|trust/.*|payload/.*)")


def flipped_bytes(room: Room, log: Log, *, every: int = 1, only: str = "") -> None:
    """Flip one byte of each file of the stick, one file at a time.

    Args:
        room: a running room with an installation, and a stick that it accepts.
        log: gets a line.
        every: take each n-th file alone, and all that the installer reads first.
        only: take the files below this folder alone.
    """
    stick = room.media / "stick"
    files = sorted(str(path.relative_to(stick)) for path in stick.rglob("*") if path.is_file())
    chosen = [
        name
        for index, name in enumerate(files)
        if name.startswith(only) and (index % every == 0 or _INSTALLER_TOO.fullmatch(name))
    ]
    fingerprint = fingerprint_of(room)
    with log.check(
        f"a flipped byte is refused: {len(chosen)} of {len(files)} files, one at a time"
    ):
        accepted(room)
        for name in chosen:
            with _changed(stick / name):
                refused(room, f"a flipped byte in {name}")
                if _INSTALLER_TOO.fullmatch(name):
                    installer_refuses(room, fingerprint, f"a flipped byte in {name}")
        accepted(room)


def other_changes(room: Room, log: Log) -> None:
    """Files removed, added and exchanged, links, a signature by somebody else, a fingerprint of somebody else."""
    stick = room.media / "stick"
    fingerprint = fingerprint_of(room)
    payload = next((stick / "payload").glob("*.tar"))
    with log.check("a removed file is refused"), _away(stick / "README.txt"):
        refused(room, "a removed file", "stick.missing")
        installer_refuses(room, fingerprint, "a removed file")
    with log.check("an added file is refused"), _added(stick / "payload" / "more.txt"):
        refused(room, "an added file", "stick.extra")
        installer_refuses(room, fingerprint, "an added file")
    with log.check("a link is refused"), _away(stick / "CARD.txt"):
        (stick / "CARD.txt").symlink_to("README.txt")
        refused(room, "a link")
        installer_refuses(room, fingerprint, "a link")
    with log.check("an archive that was cut off is refused"), _away(payload) as kept:
        with open(kept, "rb") as whole, open(payload, "wb") as cut:
            cut.write(whole.read(1 << 20))
        refused(room, "an archive that was cut off", "stick.sum")
        installer_refuses(room, fingerprint, "an archive that was cut off")
    with log.check("a signature by another key is refused"), _signed_by_another(room):
        refused(room, "a signature by another key")
        installer_refuses(room, fingerprint, "a signature by another key")
    with log.check("a fingerprint that is not the card's is refused"):
        installer_refuses(room, "SHA256:" + "A" * 43, "another fingerprint")
        ran = room.run(
            *("/bin/sh", f"{STICK}/install.sh", "elsewhere", "SHA256:" + "A" * 43), expect=None
        )
        assert ran.code != 0, ran.output
        assert "REFUSED" in ran.output, ran.output
        assert not (room.home / "elsewhere").exists(), "a refused installation left something"


def accepted(room: Room) -> None:
    """The stick that is plugged in is one that the installation accepts."""
    ran = room.run("casparian/bin/casparian", "--json", "bundle", "check", STICK, expect=None)
    assert ran.code == 0, f"a good stick is refused\n{ran.output[-3000:]}"


def refused(room: Room, what: str, code: str | None = None) -> None:
    """The installed program refuses the stick that is plugged in, with a code of its own."""
    ran = room.run("casparian/bin/casparian", "--json", "bundle", "check", STICK, expect=None)
    assert ran.code != 0, f"{what} was accepted\n{ran.output}"
    failed = [check for check in _document(ran.output)["checks"] if not check["passed"]]
    codes = [check["code"] for check in failed]
    assert codes, f"{what}: no check failed\n{ran.output}"
    assert all(str(found).startswith("stick.") for found in codes), f"{what}: {codes}"
    assert code is None or code in codes, f"{what}: {codes}, not {code}"


def installer_refuses(room: Room, fingerprint: str, what: str) -> None:
    """`install.sh` refuses the stick that is plugged in."""
    # One that was itself changed is for `sha256sum -c`, the person's own check; here it may still run, and finds itself.
    ran = room.run("/bin/sh", f"{STICK}/install.sh", "--verify-only", fingerprint, expect=None)
    assert ran.code != 0, f"{what} was accepted by install.sh\n{ran.output}"


def fingerprint_of(room: Room) -> str:
    """The release key's fingerprint, from the card that is on the stick for whoever prints it."""
    text = (room.media / "stick" / "CARD.txt").read_text(encoding="utf-8")
    found = re.search(r"SHA256:[A-Za-z0-9+/]{43}", text)
    assert found is not None, "the card has no fingerprint"
    return found[0]


def _document(output: str) -> dict[str, list[dict[str, object]]]:
    """The JSON document in what was printed on both streams."""
    found: dict[str, list[dict[str, object]]] = json.loads(output[output.index("{") :])
    return found


@contextlib.contextmanager
def _away(path: Path) -> Iterator[Path]:
    """A file of the stick is elsewhere, where the room does not see it; afterwards it is back, whatever is in its place."""
    with tempfile.TemporaryDirectory(dir=_outside(path)) as folder:
        kept = Path(folder, path.name)
        os.rename(path, kept)
        try:
            yield kept
        finally:
            os.replace(kept, path)


def _outside(path: Path) -> Path:
    """The folder that holds what is plugged in."""
    while path.name != "media":
        path = path.parent
    return path.parent


@contextlib.contextmanager
def _added(path: Path) -> Iterator[None]:
    path.write_text("more\n", encoding="ascii")
    try:
        yield
    finally:
        path.unlink()


@contextlib.contextmanager
def _changed(path: Path) -> Iterator[None]:
    """One byte in the middle is another one; the file of the build is not touched."""
    with _away(path) as kept:
        shutil.copyfile(kept, path)
        with open(path, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(size // 2)
            byte = file.read(1)
            file.seek(size // 2)
            file.write(bytes([byte[0] ^ 0x20]) if byte else b"x")
        yield


@contextlib.contextmanager
def _signed_by_another(room: Room) -> Iterator[None]:
    """The list is signed again, by a key that was made a moment ago; key file and signature fit each other."""
    stick = room.media / "stick"
    room.sh(
        "rm -rf forged && mkdir forged && cd forged && ssh-keygen -q -t ed25519 -N '' -C '' -f key\n"
        f"cp {STICK}/SHA256SUMS . && ssh-keygen -q -Y sign -f key -n casparian-stick@v1 SHA256SUMS"
    )
    forged = room.home / "forged"
    with _away(stick / "SHA256SUMS.sig"), _away(stick / "trust" / "release.pub"):
        shutil.copyfile(forged / "SHA256SUMS.sig", stick / "SHA256SUMS.sig")
        shutil.copyfile(forged / "key.pub", stick / "trust" / "release.pub")
        yield
