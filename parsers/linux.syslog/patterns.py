"""Regular expressions that are compiled when a line first needs them.

A guest lives for one job, and most files need few of them; compiling all of them takes a third of
what a fresh guest does with a small file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any


class Pattern:
    """A regular expression; `match`, `findall`, `finditer` and `sub` are those of the compiled one."""

    if TYPE_CHECKING:
        match: Any
        findall: Any
        finditer: Any
        sub: Any

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is not there yet: from the second use on, the method is the object's own.
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(re.compile(self._text, self._flags), name)
        setattr(self, name, method)
        return method
