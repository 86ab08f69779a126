-- Who looked at which machine's display, and what went through.
CREATE TABLE desktop_sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    machine INTEGER NOT NULL REFERENCES machines (id),
    account INTEGER NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN ('owner', 'viewer')),
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    frames INTEGER NOT NULL DEFAULT 0 CHECK (frames >= 0),
    bytes_out INTEGER NOT NULL DEFAULT 0 CHECK (bytes_out >= 0),
    keys_in INTEGER NOT NULL DEFAULT 0 CHECK (keys_in >= 0),
    over_budget INTEGER NOT NULL DEFAULT 0 CHECK (over_budget IN (0, 1)),
    note TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX desktop_sessions_open ON desktop_sessions (machine) WHERE closed_at IS NULL;

-- The owner's permission, or staff's, that another person sees a display. `viewer` is the number
-- of its place at that display, from 1: recordings take theirs from the same numbers.
CREATE TABLE view_grants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    machine INTEGER NOT NULL REFERENCES machines (id),
    viewer INTEGER NOT NULL CHECK (viewer BETWEEN 1 AND 15),
    account INTEGER NOT NULL REFERENCES accounts (id),
    granted_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL CHECK (until_at > from_at),
    ended_at INTEGER
) STRICT;

CREATE UNIQUE INDEX view_grants_once ON view_grants (machine, account) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX view_places_once ON view_grants (machine, viewer) WHERE ended_at IS NULL;

-- What was shown, kept encrypted in a file named by the number.
CREATE TABLE recordings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    machine INTEGER NOT NULL REFERENCES machines (id),
    viewer INTEGER NOT NULL CHECK (viewer BETWEEN 1 AND 15),
    wanted_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    max_bytes INTEGER NOT NULL CHECK (max_bytes > 0),
    begun_at INTEGER NOT NULL,
    ended_at INTEGER,
    bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    note TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE UNIQUE INDEX recordings_once ON recordings (machine) WHERE ended_at IS NULL;

-- Who may see a recording, for a while after having said why.
CREATE TABLE recording_plays (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    recording INTEGER NOT NULL REFERENCES recordings (id),
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
