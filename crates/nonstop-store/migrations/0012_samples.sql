-- Days of samples are published as days of packets are. What a row must say of its file depends on its
-- kind, and SQLite changes no CHECK: the table is made anew, with every row that it had.
CREATE TABLE publications_new (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    domain TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('pcap', 'samples')),
    -- NULL: its name is no day.
    day TEXT,
    file TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('taken', 'checked', 'loaded', 'published', 'rejected', 'replaced', 'expired')),
    taken_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL CHECK (changed_at >= taken_at),
    -- What is in the file, once it was read.
    bytes INTEGER CHECK (bytes > 0),
    sha256 TEXT CHECK (length(sha256) = 64),
    -- The same of packets alone.
    format TEXT CHECK (format IN ('pcap', 'pcapng')),
    packets INTEGER CHECK (packets > 0),
    first_at INTEGER,
    last_at INTEGER CHECK (last_at >= first_at),
    -- The same of samples alone.
    samples INTEGER CHECK (samples >= 0),
    reports INTEGER CHECK (reports >= 0 AND samples + reports > 0),
    -- Rows in PostgreSQL; NULL where there is none.
    rows INTEGER CHECK (rows >= 0),
    modified_ns INTEGER,
    -- Whether it is to be loaded again.
    load INTEGER NOT NULL DEFAULT 0 CHECK (load IN (0, 1)),
    reason TEXT NOT NULL DEFAULT '',
    CHECK (state IN ('taken', 'rejected')
        OR (day IS NOT NULL AND bytes IS NOT NULL AND sha256 IS NOT NULL)),
    CHECK (state IN ('taken', 'rejected') OR kind <> 'pcap' OR (format IS NOT NULL
        AND packets IS NOT NULL AND first_at IS NOT NULL AND last_at IS NOT NULL)),
    CHECK (state IN ('taken', 'rejected') OR kind <> 'samples'
        OR (samples IS NOT NULL AND reports IS NOT NULL)),
    CHECK (kind = 'pcap' OR (format IS NULL AND packets IS NULL AND first_at IS NULL
        AND last_at IS NULL AND rows IS NULL AND load = 0)),
    CHECK (kind = 'samples' OR (samples IS NULL AND reports IS NULL)),
    CHECK ((state = 'rejected') = (reason <> '')),
    CHECK (state <> 'published' OR modified_ns IS NOT NULL),
    CHECK (load = 0 OR state = 'published')
) STRICT;

INSERT INTO publications_new
    (id, domain, kind, day, file, asked_by, state, taken_at, changed_at, bytes, sha256, format,
     packets, first_at, last_at, rows, modified_ns, load, reason)
SELECT id, domain, kind, day, file, asked_by, state, taken_at, changed_at, bytes, sha256, format,
     packets, first_at, last_at, rows, modified_ns, load, reason
FROM publications;

-- A number that was handed out is not handed out again, also where its row was removed.
INSERT INTO sqlite_sequence (name, seq)
SELECT 'publications_new', 0
WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'publications_new');
UPDATE sqlite_sequence
SET seq = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'publications'), 0)
WHERE name = 'publications_new';

DROP TABLE publications;
ALTER TABLE publications_new RENAME TO publications;

CREATE UNIQUE INDEX publications_one_under_way ON publications (domain, kind, day)
    WHERE state IN ('taken', 'checked', 'loaded');
CREATE UNIQUE INDEX publications_one_a_day ON publications (domain, kind, day)
    WHERE state = 'published';
CREATE INDEX publications_by_state ON publications (domain, state);
