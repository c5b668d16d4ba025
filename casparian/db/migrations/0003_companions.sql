-- Files that belong to others (a hive's logs, a database's journal): what was read together, and where it lay.
ALTER TABLE scout_files ADD COLUMN companions STRUCT(role VARCHAR, name BLOB, display_path VARCHAR, size_bytes UBIGINT,
    source_hash VARCHAR, sha256 VARCHAR)[] DEFAULT [];
ALTER TABLE scout_files ADD COLUMN companion_of VARCHAR;
ALTER TABLE scout_sightings ADD COLUMN companions STRUCT(role VARCHAR, name BLOB, display_path VARCHAR, size_bytes UBIGINT,
    source_hash VARCHAR, sha256 VARCHAR)[] DEFAULT [];
