"""Asked of a finished runtime's own interpreter, which reads this file's text: which libraries it was compiled with.

It prints a JSON list of name, version and how the version was found; `null` for a version that nothing in the interpreter says.
Standard library only: whatever the interpreter is, this must run in it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
import sysconfig
from typing import Any

found: list[dict[str, str | None]] = []


def module(name: str) -> Any:
    """A module of the interpreter; `None`: it has none."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def note(name: str, version: object, how: str) -> None:
    """List a library."""
    said = str(version) if version else None
    found.append(
        {"name": name, "version": said, "how": how if said else "the library does not say it"}
    )


def attribute(name: str, holder: str, where: str) -> None:
    """List a library whose version is a module's attribute."""
    if (part := module(holder)) is not None:
        note(name, getattr(part, where, None), f"asked of the interpreter: {holder}.{where}")


def call(name: str, holder: str, function: str) -> None:
    """List a library that says its version by a function, which the extension module that uses it can reach."""
    part = module(holder)
    if part is None:
        return
    version = None
    try:
        asked = getattr(ctypes.CDLL(getattr(part, "__file__", None)), function)
        asked.restype = ctypes.c_char_p
        version = asked().decode("ascii").partition(",")[0]
    except (OSError, AttributeError):
        pass  # linked in without its name
    note(name, version, f"asked of the library: {function}()")


if (ssl := module("ssl")) is not None:
    note("openssl", ssl.OPENSSL_VERSION.split()[1], "asked of the interpreter: ssl.OPENSSL_VERSION")
attribute("sqlite", "sqlite3", "sqlite_version")
attribute("zlib", "zlib", "ZLIB_RUNTIME_VERSION")
if (expat := module("pyexpat")) is not None:
    note(
        "expat",
        expat.EXPAT_VERSION.partition("_")[2],
        "asked of the interpreter: pyexpat.EXPAT_VERSION",
    )
attribute("libmpdec", "_decimal", "__libmpdec_version__")
call("bzip2", "_bz2", "BZ2_bzlibVersion")
call("xz", "_lzma", "lzma_version_string")
call("libffi", "_ctypes", "ffi_get_version")  # libffi 3.5 and newer
call("zstd", "_zstd", "ZSTD_versionString")  # CPython 3.14 and newer
if module("_uuid") is not None:
    note("libuuid", None, "")
if (curses := module("_curses")) is not None:
    version = getattr(curses, "ncurses_version", None)
    note(
        "ncurses",
        ".".join(map(str, version[:2])) if version else None,
        "asked of the interpreter: curses.ncurses_version",
    )
if (line := module("readline")) is not None:
    edit = "libedit" in (line.__doc__ or "")
    note("libedit" if edit else "readline", None, "")
# Compiled in from CPython's own sources, which do not say which version they took.
if module("_blake2") is not None and sys.version_info < (3, 14):
    note("blake2", None, "")
if module("_sha3") is not None and sys.version_info < (3, 12):
    note("tiny_sha3", None, "")
if sys.version_info >= (3, 12):
    note("hacl-star", None, "")
if sys.version_info >= (3, 13) and sysconfig.get_config_var("WITH_MIMALLOC"):
    note("mimalloc", None, "")
print(json.dumps(sorted(found, key=lambda each: str(each["name"]))))
