"""What a guest may need is imported once, in the zygote, so that a fork has it without opening a file.

A guest can open nothing, so this is all that a parser can import: the standard library's text, time and compression modules with
every codec and time zone, pyarrow with its compute functions, and what `preload` in its parser.toml names. (`ctypes`: many
parsers of binary formats describe them with its structures.) Nothing here starts a thread: a process with a second thread must
not fork.
"""

from __future__ import annotations

import gc
import importlib
import linecache
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import zoneinfo

# fmt: off
_MODULES: Final = (
    "_strptime", "abc", "argparse", "array", "ast", "base64", "binascii", "bisect", "bz2",
    "calendar", "cmath", "codecs", "collections", "collections.abc", "concurrent.futures",
    "concurrent.futures.thread", "configparser", "contextlib", "contextvars", "copy", "csv",
    "ctypes", "ctypes.util", "ctypes.wintypes", "dataclasses", "datetime", "decimal", "difflib",
    "email", "email.header", "email.message", "email.parser", "email.policy", "email.utils",
    "encodings.idna", "enum", "errno", "fnmatch", "fractions", "functools", "glob", "graphlib",
    "gzip", "hashlib", "heapq", "hmac", "html", "html.entities", "html.parser", "inspect", "io",
    "ipaddress", "itertools", "json", "keyword", "linecache", "locale", "logging",
    "logging.handlers", "lzma", "mailbox", "math", "mimetypes", "mmap", "ntpath", "numbers",
    "operator", "os", "pathlib", "pickle", "platform", "plistlib", "posixpath", "pprint", "queue",
    "quopri", "random", "re", "resource", "secrets", "select", "selectors", "shlex", "shutil", "socket",
    "sqlite3", "stat", "statistics", "string", "stringprep", "struct", "tarfile", "tempfile",
    "textwrap", "threading", "time", "timeit", "token", "tokenize", "traceback", "types", "typing",
    "unicodedata", "urllib.parse", "uuid", "warnings", "weakref", "xml.dom.minidom",
    "xml.etree.ElementTree", "xml.parsers.expat", "xml.sax", "xml.sax.saxutils", "zipfile", "zlib",
    "zoneinfo", "pyarrow", "pyarrow.acero", "pyarrow.compute", "pyarrow.ipc", "casparian._native",
    "casparian.guest.job", "casparian.guest.parse", "casparian.sdk", "casparian.sdk.run",
)
_LEAN_MODULES: Final = (
    "casparian._native", "casparian.guest.job", "linecache", "tokenize", "traceback", "warnings",
)
# fmt: on
READER_PREFIX: Final = "reader:"
_READERS: Final = frozenset({"evtx", "pyevtx", "pyregf"})  # other readers, for a second opinion
_CODECS_ELSEWHERE: Final = ("encodings.mbcs", "encodings.oem")  # of Windows

_zones: list[
    zoneinfo.ZoneInfo
] = []  # holds them: the cache of `zoneinfo` lets go of what nobody holds


_tasks = -1


def threads() -> int:
    """How many threads this process has; also behind walls that let it open nothing, once it was asked before them."""
    global _tasks
    if _tasks < 0:
        _tasks = os.open("/proc/self/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return len(os.listdir(_tasks))


class PreloadError(Exception):
    """A module that a parser asks for cannot be imported."""


def preload_lean() -> int:
    """Import what guests need that run no parser and send no rows, and freeze it; returns how many modules are loaded.

    Such a process is a third as large, and a fork of it costs as much less.
    """
    for name in _LEAN_MODULES:
        importlib.import_module(name)
    linecache.getlines(__file__)
    importlib.import_module("casparian.guest.rehearsal").account()
    gc.collect()
    gc.freeze()
    return len(sys.modules)


def of_environment(name: str) -> bool:
    """Whether a module that a parser asks for can only be one of its environment."""
    if name.startswith(READER_PREFIX):
        return False
    return name.partition(".")[0] not in {"pyarrow", *sys.stdlib_module_names}


def preload_environment(modules: Sequence[str], site: str) -> int:
    """Import modules of an environment, and freeze them; returns how many modules are loaded.

    For a zygote that has put up its walls (`_native.wall_imports`): this runs the packages' own code.

    Raises:
        PreloadError: an import fails, or it brings in what neither the environment nor the program has.
    """
    before = set(sys.modules)
    sys.path.append(site)  # the last: it takes the place of nothing
    importlib.invalidate_caches()
    for name in modules:
        _import(name)
    if _has_children():
        raise PreloadError("the parser's packages start processes when they are imported")
    for name in set(sys.modules) - before:
        origin = getattr(getattr(sys.modules[name], "__spec__", None), "origin", None) or ""
        if _is_elsewhere(name, origin, site):
            raise PreloadError(
                f"the parser's packages import `{name}`, which its environment does not have: add it to the lock"
            )
    sys.path.remove(site)
    gc.collect()
    gc.freeze()
    return len(sys.modules)


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _is_elsewhere(name: str, origin: str, site: str) -> bool:
    """Whether a module came from packages that happen to be installed beside the program: no hash covers those."""
    top = name.partition(".")[0]
    if top in {"pyarrow", "casparian", *sys.stdlib_module_names} or origin.startswith(f"{site}/"):
        return False
    return "site-packages" in origin or "dist-packages" in origin


def preload(extra: Sequence[str] = ()) -> int:
    """Import everything and freeze it; returns how many modules are loaded.

    Args:
        extra: what parsers name under `preload`: modules of the standard library or of pyarrow.

    Raises:
        PreloadError: one of `extra` is something else, or its import fails.
    """
    for name in _MODULES:
        importlib.import_module(name)
    for name in _codecs():
        importlib.import_module(name)
    for name in extra:
        _import_extra(name)
    _load_zones()
    _exercise_library()
    _exercise_arrow()
    importlib.import_module("casparian.guest.rehearsal").parse()
    gc.collect()
    gc.freeze()
    return len(sys.modules)


def _codecs() -> list[str]:
    """Every text encoding: evidence comes in all of them."""
    import encodings
    import pkgutil

    found = pkgutil.iter_modules(encodings.__path__, "encodings.")
    return [module.name for module in found if module.name not in _CODECS_ELSEWHERE]


def _import_extra(name: str) -> None:
    reader = name.removeprefix(READER_PREFIX)
    if reader != name and reader in _READERS:
        name = reader  # no parser.toml can name it so: what a parser runs on is in its identity
    elif of_environment(name):
        raise PreloadError(
            f"`preload` names `{name}`: only modules of the standard library, of pyarrow and of the parser's locked"
            " environment can be loaded"
        )
    _import(name)


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:
        raise PreloadError(f"`preload` names `{name}`: {type(error).__name__}: {error}") from error
    if threads() != 1:
        raise PreloadError(f"`preload` names `{name}`: it starts threads, so nothing can fork")


def _load_zones() -> None:
    import zoneinfo

    zoneinfo.reset_tzpath(to=())  # the locked `tzdata` package, not whatever this machine has
    for name in sorted(zoneinfo.available_timezones()):
        try:
            _zones.append(zoneinfo.ZoneInfo(name))
        except (
            OSError,
            ValueError,
        ):  # a machine may have a broken file among them: that zone is not known
            continue


def _exercise_library() -> None:
    """Touch what opens files, or loads code, on first use."""
    import hashlib
    import sqlite3
    import time

    hashlib.new("sha256", b"").hexdigest()  # OpenSSL reads its configuration
    time.tzset()
    time.strptime("2000-01-01", "%Y-%m-%d")  # the names of the locale
    with sqlite3.connect(":memory:") as database:
        database.execute("SELECT date('now')").fetchone()
    database.close()
    "a".encode("idna")
    linecache.getlines(__file__)


def _exercise_arrow() -> None:
    """Touch what pyarrow sets up on first use."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    batch = pa.record_batch({"text": pa.array(["a", None])})
    pa.ipc.read_record_batch(batch.serialize(), batch.schema)
    pc.sum(pa.array([1, 2]))
