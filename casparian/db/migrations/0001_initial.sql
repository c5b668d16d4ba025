-- Control-plane truth. No secondary indexes: replay of indexed write-ahead logs is DuckDB's known weak spot, and the sentinel
-- keeps what it looks up by key in memory. Times are nanoseconds since 1970 UTC. Documents are JSON text or MessagePack blobs.

CREATE TABLE cf_meta (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);

-- Discovery -----------------------------------------------------------------------------------------------------------------
CREATE TABLE scout_files (
    root VARCHAR NOT NULL, path BLOB NOT NULL, display_path VARCHAR NOT NULL, walk_order BIGINT NOT NULL, status VARCHAR NOT NULL,
    size_bytes UBIGINT NOT NULL, mtime_ns BIGINT NOT NULL, device UBIGINT NOT NULL, inode UBIGINT NOT NULL, link_target BLOB,
    source_hash VARCHAR, sha256 VARCHAR, source_id VARCHAR, tags VARCHAR[] NOT NULL, tag_reasons VARCHAR[] NOT NULL,
    message VARCHAR, seen_at_ns BIGINT NOT NULL);
-- Every (path, content) pair ever seen: a source that leaves a path stays provable.
CREATE TABLE scout_sightings (
    root VARCHAR NOT NULL, path BLOB NOT NULL, display_path VARCHAR NOT NULL, source_id VARCHAR NOT NULL,
    source_hash VARCHAR NOT NULL, sha256 VARCHAR, size_bytes UBIGINT NOT NULL, first_seen_ns BIGINT NOT NULL);
CREATE TABLE scout_rules (rule_id BIGINT NOT NULL, pattern VARCHAR NOT NULL, tag VARCHAR NOT NULL, added_at_ns BIGINT NOT NULL);
CREATE TABLE scout_tags (root VARCHAR NOT NULL, path BLOB NOT NULL, tag VARCHAR NOT NULL, added_at_ns BIGINT NOT NULL);

-- Contracts -----------------------------------------------------------------------------------------------------------------
CREATE TABLE schema_contracts (
    parser VARCHAR NOT NULL, table_name VARCHAR NOT NULL, revision BIGINT NOT NULL, contract_hash VARCHAR NOT NULL,
    schema_hash VARCHAR NOT NULL, document VARCHAR NOT NULL, origin VARCHAR NOT NULL, promoted_at_ns BIGINT NOT NULL);

-- Runs, requests, jobs --------------------------------------------------------------------------------------------------------
CREATE TABLE cf_requests (request_id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, reply BLOB NOT NULL, at_ns BIGINT NOT NULL);
CREATE TABLE cf_runs (
    run_id VARCHAR PRIMARY KEY, root VARCHAR NOT NULL, actor VARCHAR NOT NULL, request VARCHAR NOT NULL, state VARCHAR NOT NULL,
    started_at_ns BIGINT NOT NULL, finished_at_ns BIGINT, result VARCHAR);
CREATE TABLE cf_plan_items (
    run_id VARCHAR NOT NULL, root VARCHAR NOT NULL, path BLOB NOT NULL, display_path VARCHAR NOT NULL, parser VARCHAR,
    decision VARCHAR NOT NULL, reason VARCHAR NOT NULL, detail VARCHAR NOT NULL, source_id VARCHAR, job_id BIGINT);
CREATE TABLE cf_processing_queue (
    job_id BIGINT PRIMARY KEY, run_id VARCHAR NOT NULL, state VARCHAR NOT NULL, epoch UINTEGER NOT NULL, attempts UINTEGER NOT NULL,
    parser VARCHAR NOT NULL, sources UINTEGER NOT NULL, size_bytes UBIGINT NOT NULL, spec BLOB NOT NULL, receipt BLOB,
    rows BIGINT NOT NULL, quarantined BIGINT NOT NULL, code VARCHAR, message VARCHAR,
    created_at_ns BIGINT NOT NULL, updated_at_ns BIGINT NOT NULL);
CREATE TABLE cf_job_events (
    job_id BIGINT NOT NULL, epoch UINTEGER NOT NULL, from_state VARCHAR, to_state VARCHAR NOT NULL, at_ns BIGINT NOT NULL,
    detail VARCHAR NOT NULL);
CREATE TABLE cf_job_logs (job_id BIGINT NOT NULL, epoch UINTEGER NOT NULL, log VARCHAR NOT NULL, isolation VARCHAR NOT NULL);
-- What became of each source of each job.
CREATE TABLE cf_dispositions (
    job_id BIGINT NOT NULL, epoch UINTEGER NOT NULL, source_index UINTEGER NOT NULL, source_id VARCHAR NOT NULL,
    source_hash VARCHAR NOT NULL, display_path VARCHAR NOT NULL, status VARCHAR NOT NULL, code VARCHAR, message VARCHAR NOT NULL,
    permanent BOOLEAN NOT NULL, rows BIGINT NOT NULL, quarantined BIGINT NOT NULL, failure_key VARCHAR, at_ns BIGINT NOT NULL);

-- What each parser version declares, and the sink each output goes to.
CREATE TABLE cf_expected_outputs (
    parser VARCHAR NOT NULL, artifact_hash VARCHAR NOT NULL, table_name VARCHAR NOT NULL, main BOOLEAN NOT NULL,
    contract_hash VARCHAR NOT NULL, sink VARCHAR NOT NULL, declared_at_ns BIGINT NOT NULL);

-- Commit protocol -------------------------------------------------------------------------------------------------------------
CREATE TABLE cf_commit_intents (job_id BIGINT NOT NULL, epoch UINTEGER NOT NULL, document BLOB NOT NULL);
CREATE TABLE cf_outputs (
    job_id BIGINT NOT NULL, epoch UINTEGER NOT NULL, table_name VARCHAR NOT NULL, sink VARCHAR NOT NULL,
    dataset_id VARCHAR NOT NULL, path VARCHAR NOT NULL, rows BIGINT NOT NULL, size_bytes UBIGINT NOT NULL, blake3 VARCHAR NOT NULL,
    committed_at_ns BIGINT NOT NULL, removed_at_ns BIGINT);
CREATE TABLE cf_output_pairs (path VARCHAR NOT NULL, job_id BIGINT NOT NULL, source_id VARCHAR NOT NULL);
CREATE TABLE cf_materializations (
    sequence BIGINT NOT NULL, materialization_key VARCHAR NOT NULL, dataset_id VARCHAR NOT NULL, output_target_key VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL, sink VARCHAR NOT NULL, sink_mode VARCHAR NOT NULL, sink_config_hash VARCHAR NOT NULL,
    job_id BIGINT NOT NULL, epoch UINTEGER NOT NULL, source_id VARCHAR NOT NULL,
    source_hash VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, root VARCHAR NOT NULL, source_path VARCHAR NOT NULL,
    parser VARCHAR NOT NULL, parser_version VARCHAR NOT NULL, artifact_hash VARCHAR NOT NULL, artifact_dir VARCHAR NOT NULL,
    env_hash VARCHAR NOT NULL, engine_hash VARCHAR NOT NULL, parser_config_hash VARCHAR NOT NULL,
    contract_hash VARCHAR NOT NULL, schema_hash VARCHAR NOT NULL, lineage_version UINTEGER NOT NULL,
    rows BIGINT NOT NULL, quarantined BIGINT NOT NULL, committed_at_ns BIGINT NOT NULL, retired_by BIGINT);
-- What the hashes of a materialization stand for: contracts, parser settings, sink settings; each once.
CREATE TABLE cf_documents (hash VARCHAR NOT NULL, document VARCHAR NOT NULL);
CREATE TABLE cf_ledgers (
    job_id BIGINT NOT NULL, source_id VARCHAR NOT NULL, source_hash VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, root VARCHAR NOT NULL,
    source_path VARCHAR NOT NULL, parser VARCHAR NOT NULL, unit VARCHAR NOT NULL, declared BIGINT, present BIGINT NOT NULL,
    rows BIGINT NOT NULL, recovered_live BIGINT NOT NULL, recovered_extra BIGINT NOT NULL, quarantined BIGINT NOT NULL,
    quarantined_extra BIGINT NOT NULL, lost BIGINT NOT NULL, blank_units BIGINT NOT NULL, blank_bytes BIGINT NOT NULL,
    balanced BOOLEAN NOT NULL);
CREATE TABLE cf_findings (
    job_id BIGINT NOT NULL, source_id VARCHAR NOT NULL, source_path VARCHAR NOT NULL, code VARCHAR NOT NULL,
    "offset" UBIGINT NOT NULL, length UBIGINT NOT NULL, message VARCHAR NOT NULL);

-- Custody ---------------------------------------------------------------------------------------------------------------------
CREATE TABLE cf_tape (seq BIGINT PRIMARY KEY, prev_hash VARCHAR NOT NULL, hash VARCHAR NOT NULL, entry VARCHAR NOT NULL);
