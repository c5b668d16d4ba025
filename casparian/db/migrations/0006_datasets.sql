-- Contracts of datasets: every revision that was promoted, as the document that was approved, and under which approval.
CREATE TABLE schema_datasets (
    table_name VARCHAR NOT NULL, revision BIGINT NOT NULL, hash VARCHAR NOT NULL, parser VARCHAR NOT NULL,
    document VARCHAR NOT NULL, effect VARCHAR NOT NULL, compatible_with_previous BOOLEAN NOT NULL,
    approval_id VARCHAR NOT NULL, actor VARCHAR NOT NULL, promoted_at_ns BIGINT NOT NULL);
-- How each revision differs from the one before it, change by change.
CREATE TABLE schema_amendments (
    table_name VARCHAR NOT NULL, revision BIGINT NOT NULL, previous_hash VARCHAR NOT NULL, hash VARCHAR NOT NULL,
    changes VARCHAR NOT NULL, approval_id VARCHAR NOT NULL, promoted_at_ns BIGINT NOT NULL);
