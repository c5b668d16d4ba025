"""Import a parser from the bytes that the host hashed: its folder is never opened by the guest.

The files become one package, `casparian_parser`; they import each other relatively. Names outside of that package are never
answered here, so a parser's `json.py` shadows nothing.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import marshal
import sys
from collections.abc import Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any, Final

PACKAGE: Final = "casparian_parser"
_ORIGIN: Final = "parser:"


class EntryError(Exception):
    """The artifact has no such entry."""


class MemoryImporter(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads modules of one artifact.

    Args:
        files: content by relative path, forward slashes.
        compiled: what `compiled_modules` made of some of the same files, in another guest.
    """

    def __init__(self, files: Mapping[str, bytes], compiled: Mapping[str, bytes]) -> None:
        self._compiled = compiled
        self._modules: dict[str, tuple[str, bytes, bool]] = {PACKAGE: ("__init__.py", b"", True)}
        for path, content in sorted(files.items()):
            if not path.endswith(".py"):
                continue
            parts = path[:-3].split("/")
            is_package = parts[-1] == "__init__"
            parents = parts[:-1]
            for depth in range(len(parents)):  # a folder without __init__.py is a package too
                name = ".".join([PACKAGE, *parents[: depth + 1]])
                self._modules.setdefault(
                    name, ("/".join(parents[: depth + 1]) + "/__init__.py", b"", True)
                )
            name = ".".join([PACKAGE, *(parents if is_package else parts)])
            self._modules[name] = (path, content, is_package)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Spec of a module of the artifact; `None` for every other name."""
        del path, target
        found = self._modules.get(fullname)
        if found is None:
            return None
        return importlib.util.spec_from_loader(
            fullname, self, origin=_ORIGIN + found[0], is_package=found[2]
        )

    def is_package(self, fullname: str) -> bool:
        """Whether the name is a folder or an `__init__.py`."""
        return self._found(fullname)[2]

    def get_source(self, fullname: str) -> str:
        """Source text, for tracebacks."""
        return importlib.util.decode_source(self._found(fullname)[1])

    def get_code(self, fullname: str) -> CodeType:
        """Compiled module; a `SyntaxError` passes through."""
        path, content, _ = self._found(fullname)
        known = self._compiled.get(path)
        if known is not None:
            code = marshal.loads(known)  # noqa: S302 - of a guest, for a guest: as trusted as the parser's own text
            assert isinstance(code, CodeType)
            return code
        return _compile(path, content)

    def _found(self, fullname: str) -> tuple[str, bytes, bool]:
        try:
            return self._modules[fullname]
        except KeyError:
            raise ImportError(f"the parser has no module {fullname}", name=fullname) from None


def _compile(path: str, content: bytes) -> CodeType:
    return compile(content, _ORIGIN + path, "exec", dont_inherit=True)


def compiled_modules(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every module of an artifact, compiled and marshalled; nothing of it is run.

    A module that cannot be compiled is left out: whoever imports it compiles it anew and sees why.
    """
    made = {}
    for path, content in files.items():
        if path.endswith(".py"):
            try:
                made[path] = marshal.dumps(_compile(path, content))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
    return made


def load_entry(
    files: Mapping[str, bytes], entry: str, compiled: Mapping[str, bytes] | None = None
) -> Any:
    """Import `file.py:function` of an artifact and return the function.

    Raises:
        EntryError: no such file, or no such function in it. What the module itself raises passes through.
    """
    path, _, function = entry.partition(":")
    if path not in files or not path.endswith(".py") or not function:
        raise EntryError(f"entry `{entry}`: expected `file.py:function` of the parser's folder")
    sys.meta_path.insert(0, MemoryImporter(files, compiled or {}))
    module = importlib.import_module(".".join([PACKAGE, *path[:-3].split("/")]))
    found = getattr(module, function, None)
    if not callable(found):
        raise EntryError(f"`{path}` has no function `{function}`")
    return found
