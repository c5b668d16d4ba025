"""Write a working skeleton of a Python parser: it runs at once and shows every part once."""

from __future__ import annotations

import os
import re
from typing import Final

from casparian.errors import UsageError

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*\Z")

_MANIFEST: Final = """\
schema_version = 1

name = "{name}"
version = "0.1.0"
kind = "python"
entry = "parser.py:parse"
# Files with one of these tags are taken; `casparian rule add GLOB {tag}` gives it.
tags = ["{tag}"]
# What the ledger counts, and the independent walk that says how many there are.
unit = "line"
account = "lines"
doc = "One sentence: which evidence, which tables."

[config.separator]
type = "string"
default = " "
doc = "Between the key and the value of a line"
"""

_CONTRACT: Final = """\
schema_version = 1

[outputs.{table}]
main = true
doc = "One row a line."

[[outputs.{table}.columns]]
name = "line_number"
type = "uint64"
nullable = false
minimum = 1
doc = "From 1, blank lines counted"

[[outputs.{table}.columns]]
name = "key"
type = "utf8"
nullable = false
doc = "Up to the separator"

[[outputs.{table}.columns]]
name = "value"
type = "utf8"
doc = "After the separator"
"""

_PARSER: Final = '''\
"""Read lines of `key value` text.

Every row names its bytes (offset, length); a line that is not `key value` is set aside with a
reason. Terminators belong to the line's span, so that rows, quarantine and blank lines tile the
file and the ledger balances.
"""

from __future__ import annotations

from collections.abc import Iterator

from casparian.sdk import Context, RowBuilder

_READ_BYTES = 1 << 20


def parse(ctx: Context) -> Iterator[object]:
    """Entry of the parser: yields rows of `{table}`."""
    separator = str(ctx.config["separator"])
    rows = RowBuilder("{table}")
    for number, (offset, line) in enumerate(lines(ctx), start=1):
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8").rstrip("\\r\\n")
        except UnicodeDecodeError as error:
            ctx.quarantine(offset, len(line), "{slug}.undecodable", str(error))
            continue
        key, found, value = text.partition(separator)
        if not found:
            ctx.quarantine(offset, len(line), "{slug}.no_separator", "the line has no separator")
            continue
        yield from rows.append(offset, len(line), 0, line_number=number, key=key, value=value)
    yield from rows.flush()


def lines(ctx: Context) -> Iterator[tuple[int, bytes]]:
    """Each line with its offset, terminator included, in bounded memory for ordinary lines."""
    offset, rest = 0, b""
    while data := ctx.source.read(_READ_BYTES):
        *whole, rest = (rest + data).split(b"\\n")
        for line in whole:
            yield offset, line + b"\\n"
            offset += len(line) + 1
    if rest:
        yield offset, rest
'''

_README: Final = """\
# {name}

What it reads, what it gives, and by which rules.

Try it, with no sentinel and no installation:

    casparian parser test {directory} {directory}/samples/sample.txt

- `parser.toml`: name, version, the tags it takes, settings
- `contract.toml`: tables and columns; a value that breaks it is set aside
- `parser.py`: the generator `parse(ctx)`
- `samples/`: small files that show each rule
"""

_SAMPLE: Final = "colour green\nsize 12\n\nthis-line-has-no-separator\nlast line-without-newline"


def write_skeleton(name: str, into: str) -> tuple[str, tuple[str, ...]]:
    """Write the folder `into/name` and return its path and the files in it.

    Raises:
        UsageError: the name is not one, or the folder exists.
    """
    if not _NAME.match(name):
        raise UsageError(
            f"`{name}` is not a parser name",
            code="parser.name",
            hint="lower-case words joined by `.`, `-` or `_`, such as `acme.access_log`",
        )
    directory = os.path.abspath(os.path.join(into, name))
    table = re.sub(r"[._-]+", "_", name)
    words = {
        "name": name,
        "tag": re.sub(r"[._-]+", "-", name),
        "table": table,
        "slug": table,
        "directory": os.path.relpath(directory),
    }
    files = {
        "parser.toml": _MANIFEST,
        "contract.toml": _CONTRACT,
        "parser.py": _PARSER,
        "README.md": _README,
        "samples/sample.txt": _SAMPLE,
    }
    try:
        os.makedirs(os.path.join(directory, "samples"))
    except FileExistsError:
        raise UsageError(
            f"`{directory}` exists already",
            code="parser.exists",
            hint="choose another name or `--into`",
        ) from None
    except OSError as error:
        raise UsageError(
            f"`{directory}` cannot be made: {error.strerror}", code="parser.folder"
        ) from error
    for path, template in files.items():
        text = template if path.startswith("samples/") else _filled(template, words)
        with open(os.path.join(directory, path), "x", encoding="utf-8") as handle:
            handle.write(text)
    return directory, tuple(files)


def _filled(template: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        template = template.replace("{" + word + "}", value)
    return template
