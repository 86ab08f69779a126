-- Files that arrived for a data domain, and the days that they became.
CREATE TABLE publications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    domain TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('pcap')),
    -- NULL: its name is no day.
    day TEXT,
    file TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('taken', 'checked', 'loaded', 'published', 'rejected', 'replaced', 'expired')),
    taken_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL CHECK (changed_at >= taken_at),
    -- What is in the file, once it was read.
    format TEXT CHECK (format IN ('pcap', 'pcapng')),
    bytes INTEGER CHECK (bytes > 0),
    packets INTEGER CHECK (packets > 0),
    first_at INTEGER,
    last_at INTEGER CHECK (last_at >= first_at),
    sha256 TEXT CHECK (length(sha256) = 64),
    -- Rows in PostgreSQL; NULL where there is none.
    rows INTEGER CHECK (rows >= 0),
    modified_ns INTEGER,
    -- Whether it is to be loaded again.
    load INTEGER NOT NULL DEFAULT 0 CHECK (load IN (0, 1)),
    reason TEXT NOT NULL DEFAULT '',
    CHECK (state IN ('taken', 'rejected') OR (day IS NOT NULL AND format IS NOT NULL
        AND bytes IS NOT NULL AND packets IS NOT NULL AND first_at IS NOT NULL
        AND last_at IS NOT NULL AND sha256 IS NOT NULL)),
    CHECK ((state = 'rejected') = (reason <> '')),
    CHECK (state <> 'published' OR modified_ns IS NOT NULL),
    CHECK (load = 0 OR state = 'published')
) STRICT;

CREATE UNIQUE INDEX publications_one_under_way ON publications (domain, kind, day)
    WHERE state IN ('taken', 'checked', 'loaded');
CREATE UNIQUE INDEX publications_one_a_day ON publications (domain, kind, day)
    WHERE state = 'published';
CREATE INDEX publications_by_state ON publications (domain, state);
