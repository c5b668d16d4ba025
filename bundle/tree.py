"""Make the version tree: what an installation's `versions/VERSION` holds, but for wheels, share and documents.

    python -m bundle.tree --out DIR --wheels DIR [--no-freeze] [--python TARBALL|PREFIX] [--jobs N]

    DIR/bin/casparian   starts the program
    DIR/app/            our code, compiled; absent with `--no-freeze`
    DIR/runtime/        CPython with plain wheels

`DIR.json` beside it says what it is and what it needs. Two trees of one commit, made from the same wheels by the same Python and
compiler, have the same bytes; `bundle.reproducible` compares them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bundle import freeze, inside, launcher, runtime
from bundle.elf import BadElfError, dotted, elf_files
from bundle.freeze import FreezeError
from bundle.runtime import RuntimeBuildError
from bundle.wheels import BadWheelError

KERNEL: Final = "5.13"  # Landlock, which confines guests


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a tree."""
    parser = argparse.ArgumentParser(
        prog="python -m bundle.tree", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="the tree; it must not exist")
    parser.add_argument("--wheels", type=Path, required=True, help="wheelhouse with lock.txt")
    parser.add_argument("--no-freeze", action="store_true", help="leave our code as it is")
    parser.add_argument("--python", type=Path, help="pinned tarball, or an installed prefix")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    parser.add_argument("--report", type=Path, help="keep the compiler's report here")
    given = parser.parse_args(arguments)
    try:
        found = make_tree(
            given.out,
            given.wheels,
            python=given.python,
            frozen=not given.no_freeze,
            jobs=given.jobs,
            report=given.report,
        )
    except (RuntimeBuildError, BadWheelError, BadElfError, FreezeError, OSError) as error:
        sys.stderr.write(f"bundle.tree: {error}\n")
        return 1
    sys.stdout.write(
        f"{given.out}: Python {found['python']}, {found['files']} files, {found['size_bytes'] >> 20} MiB;"
        f" runs with glibc {found['glibc']} and Linux {found['kernel']} or newer\n"
    )
    if not found["pinned"]:
        sys.stdout.write(
            "note: the interpreter is a copy of an installed one: for trying things out;"
            " bundle/python.toml names the one to hand out\n"
        )
    return 0


def make_tree(
    out: Path,
    wheelhouse: Path,
    *,
    python: Path | None = None,
    frozen: bool = True,
    jobs: int = 1,
    report: Path | None = None,
) -> dict[str, Any]:
    """Make a tree and the document beside it; returns that document.

    Raises:
        RuntimeBuildError, BadWheelError, BadElfError, FreezeError, OSError: it cannot be made; nothing is at `out` then.
    """
    out = Path(os.path.abspath(out))
    if out.exists():
        raise RuntimeBuildError(f"`{out}` is there already")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        tree = Path(folder, "tree")
        with runtime.interpreter(python) as (prefix, origin, pinned):
            packages, libraries, version = runtime.make_runtime(
                tree / "runtime", prefix, wheelhouse, _say
            )
            if frozen:
                work = out.with_name(f".{out.name}-freeze")
                freeze.freeze(tree, prefix, work, jobs=jobs, report=report, say=_say)
        held = inside.ask(lambda code: runtime.ask(tree / "runtime", code))
        launcher.write_launcher(tree, frozen=frozen)
        _settle(tree)
        document = {
            "schema_version": 1,
            "platform": f"linux-{platform.machine()}",
            "python": version,
            "python_origin": origin,
            "pinned": pinned,
            "frozen": frozen,
            "compiler": freeze.compiler() if frozen else None,
            **_floors(tree),
            "kernel": KERNEL,
            "packages": list(packages),
            "libraries": list(libraries),
            "inside": held,
            **_extent(tree),
        }
        os.rename(tree, out)
    describe(out).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return document


def describe(tree: Path) -> Path:
    """The document beside a tree."""
    return tree.with_name(tree.name + ".json")


def _floors(tree: Path) -> dict[str, Any]:
    """The glibc that is needed, which file needs it, and what else the machine must have."""
    floor: tuple[int, ...] = ()
    by = ""
    own = {path.name for path in tree.rglob("*.so*")}
    lent: set[str] = set()
    for path, elf in elf_files(tree):
        if elf.floor("GLIBC") > floor:
            floor, by = elf.floor("GLIBC"), path.relative_to(tree).as_posix()
        lent |= {name for name in elf.needed if name not in own and not runtime.GLIBC.match(name)}
        own.add(elf.soname)
    unknown = sorted(name for name in lent if name not in own and not runtime.BASE.match(name))
    if unknown:
        raise RuntimeBuildError(
            f"nothing brings {', '.join(unknown)}, which files of the tree need"
        )
    return {
        "glibc": dotted(floor),
        "glibc_by": by,
        "needs_libraries": sorted(name for name in lent if name not in own),
    }


def _extent(tree: Path) -> dict[str, int]:
    sizes = [path.stat().st_size for path in tree.rglob("*") if path.is_file()]
    return {"size_bytes": sum(sizes), "files": len(sizes)}


def _settle(tree: Path) -> None:
    """One mode for files, one for programs and folders, one time; and nothing but files and folders.

    Raises:
        RuntimeBuildError: there is a link, or something stranger.
    """
    programs = {
        tree / "bin" / "casparian",
        tree / "app" / "casparian",
        tree / "runtime/bin/python3",
    }
    folders = {}
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise RuntimeBuildError(f"`{path.relative_to(tree)}` is neither a file nor a folder")
        os.chmod(path, 0o755 if path.is_dir() or path in programs else 0o644)
        os.utime(path, (0, 0))
        folded = path.relative_to(tree).as_posix().lower()
        if folded in folders:
            raise RuntimeBuildError(f"two names differ in case alone: `{folded}`")
        folders[folded] = path
        if not re.fullmatch(r"[\x20-\x7e]+", path.name):
            raise RuntimeBuildError(f"`{path.name!r}` is no name that FAT keeps")
    os.chmod(tree, 0o755)  # noqa: S103 - for everybody to run


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
