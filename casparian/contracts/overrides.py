"""A laboratory's own, stricter contract: `HOME/contracts/<parser>.toml`.

It has the shape of `contract.toml` and lists only the columns that it tightens:

    schema_version = 1
    [[outputs.syslog_events.columns]]
    name = "hostname"
    nullable = false
    action = "fail"

Rules: it can only tighten. Another type, a wider range, a value that the parser's contract does not
allow, or a second pattern (which cannot be shown to be narrower) is an error, so that no row is
accepted that the parser's author had refused.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from casparian.contracts import columns
from casparian.contracts.document import Table, closest, quoted, read
from casparian.display import show
from casparian.domain.contracts import Action, Column, Contract, OutputContract
from casparian.errors import ContractError

_CONSTRAINTS = ("nullable", "minimum", "maximum", "pattern", "allowed", "unique", "action")

_STRICTNESS = {action: strictness for strictness, action in enumerate(Action)}


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A stricter contract as read: what it says, not yet whether it fits the parser."""

    file: str
    raw: bytes


def find_override(directory: str | os.PathLike[str], parser: str) -> Override | None:
    """The stricter contract of a parser in `HOME/contracts`, or `None` when there is none.

    Raises:
        ContractError: `contract.unreadable`: it is there and cannot be read: never a reason to go
            on without it.
    """
    file = os.path.join(directory, f"{parser}.toml")
    try:
        with open(file, "rb") as stream:
            return Override(file=file, raw=stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ContractError(
            f"`{show(file)}` cannot be read: {error.strerror}",
            code="contract.unreadable",
            file=file,
        ) from error


def effective(contract: Contract, override: Override | None) -> Contract:
    """The parser's contract, with the laboratory's constraints where they are stricter.

    Raises:
        ContractError: malformed, about an unknown table or column, or looser than the parser's
            contract.
    """
    if override is None:
        return contract
    document = read(override.raw, file=override.file, kind="contract")
    outputs = document.table("outputs")
    document.finish()
    if outputs is None:
        raise document.error("outputs", "is missing: the file tightens nothing", code="key")
    by_table = {output.table: output for output in contract.outputs}
    for name, table in outputs.named_tables():
        if name not in by_table:
            raise outputs.error(
                name,
                f"is not a table of this parser, expected one of {quoted(by_table)}",
                closest(name, by_table),
                code="key",
            )
        by_table[name] = _tighten_output(by_table[name], table)
    return Contract(outputs=tuple(by_table.values()))


def _tighten_output(output: OutputContract, table: Table) -> OutputContract:
    by_name = {column.name: column for column in output.columns}
    seen: set[str] = set()
    for entry in table.tables("columns"):
        name = entry.text("name")
        if name not in by_name:
            raise entry.error(
                "name",
                f"is `{show(name, width=60)}`, which is not a column of `{output.table}`",
                closest(name, by_name),
            )
        if name in seen:
            raise entry.error("name", f"lists `{show(name)}` a second time")
        seen.add(name)
        by_name[name] = _tighten(by_name[name], entry)
    table.finish()
    return msgspec.structs.replace(output, columns=tuple(by_name.values()))


def _tighten(column: Column, table: Table) -> Column:
    if table.text("type", column.type) != column.type:
        raise table.error(
            "type", f"is not `{column.type}`, as the parser declares it", "leave `type` out"
        )
    table.text("doc", "")  # allowed, so that a line of the parser's contract can be copied
    given: dict[str, Any] = {
        "nullable": table.boolean("nullable", default=column.nullable),
        "minimum": table.number("minimum"),
        "maximum": table.number("maximum"),
        "pattern": table.optional_text("pattern"),
        "allowed": table.texts("allowed"),
        "unique": table.boolean("unique", default=column.unique),
        "action": Action(table.choice("action", [a.value for a in Action], column.action.value)),
    }
    table.finish()
    changed = {key: given[key] for key in _CONSTRAINTS if key in table and given[key] is not None}
    problem = _loosened(column, changed)
    if problem is not None:
        key, why = problem
        raise table.error(
            key,
            why,
            "a laboratory's contract can only be stricter than the parser's",
            code="loosened",
        )
    tightened: Column = msgspec.structs.replace(column, **changed)
    columns.check_constraints(table, tightened, columns.column_type(table, column.type))
    return tightened


def _loosened(column: Column, changed: dict[str, Any]) -> tuple[str, str] | None:
    """The key that would accept more than the parser's contract, and why."""
    if changed.get("nullable") and not column.nullable:
        return "nullable", "would allow null, which the parser's contract refuses"
    if "minimum" in changed and column.minimum is not None and changed["minimum"] < column.minimum:
        return "minimum", f"is below the parser's own, `{column.minimum}`"
    if "maximum" in changed and column.maximum is not None and changed["maximum"] > column.maximum:
        return "maximum", f"is above the parser's own, `{column.maximum}`"
    if "pattern" in changed and column.pattern not in (None, changed["pattern"]):
        return "pattern", "differs from the parser's own and cannot be shown to be narrower"
    if "allowed" in changed and column.allowed is not None:
        extra = [value for value in changed["allowed"] if value not in column.allowed]
        if extra:
            return "allowed", f"adds {quoted(extra)} to the parser's own list"
    if changed.get("unique") is False and column.unique:
        return "unique", "would allow a value twice, which the parser's contract refuses"
    if "action" in changed and _STRICTNESS[changed["action"]] < _STRICTNESS[column.action]:
        whole = "job" if column.action is Action.FAIL_JOB else "source"
        return "action", f"would do less than the parser's contract, which fails the {whole}"
    return None
