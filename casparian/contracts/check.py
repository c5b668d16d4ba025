"""Split a batch into the rows that keep the contract and the rows that do not.

Rules:
  * Row order is kept on both sides; a batch in which nothing is wrong comes back as it is, not
    copied.
  * A rejected row is reported once, for the first column (in the contract's order) that it
    violates: its reason is `contract.null`, `contract.range`, `contract.pattern` or
    `contract.allowed` or `contract.unique`.
  * A null violates nothing but `nullable = false`. NaN is within no range.
  * Of a `unique` column the first row of a source with a value keeps it, also when that row is rejected for another
    reason: what is rejected does not depend on how rows are cut into batches.
  * A column whose action is `fail` makes the whole source fail, one whose action is `fail_job` the whole job, also when an
    earlier column rejects the same row.

Work is done a column at a time; Python touches rejected rows only. The types themselves are checked
before, where the batch is decoded against the host's schema.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from casparian import _native
from casparian.contracts.columns import bound_scalar, whole_text
from casparian.display import show
from casparian.domain.contracts import Action, Column, OutputContract
from casparian.errors import ContractError
from casparian.protocol.arrow import arrow_type, bridge_schema

_VALUE_CHARACTERS_MAX: Final = 80

REASON_NULL: Final = "contract.null"
REASON_RANGE: Final = "contract.range"
REASON_PATTERN: Final = "contract.pattern"
REASON_ALLOWED: Final = "contract.allowed"
REASON_UNIQUE: Final = "contract.unique"
UNIQUE_VALUES_MAX: Final = 4_000_000  # of one source, all columns together: about 200 MB


class TooManyValues(ContractError):
    """A source has more values in its unique columns than are held in memory: nobody can say whether they are unique."""

    code = "contract.unique_limit"


class Seen:
    """Values of the unique columns of one source so far."""

    def __init__(self, values_max: int = UNIQUE_VALUES_MAX) -> None:
        self._repeats = _native.Repeats(values_max)
        self._numbers: dict[tuple[str, str], int] = {}

    def repeated(self, table: str, column: str, values: pa.Array) -> pa.Array:
        """Which rows have a value that an earlier row of the source has, as booleans without nulls.

        Raises:
            TooManyValues: more values than are held.
        """
        number = self._numbers.setdefault((table, column), len(self._numbers))
        rows = pc.indices_nonzero(values.is_valid())
        texts = _texts(values.take(rows))
        _, offsets, data = texts.buffers()
        try:
            found = self._repeats.repeated(
                number, offsets.to_pybytes(), b"" if data is None else data.to_pybytes()
            )
        except OverflowError as error:
            raise TooManyValues(
                f"the unique columns of the source have {error}", table=table, column=column
            ) from error
        bad = pa.array(found, pa.uint64())
        return pc.is_in(
            pa.array(range(len(values)), pa.uint64()), value_set=rows.take(bad).cast(pa.uint64())
        )


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The first violation of a column whose action is `fail` or `fail_job`: the source, or the job, may not be committed."""

    field: str
    reason: str
    message: str
    offset: int
    length: int
    whole_job: bool = False


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides of a batch.

    Args:
        valid: rows that keep the contract, in the schema of the batch.
        rejected: the others in the shape of quarantine on the bridge (`@offset, @length, @flags,
            reason, field, message, raw`); `raw` is null: the caller reads the span's bytes from the
            evidence. Zero rows when all is well.
        failure: set when the source as a whole must fail (`contract.violation`).
    """

    valid: pa.RecordBatch
    rejected: pa.RecordBatch
    failure: Failure | None = None


def has_unique(output: OutputContract) -> bool:
    """Whether rows of a source must be checked in order, with what was seen before."""
    return any(column.unique for column in output.columns)


def split(batch: pa.RecordBatch, output: OutputContract, seen: Seen | None = None) -> Split:
    """Check every row of a batch against one table's contract.

    Args:
        batch: bookkeeping columns, then the contract's columns, as `protocol.arrow.bridge_schema`
            has them.
        output: the contract in force: the parser's, tightened by the laboratory's.
        seen: values of the same source's batches before this one; needed with unique columns, else the batch is all there is.

    Raises:
        TooManyValues: `contract.unique_limit`.
        ContractError: `contract.schema`: the batch does not have the contract's columns at all.
    """
    schema, empty = _schemas(output)
    if not batch.schema.equals(schema):
        raise ContractError(
            f"a batch for `{output.table}` has other columns than its contract",
            code="contract.schema",
            table=output.table,
        )
    violations: list[tuple[Column, str, pa.Array]] = []
    for column in output.columns:
        for reason, bad in _violations(column, batch.column(column.name)):
            if bad.true_count:
                violations.append((column, reason, bad))
        if column.unique:
            seen = seen or Seen()
            bad = seen.repeated(output.table, column.name, batch.column(column.name))
            if bad.true_count:
                violations.append((column, REASON_UNIQUE, bad))
    if not violations:
        return Split(valid=batch, rejected=empty)

    anywhere = violations[0][2]
    for _, _, bad in violations[1:]:
        anywhere = pc.or_(anywhere, bad)
    rows = pc.indices_nonzero(anywhere)
    taken = batch.take(rows)
    first = _first_violation(
        [(c, reason, pc.filter(bad, anywhere)) for c, reason, bad in violations], len(rows)
    )
    messages = [
        _message(column, reason, taken.column(column.name)[i].as_py())
        for i, (column, reason) in enumerate(first)
    ]
    rejected = pa.RecordBatch.from_arrays(
        [
            taken.column("@offset"),
            taken.column("@length"),
            taken.column("@flags"),
            pa.array([reason for _, reason in first], pa.utf8()),
            pa.array([column.name for column, _ in first], pa.utf8()),
            pa.array(messages, pa.utf8()),
            pa.nulls(len(rows), pa.binary()),
        ],
        schema=empty.schema,
    )
    return Split(
        valid=batch.filter(pc.invert(anywhere)),
        rejected=rejected,
        failure=_failure(batch, violations),
    )


def _violations(column: Column, values: pa.Array) -> list[tuple[str, pa.Array]]:
    """Which rows break which constraint of a column, as booleans without nulls."""
    found = []
    if not column.nullable and values.null_count:
        found.append((REASON_NULL, values.is_null()))
    kind = arrow_type(column.type)
    inside: pa.Array | None = None
    for bound, compare in ((column.minimum, pc.greater_equal), (column.maximum, pc.less_equal)):
        if bound is not None:
            kept = compare(values, bound_scalar(bound, kind))
            inside = kept if inside is None else pc.and_(inside, kept)
    if inside is not None:
        found.append((REASON_RANGE, _not(inside)))
    if column.pattern is not None:
        found.append(
            (REASON_PATTERN, _not(pc.match_substring_regex(values, whole_text(column.pattern))))
        )
    if column.allowed is not None:
        allowed = pa.array(column.allowed, pa.utf8())
        found.append(
            (REASON_ALLOWED, pc.and_(pc.invert(pc.is_in(values, allowed)), values.is_valid()))
        )
    return found


def _not(kept: pa.Array) -> pa.Array:
    """Rows that are not kept; a null is kept: it is judged by `nullable` alone."""
    return pc.invert(pc.fill_null(kept, True))


def _first_violation(
    violations: list[tuple[Column, str, pa.Array]], rows: int
) -> list[tuple[Column, str]]:
    """For each rejected row the first violation in the contract's order."""
    first: list[tuple[Column, str] | None] = [None] * rows
    for column, reason, bad in violations:
        for index in pc.indices_nonzero(bad).to_pylist():
            if first[index] is None:
                first[index] = (column, reason)
    return [entry for entry in first if entry is not None]


def _failure(
    batch: pa.RecordBatch, violations: list[tuple[Column, str, pa.Array]]
) -> Failure | None:
    found: tuple[int, Column, str] | None = None
    whole_job = any(column.action is Action.FAIL_JOB for column, _, _ in violations)
    action = Action.FAIL_JOB if whole_job else Action.FAIL
    for column, reason, bad in violations:
        if column.action is action:
            row = pc.indices_nonzero(bad)[0].as_py()
            if found is None or row < found[0]:
                found = (row, column, reason)
    if found is None:
        return None
    row, column, reason = found
    return Failure(
        field=column.name,
        reason=reason,
        message=_message(column, reason, batch.column(column.name)[row].as_py()),
        offset=batch.column("@offset")[row].as_py(),
        length=batch.column("@length")[row].as_py(),
        whole_job=whole_job,
    )


def _message(column: Column, reason: str, value: Any) -> str:
    shown = show(str(value), width=_VALUE_CHARACTERS_MAX)
    match reason:
        case "contract.null":
            return f"`{column.name}` is null"
        case "contract.range":
            low = "" if column.minimum is None else f" from {column.minimum}"
            high = "" if column.maximum is None else f" to {column.maximum}"
            return f"`{column.name}` is {shown}, expected a value{low}{high}"
        case "contract.pattern":
            return f"`{column.name}` is `{shown}`, which does not match `{column.pattern}`"
        case "contract.unique":
            return f"`{column.name}` is `{shown}`, which an earlier row of the source has"
        case _:
            return f"`{column.name}` is `{shown}`, which is not an allowed value"


def _texts(values: pa.Array) -> pa.Array:
    """Values, none of them null, as bytes that differ when they do; offsets from 0."""
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.uint8())
    elif pa.types.is_temporal(kind):
        values = values.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        values = values.cast(pa.utf8())
    return values  # `take` made it: it is no slice


@lru_cache(maxsize=256)
def _schemas(output: OutputContract) -> tuple[pa.Schema, pa.RecordBatch]:
    """The schema that a batch must have, and an empty rejected side."""
    return bridge_schema(output), pa.RecordBatch.from_pylist([], schema=bridge_schema(None))
