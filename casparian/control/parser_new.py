"""Write a working skeleton of a parser, in Python or as a program: it runs at once and shows every part once."""

from __future__ import annotations

import os
import re
from typing import Final

from casparian import installation
from casparian.domain.parsers import ParserKind
from casparian.errors import UsageError

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*\Z")

_MANIFEST: Final = """\
schema_version = 1

name = "{name}"
version = "0.1.0"
kind = "{kind}"
entry = "{entry}"
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
{parts}
- `samples/`: small files that show each rule
"""

_PYTHON_PARTS: Final = """\
- `parser.py`: the generator `parse(ctx)`
- `tests/`: what it must give for the samples: `python -m pytest {directory}/tests`"""

_PROGRAM_PARTS: Final = """\
- `src/main.rs`: the parser; `src/bridge.rs`: what it says to Casparian and hears from it
- `build.sh`: makes `bin/x86_64-linux` from them, one static program

An unsigned program never runs, not even in `parser test`: sign it first."""

_TEST: Final = '''\
"""What `{name}` must give for its samples."""

from __future__ import annotations

from pathlib import Path

from casparian.control.parser_trial import try_parser

FOLDER = Path(__file__).parents[1]
SAMPLE = (FOLDER / "samples" / "sample.txt").read_bytes()


def test_each_line_is_a_row_or_set_aside() -> None:
    found = try_parser(FOLDER, SAMPLE)
    rows = found.tables["{table}"]
    assert rows["line_number"].to_pylist() == [1, 2, 5]
    assert rows["key"].to_pylist() == ["colour", "size", "last"]
    assert rows["value"].to_pylist() == ["green", "12", "line-without-newline"]
    assert found.quarantine["reason"].to_pylist() == ["{slug}.no_separator"]


def test_every_row_names_its_bytes() -> None:
    rows = try_parser(FOLDER, SAMPLE).tables["{table}"]
    spans = zip(rows["@offset"].to_pylist(), rows["@length"].to_pylist(), strict=True)
    keys = rows["key"].to_pylist()
    for (offset, length), key in zip(spans, keys, strict=True):
        assert SAMPLE[offset : offset + length].startswith(key.encode())


def test_the_separator_is_a_setting() -> None:
    found = try_parser(FOLDER, b"colour=green\\n", {"separator": "="})
    assert found.tables["{table}"]["value"].to_pylist() == ["green"]
'''

_BUILD: Final = """\
#!/bin/sh
# One static program: a guest can open no library. Needs rustc, and the C library's static part (libc6-dev).
set -eu
cd "$(dirname "$0")"
mkdir -p bin
rustc --edition 2024 -O -C target-feature=+crt-static -C strip=symbols -o bin/x86_64-linux src/main.rs
"""

_SAMPLE: Final = "colour green\nsize 12\n\nthis-line-has-no-separator\nlast line-without-newline"


def write_skeleton(
    name: str, into: str, kind: ParserKind = ParserKind.PYTHON
) -> tuple[str, tuple[str, ...]]:
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
        "kind": kind.value,
    }
    files = {"parser.toml": _MANIFEST, "contract.toml": _CONTRACT}
    if kind is ParserKind.EXECUTABLE:
        words |= {"entry": "bin/x86_64-linux", "parts": _PROGRAM_PARTS}
        files |= {f"src/{source}": _program(source) for source in ("main.rs", "bridge.rs")}
        files |= {"build.sh": _BUILD}
    else:
        words |= {"entry": "parser.py:parse", "parts": _PYTHON_PARTS}
        files |= {"parser.py": _PARSER, f"tests/test_{table}.py": _TEST}
    files |= {"README.md": _README, "samples/sample.txt": _SAMPLE}
    try:
        os.makedirs(directory)
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
        verbatim = path.startswith(("samples/", "src/"))
        where = os.path.join(directory, path)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "x", encoding="utf-8") as handle:
            handle.write(template if verbatim else _filled(template, words))
        if path.endswith(".sh"):
            os.chmod(where, 0o755)  # noqa: S103 - the author's own, to be run
    return directory, tuple(files)


def _program(name: str) -> str:
    """A source of the program, as it comes with this package."""
    return (installation.package() / "control" / "program" / name).read_text(encoding="utf-8")


def _filled(template: str, words: dict[str, str]) -> str:
    for _ in range(2):  # a word may stand in another one
        for word, value in words.items():
            template = template.replace("{" + word + "}", value)
    return template
