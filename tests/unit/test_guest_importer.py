"""A parser is imported from verified bytes, and from nothing else."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator

import pytest

from casparian.guest.importer import PACKAGE, EntryError, load_entry


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    finders = list(sys.meta_path)
    yield
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_modules_of_an_artifact_import_each_other() -> None:
    files = {
        "parser.py": b"from . import util\nfrom .deep.down import f\ndef parse(ctx): return util.X + f()\n",
        "util.py": b"X = 1\n",
        "deep/down.py": b"from ..util import X\ndef f(): return X + 1\n",
        "README.md": b"# not code",
    }
    assert load_entry(files, "parser.py:parse")(None) == 3


def test_package_with_an_init_is_imported_once() -> None:
    files = {
        "parser.py": b"from .inner import VALUE\ndef parse(ctx): return VALUE\n",
        "inner/__init__.py": b"from .a import VALUE\n",
        "inner/a.py": b"VALUE = []\n",
    }
    assert load_entry(files, "parser.py:parse")(None) is load_entry(files, "parser.py:parse")(None)


def test_module_of_an_artifact_shadows_nothing() -> None:
    files = {
        "parser.py": b"import json\nimport colorsys\ndef parse(ctx): return json, colorsys\n",
        "json.py": b"EVIL = True\n",
        "colorsys.py": b"EVIL = True\n",
    }
    modules = load_entry(files, "parser.py:parse")(None)
    assert not any(hasattr(module, "EVIL") for module in modules)


def test_traceback_shows_the_parsers_own_line() -> None:
    files = {"parser.py": b"def parse(ctx):\n    return 1 / ctx  # the line\n"}
    entry = load_entry(files, "parser.py:parse")
    try:
        entry(0)
    except ZeroDivisionError as error:
        step = traceback.extract_tb(error.__traceback__)[-1]
    assert (step.filename, step.lineno, step.line) == (
        "parser:parser.py",
        2,
        "return 1 / ctx  # the line",
    )


@pytest.mark.parametrize(
    "entry", ["parser.py", "parser.py:", "none.py:parse", "parser.py:none", "data.txt:parse"]
)
def test_entry_that_is_not_there_is_named(entry: str) -> None:
    with pytest.raises(EntryError, match=r"py|function"):
        load_entry({"parser.py": b"def parse(ctx): ...\n", "data.txt": b""}, entry)


def test_syntax_error_passes_through() -> None:
    with pytest.raises(SyntaxError):
        load_entry({"parser.py": b"def parse(:\n"}, "parser.py:parse")
