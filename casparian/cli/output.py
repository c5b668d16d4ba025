"""Where a command's words go: data to stdout, all else to stderr, one JSON document at the end.

Rules:
  * Text that stems from evidence is passed through `display.show` by `table` and by whoever builds
    a line.
  * On a terminal tables are aligned, and what was shortened is said; in a pipe they are
    tab-separated and whole.
  * JSON is ASCII with escapes: no byte of evidence reaches a terminal as a control sequence.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from casparian.display import show

SCHEMA_VERSION: Final = 1
_BOLD: Final = "1"
_COLORS: Final = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "strong": _BOLD}


class Output:
    """The two streams of one command.

    Args:
        json: one document instead of text.
        quiet: nothing on stderr but errors.
        verbose: 1 says more, 2 shows tracebacks.
        color: colour is wanted; it is used on a terminal only.
        program: how the program was called, with its home, for what to type next.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        quiet: bool = False,
        verbose: int = 0,
        color: bool = True,
        program: str = "casparian",
    ) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self._color = color
        self._program = program

    @property
    def terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return sys.stdout.isatty()

    @property
    def live(self) -> bool:
        """Whether stderr is a terminal that may be drawn on."""
        return sys.stderr.isatty() and not self.quiet

    @property
    def color(self) -> bool:
        """Whether colour is wanted at all."""
        return self._color

    def emit(self, document: Mapping[str, Any], human: Callable[[], None]) -> None:
        """Answer: the document with `--json`, else what `human` prints."""
        if self.json:
            self.document(document)
        else:
            human()

    def document(self, document: Mapping[str, Any]) -> None:
        """Write the one JSON document."""
        text = to_json({"schema_version": SCHEMA_VERSION, **document}, pretty=self.terminal)
        sys.stdout.write(text + "\n")

    def line(self, text: str = "") -> None:
        """One line of data."""
        sys.stdout.write(text + "\n")

    def say(self, text: str) -> None:
        """One line beside the data."""
        if not self.quiet:
            sys.stderr.write(text + "\n")

    def detail(self, text: str) -> None:
        """One line that only `-v` shows."""
        if self.verbose:
            self.say(text)

    def hint(self, command: str, purpose: str = "") -> None:
        """What to type next: a command line that begins with `casparian`, and what it is for."""
        if not self.json:
            line = self._program + command.removeprefix("casparian")
            self.say(f"{self.paint('next', 'dim', sys.stderr)}   {line:<40}  {purpose}".rstrip())

    def paint(self, text: str, style: str, stream: Any = None) -> str:
        """Text in a style, where the stream is a terminal and colour is wanted."""
        target = sys.stdout if stream is None else stream
        if not self._color or not target.isatty():
            return text
        return f"\x1b[{_COLORS[style]}m{text}\x1b[0m"

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        remedy: str = "--json",
        headings: bool = True,
    ) -> None:
        """Rows under headings; numbers to the right.

        Args:
            columns: headings.
            rows: one sequence a row; `None` is empty.
            remedy: what to type to see what a narrow terminal cut off.
            headings: false continues a piped table.
        """
        cells = [[_cell(value, terminal=self.terminal) for value in row] for row in rows]
        if not self.terminal:
            if headings:
                self.line("\t".join(map(show, columns)))
            for row in cells:
                self.line("\t".join(row))
            return
        self._aligned(columns, cells, remedy)

    def _aligned(self, columns: Sequence[str], cells: list[list[str]], remedy: str) -> None:
        widths = [
            max([len(heading), *(len(row[n]) for row in cells)])
            for n, heading in enumerate(columns)
        ]
        import shutil

        room = shutil.get_terminal_size().columns
        cut = False
        while sum(widths) + 2 * (len(widths) - 1) > room and max(widths) > 12:
            widths[widths.index(max(widths))] -= 1
            cut = True
        right = [
            all(_is_number(row[n]) for row in cells) and bool(cells) for n in range(len(widths))
        ]
        self.line(self.paint(_laid([show(name) for name in columns], widths, right), "strong"))
        for row in cells:
            self.line(_laid(row, widths, right))
        if cut:
            self.say(
                f"some cells are shortened to fit this terminal; `{remedy}` or a pipe shows all"
            )


def count(number: int | None) -> str:
    """A number with separators on a terminal, plain in a pipe."""
    if number is None:
        return "-"
    return f"{number:,}".replace(",", " ") if sys.stdout.isatty() else str(number)


def plural(number: int, one: str, many: str | None = None) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}".replace(",", " ")


def to_json(document: Any, *, pretty: bool = False) -> str:
    """ASCII JSON text; numbers that JSON lacks (NaN, infinities) become their names."""
    import json as json_text

    indent = 2 if pretty else None
    try:
        return json_text.dumps(document, indent=indent, allow_nan=False, default=_plain)
    except ValueError:
        return json_text.dumps(_finite(document), indent=indent, default=_plain)


def _plain(value: Any) -> Any:
    """What the standard encoder does not know: bytes as hex, structs as objects."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    import msgspec

    return msgspec.to_builtins(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _cell(value: Any, *, terminal: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if terminal and abs(value) < 10**15 else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item, terminal=False) for item in value)
    return show(str(value))


def _is_number(text: str) -> bool:
    return not text or text.replace(" ", "").replace(".", "", 1).lstrip("-").isdigit()


def _laid(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = []
    for text, width, to_right in zip(row, widths, right, strict=True):
        fitted = show(text, width=width)
        parts.append(fitted.rjust(width) if to_right else fitted.ljust(width))
    return "  ".join(parts).rstrip()
