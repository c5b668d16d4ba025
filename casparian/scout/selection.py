"""Which of the discovered files a run is about.

All conditions of a selection must hold; within one condition any of its values will do:

    --tag a --tag b        the file carries `a` or `b`
    --include G --include H    its path matches `G` or `H`
    --exclude G            its path matches none of these
    --since TIME           it was modified then or later; a modification time is only a hint, so the
    plan records its use --parser P             decided for each (file, parser) pair

Nothing is dropped in silence: each answer is a reason that the plan keeps.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from casparian import clock
from casparian.display import show
from casparian.protocol.control import Selection
from casparian.scout import rules


def why_not_selected(
    selection: Selection, *, display_path: str, tags: Collection[str], mtime_ns: int
) -> str | None:
    """Why a file is left out, for `explain`; `None` when it is selected.

    Args:
        selection: what was asked for.
        display_path: relative to the evidence root.
        tags: of the file, from content, rules and by hand.
        mtime_ns: modification time, nanoseconds since 1970.
    """
    if selection.tags and not set(selection.tags) & set(tags):
        return f"it does not have the tag {_any_of(selection.tags)}"
    if selection.include and not any(rules.matches(g, display_path) for g in selection.include):
        return f"its path does not match {_any_of(selection.include)}"
    for pattern in selection.exclude:
        if rules.matches(pattern, display_path):
            return f"its path matches the excluded {_any_of([pattern])}"
    if selection.since_ns is not None and mtime_ns < selection.since_ns:
        return f"it was last modified before {clock.iso(selection.since_ns)}"
    return None


def selects_parser(selection: Selection, *, name: str, version: str, directory: str) -> bool:
    """Whether a parser is wanted: no parser was named, or this one was: by name, name@version or folder."""
    if not selection.parsers:
        return True
    folders = {os.path.abspath(wanted) for wanted in selection.parsers if "/" in wanted}
    return not folders.isdisjoint({directory}) or not {name, f"{name}@{version}"}.isdisjoint(
        selection.parsers
    )


def _any_of(values: Collection[str]) -> str:
    return " or ".join(f"`{show(value, width=60)}`" for value in values)
