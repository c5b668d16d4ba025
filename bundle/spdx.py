"""Judge licence expressions (SPDX, annex D of its specification) against what we ship: MIT, BSD, Apache, LGPL, PSF, MPL."""

from __future__ import annotations

import re
from typing import Final

# By identifier. MIT-0 is MIT without its condition; see docs/adr/0011-licences.md.
ALLOWED: Final = frozenset(
    {
        *("MIT", "MIT-0"),
        *("BSD-2-Clause", "BSD-3-Clause"),
        "Apache-2.0",
        *("LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later"),
        *("PSF-2.0", "Python-2.0"),
        "MPL-2.0",
    }
)
# An exception only ever adds rights.
_EXCEPTIONS: Final = frozenset({"LLVM-exception"})
# What packages from before licence expressions write instead, in `License` or as a classifier's last part.
_SPOKEN: Final = {
    "mit license": "MIT",
    "the mit license": "MIT",
    "bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "apache software license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.1-or-later",
}
_TOKEN: Final = re.compile(r"\s*(?:(\(|\))|([A-Za-z0-9.+:-]+))")
_DEPTH_MAX: Final = 32


class NotAllowed(ValueError):
    """An expression that cannot be satisfied with what is allowed, or cannot be read."""


def allowed(expression: str) -> str:
    """The licences that we take of an expression, sorted and joined by `AND`: of a choice the first that is allowed.

    Raises:
        NotAllowed: with the reason.
    """
    reader = _Reader(expression)
    taken = reader.choice(0)
    reader.end()
    if taken is None:
        raise NotAllowed(f"`{expression}` is outside MIT, BSD, Apache, LGPL, PSF and MPL")
    return " AND ".join(sorted(taken))


def spoken(text: str) -> str | None:
    """The expression for what an older package says of its licence; `None` for what nobody knows."""
    return _SPOKEN.get(" ".join(text.lower().split()))


class _Reader:
    """Recursive descent; each rule gives the licences taken, or `None` when it cannot be satisfied."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._tokens: list[str] = []
        at = 0
        text = expression.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise NotAllowed(f"`{expression[:80]}` is no licence expression")
            self._tokens.append(match[1] or match[2])
            at = match.end()

    def choice(self, depth: int) -> frozenset[str] | None:
        taken = self._all_of(depth)
        while self._take("OR"):
            other = self._all_of(depth)
            taken = other if taken is None else taken
        return taken

    def end(self) -> None:
        if self._tokens:
            raise NotAllowed(f"`{self._text[:80]}` is no licence expression")

    def _all_of(self, depth: int) -> frozenset[str] | None:
        taken = self._one(depth)
        while self._take("AND"):
            other = self._one(depth)
            taken = None if taken is None or other is None else taken | other
        return taken

    def _one(self, depth: int) -> frozenset[str] | None:
        if self._take("("):
            if depth == _DEPTH_MAX:
                raise NotAllowed("a licence expression is nested too deep")
            taken = self.choice(depth + 1)
            if not self._take(")"):
                raise NotAllowed(f"`{self._text[:80]}` has an open parenthesis")
            return taken
        if not self._tokens or self._tokens[0] in {"AND", "OR", "WITH", ")"}:
            raise NotAllowed(f"`{self._text[:80]}` is no licence expression")
        name = self._tokens.pop(0)
        if not self._take("WITH"):
            return frozenset({name}) if name in ALLOWED else None
        exception = self._tokens.pop(0) if self._tokens else ""
        return (
            frozenset({f"{name} WITH {exception}"})
            if name in ALLOWED and exception in _EXCEPTIONS
            else None
        )

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0] == token:
            self._tokens.pop(0)
            return True
        return False
