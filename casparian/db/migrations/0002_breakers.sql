-- Circuit breakers: one row for each parser artifact that has failed since its last success.
CREATE TABLE cf_breakers (
    parser VARCHAR NOT NULL, artifact_hash VARCHAR NOT NULL, state VARCHAR NOT NULL, opened_at_ns BIGINT,
    failures VARCHAR NOT NULL, changed_at_ns BIGINT NOT NULL);
