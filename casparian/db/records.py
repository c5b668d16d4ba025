"""Rows of the control database, one struct a table; field names are the column names."""

from __future__ import annotations

import msgspec


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    pass


class JobRow(_Row, frozen=True, kw_only=True):
    """`cf_processing_queue`."""

    job_id: int
    run_id: str
    state: str
    epoch: int
    attempts: int
    parser: str
    sources: int
    size_bytes: int
    spec: bytes
    receipt: bytes | None = None
    rows: int = 0
    quarantined: int = 0
    code: str | None = None
    message: str | None = None
    created_at_ns: int
    updated_at_ns: int


class DispositionRow(_Row, frozen=True, kw_only=True):
    """`cf_dispositions`. `failure_key` is the main output's materialization key when the source failed for good."""

    job_id: int
    epoch: int
    source_index: int
    source_id: str
    source_hash: str
    display_path: str
    status: str
    code: str | None
    message: str
    permanent: bool
    rows: int
    quarantined: int
    failure_key: str | None
    at_ns: int


class OutputRow(_Row, frozen=True, kw_only=True):
    """`cf_outputs`."""

    job_id: int
    epoch: int
    table_name: str
    sink: str
    dataset_id: str
    path: str
    rows: int
    size_bytes: int
    blake3: str
    committed_at_ns: int
    removed_at_ns: int | None = None


class OutputPairRow(_Row, frozen=True, kw_only=True):
    """`cf_output_pairs`: whose rows a file holds."""

    path: str
    job_id: int
    source_id: str


class MaterializationRow(_Row, frozen=True, kw_only=True):
    """`cf_materializations`."""

    sequence: int
    materialization_key: str
    dataset_id: str
    output_target_key: str
    table_name: str
    sink: str
    sink_mode: str
    sink_config_hash: str
    job_id: int
    epoch: int
    source_id: str
    source_hash: str
    sha256: str
    root: str
    source_path: str
    parser: str
    parser_version: str
    artifact_hash: str
    artifact_dir: str
    env_hash: str
    engine_hash: str
    parser_config_hash: str
    contract_hash: str
    schema_hash: str
    lineage_version: int
    rows: int
    quarantined: int
    committed_at_ns: int
    retired_by: int | None = None


class DocumentRow(_Row, frozen=True, kw_only=True):
    """`cf_documents`: what a hash stands for, as JSON."""

    hash: str
    document: str


class LedgerRow(_Row, frozen=True, kw_only=True):
    """`cf_ledgers`."""

    job_id: int
    source_id: str
    source_hash: str
    sha256: str
    root: str
    source_path: str
    parser: str
    unit: str
    declared: int | None
    present: int
    rows: int
    recovered_live: int
    recovered_extra: int
    quarantined: int
    quarantined_extra: int
    lost: int
    blank_units: int
    blank_bytes: int
    balanced: bool


class FindingRow(_Row, frozen=True, kw_only=True):
    """`cf_findings`."""

    job_id: int
    source_id: str
    source_path: str
    code: str
    offset: int
    length: int
    message: str


class PlanItemRow(_Row, frozen=True, kw_only=True):
    """`cf_plan_items`."""

    run_id: str
    root: str
    path: bytes
    display_path: str
    parser: str | None
    decision: str
    reason: str
    detail: str
    source_id: str | None
    job_id: int | None


class ContractRow(_Row, frozen=True, kw_only=True):
    """A contract in force; `schema_contracts` gives it a revision when its hash is new."""

    parser: str
    table_name: str
    contract_hash: str
    schema_hash: str
    document: str
    origin: str


class DatasetRow(_Row, frozen=True, kw_only=True):
    """`schema_datasets`: one promoted revision of a dataset's contract."""

    table_name: str
    revision: int
    hash: str
    parser: str
    document: str  # canonical JSON
    effect: str  # of the step from the revision before
    compatible_with_previous: bool
    approval_id: str
    actor: str  # who asked for it; who decided is recorded with the approval
    promoted_at_ns: int


class AmendmentRow(_Row, frozen=True, kw_only=True):
    """`schema_amendments`: how a revision differs from the one before it."""

    table_name: str
    revision: int
    previous_hash: str
    hash: str
    changes: str  # JSON
    approval_id: str
    promoted_at_ns: int


class ExpectedOutputRow(_Row, frozen=True, kw_only=True):
    """`cf_expected_outputs`."""

    parser: str
    artifact_hash: str
    table_name: str
    main: bool
    contract_hash: str
    sink: str
    declared_at_ns: int


class Pair(_Row, frozen=True, kw_only=True):
    """One (job, source) of one dataset: the unit of life."""

    dataset_id: str
    job_id: int
    source_id: str
