"""Change one setting in a `config.toml` that a person wrote; the rest stays as it is.

A file is edited line by line, read again, and replaced by rename only if it then means exactly what
was asked. A layout that this cannot edit (inline tables, multi-line values) is left alone with an
error, never rewritten.
"""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from typing import Final

from casparian.config import (
    SCALARS,
    ConfigValue,
    check,
    flatten,
    read_file,
    scalar,
    split_parser_key,
    unknown_key,
)
from casparian.errors import UsageError
from casparian.paths import Home

_HEADER: Final = re.compile(r"\s*\[")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+\Z")


def set_value(home: Home, name: str, text: str, *, dry_run: bool = False) -> ConfigValue:
    """Write one setting (or with `dry_run` only check it) and return the value that was understood.

    Raises:
        UsageError: unknown key, wrong type, or a file layout that cannot be edited.
    """
    value: ConfigValue
    if name in SCALARS:
        value = check(name, text, f"`{name}`", text=True)
    elif _is_parser_key(name):
        value = scalar(text)
    else:
        raise unknown_key(name, str(home.config_file))
    _change(home, name, value, dry_run=dry_run)
    return value


def unset_value(home: Home, name: str) -> bool:
    """Remove one setting; `False` when the file does not have it."""
    if name not in SCALARS and not _is_parser_key(name):
        raise unknown_key(name, str(home.config_file))
    if name not in flatten(read_file(home.config_file), str(home.config_file)):
        return False
    _change(home, name, None)
    return True


def _is_parser_key(name: str) -> bool:
    return name.startswith("parsers.") and all(split_parser_key(name))


def _change(home: Home, name: str, value: ConfigValue | None, *, dry_run: bool = False) -> None:
    path = str(home.config_file)
    expected = flatten(read_file(home.config_file), path)
    if value is None:
        expected.pop(name)
    else:
        expected[name] = value
    before = _text(path)
    after = _edited(before, name, value)
    try:
        understood = flatten(tomllib.loads(after), path)
    except tomllib.TOMLDecodeError:
        understood = {}
    if understood != expected:
        raise UsageError(
            f"{path} is laid out in a way that cannot be edited automatically",
            code="config.layout",
            hint=f"edit `{name}` in it by hand",
            path=path,
        )
    if not dry_run:
        _replace(path, after)


def _edited(text: str, name: str, value: ConfigValue | None) -> str:
    lines = text.splitlines()
    if name in SCALARS:
        key, start, end = name, 0, _next_header(lines, 0)
    else:
        parser, key = split_parser_key(name)
        header = next((n for n, line in enumerate(lines) if _names(line, parser)), None)
        if header is None:
            lines += ([""] if lines else []) + [f"[parsers.{_quoted(parser)}]"]
            header = len(lines) - 1
        start, end = header + 1, _next_header(lines, header + 1)
    spelling = re.compile(rf'\s*(?:{re.escape(key)}|"{re.escape(key)}")\s*=')
    found = next((n for n in range(start, end) if spelling.match(lines[n])), None)
    if value is None:
        if found is not None:
            del lines[found]
    elif found is not None:
        lines[found] = f"{_quoted(key, bare=True)} = {_literal(value)}"
    else:
        while end > start and not lines[end - 1].strip():
            end -= 1
        lines.insert(end, f"{_quoted(key, bare=True)} = {_literal(value)}")
    return "\n".join(lines) + "\n"


def _next_header(lines: list[str], start: int) -> int:
    return next((n for n in range(start, len(lines)) if _HEADER.match(lines[n])), len(lines))


def _names(line: str, parser: str) -> bool:
    """Whether a line is the header of this parser's table, in either spelling."""
    bare = line.split("#", 1)[0].strip()
    return bare in {f"[parsers.{parser}]", f"[parsers.{_quoted(parser)}]"}


def _quoted(text: str, *, bare: bool = False) -> str:
    if bare and _BARE.match(text):
        return text
    return _literal(text)


def _literal(value: ConfigValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    return repr(value)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return ""


def _replace(path: str, text: str) -> None:
    """Put a whole new file in place: a reader sees the old or the new one, never a part."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    aside = f"{path}.{secrets.token_hex(4)}"
    with open(aside, "x", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(aside, path)
