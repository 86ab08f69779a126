-- Heads of the trace: the hash of the row `seq`, signed by the lab's authority at `at`.
CREATE TABLE heads (
    seq INTEGER PRIMARY KEY REFERENCES trace (seq),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    at INTEGER NOT NULL,
    authority BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;

CREATE TRIGGER heads_are_never_changed BEFORE UPDATE ON heads
BEGIN
    SELECT raise(ABORT, 'heads are append-only');
END;

CREATE TRIGGER heads_are_never_deleted BEFORE DELETE ON heads
BEGIN
    SELECT raise(ABORT, 'heads are append-only');
END;

-- How far a second place is: it has the heads of rows up to `sent`, which is 0 for none.
CREATE TABLE head_places (
    place TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    sent_at INTEGER,
    failed_at INTEGER,
    why TEXT CHECK ((failed_at IS NULL) = (why IS NULL))
) STRICT;

-- Exports whose bytes no policy deletes.
CREATE TABLE kept_exports (
    export INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    kept_by TEXT NOT NULL,
    kept_at INTEGER NOT NULL
) STRICT;

-- Bytes of exports that are to be deleted, by a row of the trace; done once they are gone.
CREATE TABLE deletions (
    sha256 TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    decided_at INTEGER NOT NULL,
    done_at INTEGER
) STRICT;

-- The receipt of an export, and what happened to one thing.
CREATE INDEX trace_subject ON trace (subject);
