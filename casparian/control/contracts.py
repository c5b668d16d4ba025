"""Contracts of a home as its sentinel has recorded them, for front ends: revisions, differences, documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from casparian.contracts import amend, odcs
from casparian.contracts.dataset import canonical, dataset_hash, read_dataset
from casparian.display import show
from casparian.domain.datasets import Dataset, DelimitedLayout
from casparian.domain.isolation import IsolationLevel
from casparian.errors import ContractError, IntegrityError, UsageError


def load(file: str) -> Dataset:
    """A dataset's contract from a file: our JSON, or an Open Data Contract Standard document (`.yaml`, `.yml`).

    Raises:
        UsageError: `contract.unreadable`.
        ContractError: as `read_dataset` or `odcs.read`.
    """
    try:
        with open(file, "rb") as stream:
            raw = stream.read()
    except OSError as error:
        raise UsageError(
            f"`{show(file)}` cannot be read: {error.strerror}", code="contract.unreadable"
        ) from error
    if file.endswith((".yaml", ".yml")):
        return odcs.read(raw, file=file)
    return read_dataset(raw, file=file)


def pick(rows: Sequence[dict[str, Any]], table: str, revision: int | None = None) -> dict[str, Any]:
    """One promoted revision of a table; the newest when none is named.

    Raises:
        UsageError: `contract.unknown`.
    """
    own = [row for row in rows if row["table_name"] == table]
    found = [row for row in own if revision in (None, row["revision"])]
    if found:
        return found[-1]
    if own:
        raise UsageError(
            f"`{table}` has no revision {revision}",
            hint=f"`casparian contract history {table}` lists {len(own)}",
            code="contract.unknown",
        )
    tables = sorted({row["table_name"] for row in rows})
    raise UsageError(
        f"no contract of a table `{show(table, width=60)}` is promoted",
        hint=f"there are {', '.join(tables)}" if tables else "casparian contract promote DOCUMENT",
        code="contract.unknown",
    )


def dataset_of(row: dict[str, Any]) -> Dataset:
    """The contract that a revision's row holds, if it is what its hash says.

    Raises:
        IntegrityError: `contract.altered`.
    """
    name = f"{row['table_name']}, revision {row['revision']}"
    dataset = read_dataset(row["document"], file=name)
    if dataset_hash(dataset) != row["hash"]:
        raise IntegrityError(
            f"the record of {name} is not what its hash says", code="contract.altered"
        )
    return dataset


def difference(before: Dataset, after: Dataset) -> tuple[amend.Amendment, list[str]]:
    """What an amendment changes, as values and in words."""
    amendment = amend.compare(before, after)
    return amendment, amend.lines(amendment)


def from_drifted(
    current: Dataset,
    paths: Sequence[str],
    answers: Mapping[str, Sequence[str]],
    *,
    min_isolation: IsolationLevel = IsolationLevel.FULL,
) -> Dataset:
    """The contract, extended by what files have that it does not know. They are read in a confined guest.

    Raises:
        UsageError: `contract.questions`, the files do not say how a new column is to be read.
        ContractError: `contract.unchanged`, or the files are cut in another way than the contract says.
        CasparianError: as `infer.run_inference`.
    """
    from casparian.contracts import extend
    from casparian.contracts.propose import propose
    from casparian.control import infer

    layout = current.layout
    wanted: dict[str, Any] = {}
    if isinstance(layout, DelimitedLayout):
        names = ("delimiter", "escape", "encoding", "header", "skip_lines", "comment")
        known = {name: getattr(layout, name) for name in names}
        wanted = {name: value for name, value in known.items() if value is not None}
        wanted["quote"] = layout.quote or ""
        wanted["comment"] = layout.comment or ""
    files = infer.files_below(paths)
    inferred = infer.run_inference(files, wanted, min_isolation=min_isolation)
    is_delimited = inferred.dialect.get("layout") is not None
    holds = "contradiction" not in inferred.dialect and is_delimited == isinstance(
        layout, DelimitedLayout
    )
    if inferred.found is None or not holds:
        raise ContractError(
            f"the files are not cut as the contract of `{current.table}` says",
            hint="`casparian contract infer FILES --table NAME` says how they are cut",
            code="contract.layout",
        )
    proposed: list[dict[str, Any]] = []
    narrowed = extend.of_new_columns(current, inferred.found)
    if narrowed is not None:
        proposal = propose(
            narrowed,
            table=current.table,
            match=current.match,
            files=inferred.files,
            layout=inferred.dialect.get("layout"),
            answers=answers,
        )
        if proposal.document is None:
            question = proposal.questions[0]
            options = ", ".join(option.option for option in question.options)
            raise UsageError(
                f"the files do not say how `{show(question.column)}` is to be read: {show(question.text)}",
                hint=f"`--answer {show(question.column)}=…`, one of {show(options)}",
                code="contract.questions",
            )
        proposed = proposal.document["columns"]
    return extend.extended(current, inferred.found.get("headers", ()), proposed)


def document_text(dataset: Dataset) -> str:
    """The document as people edit it: indented, in the order of its keys."""
    return msgspec.json.format(canonical(dataset), indent=2) + "\n"


def odcs_text(dataset: Dataset, revision: int) -> str:
    """The Open Data Contract Standard document."""
    return odcs.export(dataset, revision=revision).decode()
