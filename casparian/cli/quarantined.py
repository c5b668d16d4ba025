"""What the verbs of `quarantine` share: the filters, the open catalog, one row as lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from casparian.errors import UsageError

if TYPE_CHECKING:
    from casparian.cli.app import App
    from casparian.query.engine import Query
    from casparian.query.quarantine import Filter

F = TypeVar("F", bound=Callable[..., Any])


def filters(*, decides: bool = False) -> Callable[[F], F]:
    """The options that choose quarantined rows.

    Where a decision is made about them `--reason` is why, the code of a row is `--code` alone, and its state goes without
    saying.
    """
    codes = ("--code",) if decides else ("--reason", "--code")
    options = [
        click.option("--table", metavar="TABLE", help="Only rows that this table would have had"),
        click.option(
            "--parser", metavar="NAME", help="Only of this parser (name, or name@version)"
        ),
        click.option(
            *codes,
            "code",
            metavar="CODE",
            help="Only rows set aside for this reason, or family of reasons",
        ),
        click.option("--file", metavar="GLOB", help="Only of files whose path matches"),
    ]
    if not decides:
        options.append(
            click.option(
                "--state",
                type=click.Choice(["open", "accepted"]),
                help="Only rows that wait for somebody, or only accepted ones",
            )
        )

    def declare(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return declare


def chosen(rows: tuple[str, ...] = (), /, code: str | None = None, **options: str | None) -> Filter:
    """The filter that options and row ids describe.

    Raises:
        UsageError: `row.malformed`.
    """
    from casparian.query.quarantine import Filter
    from casparian.query.rows import read_row_id

    for row in rows:
        read_row_id(row)
    return Filter(rows=rows, reason=code, **options)


@contextmanager
def quarantine(app: App) -> Iterator[Query | None]:
    """The committed outputs of a home in which something was set aside; `None` where nothing ever was."""
    if not app.home.catalog.exists():
        yield None
        return
    from casparian.query.engine import Query
    from casparian.query.quarantine import is_there

    with Query(app.home) as query:
        yield query if is_there(query) else None


def nothing_matches() -> UsageError:
    """The filters leave nothing."""
    return UsageError(
        "no quarantined row matches",
        code="quarantine.none",
        hint="`casparian quarantine` shows what is there",
    )
