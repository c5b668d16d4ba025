"""Approvals as commands make, show and decide them.

What a person decides about is what this program prints: the hash that is signed is computed here from the very lines and content
shown, never taken from the sentinel's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
import msgspec

from casparian import clock, ids
from casparian.cli import signing
from casparian.cli.app import App, read
from casparian.cli.render import time_text
from casparian.cli.signing import KeySource, open_key
from casparian.display import show
from casparian.domain.approvals import ApprovalState, state_at
from casparian.errors import IntegrityError, UsageError
from casparian.protocol import control

if TYPE_CHECKING:
    from casparian.control.client import Client


def key_options(function: Any) -> Any:
    """The options by which a command decides what it proposes at once: a key, in a file or on a token, and `--reason`."""
    function = click.option("--reason", metavar="TEXT", help="Why; signed and recorded")(function)
    return signing.key_options(function)


def propose_and_maybe_accept(
    app: App,
    kind: str,
    subject: str,
    content: Any,
    *,
    source: KeySource,
    reason: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Propose a change; with a key, decide it at once. Prints for people what happens; returns the document for `--json`.

    Args:
        app: of the command.
        kind: of the approval.
        subject: what is changed.
        content: the change as plain values.
        source: the key to decide with; when none is named the request waits.
        reason: needed with a key.
        dry_run: only show the diff.

    Raises:
        UsageError: `approval.reason`.
        CasparianError: the sentinel refuses the content, or the decision.
    """
    if source.is_given:
        _check_reason(reason)
    text = msgspec.json.encode(content).decode()
    with app.client() as client:
        request = control.Propose(
            request_id=ids.new_request_id(),
            kind=kind,
            subject=subject,
            content=text,
            dry_run=dry_run,
        )
        done = client.ask(request, control.Done)
        document: dict[str, Any] = {"message": done.message, **done.fields}
        document["diff"] = str(done.fields.get("diff", "")).split("\n")
        if dry_run:
            document |= {"approval_id": None, "state": None}
        if not source.is_given or dry_run:
            if not app.out.json:
                _print_proposed(app, done, document["diff"], dry_run=dry_run)
            return document
        request_row = find(client, str(done.fields["approval_id"]))
        decided = decide(app, client, request_row, "accept", source, reason)
        return document | decided


def decide(
    app: App,
    client: Client,
    request: Mapping[str, Any],
    decision: str,
    source: KeySource,
    reason: str | None,
) -> dict[str, Any]:
    """Show a request, sign a decision about what was shown, and hand it in.

    Raises:
        UsageError: `approval.reason`.
        IntegrityError: `approval.altered`, what the sentinel gave is not what its hash says.
        CasparianError: the key cannot be used, or the decision does not count.
    """
    from casparian.trust import decisions, documents

    reason = _check_reason(reason)
    content_hash = shown_hash(request)
    if not app.out.json:
        for line in lines_of(request):
            app.out.say(line)
    private = open_key(source)
    envelope = decisions.sign_decision(
        decisions.Decision(
            approval_id=request["approval_id"],
            kind=request["kind"],
            subject=request["subject"],
            content_hash=content_hash,
            decision="accept" if decision == "accept" else "reject",
            reason=reason,
            issued=documents.time_text(clock.now_ns()),
            home_id=client.hello().home_id,
        ),
        private,
    )
    done = client.ask(
        control.Decide(
            request_id=ids.new_request_id(), approval_id=request["approval_id"], envelope=envelope
        ),
        control.Done,
    )
    if not app.out.json:
        app.out.line(done.message)
    return {"message": done.message, "decision": decision, "reason": reason, **done.fields}


def find(client: Client, typed: str) -> dict[str, Any]:
    """The one request whose id begins with what was typed.

    Raises:
        UsageError: `approval.unknown`, `approval.ambiguous`.
    """
    word = typed.strip().lower()
    found = read(client, "approvals", {"approval_id": word}) if word else []
    exact = [row for row in found if row["approval_id"] == word]
    waiting = [row for row in found if row["state"] == ApprovalState.PENDING]
    chosen = exact or (waiting if len(waiting) == 1 else found)
    if len(chosen) == 1:
        return described(chosen[0])
    if not chosen:
        raise UsageError(
            f"there is no request `{show(typed, width=40)}`",
            code="approval.unknown",
            hint="`casparian approve list` shows what waits",
        )
    raise UsageError(
        f"`{show(typed, width=40)}` begins {len(chosen)} requests: "
        f"{', '.join(row['approval_id'] for row in chosen[:8])}",
        code="approval.ambiguous",
        hint="type more of it",
    )


def described(row: Mapping[str, Any]) -> dict[str, Any]:
    """A request for `--json`: its diff as lines, its state as it is at this moment."""
    now_ns = clock.now_ns()
    return {
        **row,
        "diff": msgspec.json.decode(row["diff"]),
        "state": state_at(row["state"], row["expires_at_ns"], now_ns).value,
    }


def shown_hash(request: Mapping[str, Any]) -> str:
    """The hash of exactly what is shown of a request.

    Raises:
        IntegrityError: `approval.altered`.
    """
    from casparian.protocol.identity import approval_content_hash

    computed = approval_content_hash(
        request["kind"],
        request["subject"],
        request["scope"],
        request["content"],
        request["diff"],
    )
    if computed != request["content_hash"]:
        raise IntegrityError(
            f"request {request['approval_id']} is not what its recorded hash says",
            code="approval.altered",
            hint="do not decide about it; run `casparian doctor`",
        )
    return computed


def lines_of(request: Mapping[str, Any]) -> list[str]:
    """A request for people: who asked for what, what will change, whose decision it is."""
    return [
        f"request {request['approval_id']}  {show(request['kind'])}  {show(request['subject'])}  {request['state']}",
        f"asked   by {show(request['requested_by'])} at {time_text(request['requested_at_ns'])}, "
        f"expires {time_text(request['expires_at_ns'])}",
        f"scope   {show(request['scope'])}",
        f"hash    {request['content_hash']}",
        *(f"  {show(line)}" for line in request["diff"]),
    ]


def _print_proposed(app: App, done: control.Done, diff: list[str], *, dry_run: bool) -> None:
    for line in diff:
        app.out.line(f"  {show(line)}")
    app.out.line(show(done.message))
    if not dry_run:
        approval_id = done.fields["approval_id"]
        app.out.hint(
            f"casparian approve accept {approval_id} --key FILE --reason TEXT",
            "decide about it, with a key of the policy",
        )


def _check_reason(reason: str | None) -> str:
    if reason is None or not reason.strip():
        raise UsageError(
            "a decision needs a reason",
            code="approval.reason",
            hint="`--reason TEXT` says why; it is signed and kept",
        )
    return reason.strip()
