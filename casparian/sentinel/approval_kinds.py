"""What a kind of approval must bring: how its content is checked and shown, and how it is applied.

check    on a thread: read the home and the record, refuse what cannot be, make the diff. Asked again at each acceptance: when it
says something else then, the world has changed since people looked, and the request must be made anew.
apply    in the step: the operations that carry the content out, in the transaction that accepts it. Pure.
applied  in the step, once that transaction is durable: effects on files or processes. The record is the truth; whoever has
files follows it again after a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from casparian.db.operations import Operation
from casparian.domain.approvals import Approval
from casparian.paths import Home
from casparian.sentinel.turn import Turn


class CheckContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a check may look at. It changes nothing."""

    home: Home
    home_id: str
    reader: Any  # duckdb.DuckDBPyConnection: what is committed
    now_ns: int
    actor: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A content that can be decided about.

    Args:
        scope: path of the decision, for example `contracts/firewall`: who has a say in it, policy decides.
        content: the exact change as plain values; it is stored as canonical JSON.
        diff: what will be different, line by line, for people.
    """

    scope: str
    content: Any
    diff: tuple[str, ...]


def _nothing(turn: Turn, approval: Approval) -> None:
    """Most kinds are done once they are recorded."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of approval.

    `check` gets the subject and the content as decoded JSON, and raises a `CasparianError` for what cannot be. `apply` may
    raise one too, before it changes anything: then the decision is refused and nothing has happened.
    """

    check: Callable[[CheckContext, str, Any], Checked]
    apply: Callable[[Turn, Approval], tuple[Operation, ...]]
    applied: Callable[[Turn, Approval], None] = _nothing
