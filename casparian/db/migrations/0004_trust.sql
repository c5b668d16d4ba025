-- Trust. Root and policy documents as they were imported: the files in HOME/trust are written from these.
CREATE TABLE cf_trust_documents (
    sequence BIGINT NOT NULL, kind VARCHAR NOT NULL, version BIGINT NOT NULL, sha256 VARCHAR NOT NULL, document BLOB NOT NULL,
    actor VARCHAR NOT NULL, imported_at_ns BIGINT NOT NULL);
-- Parsers put into HOME/artifacts; the highest serial of a name that is not retired runs.
CREATE TABLE cf_deployments (
    parser VARCHAR NOT NULL, version VARCHAR NOT NULL, serial BIGINT NOT NULL, artifact_hash VARCHAR NOT NULL,
    statement_sha256 VARCHAR NOT NULL, trust VARCHAR NOT NULL, actor VARCHAR NOT NULL, deployed_at_ns BIGINT NOT NULL,
    retired_at_ns BIGINT, retired_by VARCHAR);
-- Who signed the parser that a job ran, under which policy: JSON, empty for jobs of older versions.
ALTER TABLE cf_job_logs ADD COLUMN trust VARCHAR DEFAULT '';
