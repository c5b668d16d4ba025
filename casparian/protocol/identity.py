"""Identities: what makes two sources, artifacts, targets or materializations the same.

`H(domain, fields…)` is BLAKE3 over the domain and each field, every one preceded by its length as a little-endian u64, in
lower-case hex. Golden vectors in `tests/unit/test_protocol_identity.py` never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import blake3
import msgspec

from casparian.domain.contracts import Contract, OutputContract
from casparian.domain.outputs import Sink, SinkMode


def derive(domain: str, *fields: str | bytes) -> str:
    """H(domain, fields…): 64 lower-case hex digits."""
    parts: list[bytes] = []
    for field in (domain, *fields):
        raw = field.encode() if isinstance(field, str) else field
        parts += (len(raw).to_bytes(8, "little"), raw)
    return blake3.blake3(b"".join(parts)).hexdigest()  # one call: fields are short and many


def quarantine_rows_hash(rows: Iterable[tuple[str, str]]) -> str:
    """Identity of quarantined rows: the id and the BLAKE3 of the bytes of each, in the order of their places."""
    return derive("casparian.quarantine_rows.v1", *(part for row in rows for part in row))


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, defaults left out where the type says so."""
    return msgspec.json.encode(msgspec.to_builtins(value), order="sorted")


def source_id(source_hash: str, companions: Iterable[str] = ()) -> str:
    """Identity of a source: its content and its companions, each by its `companion_id`, in any order."""
    return derive("casparian.source.v1", source_hash, *sorted(companions))


def companion_id(role: str, source_hash: str) -> str:
    """Identity of a companion (a log of a hive, a database's journal): what it is to the source, and its content.

    The role is part of it: logs that have changed places are read in another order.
    """
    return derive("casparian.companion.v1", role, source_hash)


def artifact_hash(files: Iterable[tuple[bytes, str]]) -> str:
    """Identity of a parser folder from (relative path, BLAKE3 of content); the manifest is one of the files."""
    fields: list[bytes] = []
    for path, content_hash in sorted(files):
        fields += [path, content_hash.encode()]
    return derive("casparian.artifact.v1", *fields)


def environment_hash(requirements: Iterable[str]) -> str:
    """Identity of a parser's locked, hashed requirement list; empty for first-party parsers."""
    return derive("casparian.environment.v1", *sorted(requirements))


def engine_hash(
    engine_sources_hash: str, python_version: str, pyarrow_version: str, tzdata_version: str
) -> str:
    """Identity of what executes parsers: native core, guest and SDK (compiled in), CPython, pyarrow, time zones."""
    return derive(
        "casparian.engine.v1", engine_sources_hash, python_version, pyarrow_version, tzdata_version
    )


def contract_hash(output: OutputContract) -> str:
    """Identity of one table's contract, documentation excluded."""
    bare = msgspec.structs.replace(
        output,
        doc="",
        columns=tuple(msgspec.structs.replace(column, doc="") for column in output.columns),
    )
    return derive("casparian.contract.v1", canonical(bare))


def schema_hash(output: OutputContract) -> str:
    """Identity of the Arrow schema that the contract describes: names, types, nullability, order."""
    columns = [[column.name, column.type, column.nullable] for column in output.columns]
    return derive("casparian.schema.v1", canonical([output.table, columns]))


def parser_contract_hash(contract: Contract) -> str:
    """Identity of all outputs of a parser together."""
    return derive(
        "casparian.parser-contract.v1", *(contract_hash(output) for output in contract.outputs)
    )


def config_hash(config: Mapping[str, Any]) -> str:
    """Identity of a parser's effective settings (defaults included)."""
    return derive("casparian.config.v1", canonical(dict(config)))


def sink_config_hash(sink: Sink) -> str:
    """Identity of a sink's effective settings."""
    return derive("casparian.sink-config.v1", canonical(sink.settings))


def dataset_id(sink_uri: str, table: str) -> str:
    """The scope of every sink mode: one table in one place, whatever schema, settings or artifact wrote it."""
    return derive("casparian.dataset.v1", sink_uri, table)


@lru_cache(maxsize=256)  # one for each output of a job, asked for with each of its sources
def output_target_key(dataset: str, schema: str, mode: SinkMode, sink_config: str) -> str:
    """One way of writing one dataset."""
    return derive("casparian.output-target.v1", dataset, schema, mode.value, sink_config)


class KeyParts(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides whether work must be done again. Each field is in the key; a test mutates every one."""

    dataset_id: str
    schema_hash: str
    sink_mode: SinkMode
    sink_config_hash: str
    source_id: str
    artifact_hash: str
    env_hash: str
    engine_hash: str
    parser_config_hash: str
    contract_hash: str
    lineage_version: int

    def output_target_key(self) -> str:
        """The target's part of the key."""
        return output_target_key(
            self.dataset_id, self.schema_hash, self.sink_mode, self.sink_config_hash
        )

    def materialization_key(self) -> str:
        """Equal keys mean equal rows: the second one is skipped, with that as the reason."""
        return derive(
            "casparian.materialization.v1",
            self.output_target_key(),
            self.source_id,
            self.artifact_hash,
            self.env_hash,
            self.engine_hash,
            self.parser_config_hash,
            self.contract_hash,
            str(self.lineage_version),
        )


def approval_content_hash(
    kind: str, subject: str, scope: str, content: str, diff: Iterable[str]
) -> str:
    """What a signed decision about a request is bound to: the exact change, and the lines that people are shown of it.

    Args:
        kind: of the request.
        subject: what is changed.
        scope: whose decision it is.
        content: canonical JSON text of the change.
        diff: the lines shown.
    """
    return derive("casparian.approval.v1", kind, subject, scope, content, *diff)


def commit_id(home_id: str, job_id: int, epoch: int) -> str:
    """Names one commit in a shared sink: two homes may write to it."""
    return f"{home_id}:{job_id}:{epoch}"


def row_id(table: str, source: str, job_id: int, ordinal: int) -> str:
    """`_cf_row_id`."""
    return f"{table}:{source[:16]}:{job_id}:{ordinal}"
