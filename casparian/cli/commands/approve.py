"""`casparian approve`: what waits for a decision, and the decisions."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem

from casparian import ids
from casparian.cli import approvals, signing
from casparian.cli.app import App, read
from casparian.cli.framework import group, pass_app
from casparian.cli.render import time_text
from casparian.cli.signing import KeySource
from casparian.display import show
from casparian.domain.approvals import ApprovalState
from casparian.errors import CasparianError, Conflict
from casparian.protocol import control


def _complete(ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Ids of requests that wait, with what they are about; nothing where no sentinel runs: completing starts none."""
    from casparian.cli.app import Globals
    from casparian.control.client import Client

    app = App.of(ctx.find_root().ensure_object(Globals))
    if not app.home.socket.exists():
        return []
    filters = {"state": ApprovalState.PENDING.value, "approval_id": typed.lower()}
    try:
        with Client.connect(app.home) as client:
            rows = read(client, "approvals", filters)
    except CasparianError:
        return []
    return [
        CompletionItem(row["approval_id"], help=show(f"{row['kind']} {row['subject']}"))
        for row in rows
    ]


@group("approve", default="show")
def command() -> None:
    """Decide what is trusted here."""


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that were decided or expired too")
@click.option("--kind", metavar="KIND", help="Only this kind, for example contract.promote")
@pass_app
def list_requests(app: App, *, everything: bool, kind: str | None) -> None:
    """List requests that wait for a decision."""
    filters: dict[str, str | int | bool | None] = {} if kind is None else {"kind": kind}
    if not everything:
        filters["state"] = ApprovalState.PENDING.value
    rows = [approvals.described(row) for row in app.read("approvals", filters)]
    if not everything:
        rows = [row for row in rows if row["state"] == ApprovalState.PENDING]

    def human() -> None:
        if not rows:
            app.out.line("Nothing waits for a decision" if not everything else "No request yet")
            return
        app.out.table(
            ("request", "kind", "subject", "state", "asked by", "asked", "expires"),
            [
                (
                    row["approval_id"],
                    row["kind"],
                    row["subject"],
                    row["state"],
                    row["requested_by"],
                    time_text(row["requested_at_ns"]),
                    time_text(row["expires_at_ns"]),
                )
                for row in rows
            ],
        )
        app.out.hint("casparian approve show ID", "see what one would change")

    app.out.emit({"approvals": rows}, human)


@command.command("show")
@click.argument("request", metavar="ID", shell_complete=_complete)
@pass_app
def show_request(app: App, *, request: str) -> None:
    """Show a request: what would change, who asked, who has decided, what is missing."""
    with app.client() as client:
        row = approvals.find(client, request)
        votes = [
            {**vote, "keyids": _list(vote["keyids"]), "holders": _list(vote["holders"])}
            for vote in read(client, "approval_votes", {"approval_id": row["approval_id"]})
        ]
    approvals.shown_hash(row)
    pending = row["state"] == ApprovalState.PENDING
    needed = _needed(app, row["scope"], votes) if pending else None
    for vote in votes:
        vote["envelope"] = bytes(vote["envelope"]).decode("utf-8", "backslashreplace")
    document = {**row, "content": msgspec.json.decode(row["content"]), "votes": votes}
    document["needed"] = needed

    def human() -> None:
        for line in approvals.lines_of(row):
            app.out.line(line)
        for vote in votes:
            app.out.line(
                f"{vote['decision']:<7} {show(', '.join(vote['holders']))} as {show(vote['role'])} "
                f"at {time_text(vote['at_ns'])}: {show(vote['reason'])}"
            )
        if row["superseded_by"]:
            app.out.line(f"a newer request took its place: {row['superseded_by']}")
        if pending:
            app.out.line(f"needed  {show(str(needed))}")
            app.out.hint(
                f"casparian approve accept {row['approval_id']} --key FILE --reason TEXT",
                "say yes to exactly this",
            )

    app.out.emit(document, human)


@command.command("accept")
@click.argument("request", metavar="ID", shell_complete=_complete)
@approvals.key_options
@pass_app
def accept(app: App, *, request: str, source: KeySource, reason: str | None) -> None:
    """Say yes to a request with your key; it is in force once enough people have."""
    _decide(app, request, "accept", source, reason)


@command.command("reject")
@click.argument("request", metavar="ID", shell_complete=_complete)
@approvals.key_options
@pass_app
def reject(app: App, *, request: str, source: KeySource, reason: str | None) -> None:
    """Say no to a request with your key; that ends it."""
    _decide(app, request, "reject", source, reason)


@command.command("withdraw")
@click.argument("request", metavar="ID", shell_complete=_complete)
@click.option("--reason", metavar="TEXT", default="", help="Why; recorded")
@pass_app
def withdraw(app: App, *, request: str, reason: str) -> None:
    """Take a request back; no key is needed, and nothing follows from it."""
    with app.client() as client:
        row = approvals.find(client, request)
        done = client.ask(
            control.Withdraw(
                request_id=ids.new_request_id(), approval_id=row["approval_id"], reason=reason
            ),
            control.Done,
        )
    app.out.emit({"message": done.message, **done.fields}, lambda: app.out.line(done.message))


def _decide(app: App, typed: str, decision: str, source: KeySource, reason: str | None) -> None:
    signing.require(source)
    with app.client() as client:
        row = approvals.find(client, typed)
        if row["state"] != ApprovalState.PENDING:
            raise Conflict(
                f"request {row['approval_id']} is {row['state']} already",
                code="approval.decided",
                hint="`casparian approve list --all` shows how each ended",
            )
        document = approvals.decide(app, client, row, decision, source, reason)
    if app.out.json:
        app.out.document(document)


def _needed(app: App, scope: str, votes: list[dict[str, Any]]) -> str:
    """Whose decision a request waits for, as the trust of this home has it now."""
    from casparian.errors import Refused
    from casparian.trust import state as trust_state
    from casparian.trust.decisions import votes_missing

    try:
        trusted = trust_state.load(app.home.trust)
    except Refused as error:
        return error.message
    if trusted.policy is None:
        return "a root and a policy: nobody was named here who may decide (`casparian trust init --solo NAME`)"
    accepted = [k for vote in votes if vote["decision"] == "accept" for k in vote["keyids"]]
    missing = votes_missing(trusted, scope, accepted)
    if missing is None:
        return f"a role of the policy that covers `{scope}`: there is none"
    names = ", ".join(role.name for role in trusted.policy.in_scope(scope))
    return f"{missing} more of {names}"


def _list(text: str) -> list[str]:
    return msgspec.json.decode(text, type=list[str])
