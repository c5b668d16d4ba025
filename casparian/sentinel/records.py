"""A finished job as rows of the control database. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from casparian.db.operations import FinishCommit
from casparian.db.records import (
    DispositionRow,
    DocumentRow,
    FindingRow,
    LedgerRow,
    MaterializationRow,
)
from casparian.domain.faults import is_remembered
from casparian.domain.jobs import JobState
from casparian.domain.outputs import QUARANTINE_TABLE
from casparian.protocol.identity import canonical
from casparian.protocol.worker import Receipt, SourceReceipt
from casparian.sentinel.events import Promoted
from casparian.sentinel.state import JobEntry, JobSpec, OutputSpec

POLICY_CODE: Final = "quarantine.limit"


def is_permanent(code: str) -> bool:
    """Whether a source that failed so is not tried again under the same key."""
    return is_remembered(code)


def isolation_text(receipt: Receipt | None) -> str:
    """The isolation record as JSON text; empty when there is none."""
    return canonical(receipt.isolation).decode() if receipt and receipt.isolation else ""


def trust_text(receipt: Receipt | None) -> str:
    """The trust record as JSON text; empty when the job ended before there was one."""
    return canonical(receipt.trust).decode() if receipt and receipt.trust else ""


def finish_commit(job: JobEntry, promoted: Promoted, at_ns: int) -> FinishCommit:
    """T2 of a job."""
    receipt, spec = job.receipt, job.spec
    assert receipt is not None
    by_policy = receipt.code == POLICY_CODE
    included = [source for source in receipt.sources if source.code is None]
    left_empty = _left_empty(job)
    outputs = () if by_policy else written(spec, included, {table for table, _ in left_empty})
    materializations = [
        _materialization(job, output, source, at_ns)
        for output in (*outputs, spec.quarantine)
        for source in included
        if has_part(spec, output, source)
        or (output.contract.table, spec.sources[source.index].source_id) in left_empty
    ]
    rows = 0 if by_policy else sum(sum(source.rows.values()) for source in included)
    return FinishCommit(
        at_ns=at_ns,
        job_id=job.job_id,
        epoch=job.epoch,
        after=JobState.FAILED if by_policy else JobState.COMPLETED,
        code=receipt.code,
        message=receipt.message or None,
        rows=rows,
        quarantined=sum(source.quarantined for source in included),
        materializations=tuple(materializations),
        documents=_documents(spec, outputs),
        outputs=promoted.outputs,
        output_pairs=promoted.pairs,
        ledgers=tuple(_ledger(job, source) for source in included if source.ledger is not None),
        findings=tuple(_findings(job, included)),
        dispositions=tuple(
            _disposition(job, source, by_policy=by_policy, at_ns=at_ns)
            for source in receipt.sources
        ),
        retire=job.claims.retire,
        log=receipt.guest_log,
        isolation=isolation_text(receipt),
        trust=trust_text(receipt),
    )


def written(
    spec: JobSpec, included: Sequence[SourceReceipt], also: Collection[str] = ()
) -> tuple[OutputSpec, ...]:
    """The outputs that a commit is about: the job's own, and sparse ones with rows, or among `also`."""
    return spec.written({table for source in included for table in source.rows} | set(also))


def has_part(spec: JobSpec, output: OutputSpec, source: SourceReceipt) -> bool:
    """Whether a source is materialized in an output: always, but in a sparse one only with rows."""
    is_own = any(output is own for own in (*spec.outputs, spec.quarantine))
    return is_own or bool(source.rows.get(output.contract.table))


def _left_empty(job: JobEntry) -> set[tuple[str, str]]:
    """(table, source) of sparse outputs without rows that older rows must give way to."""
    tables = job.spec.sparse_datasets() if job.claims.empty else {}
    return {(tables[dataset], source) for dataset, source in job.claims.empty if dataset in tables}


def _documents(spec: JobSpec, outputs: Sequence[OutputSpec]) -> tuple[DocumentRow, ...]:
    """What the hashes in this job's materializations stand for."""
    found = {spec.parser_config_hash: canonical(spec.parser.config).decode()}
    for output in (*spec.outputs, *outputs, spec.quarantine):
        found[output.contract_hash] = msgspec.json.encode(output.contract).decode()
        found[output.sink_config_hash] = canonical(output.sink.settings).decode()
    return tuple(DocumentRow(hash=key, document=text) for key, text in found.items())


def _materialization(
    job: JobEntry, output: OutputSpec, source: SourceReceipt, at_ns: int
) -> MaterializationRow:
    spec = job.spec
    task = spec.sources[source.index]
    parts = spec.key_parts(output, task.source_id)
    is_quarantine = output.contract.table == QUARANTINE_TABLE
    return MaterializationRow(
        sequence=0,  # given by the writer
        materialization_key=parts.materialization_key(),
        dataset_id=output.dataset_id,
        output_target_key=parts.output_target_key(),
        table_name=output.contract.table,
        sink=output.sink.uri,
        sink_mode=spec.mode.value,
        sink_config_hash=output.sink_config_hash,
        job_id=job.job_id,
        epoch=job.epoch,
        source_id=task.source_id,
        source_hash=task.source_hash,
        sha256=task.sha256,
        root=spec.root,
        source_path=task.display_path,
        parser=spec.parser.name,
        parser_version=spec.parser.version,
        artifact_hash=spec.parser.artifact_hash,
        artifact_dir=spec.parser.directory,
        env_hash=spec.env_hash,
        engine_hash=spec.engine_hash,
        parser_config_hash=spec.parser_config_hash,
        contract_hash=output.contract_hash,
        schema_hash=output.schema_hash,
        lineage_version=spec.lineage_version,
        rows=source.quarantined if is_quarantine else source.rows.get(output.contract.table, 0),
        quarantined=source.quarantined,
        committed_at_ns=at_ns,
    )


def _ledger(job: JobEntry, source: SourceReceipt) -> LedgerRow:
    task = job.spec.sources[source.index]
    ledger = source.ledger
    assert ledger is not None
    return LedgerRow(
        job_id=job.job_id,
        source_id=task.source_id,
        source_hash=task.source_hash,
        sha256=task.sha256,
        root=job.spec.root,
        source_path=task.display_path,
        parser=job.spec.label,
        unit=ledger.unit,
        declared=ledger.declared,
        present=ledger.present,
        rows=ledger.rows,
        recovered_live=ledger.recovered_live,
        recovered_extra=ledger.recovered_extra,
        quarantined=ledger.quarantined,
        quarantined_extra=ledger.quarantined_extra,
        lost=ledger.lost,
        blank_units=ledger.blank_units,
        blank_bytes=ledger.blank_bytes,
        balanced=ledger.balanced,
    )


def _findings(job: JobEntry, sources: list[SourceReceipt]) -> list[FindingRow]:
    rows = []
    for source in sources:
        task = job.spec.sources[source.index]
        for finding in source.ledger.findings if source.ledger else ():
            rows.append(
                FindingRow(
                    job_id=job.job_id,
                    source_id=task.source_id,
                    source_path=task.display_path,
                    code=finding.code,
                    offset=finding.offset,
                    length=finding.length,
                    message=finding.message,
                )
            )
    return rows


def _disposition(
    job: JobEntry, source: SourceReceipt, *, by_policy: bool, at_ns: int
) -> DispositionRow:
    task = job.spec.sources[source.index]
    code = source.code or (POLICY_CODE if by_policy else None)
    permanent = code is not None and not source.transient and is_permanent(code)
    return DispositionRow(
        job_id=job.job_id,
        epoch=job.epoch,
        source_index=source.index,
        source_id=task.source_id,
        source_hash=task.source_hash,
        display_path=task.display_path,
        status="ok" if code is None else "failed",
        code=code,
        message=source.message,
        permanent=permanent,
        rows=sum(source.rows.values()),
        quarantined=source.quarantined,
        failure_key=_failure_key(job.spec, task.source_id) if permanent else None,
        at_ns=at_ns,
    )


def failure_dispositions(
    job: JobEntry, code: str, message: str, *, permanent: bool, at_ns: int
) -> tuple[DispositionRow, ...]:
    """Dispositions of a job that ended as a whole; a source's own code wins over the job's."""
    receipts = {source.index: source for source in job.receipt.sources} if job.receipt else {}
    rows = []
    for task in job.spec.sources:
        own = receipts.get(task.index)
        own_code = own.code if own and own.code else code
        lasting = (own.transient is False if own and own.code else permanent) and is_permanent(
            own_code
        )
        rows.append(
            DispositionRow(
                job_id=job.job_id,
                epoch=job.epoch,
                source_index=task.index,
                source_id=task.source_id,
                source_hash=task.source_hash,
                display_path=task.display_path,
                status="failed",
                code=own_code,
                message=own.message if own and own.code else message,
                permanent=lasting,
                rows=0,
                quarantined=0,
                failure_key=_failure_key(job.spec, task.source_id) if lasting else None,
                at_ns=at_ns,
            )
        )
    return tuple(rows)


def _failure_key(spec: JobSpec, source_id: str) -> str:
    return spec.key_parts(spec.main, source_id).materialization_key()
