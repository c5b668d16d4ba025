-- Requests to change what is trusted, and the signed decisions about them.
CREATE TABLE cf_approvals (
    approval_id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, subject VARCHAR NOT NULL, scope VARCHAR NOT NULL,
    content VARCHAR NOT NULL, content_hash VARCHAR NOT NULL, diff VARCHAR NOT NULL, requested_by VARCHAR NOT NULL,
    requested_at_ns BIGINT NOT NULL, expires_at_ns BIGINT NOT NULL, state VARCHAR NOT NULL, ended_at_ns BIGINT,
    superseded_by VARCHAR);
CREATE TABLE cf_approval_votes (
    approval_id VARCHAR NOT NULL, decision VARCHAR NOT NULL, keyids VARCHAR NOT NULL, holders VARCHAR NOT NULL,
    role VARCHAR NOT NULL, reason VARCHAR NOT NULL, actor VARCHAR NOT NULL, envelope BLOB NOT NULL, at_ns BIGINT NOT NULL);
-- A laboratory's limits of a parser: raised ones name the approval, lowered ones (`approval_id` empty) need none.
CREATE TABLE cf_parser_limits (
    parser VARCHAR NOT NULL, name VARCHAR NOT NULL, value BIGINT NOT NULL, approval_id VARCHAR NOT NULL,
    actor VARCHAR NOT NULL, set_at_ns BIGINT NOT NULL);
