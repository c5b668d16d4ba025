"""One answer of `doctor`, and what a repair would do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from casparian.display import show
from casparian.protocol import control

Status = Literal["ok", "warn", "fail"]
Detail = dict[str, Any]

DETAILS_MAX: Final = 1000  # in one check; the message has the true count
_NAMED_MAX: Final = 3  # paths that one message names


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `casparian doctor`.

    `details` names what was found, one object each. `asides` and `rewrite` are what `--repair` does about it.
    """

    check: str
    status: Status
    message: str
    hint: str | None = None
    details: tuple[Detail, ...] = ()
    asides: tuple[control.Aside, ...] = ()
    rewrite: Literal["catalog", "intents"] | None = None


def named(paths: Sequence[str]) -> str:
    """The first few of some paths, for a message."""
    shown = ", ".join(f"`{show(path)}`" for path in paths[:_NAMED_MAX])
    more = len(paths) - _NAMED_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def repair_request(checks: Iterable[Check], request_id: str) -> control.Repair:
    """Everything that a repair would do about these answers."""
    every = tuple(checks)
    asides = {aside.path: aside for check in every for aside in check.asides}
    return control.Repair(
        request_id=request_id,
        asides=tuple(asides.values()),
        intents=any(check.rewrite == "intents" for check in every),
        catalog=any(check.rewrite == "catalog" for check in every),
    )


def from_sentinel(line: dict[str, Any]) -> Check:
    """An answer of the sentinel about its database."""
    broken = line["check"] == "intents" and line["status"] != "ok"
    return Check(
        check=line["check"],
        status=line["status"],
        message=line["message"],
        hint=line.get("hint"),
        details=tuple(line.get("details") or ()),
        rewrite="intents" if broken else None,
    )
