-- Quarantined rows that were accepted as they are, each decision under the approval that made it, and whether it was taken back.
CREATE TABLE cf_quarantine_decisions (
    decision_id VARCHAR NOT NULL, parser VARCHAR NOT NULL, rows BIGINT NOT NULL, rows_hash VARCHAR NOT NULL,
    reason VARCHAR NOT NULL, actor VARCHAR NOT NULL, accepted_at_ns BIGINT NOT NULL,
    reopened_at_ns BIGINT, reopened_by VARCHAR, reopened_reason VARCHAR);
-- Which rows: spans of ordinals of a (job, source), both ends in it.
CREATE TABLE cf_quarantine_spans (
    decision_id VARCHAR NOT NULL, job_id BIGINT NOT NULL, source_id VARCHAR NOT NULL, first_ordinal BIGINT NOT NULL,
    last_ordinal BIGINT NOT NULL);
