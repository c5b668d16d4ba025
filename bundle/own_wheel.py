"""Build our own wheel for this machine, the same bytes for the same commit, with the tag that its symbols ask for.

What could differ is held: the date is the commit's, the paths of sources and of cargo's registry are replaced in the module, the
profile and the crates are locked, and the archive is written again in order. maturin looks at the symbols of the linked module
and refuses a tag that they do not keep.
The release key comes by `CASPARIAN_RELEASE_KEY_FILE`, which the native build reads.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final

from bundle import locks, platforms, rewheel
from bundle.platforms import ROOT, Platform
from bundle.steps import Failed, run, say, scratch

TARGET: Final = Path("build/appliance/target")  # of cargo, unless CARGO_TARGET_DIR says otherwise
_ZIP_EPOCH: Final = 315532800  # 1980: archives hold no date before


def build(
    platform: Platform,
    out: Path,
    *,
    zig: bool = False,
    root: Path = ROOT,
    tell: Callable[[str], None] = say,
) -> Path:
    """Build the wheel into a folder and give its path.

    Args:
        platform: must be this machine's.
        out: where the wheel goes; a wheel of ours that is there already is replaced.
        zig: link for the platform's floor with the zig of `requirements/zig.txt`, instead of against this system's C library.
        root: the source tree.
        tell: progress.

    Raises:
        Failed: the build failed, or this machine is another platform.
    """
    if platform.name != platforms.host():
        raise Failed(
            f"our own wheel of {platform.name} needs a native builder; this is {platforms.host()}"
        )
    tell(f"building our own wheel for {platform.name}")
    with scratch(out) as fresh:
        command = [_maturin(), "build", "--release", "--locked", "--out", str(fresh)]
        if zig:
            if platform.glibc is None:
                raise Failed("zig links for a C library's floor, and this platform has none")
            _check_zig(root)
            floor = f"manylinux_{platform.glibc[0]}_{platform.glibc[1]}"
            command += ["--zig", "--compatibility", floor]
        run(command, environment(root), root)
        made = sorted(fresh.glob("*.whl"))
        if len(made) != 1:
            raise Failed(f"maturin made {len(made)} wheels instead of one")
        rewheel.rewrite(made[0], source_date(root), root)
        made[0].chmod(0o644)
        final = out / made[0].name
        os.replace(made[0], final)
    for other in out.glob("casparian-*.whl"):
        if other != final:
            other.unlink()
    tell(f"built {final.name}")
    return final


def _check_zig(root: Path) -> None:
    """Return when the zig that is installed is the one that is locked: another one links other bytes.

    Raises:
        Failed: it is another, or there is none.
    """
    (wanted,) = locks.read(root / "requirements/zig.txt")
    try:
        found = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        found = "none"
    if found != wanted.version:
        raise Failed(
            f"--zig needs {wanted.name} {wanted.version}, here is {found}:"
            " `pip install --require-hashes -r requirements/zig.txt`"
        )


def environment(root: Path = ROOT) -> dict[str, str]:
    """What makes the build the same anywhere."""
    cargo_home = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
    remapped = [
        f"--remap-path-prefix={root}=/casparian",
        f"--remap-path-prefix={cargo_home}=/cargo",
    ]
    target = os.environ.get("CARGO_TARGET_DIR") or str(root / TARGET)
    found = {
        "SOURCE_DATE_EPOCH": str(source_date(root)),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(remapped),
        "CARGO_TARGET_DIR": target,
        "CARGO_INCREMENTAL": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    if sys.prefix != sys.base_prefix:
        found["VIRTUAL_ENV"] = sys.prefix
    return found


def source_date(root: Path = ROOT) -> int:
    """Seconds since 1970: `SOURCE_DATE_EPOCH`, else the date of the commit, else 1980.

    Raises:
        Failed: the variable holds no number.
    """
    told = os.environ.get("SOURCE_DATE_EPOCH", "")
    if told:
        if not told.isdecimal():
            raise Failed(f"SOURCE_DATE_EPOCH is `{told}` instead of seconds since 1970")
        return max(int(told), _ZIP_EPOCH)
    if not (root / ".git").exists():
        return _ZIP_EPOCH
    return max(int(run(["git", "log", "-1", "--format=%ct"], cwd=root)), _ZIP_EPOCH)


def _maturin() -> str:
    beside = Path(sys.executable).parent / "maturin"
    found = str(beside) if beside.exists() else shutil.which("maturin")
    if found is None:
        raise Failed("maturin is not installed: `make` installs it from requirements/build.txt")
    return found
