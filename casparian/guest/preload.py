"""What a guest may need is imported once, in the zygote, so that a fork has it without opening a file.

Parsers get the standard library's text, time and compression modules, pyarrow with its compute
functions, and every time zone. Nothing here starts a thread: a process with a second thread must
not fork.
"""

from __future__ import annotations

import gc
import importlib
import sys
import zoneinfo
from typing import Final

# fmt: off
_MODULES: Final = (
    "encodings.ascii", "encodings.latin_1", "encodings.cp1250", "encodings.cp1251",
    "encodings.cp1252", "encodings.cp437", "encodings.cp850", "encodings.cp932",
    "encodings.utf_16", "encodings.utf_16_le", "encodings.utf_16_be", "encodings.utf_32",
    "encodings.utf_8_sig", "encodings.idna", "encodings.hex_codec", "_strptime", "array", "ast",
    "base64", "binascii", "bisect", "bz2", "calendar", "codecs", "collections", "configparser",
    "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "email",
    "email.parser", "email.policy", "enum", "fnmatch", "fractions", "functools", "gzip",
    "hashlib", "heapq", "html", "html.parser", "io", "ipaddress", "itertools", "json",
    "linecache", "lzma", "math", "mimetypes", "numbers", "operator", "plistlib", "posixpath",
    "pprint", "quopri", "random", "re", "shlex", "sqlite3", "stat", "statistics", "string",
    "stringprep", "struct", "tarfile", "tempfile", "textwrap", "time", "traceback", "types",
    "typing", "unicodedata", "urllib.parse", "uuid", "warnings", "weakref", "xml.dom.minidom",
    "xml.etree.ElementTree", "xml.sax", "zipfile", "zlib", "zoneinfo", "pyarrow", "pyarrow.ipc",
    "pyarrow.compute", "casparian._native", "casparian.sdk", "casparian.sdk.run",
    "casparian.guest.job",
)
# fmt: on

_zones: list[
    zoneinfo.ZoneInfo
] = []  # holds them: the cache of `zoneinfo` lets go of what nobody holds


def preload() -> int:
    """Import everything and freeze it; returns how many modules are loaded."""
    for name in _MODULES:
        importlib.import_module(name)
    _load_zones()
    _exercise_arrow()
    gc.collect()
    gc.freeze()
    return len(sys.modules)


def _load_zones() -> None:
    zoneinfo.reset_tzpath(to=())  # the locked `tzdata` package, not whatever this machine has
    for name in sorted(zoneinfo.available_timezones()):
        try:
            _zones.append(zoneinfo.ZoneInfo(name))
        except (
            OSError,
            ValueError,
        ):  # a machine may have a broken file among them: that zone is not known
            continue


def _exercise_arrow() -> None:
    """Touch what pyarrow sets up on first use."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    batch = pa.record_batch({"text": pa.array(["a", None])})
    pa.ipc.read_record_batch(batch.serialize(), batch.schema)
    pc.sum(pa.array([1, 2]))
