"""Check packages that were just installed: each file against its package's own list, each name against the program's own.

An installer trusts what is in a wheel. Here every file must be in the `RECORD` of exactly one package with its right hash,
or be a `RECORD`; and no module may be named like one that the program or the standard library has: then another one would be
imported than the lock says.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import os
import shutil
import sys
from base64 import urlsafe_b64encode
from typing import Final

from casparian.display import show
from casparian.worker.faults import JobFault

_INFO: Final = ".dist-info"
_RECORD: Final = "RECORD"
_SCRIPTS: Final = "bin"
_SUFFIXES: Final = (".py", ".so")


def check(site: str) -> tuple[str, ...]:
    """Names that can be imported from here, top level. Scripts are removed: nobody starts them.

    Raises:
        JobFault: `env.record` or `env.conflict`.
    """
    shutil.rmtree(os.path.join(site, _SCRIPTS), ignore_errors=True)
    recorded: dict[str, str] = {}
    for name in sorted(os.listdir(site)):
        if name.endswith(_INFO):
            _read_record(site, name, recorded)
    for folder, folders, names in os.walk(site):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, site)
            if os.path.islink(path) or not (os.path.isdir(path) or os.path.isfile(path)):
                raise _altered(relative, "is no regular file")
            if name in names and not relative.endswith(f"{_INFO}/{_RECORD}"):
                _check_file(path, relative, recorded)
    if recorded:
        raise _altered(min(recorded), "is missing")
    modules = tuple(sorted(set(_modules(site))))
    for module in modules:
        _check_free(module)
    return modules


def _read_record(site: str, info: str, recorded: dict[str, str]) -> None:
    path = os.path.join(site, info, _RECORD)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _altered(f"{info}/{_RECORD}", "cannot be read") from error
    for name, digest, *_ in (row if len(row) > 1 else [*row, ""] for row in rows):
        relative = os.path.normpath(name)
        if (
            relative.startswith("..")
            or os.path.isabs(relative)
            or relative.split("/")[0] == _SCRIPTS
        ):
            continue  # scripts, which lie elsewhere; a file of such a name here would be unknown
        if relative == os.path.join(info, _RECORD):
            continue
        if relative in recorded:
            raise _altered(relative, "belongs to two packages")
        recorded[relative] = digest


def _check_file(path: str, relative: str, recorded: dict[str, str]) -> None:
    expected = recorded.pop(relative, None)
    if expected is None:
        raise _altered(relative, "is in no list")
    kind, _, digest = expected.partition("=")
    if kind not in ("sha256", "sha384", "sha512"):
        raise _altered(relative, "has no hash")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, kind).digest()
    if urlsafe_b64encode(found).rstrip(b"=").decode() != digest.rstrip("="):
        raise _altered(relative, "is not what its list says")


def _modules(site: str) -> list[str]:
    found = []
    for name in os.listdir(site):
        if os.path.isdir(os.path.join(site, name)):
            if not name.endswith((_INFO, ".libs", ".data")) and name.isidentifier():
                found.append(name)
        elif name.endswith(_SUFFIXES):
            found.append(name.partition(".")[0])
    return found


def _check_free(module: str) -> None:
    taken = module in sys.stdlib_module_names or module in sys.builtin_module_names
    try:
        taken = taken or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        taken = True
    if taken:
        raise JobFault(
            "env.conflict",
            f"a package of the environment has a module `{show(module)}`, and so has the program that it would run in",
        )


def _altered(relative: str, problem: str) -> JobFault:
    return JobFault("env.record", f"`{show(relative)}` of the environment {problem}")
