"""`casparian parser limits`: what a laboratory says of a parser's limits."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from casparian import ids
from casparian.cli import approvals
from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.cli.signing import KeySource
from casparian.display import show
from casparian.domain.limits import BOUNDS, LaboratoryLimits, Raised, problem_with
from casparian.errors import UsageError
from casparian.protocol import control


@click.command("limits", cls=Command)
@click.argument("parser", metavar="NAME")
@click.option("--set", "typed", multiple=True, metavar="LIMIT=N", help="A limit to raise or lower")
@click.option(
    "--unset", "undone", multiple=True, metavar="LIMIT", help="Go back to the parser's own limit"
)
@click.option("--dry-run", is_flag=True, help="Only say what would change")
@approvals.key_options
@pass_app
def limits(
    app: App,
    *,
    parser: str,
    typed: tuple[str, ...],
    undone: tuple[str, ...],
    dry_run: bool,
    source: KeySource,
    reason: str | None,
) -> None:
    """Show a parser's limits, lower them, or ask for higher ones.

    What is above its own limit needs an approval; with --key you decide about it at once. Rows never depend on limits, so
    nothing is read again but what met a limit that was raised.
    """
    from casparian.trust.library import ParserLibrary

    manifest = ParserLibrary.of(app.home).find(parser).manifest
    own = _own(app.read("parser_limits", {"parser": manifest.name}))
    raises: dict[str, int] = {}
    lowers: dict[str, int | None] = dict.fromkeys(undone)
    for name, value in _numbers(typed).items():
        most = max(getattr(manifest.limits, name, 0), own.allowed(name))
        (raises if value > most else lowers)[name] = value
    named = {
        name: BOUNDS.get(name, (0,))[0] if value is None else value
        for name, value in lowers.items()
    }
    problem = problem_with(raises | named)
    if problem is not None:
        raise UsageError(problem, code="limits.invalid")
    document: dict[str, Any] = {"parser": manifest.name}
    if lowers:
        document |= _lower(app, manifest.name, lowers, dry_run=dry_run)
    if raises:
        content = {"parser": manifest.name, "limits": raises}
        document["approval"] = approvals.propose_and_maybe_accept(
            app,
            "limits.raise",
            manifest.name,
            content,
            source=source,
            reason=reason,
            dry_run=dry_run,
        )
    own = _own(app.read("parser_limits", {"parser": manifest.name}))
    in_force = own.effective(manifest.limits)
    used = own.approvals(manifest.limits)
    document["limits"] = [
        {
            "name": name,
            "in_force": getattr(in_force, name),
            "declared": getattr(manifest.limits, name),
            "approval_id": used.get(name),
            "lowered_to": own.lowered.get(name),
        }
        for name in BOUNDS
    ]

    def human() -> None:
        app.out.table(
            ("limit", "in force", "parser's own", "approval"),
            [
                (x["name"], x["in_force"], x["declared"], x["approval_id"])
                for x in document["limits"]
            ],
        )

    app.out.emit(document, human)


def _lower(
    app: App, parser: str, lowers: dict[str, int | None], *, dry_run: bool
) -> dict[str, Any]:
    if dry_run:
        each = (
            f"{name} = {'the own limit of the parser' if value is None else value}"
            for name, value in lowers.items()
        )
        message = f"this would set {', '.join(each)}"
    else:
        with app.client() as client:
            request = control.LowerLimits(
                request_id=ids.new_request_id(), parser=parser, limits=lowers
            )
            message = client.ask(request, control.Done).message
    app.out.say(message)
    return {"lowered": lowers, "message": message}


def _numbers(typed: tuple[str, ...]) -> dict[str, int]:
    """`memory_mb=4096` as a name and a number.

    Raises:
        UsageError: `usage.limit`.
    """
    found: dict[str, int] = {}
    for text in typed:
        name, _, number = text.partition("=")
        if not number.isascii() or not number.isdigit() or len(number) > 19:
            raise UsageError(
                f"`{show(text)}` is not LIMIT=N",
                code="usage.limit",
                hint="for example `--set memory_mb=4096`",
            )
        found[name.strip()] = int(number)
    return found


def _own(rows: list[dict[str, Any]]) -> LaboratoryLimits:
    own = LaboratoryLimits()
    for row in rows:
        name, value, approval_id = row["name"], row["value"], row["approval_id"]
        if approval_id:
            raised = Raised(value=value, approval_id=approval_id, at_ns=row["set_at_ns"])
            own = msgspec.structs.replace(own, raised={**own.raised, name: raised})
        else:
            own = msgspec.structs.replace(own, lowered={**own.lowered, name: value})
    return own
