"""Make the appliance: wheelhouse, version tree, stick. `make appliance` calls this.

python -m bundle.appliance [--release N] [--key PEM] [--python TARBALL|PREFIX] [--no-freeze] [--out STICK]

Each step is a program of its own; this one only puts them in order, says what each took, and leaves out what would make
the same again: the tree is kept while commit, working tree, wheels, interpreter and form are the same, so that another
release of the same sources costs only the packing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

_REPOSITORY: Final = Path(__file__).resolve().parents[1]
_INPUTS: Final = "inputs.sha256"  # beside the tree: what it was made of
_MIB: Final = 1 << 20


class StepFailedError(Exception):
    """A step of the build ended with an error, which it has printed."""


def main() -> int:
    """Build a stick."""
    parser = argparse.ArgumentParser(prog="python -m bundle.appliance", description=__doc__)
    parser.add_argument("--release", type=int, help="number of this build, more than any before")
    parser.add_argument(
        "--key", type=Path, help="release key (PKCS#8 PEM); else the one for trying"
    )
    parser.add_argument("--python", help="interpreter: a tarball or an installed prefix")
    parser.add_argument("--no-freeze", action="store_true", help="a launcher in place of Nuitka")
    parser.add_argument("--work", type=Path, default=_REPOSITORY / "build" / "appliance")
    parser.add_argument("--wheels", type=Path, help="a wheelhouse that is there already")
    parser.add_argument("--out", type=Path, help="the stick [default: WORK/stick]")
    parser.add_argument("extra", nargs="*", help="after `--`: passed on to bundle.build")
    arguments = parser.parse_args()
    try:
        stick = build(
            arguments.work,
            out=arguments.out or arguments.work / "stick",
            release=arguments.release,
            key=arguments.key,
            python=arguments.python,
            freeze=not arguments.no_freeze,
            wheels=arguments.wheels,
            extra=tuple(arguments.extra),
        )
    except StepFailedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"the stick is in `{stick}`: {_size(stick) // _MIB} MiB, {_files(stick)} files\n"
        f"next: print `{stick / 'CARD.txt'}`, and copy everything in `{stick}` to the stick\n"
    )
    return 0


def build(
    work: Path,
    *,
    out: Path,
    release: int | None = None,
    key: Path | None = None,
    python: str | None = None,
    freeze: bool = True,
    wheels: Path | None = None,
    extra: tuple[str, ...] = (),
) -> Path:
    """Build a stick; the folder it is in.

    Raises:
        StepFailedError: a step failed.
    """
    environment = dict(os.environ)
    work, out = work.resolve(), out.resolve()
    if key is not None:
        key = key.resolve()
        environment["CASPARIAN_RELEASE_KEY_FILE"] = str(key)
    if wheels is not None:
        wheels = wheels.resolve()
    else:
        name = f"linux-{platform.machine()}"
        wheels = work / "wheels" / name
        _step(
            "wheelhouse",
            [sys.executable, "offline-wheels/make.py", "--platform", name, "--out", str(wheels)],
            environment,
            wheels,
        )
    tree = work / ("tree" if freeze else "tree-plain")
    stamp = work / f"{tree.name}.{_INPUTS}"
    inputs = _inputs(wheels, python=python, freeze=freeze)
    if tree.is_dir() and stamp.exists() and stamp.read_text(encoding="ascii") == inputs:
        sys.stdout.write(f"{'tree':<11} is there, of the same inputs\n")
    else:
        stamp.unlink(missing_ok=True)
        if tree.exists():
            shutil.rmtree(tree)
        command = [sys.executable, "-m", "bundle.tree", "--out", str(tree), "--wheels", str(wheels)]
        command += [] if freeze else ["--no-freeze"]
        command += ["--python", python] if python else []
        _step("tree", command, environment, tree)
        stamp.write_text(inputs, encoding="ascii")
    if out.exists():
        shutil.rmtree(out)
    command = [sys.executable, "-m", "bundle.build", "--tree", str(tree), "--wheels", str(wheels)]
    command += ["--out", str(out)]
    command += ["--release", str(release)] if release is not None else []
    command += ["--key", str(key)] if key is not None else []
    _step("stick", [*command, *extra], environment, out)
    return out


def _step(name: str, command: list[str], environment: dict[str, str], made: Path) -> None:
    sys.stdout.write(f"{name:<11} …\n")
    sys.stdout.flush()
    started = time.monotonic()
    done = subprocess.run(command, cwd=_REPOSITORY, env=environment, check=False)
    if done.returncode != 0:
        raise StepFailedError(f"{name}: exit {done.returncode} of `{' '.join(command)}`")
    seconds = time.monotonic() - started
    sys.stdout.write(
        f"{name:<11} {seconds:6.1f} s  {_size(made) // _MIB:5d} MiB  {_files(made):5d} files\n"
    )


def _inputs(wheels: Path, *, python: str | None, freeze: bool) -> str:
    """Hash of all that a tree is made of."""
    digest = hashlib.sha256(json.dumps([python, freeze, sys.version]).encode())
    for path in sorted(wheels.glob("*.txt")):  # locks, which name every wheel by its hash
        digest.update(path.read_bytes())
    for command in (["git", "rev-parse", "HEAD"], ["git", "diff", "HEAD"]):
        done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, check=False)
        digest.update(done.stdout)
    return digest.hexdigest()


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
