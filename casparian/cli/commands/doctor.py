"""`casparian doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

from typing import Any, Final

import click
import msgspec

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app
from casparian.display import show
from casparian.errors import ExitCode, SentinelUnreachable
from casparian.protocol import control

_MARKS: Final = {"ok": ("ok  ", "good"), "warn": ("warn", "warn"), "fail": ("FAIL", "bad")}


@click.command("doctor", cls=Command)
@click.option("--verify", is_flag=True, help="Hash every committed output file again")
@pass_app
def command(app: App, *, verify: bool) -> int:
    """Check this machine, this home and its outputs.

    Exit code 1 when a check fails. No sentinel is started for it; one that runs is asked too.
    """
    from casparian.appliance.doctor import checks

    found = [msgspec.to_builtins(check) for check in checks(app.home, verify=verify)]
    found += _ask_sentinel(app)
    failed = any(check["status"] == "fail" for check in found)

    def human() -> None:
        width = max(len(check["check"]) for check in found)
        for check in found:
            mark, style = _MARKS[check["status"]]
            app.out.line(
                f"{app.out.paint(mark, style)}  {check['check']:<{width}}  {show(check['message'])}"
            )
            if check.get("hint") and check["status"] != "ok":
                app.out.line(f"      hint: {show(check['hint'])}")

    app.out.emit({"healthy": not failed, "checks": found}, human)
    return int(ExitCode.FAILED if failed else ExitCode.DONE)


def _ask_sentinel(app: App) -> list[dict[str, Any]]:
    from casparian.control.client import Client

    try:
        with Client.connect(app.home) as client:
            reply = client.ask(control.Doctor(), control.Rows)
    except SentinelUnreachable as error:
        stopped = error.code == SentinelUnreachable.code
        return [
            {
                "check": "sentinel",
                "status": "ok" if stopped else "fail",
                "message": "none runs; commands start one" if stopped else error.message,
                "hint": None if stopped else error.hint,
            }
        ]
    return [{"hint": None, **dict(zip(reply.columns, row, strict=True))} for row in reply.rows]
