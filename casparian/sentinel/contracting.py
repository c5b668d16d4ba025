"""Promotion and amendment of dataset contracts: what is checked, what people are shown, what is recorded.

The content of a request is the exact document, the revision it becomes and the hash of the revision it follows: it is
checked again at each acceptance, and refused when another revision came first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from casparian.contracts import amend
from casparian.contracts.dataset import canonical, dataset_hash, dataset_of, read_dataset
from casparian.contracts.describe import MEANING, description
from casparian.db import planning
from casparian.db.operations import Operation, PromoteDataset
from casparian.db.records import AmendmentRow, DatasetRow
from casparian.display import show
from casparian.domain.approvals import Approval
from casparian.domain.datasets import Dataset, Effect, Revision
from casparian.errors import Conflict, ContractError, UsageError
from casparian.scout import rules
from casparian.sentinel.approval_kinds import CheckContext, Checked, Kind
from casparian.sentinel.turn import Turn

PROMOTE: Final = "contract.promote"
AMEND: Final = "contract.amend"


class Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is approved. Whoever asks gives the document; the rest is filled in, and must be right when it is given."""

    document: dict[str, Any]
    revision: int | None = None
    hash: str | None = None
    previous_hash: str | None = None  # of the revision that it follows
    effect: Effect | None = None
    changes: tuple[amend.Change, ...] | None = None


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request."""

    table: str
    content: Content
    diff: tuple[str, ...]

    @property
    def scope(self) -> str:
        """The path that roles of a policy are scoped over."""
        return f"contracts/{self.table}"


def revisions_of(rows: Iterable[tuple[str, int, str, str, str]]) -> tuple[Revision, ...]:
    """Promoted revisions from their rows (`db.planning.datasets`)."""
    return tuple(
        Revision(
            table=table,
            revision=revision,
            hash=content_hash,
            dataset=read_dataset(document, file=f"{table}, revision {revision}"),
            effect=Effect(effect),
        )
        for table, revision, content_hash, document, effect in rows
    )


def checked(kind: str, subject: str, given: Any, known: Sequence[Revision]) -> Proposal:
    """Check a request against what is promoted.

    Args:
        kind: `contract.promote` or `contract.amend`.
        subject: the table.
        given: the content, as decoded JSON.
        known: every promoted revision of every table.

    Raises:
        UsageError: the content is malformed, or about another table.
        ContractError: the document cannot be used, or changes nothing.
        Conflict: `contract.promoted` (use an amendment), or `contract.stale`: another revision came first.
    """
    content = _content(given)
    dataset = dataset_of(content.document)
    if dataset.table != subject:
        raise UsageError(
            f"the contract is about the table `{dataset.table}`, not `{show(subject, width=60)}`",
            code="approval.content",
        )
    for pattern in dataset.match:
        rules.check_pattern(pattern)
    own = [revision for revision in known if revision.table == subject]
    newest = own[-1] if own else None
    if kind == PROMOTE:
        changes, diff = _promotion(dataset, newest)
    else:
        changes, diff = _amendment(dataset, newest)
    expected = Content(
        document=dataset.document(),
        revision=1 if newest is None else newest.revision + 1,
        hash=dataset_hash(dataset),
        previous_hash=None if newest is None else newest.hash,
        effect=changes.effect,
        changes=changes.changes,
    )
    _check_fresh(content, expected, subject)
    return Proposal(table=subject, content=expected, diff=diff)


def operation(content: Content, *, approval_id: str, actor: str, now_ns: int) -> PromoteDataset:
    """What an accepted request records. Pure.

    Args:
        content: as `checked` made it.
        approval_id: under which it was accepted.
        actor: who asked for it.
        now_ns: wall clock.
    """
    dataset = dataset_of(content.document)
    content_hash = dataset_hash(dataset)
    assert content.revision is not None
    assert content.effect is not None
    row = DatasetRow(
        table_name=dataset.table,
        revision=content.revision,
        hash=content_hash,
        parser=dataset.parser,
        document=canonical(dataset),
        effect=content.effect.value,
        compatible_with_previous=content.revision > 1 and content.effect.compatible,
        approval_id=approval_id,
        actor=actor,
        promoted_at_ns=now_ns,
    )
    amendment = None
    if content.previous_hash is not None:
        amendment = AmendmentRow(
            table_name=dataset.table,
            revision=content.revision,
            previous_hash=content.previous_hash,
            hash=content_hash,
            changes=msgspec.json.encode(content.changes or ()).decode(),
            approval_id=approval_id,
            promoted_at_ns=now_ns,
        )
    return PromoteDataset(at_ns=now_ns, dataset=row, amendment=amendment)


def _content(given: Any) -> Content:
    try:
        return msgspec.convert(given, Content)
    except msgspec.ValidationError as error:
        raise UsageError(f"malformed content: {error}", code="approval.content") from error


def _promotion(
    dataset: Dataset, newest: Revision | None
) -> tuple[amend.Amendment, tuple[str, ...]]:
    if newest is not None:
        raise Conflict(
            f"`{dataset.table}` has a contract already, revision {newest.revision}",
            hint=f"casparian contract amend {dataset.table} --file DOCUMENT",
            code="contract.promoted",
        )
    return amend.Amendment(changes=()), tuple(f"+ {line}" for line in description(dataset))


def _amendment(
    dataset: Dataset, newest: Revision | None
) -> tuple[amend.Amendment, tuple[str, ...]]:
    if newest is None:
        raise UsageError(
            f"`{dataset.table}` has no contract that could be amended",
            hint="casparian contract promote DOCUMENT",
            code="contract.unknown",
        )
    amendment = amend.compare(newest.dataset, dataset)
    if not amendment.changes:
        raise ContractError(
            f"the document is what revision {newest.revision} of `{dataset.table}` says already",
            code="contract.unchanged",
        )
    if any(change.what in ("table", "parser") for change in amendment.changes):
        raise ContractError(
            f"`{dataset.table}` is read by `{newest.dataset.parser}`; another parser needs a table of its own",
            code="contract.parser",
        )
    head = (
        f"{dataset.table}: revision {newest.revision} -> {newest.revision + 1}, {amendment.effect}"
    )
    return amendment, (head, MEANING[amendment.effect], *amend.lines(amendment))


def _check_fresh(content: Content, expected: Content, table: str) -> None:
    """Refuse a request that was made before another revision came."""
    for name in Content.__struct_fields__[1:]:
        said = getattr(content, name)
        if said is not None and said != getattr(expected, name):
            raise Conflict(
                f"the request for `{table}` was made for another revision than the one that is in force",
                hint="propose it again: what it changes is no longer what was shown",
                code="contract.stale",
            )


def known_datasets(reader: Any) -> tuple[Revision, ...]:
    """Every promoted revision of a home."""
    return revisions_of(planning.datasets(reader))


def _check(kind: str, context: CheckContext, subject: str, content: Any) -> Checked:
    proposal = checked(kind, subject, content, known_datasets(context.reader))
    return Checked(
        scope=proposal.scope,
        content=msgspec.json.decode(msgspec.json.encode(proposal.content)),
        diff=proposal.diff,
    )


def _apply(turn: Turn, approval: Approval) -> tuple[Operation, ...]:
    content = msgspec.json.decode(approval.content, type=Content)
    return (
        operation(
            content,
            approval_id=approval.approval_id,
            actor=approval.requested_by,
            now_ns=turn.state.now_ns,
        ),
    )


KINDS: Final[dict[str, Kind]] = {
    kind: Kind(check=partial(_check, kind), apply=_apply) for kind in (PROMOTE, AMEND)
}
