"""Tagging rules and the globs they are written in.

    *       any characters but `/`          ?       one character but `/`
    **      any number of folders           [a-z]   one of these; [!a-z] none of these

Rules:
  * A glob without a `/` is about the file's name, wherever the file lies: `*.evtx`.
  * A glob with a `/` is about the whole path below the evidence root: `Windows/**/*.evtx`, or
    `/notes.txt` for a file right in the root. A `/` at the end means everything below that folder.
  * Upper and lower case are the same: evidence comes from systems that do not tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from casparian.display import show
from casparian.domain.files import Rule
from casparian.errors import UsageError

PATTERN_CHARACTERS_MAX: Final = 1_000


def apply(rules: Iterable[Rule], display_path: str) -> tuple[tuple[str, str], ...]:
    """Tags that rules give to a path, each once, with its reason: `("evtx", "rule 3: `*.evtx`")`.

    Args:
        rules: in the order they were added; the first rule that gives a tag is its reason.
        display_path: relative to the evidence root, with `/`.
    """
    tags: dict[str, str] = {}
    for rule in rules:
        if rule.tag not in tags and matches(rule.pattern, display_path):
            tags[rule.tag] = f"rule {rule.rule_id}: `{show(rule.pattern)}`"
    return tuple(tags.items())


def matches(pattern: str, display_path: str) -> bool:
    """Whether a path below the evidence root matches a glob.

    Raises:
        UsageError: `glob.invalid`.
    """
    expression, name_only = _compiled(pattern)
    subject = display_path.rpartition("/")[2] if name_only else display_path.lstrip("/")
    return expression.fullmatch(subject) is not None


def expression(pattern: str) -> tuple[str, bool]:
    """A glob as a regular expression (RE2 syntax, ignoring case), and whether it is about the name only.

    Raises:
        UsageError: `glob.invalid`.
    """
    compiled, name_only = _compiled(pattern)
    return compiled.pattern, name_only


def check_pattern(pattern: str) -> None:
    """Refuse a glob that cannot be used.

    Raises:
        UsageError: `glob.invalid`.
    """
    _compiled(pattern)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> tuple[re.Pattern[str], bool]:
    """The glob as a regular expression, and whether it is about the name only."""
    if not pattern.strip("/") or len(pattern) > PATTERN_CHARACTERS_MAX:
        raise _invalid(pattern, f"expected 1 to {PATTERN_CHARACTERS_MAX} characters")
    name_only = "/" not in pattern
    whole = pattern.lstrip("/")
    if whole.endswith("/"):
        whole += "**"
    parts = re.sub(r"(^|/)\*\*(/\*\*)+(?=/|$)", r"\1**", whole).split("/")
    written = ""
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if part == "**":
            written += ".+" if last else "(?:[^/]+/)*"
        else:
            try:
                written += _part(part) + ("" if last else "/")
            except ValueError as error:  # `[z-a]`
                raise _invalid(pattern, str(error)) from error
    return re.compile(written, re.IGNORECASE | re.DOTALL), name_only


def _invalid(pattern: str, why: str) -> UsageError:
    return UsageError(
        f"`{show(pattern, width=60)}` is not a glob: {why}",
        hint="write for example `*.evtx` or `Windows/**/Logs/*`",
        code="glob.invalid",
    )


def _part(part: str) -> str:
    """One path component as a regular expression."""
    expression = ""
    position = 0
    while position < len(part):
        character = part[position]
        if character == "*":
            expression += "" if expression.endswith("[^/]*") else "[^/]*"
        elif character == "?":
            expression += "[^/]"
        elif character == "[" and (end := _class_end(part, position)) > 0:
            expression += _set(part[position + 1 : end])
            position = end
        else:
            expression += re.escape(character)
        position += 1
    return expression


def _set(content: str) -> str:
    """A `[…]` as a regular expression that matches no `/`, without look-ahead: RE2 has none."""
    negated = content.startswith("!")
    items = "^/" if negated else ""
    position = int(negated)
    while position < len(content):
        first = last = content[position]
        if content[position + 1 : position + 2] == "-" and position + 2 < len(content):
            last = content[position + 2]
            position += 2
        position += 1
        if first > last:
            raise ValueError(f"the range {first}-{last} is empty")
        if first <= "/" <= last and not negated:  # `+-9` goes over the `/`; the ends cannot be one
            items += _range(first, ".") + _range("0", last)
        else:
            items += _range(first, last)
    return f"[{items}]"


def _range(first: str, last: str) -> str:
    escaped = [f"\\{c}" if c in "\\[]^-&~|" else c for c in (first, last)]
    return escaped[0] if first == last else "-".join(escaped)


def _class_end(part: str, start: int) -> int:
    """Where the `]` of a `[…]` is, or -1 when the bracket is a plain character."""
    first = start + (2 if part[start + 1 : start + 2] == "!" else 1)
    return part.find("]", first + 1)
