"""What all commands share: global options, help in one shape, the `App` they get.

    casparian --json run DIR        casparian run DIR --json        are the same

Global options are stored on the root context, so a command's function never sees them; it asks
`App`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from casparian.cli.app import App, Globals

F = TypeVar("F", bound=Callable[..., Any])

GLOBAL_HELP: Final = "Everywhere"
_GLOBAL_NAMES: Final = frozenset({"home", "json", "quiet", "verbose", "no_color"})


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a global option that was typed here; one that was not typed leaves what an outer level said."""
    given = ctx.find_root().ensure_object(Globals)
    if value is None or value is False or value == 0:
        return
    if param.name == "verbose":
        given.verbose += value
    elif param.name is not None:
        setattr(given, param.name, value)


def _global_options() -> list[click.Option]:
    def option(*names: str, help: str, **more: Any) -> click.Option:  # noqa: A002 - click's own word
        return click.Option(names, help=help, expose_value=False, callback=_store, **more)

    return [
        option(
            "--home",
            metavar="DIR",
            help="Home directory [default: $CASPARIAN_HOME, else ~/.casparian_flow]",
        ),
        option("--json", is_flag=True, help="One JSON document on stdout, at the end"),
        option("--quiet", "-q", is_flag=True, help="Nothing on stderr but errors"),
        option("--verbose", "-v", count=True, help="Say more; twice shows tracebacks"),
        option("--no-color", is_flag=True, help="No colour (also NO_COLOR)"),
    ]


class _WithGlobals(click.Command):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.params.extend(_global_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, the global ones in a section of their own."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                (shared if param.name in _GLOBAL_NAMES else own).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        with formatter.section(GLOBAL_HELP):
            formatter.write_dl(shared)


class Command(_WithGlobals):
    """A command that takes the global options too."""


class Group(_WithGlobals, click.Group):
    """A noun with verbs below it.

    Args:
        default: the verb that a first word which is no verb belongs to (`jobs ID` is `jobs show
            ID`).
    """

    command_class = Command

    def __init__(self, *arguments: Any, default: str | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._default = default

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; a word that is none goes to the default verb, or is an error."""
        word = args[0]
        if self.get_command(ctx, word) is not None:
            return super().resolve_command(ctx, args)
        if self._default is not None:
            return super().resolve_command(ctx, [self._default, *args])
        import difflib

        close = difflib.get_close_matches(word, self.list_commands(ctx), n=1, cutoff=0.5)
        meant = f"; did you mean `{close[0]}`?" if close else ""
        raise click.UsageError(f"no command `{word}`{meant}", ctx)


def pass_app(function: F) -> F:
    """Give a command's function an `App` as its first argument."""

    def with_app(*arguments: Any, **named: Any) -> Any:
        ctx = click.get_current_context()
        return function(App.of(ctx.find_root().ensure_object(Globals)), *arguments, **named)

    with_app.__name__ = function.__name__
    with_app.__doc__ = function.__doc__
    if hasattr(function, "__click_params__"):
        with_app.__click_params__ = function.__click_params__  # type: ignore[attr-defined]  # where click keeps options
    return with_app  # type: ignore[return-value]  # it has one argument less, which click fills


def group(name: str, *, default: str | None = None, bare: bool = False) -> Callable[[F], Group]:
    """Declare a noun; `bare` says that it does something without a verb."""

    def declare(function: F) -> Group:
        made: Group = click.command(
            name, cls=Group, default=default, invoke_without_command=bare, no_args_is_help=not bare
        )(function)
        return made

    return declare


def peek(arguments: Sequence[str]) -> Globals:
    """Global options as far as they can be read from a command line that may be wrong."""
    found = Globals()
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word == "--json":
            found.json = True
        elif word in ("--quiet", "-q"):
            found.quiet = True
        elif word == "--no-color":
            found.no_color = True
        elif word == "--verbose":
            found.verbose += 1
        elif word.startswith("-v") and set(word[1:]) == {"v"}:
            found.verbose += len(word) - 1
        elif word == "--home":
            found.home = next(words, None)
        elif word.startswith("--home="):
            found.home = word.removeprefix("--home=")
    return found


def output_of(ctx: click.Context) -> App:
    """The `App` of a context, for code that is no command."""
    return App.of(ctx.find_root().ensure_object(Globals))
