-- Files on their way into environments and out of them: names, contents, and how far each is.

-- Bytes that never change, once they are there. The row goes after the file.
CREATE TABLE blobs (
    id TEXT PRIMARY KEY CHECK (length(id) = 32),
    environment INTEGER NOT NULL REFERENCES environments (id),
    root TEXT NOT NULL CHECK (root IN ('import', 'export')),
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    made_at INTEGER NOT NULL,
    -- Whether nothing needs it any more: the file is to be removed.
    going INTEGER NOT NULL DEFAULT 0 CHECK (going IN (0, 1))
) STRICT;

CREATE INDEX blobs_going ON blobs (id) WHERE going = 1;
CREATE INDEX blobs_environment ON blobs (environment);

CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- What clients know it by: at random, an order would tell one side of the other.
    token TEXT NOT NULL UNIQUE CHECK (length(token) = 32),
    environment INTEGER NOT NULL REFERENCES environments (id),
    root TEXT NOT NULL CHECK (root IN ('import', 'export')),
    -- 0: it lies in the root itself.
    parent INTEGER NOT NULL,
    name TEXT NOT NULL CHECK (name <> ''),
    -- NULL: a folder.
    blob TEXT REFERENCES blobs (id),
    bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0 AND (blob IS NOT NULL OR bytes = 0)),
    -- Which machine gave what it holds; NULL for what was brought from outside.
    machine INTEGER REFERENCES machines (id),
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    -- From when on what it holds is an export, if it is left alone; NULL: nothing is due.
    due_at INTEGER CHECK (due_at IS NULL OR root = 'export'),
    UNIQUE (environment, root, parent, name)
) STRICT;

CREATE INDEX entries_due ON entries (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX entries_blob ON entries (blob) WHERE blob IS NOT NULL;
CREATE INDEX entries_parent ON entries (parent);

CREATE TABLE exports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    environment INTEGER NOT NULL REFERENCES environments (id),
    machine INTEGER NOT NULL REFERENCES machines (id),
    path TEXT NOT NULL CHECK (path <> ''),
    version INTEGER NOT NULL CHECK (version > 0),
    -- The name that holds it; no longer there once it was removed.
    entry INTEGER NOT NULL,
    blob TEXT NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes > 0),
    state TEXT NOT NULL CHECK (state IN ('submitted', 'screening', 'held', 'blocked', 'released',
        'refused', 'withdrawn', 'revoked')),
    submitted_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL CHECK (changed_at >= submitted_at),
    released_at INTEGER,
    note TEXT NOT NULL DEFAULT '',
    -- What the screening said.
    screened_at INTEGER,
    screened_ms INTEGER CHECK (screened_ms >= 0),
    sha256 TEXT CHECK (length(sha256) = 64),
    content_type TEXT,
    verdict TEXT CHECK (verdict IN ('pass', 'hold', 'block')),
    findings TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(findings)),
    rules_digest TEXT CHECK (length(rules_digest) = 64),
    -- Where its bytes lie by their SHA-256.
    kept TEXT CHECK (kept IN ('trace', 'quarantine')),
    UNIQUE (environment, path, version),
    CHECK ((screened_at IS NULL) = (verdict IS NULL)),
    CHECK (state NOT IN ('held', 'blocked', 'released', 'refused', 'revoked')
        OR (screened_at IS NOT NULL AND sha256 IS NOT NULL)),
    CHECK ((state IN ('released', 'revoked')) = (released_at IS NOT NULL))
) STRICT;

CREATE INDEX exports_state ON exports (state, environment, id);
CREATE INDEX exports_entry ON exports (entry) WHERE state IN ('submitted', 'screening', 'held');
CREATE INDEX exports_blob ON exports (blob);
CREATE INDEX exports_submitted ON exports (environment, submitted_at);

-- What the lab's policy, or a person, decided; a screening decides once, and so does a person.
CREATE TABLE export_decisions (
    export INTEGER NOT NULL REFERENCES exports (id),
    state TEXT NOT NULL CHECK (state IN ('held', 'blocked', 'released', 'refused', 'revoked')),
    by TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (export, state)
) STRICT;

CREATE UNIQUE INDEX export_decisions_once ON export_decisions (export)
    WHERE state IN ('released', 'refused');

-- Files that were brought, one row for each upload.
CREATE TABLE imports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    environment INTEGER NOT NULL REFERENCES environments (id),
    path TEXT NOT NULL CHECK (path <> ''),
    blob TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('looking', 'visible', 'refused', 'removed')),
    sha256 TEXT CHECK (length(sha256) = 64),
    content_type TEXT,
    findings TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(findings)),
    CHECK (state <> 'visible' OR sha256 IS NOT NULL)
) STRICT;

CREATE INDEX imports_state ON imports (state, environment, id);
