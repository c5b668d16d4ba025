"""Lock a platform's wheels, and get exactly what is locked: from another folder, or by pip from its index.

What is there and right is left alone, so a run that was interrupted goes on where it ended. pip is told not to read the user's
configuration and variables (the machine's `/etc/pip.conf` may name a mirror), resolves nothing and builds nothing; every file is
hashed here again before it takes its place.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bundle import locks, wheelfile
from bundle.locks import Locked
from bundle.platforms import FOLDER, ROOT, Platform, dotted
from bundle.steps import Failed, run, say, scratch
from bundle.wheelhouse import floor_of

_BATCH: Final = 6  # packages a run of pip: each run that ended is kept
_CONSTRAINTS: Final = ("runtime", "second-opinion", "tokens")


def get(
    platform: Platform,
    wanted: Sequence[Locked],
    out: Path,
    *,
    sources: Sequence[Path] = (),
    index: str | None = None,
    tell: Callable[[str], None] = say,
) -> int:
    """Have each locked wheel in a folder; how many were not there before.

    Args:
        platform: whose wheels.
        wanted: each takes the one wheel with one of its hashes.
        out: the folder; wheels that no line names any more are removed from it.
        sources: folders to take from instead of the network; then nothing is downloaded.
        index: address of a package index, instead of pip's own.
        tell: progress.

    Raises:
        Failed: a wheel cannot be had, or has another hash.
    """
    hashes = {digest for each in wanted for digest in each.hashes}
    present = set()
    for path in sorted(out.glob("*.whl")):
        digest = wheelfile.sha256(path)
        if digest in hashes:
            present.add(digest)
        elif wheelfile.parse_name(path.name).name != "casparian":
            tell(f"removing {path.name}: the lock does not name it")
            path.unlink()
    missing = [each for each in wanted if not present.intersection(each.hashes)]
    tell(f"{len(wanted) - len(missing)} of {len(wanted)} wheels of {platform.name} are there")
    if sources:
        _take(missing, sources, out)
    else:
        for at in range(0, len(missing), _BATCH):
            batch = missing[at : at + _BATCH]
            tell(f"getting {', '.join(f'{each.name} {each.version}' for each in batch)}")
            _download(platform, batch, out, index)
    return len(missing)


def _take(missing: Sequence[Locked], sources: Sequence[Path], out: Path) -> None:
    found = {
        wheelfile.sha256(path): path for folder in sources for path in sorted(folder.glob("*.whl"))
    }
    for each in missing:
        path = next((found[digest] for digest in each.hashes if digest in found), None)
        if path is None:
            named = ", ".join(str(folder) for folder in sources)
            raise Failed(f"{named} has no wheel of {each.name} {each.version} with the locked hash")
        with scratch(out) as fresh:
            copy = fresh / path.name
            shutil.copyfile(path, copy)
            _keep(copy, [each], out)


def _download(platform: Platform, batch: Sequence[Locked], out: Path, index: str | None) -> None:
    with scratch(out) as fresh:
        lock = fresh / "batch.txt"
        lock.write_text(locks.write(batch, "of one run"), "utf-8")
        major, minor = platform.python
        command = [
            *(
                sys.executable,
                "-m",
                "pip",
                "--isolated",
                "--disable-pip-version-check",
                "--no-input",
            ),
            *("download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"),
            *("--implementation", "cp", "--python-version", dotted(platform.python)),
            *("--abi", f"cp{major}{minor}", "--abi", "abi3", "--abi", "none"),
            *(part for tag in platform.pip_platforms() for part in ("--platform", tag)),
            *(("--index-url", index) if index else ()),
            *("--requirement", str(lock), "--dest", str(fresh)),
        ]
        run(command)
        made = sorted(fresh.glob("*.whl"))
        if len(made) != len(batch):
            raise Failed(f"pip brought {len(made)} wheels for {len(batch)} lines of the lock")
        for path in made:
            _keep(path, batch, out)


def _keep(path: Path, batch: Sequence[Locked], out: Path) -> None:
    """Put a wheel in its place, if its bytes are locked."""
    digest = wheelfile.sha256(path)
    if not any(digest in each.hashes for each in batch):
        raise Failed(f"{path.name} has the hash {digest}, which the lock does not name")
    path.chmod(0o644)
    os.replace(path, out / path.name)


def lock(
    platform: Platform,
    out: Path,
    *,
    index: str | None = None,
    folder: Path = FOLDER,
    root: Path = ROOT,
    tell: Callable[[str], None] = say,
) -> Path:
    """Write the platform's lock again: resolved by uv for its machine, in the versions of `requirements/`, one hash a package.

    The wheels that fit the platform are brought to `out`, since only they say which of a package's hashes is meant.

    Raises:
        Failed: uv is missing, something cannot be resolved, or one package has two wheels.
    """
    tell(f"resolving {platform.name}")
    with tempfile.TemporaryDirectory() as folder_of_uv:
        full = Path(folder_of_uv) / "full.txt"
        command = [
            *(_uv(), "pip", "compile", str(folder / "inputs.in"), "--quiet", "--no-config"),
            *(
                part
                for name in _CONSTRAINTS
                for part in ("--constraint", str(root / "requirements" / f"{name}.txt"))
            ),
            *("--python-version", dotted(platform.python), "--python-platform", platform.resolve),
            *("--only-binary", ":all:", "--generate-hashes", "--no-header", "--no-annotate"),
            *(("--index-url", index) if index else ()),
            *("--output-file", str(full)),
        ]
        run(command)
        wanted = locks.read(full)
    get(platform, wanted, out, index=index, tell=tell)
    digests = {wheelfile.sha256(path) for path in sorted(out.glob("*.whl"))}
    reduced = []
    for each in wanted:
        kept = tuple(sorted(digests.intersection(each.hashes)))
        if len(kept) != 1:
            raise Failed(
                f"{each.name} {each.version} has {len(kept)} wheels in {out} instead of one"
            )
        reduced.append(Locked(name=each.name, version=each.version, hashes=kept))
    path = folder / "locks" / f"{platform.name}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(locks.write(reduced, floor_of(platform)), "utf-8")
    tell(f"wrote {path.name}: {len(reduced)} packages")
    return path


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise Failed("locking needs uv: `pip install uv`, in an environment of its own or in .venv")
    return found
