"""Read a TOML document key by key: each mistake names its file, its key and what was expected.

A `Table` remembers which keys were asked for; `finish()` refuses the others and names the closest
known one. Documents are small and come from people or from a parser's author: every value is
checked for its type, nothing is converted silently.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from casparian.display import show
from casparian.errors import ContractError

BYTES_MAX: Final = 1024 * 1024
SCHEMA_VERSION: Final = 1

Kind = Literal["contract", "manifest"]


class Table:
    """One TOML table, with the path that leads to it."""

    def __init__(self, values: dict[str, Any], *, file: str, kind: Kind, path: str = "") -> None:
        self.file = file
        self.kind = kind
        self.path = path
        self._values = values
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str | None = None) -> str:
        """A string; required when there is no default."""
        value = self._take(key, "a string", required=default is None)
        if value is None:
            return default or ""
        if not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def optional_text(self, key: str) -> str | None:
        """A string, or nothing."""
        value = self._take(key, "a string", required=False)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value not in choices:
            raise self.error(
                key,
                f"`{show(value, width=60)}` is none of {quoted(choices)}",
                closest(value, choices),
            )
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        """`true` or `false`."""
        value = self._take(key, "true or false", required=False)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def integer(self, key: str, default: int, *, minimum: int, maximum: int) -> int:
        """A whole number within bounds, both inclusive."""
        expected = f"a whole number from {minimum} to {maximum}"
        value = self._take(key, expected, required=False)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise self.wrong(key, value, expected)
        return value

    def number(self, key: str) -> int | float | None:
        """A finite number, or nothing."""
        value = self._take(key, "a number", required=False)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self.wrong(key, value, "a finite number")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of different strings, or nothing."""
        value = self._take(key, "a list of strings", required=False)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, value, "a list of strings")
        if len(set(value)) != len(value):
            raise self.error(key, "names a value twice")
        return tuple(value)

    def raw(self, key: str) -> Any:
        """Whatever is there, or nothing; the caller checks it."""
        return self._take(key, "a value", required=False)

    def table(self, key: str) -> Table | None:
        """A nested table, or nothing."""
        value = self._take(key, "a table", required=False)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, value, "a table")
        return self._child(value, self.where(key))

    def named_tables(self) -> Iterable[tuple[str, Table]]:
        """Every key of this table with the table it holds, for tables whose keys are names."""
        for key, value in self._values.items():
            self._known.append(key)
            if not isinstance(value, dict):
                raise self.wrong(key, value, "a table")
            yield key, self._child(value, self.where(key))

    def tables(self, key: str) -> list[Table]:
        """A list of tables: `[[key]]` or `key = [{…}, …]`; empty when it is not there."""
        value = self._take(key, "a list of tables", required=False)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, value, "a list of tables")
        return [
            self._child(item, f"{self.where(key)}[{index}]") for index, item in enumerate(value)
        ]

    def finish(self) -> None:
        """Refuse every key that was not asked for."""
        for key in self._values:
            if key not in self._known:
                raise self.error(
                    key,
                    f"is not a known key, expected one of {quoted(sorted(self._known))}",
                    closest(key, self._known),
                    code="key",
                )

    def where(self, key: str) -> str:
        """Dotted path of a key of this table."""
        shown = show(key, width=80)
        return f"{self.path}.{shown}" if self.path else shown

    def error(
        self, key: str, problem: str, hint: str | None = None, *, code: str = "value"
    ) -> ContractError:
        """The error for one key; its code is `contract.` or `manifest.` and a word."""
        return ContractError(
            f"`{show(self.file)}`: `{self.where(key)}` {problem}",
            hint=hint,
            code=f"{self.kind}.{code}",
            file=self.file,
            key=self.where(key),
        )

    def wrong(self, key: str, value: object, expected: str) -> ContractError:
        """The error for a value of the wrong kind."""
        return self.error(key, f"is `{show(repr(value), width=60)}`, expected {expected}")

    def _take(self, key: str, expected: str, *, required: bool) -> Any:
        self._known.append(key)
        if key in self._values:
            return self._values[key]
        if not required:
            return None
        spelt = [name for name in self._values if name not in self._known]
        match = difflib.get_close_matches(key, spelt, n=1)
        hint = (
            f"did you mean `{key}` where it says `{show(match[0], width=60)}`?" if match else None
        )
        raise self.error(key, f"is missing, expected {expected}", hint, code="key")

    def _child(self, values: dict[str, Any], path: str) -> Table:
        return Table(values, file=self.file, kind=self.kind, path=path)


def read(raw: bytes, *, file: str, kind: Kind) -> Table:
    """Parse a TOML document and check its `schema_version`.

    Raises:
        ContractError: `contract.syntax` or `manifest.syntax` (not UTF-8, not TOML, over 1 MiB),
            `.version`.
    """
    try:
        if len(raw) > BYTES_MAX:
            raise ValueError(f"larger than {BYTES_MAX} bytes")
        values = tomllib.loads(raw.decode("utf-8").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise _syntax(file, kind, f"not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise _syntax(file, kind, show(str(error), width=200)) from error
    table = Table(values, file=file, kind=kind)
    version = table.raw("schema_version")
    if version is None:
        raise table.error(
            "schema_version",
            "is missing",
            f"begin the file with `schema_version = {SCHEMA_VERSION}`",
            code="key",
        )
    if isinstance(version, bool) or version != SCHEMA_VERSION:
        raise table.error(
            "schema_version",
            f"is `{show(repr(version), width=30)}`, this program reads version {SCHEMA_VERSION}",
            code="version",
        )
    return table


def closest(value: str, known: Iterable[str]) -> str | None:
    """`did you mean …?` for a word that is nearly a known one."""
    match = difflib.get_close_matches(value, list(known), n=1)
    return f"did you mean `{match[0]}`?" if match else None


def quoted(words: Iterable[str]) -> str:
    """Words in backticks, separated by commas."""
    return ", ".join(f"`{show(word, width=60)}`" for word in words)


def _syntax(file: str, kind: Kind, why: str) -> ContractError:
    return ContractError(
        f"`{show(file)}` is not readable as TOML: {why}", code=f"{kind}.syntax", file=file
    )
