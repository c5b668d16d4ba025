"""The crates that are linked into our native module, their licences and their texts.

What is linked is what `cargo tree` says without development, build and macro crates; hashes are those of Cargo.lock, which are
of the archives in the registry. The texts are taken from the registry's sources on this machine, which a build has brought there.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bundle import licences, spdx
from bundle.licences import Licence
from bundle.platforms import ROOT, Platform
from bundle.steps import Failed, run

_MODULE: Final = "casparian-python"
_TEXT: Final = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
_TEXT_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Crate:
    """One crate in the native module."""

    name: str
    version: str
    sha256: str | None  # of its archive; `None` for our own and for Rust's standard library
    licence: Licence
    own: bool = False

    @property
    def purl(self) -> str:
        """Its package URL."""
        kind = "generic" if self.name == "rust-std" else "cargo"
        return f"pkg:{kind}/{self.name}@{self.version}"


def linked(platform: Platform, root: Path = ROOT) -> list[Crate]:
    """The crates of the native module of a platform, and Rust's standard library, sorted by name.

    Raises:
        spdx.NotAllowed: one of them is outside of what we ship, or there is no text of its licence.
        Failed: cargo does not know them; build once with network.
    """
    target = rust_target(platform)
    names = _names(target, root)
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    packages: list[dict[str, Any]] = json.loads(
        run([*command, "--filter-platform", target], cwd=root)
    )["packages"]
    known = {(each["name"], each["version"]): each for each in packages}
    sums = {
        (each["name"], each["version"]): each.get("checksum")
        for each in tomllib.loads((root / "Cargo.lock").read_text("utf-8"))["package"]
    }
    found = [_crate(known[one], sums.get(one), root) for one in sorted(names)]
    return sorted([*found, _standard_library()], key=lambda each: (each.name, each.version))


def rust_target(platform: Platform) -> str:
    """What Rust calls the platform."""
    if platform.glibc is None:
        return "x86_64-pc-windows-msvc"
    return f"{platform.machine}-unknown-linux-gnu"


def _names(target: str, root: Path) -> set[tuple[str, str]]:
    said = run(
        [
            *("cargo", "tree", "--locked", "--offline", "--package", _MODULE, "--target", target),
            *("--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"),
            *("--features", "pyo3/extension-module"),
        ],
        cwd=root,
    )
    found = set()
    for line in said.splitlines():
        match = re.match(r"(\S+) v(\S+)", line)
        if match is None:
            raise Failed(f"cargo tree says `{line}`")
        if "(proc-macro)" not in line:
            found.add((match[1], match[2]))
    return found


def _crate(package: dict[str, Any], checksum: str | None, root: Path) -> Crate:
    name, version = package["name"], package["version"]
    stated = str(package["license"] or "").replace("/", " OR ")
    folder = Path(package["manifest_path"]).parent
    own = folder.is_relative_to(root)
    files = _texts(root if own else folder) or licences.texts_kept(name)
    try:
        taken = spdx.allowed(stated)
    except spdx.NotAllowed as error:
        raise spdx.NotAllowed(f"crate {name} {version}: {error}") from error
    if not files:
        raise spdx.NotAllowed(
            f"crate {name} {version} ships no text of its licence ({stated});"
            f" put it into offline-wheels/texts/{name}/"
        )
    licence = Licence(stated=stated, taken=taken, files=files)
    return Crate(name=name, version=version, sha256=checksum, licence=licence, own=own)


def _standard_library() -> Crate:
    """Rust's own library is linked as well; its texts come with the compiler, or are kept here."""
    said = run(["rustc", "--version", "--verbose"])
    match = re.search(r"^release: (\S+)$", said, re.MULTILINE)
    if match is None:
        raise Failed("rustc does not say its version")
    documents = Path(run(["rustc", "--print", "sysroot"]).strip()) / "share/doc/rust"
    files = {
        path.name: path.read_bytes()
        for path in [
            documents / "COPYRIGHT-library.html",
            documents / "licenses/MIT.txt",
            documents / "licenses/Apache-2.0.txt",
        ]
        if path.is_file()
    } or licences.texts_kept("rust-std")
    licence = Licence(stated="MIT OR Apache-2.0", taken="MIT", files=files)
    return Crate(name="rust-std", version=match[1], sha256=None, licence=licence)


def _texts(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.is_file()
        and _TEXT.match(path.name)
        and path.suffix != ".rs"
        and path.stat().st_size <= _TEXT_BYTES_MAX
    }
