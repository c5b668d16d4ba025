"""A small wheelhouse of made wheels, with the source tree's lock that belongs to it."""

from __future__ import annotations

import hashlib
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

from bundle import locks, wheelfile, wheelhouse
from bundle.locks import Locked
from bundle.platforms import Platform

LINUX = Platform(
    name="linux-x86_64",
    python=(3, 11),
    resolve="x86_64-manylinux_2_28",
    machine="x86_64",
    glibc=(2, 28),
)
OWN_TAG = "cp311-abi3-manylinux_2_28_x86_64"


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    said_name: str | None = None,
    said_version: str | None = None,
    said_tag: str | None = None,
    licence: str | None = "MIT",
    text: bool = True,
    members: dict[str, bytes] | None = None,
) -> Path:
    """Write a wheel. What it says of itself may differ from its name."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = (
        f"Metadata-Version: 2.4\nName: {said_name or name}\nVersion: {said_version or version}\n"
    )
    metadata += f"License-Expression: {licence}\n" if licence else ""
    content = {
        f"{name}.py": b"value = 1\n",
        **(members or {}),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {said_tag or tag}\n".encode(),
        **({f"{info}/licenses/LICENSE": b"do as you like\n"} if text else {}),
    }
    content[f"{info}/RECORD"] = _record(content, f"{info}/RECORD")
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in content.items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return path


def _record(content: dict[str, bytes], own: str) -> bytes:
    lines = [
        f"{name},sha256={urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in content.items()
    ]
    return "\n".join([*lines, f"{own},,", ""]).encode()


def locked(path: Path) -> Locked:
    """The line of a lock for a wheel."""
    named = wheelfile.parse_name(path.name)
    return Locked(
        name=named.name,
        version=named.version,
        hashes=(hashlib.sha256(path.read_bytes()).hexdigest(),),
    )


class World:
    """A wheelhouse with two packages and our own wheel; `folder` stands for `offline-wheels/`."""

    def __init__(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "linux-x86_64"
        self.folder = tmp_path / "offline-wheels"
        (self.folder / "locks").mkdir(parents=True)
        self.pure = wheel(self.directory, "pure")
        self.compiled = wheel(self.directory, "compiled", tag="cp311-cp311-manylinux_2_17_x86_64")
        self.own = wheel(self.directory, wheelhouse.OWN, wheelhouse.own_version(), tag=OWN_TAG)
        self.write()

    def write(self) -> None:
        """Write locks and checksums for what lies there, as `make.py` would."""
        every = [locked(path) for path in sorted(self.directory.glob("*.whl"))]
        others = [each for each in every if each.name != wheelhouse.OWN]
        lock = self.folder / "locks" / "linux-x86_64.txt"
        lock.write_text(locks.write(others, "test"))
        wheelhouse.write_lists(self.directory, LINUX, every, [])

    def problems(self, *, strict: bool = False) -> list[str]:
        """What a check finds."""
        return wheelhouse.verify(self.directory, LINUX, self.folder, strict=strict).problems
