"""Read what callgrind writes: instructions by function ("Callgrind Format Specification" of the Valgrind manual)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_NAMED = re.compile(r"fn=\((\d+)\)(?: (.*))?$")
_CALLED = re.compile(r"cfn=\((\d+)\)(?: (.*))?$")
_HASH = re.compile(r"::h[0-9a-f]{16}$")


def self_costs(lines: Iterable[str]) -> Counter[str]:
    """Instructions executed in each function itself, callees not included."""
    names: dict[str, str] = {}
    costs: Counter[str] = Counter()
    current = ""
    is_call = False
    for raw in lines:
        line = raw.rstrip("\n")
        if named := _NAMED.match(line):
            current = _name(names, named)
        elif called := _CALLED.match(line):
            _name(names, called)
        elif line.startswith("calls="):
            is_call = True  # the next line is the inclusive cost of the callee
        elif line and (line[0].isdigit() or line[0] in "+-*"):
            if not is_call:
                costs[current] += int(line.split()[-1])
            is_call = False
    return costs


def _name(names: dict[str, str], found: re.Match[str]) -> str:
    """A name is written once, with a number that stands for it from then on."""
    number, name = found.groups()
    if name:
        names[number] = _HASH.sub("", name.partition("'")[0])
    return names[number]
