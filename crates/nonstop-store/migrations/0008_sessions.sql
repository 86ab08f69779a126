-- Sessions: the client and its port, why they ended, and what went to each target.

ALTER TABLE sessions ADD COLUMN port INTEGER NOT NULL DEFAULT 0 CHECK (port BETWEEN 0 AND 65535);
ALTER TABLE sessions ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN ended TEXT NOT NULL DEFAULT '';
-- Whether somebody wants it to end.
ALTER TABLE sessions ADD COLUMN ending INTEGER NOT NULL DEFAULT 0 CHECK (ending IN (0, 1));
-- Whether connections may have ended while nobody counted.
ALTER TABLE sessions ADD COLUMN uncounted INTEGER NOT NULL DEFAULT 0 CHECK (uncounted IN (0, 1));

CREATE INDEX sessions_opened ON sessions (opened_at);

CREATE TABLE session_flows (
    session INTEGER NOT NULL REFERENCES sessions (id),
    target TEXT NOT NULL,
    bytes_in INTEGER NOT NULL CHECK (bytes_in >= 0),
    bytes_out INTEGER NOT NULL CHECK (bytes_out >= 0),
    connections INTEGER NOT NULL CHECK (connections >= 0),
    PRIMARY KEY (session, target)
) STRICT;

-- Logins that were refused, one row a minute for those that are alike.
CREATE TABLE login_refusals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL CHECK (last_at >= first_at),
    user TEXT NOT NULL,
    source TEXT NOT NULL,
    why TEXT NOT NULL,
    reason TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    client TEXT NOT NULL,
    tries INTEGER NOT NULL CHECK (tries > 0)
) STRICT;

CREATE INDEX login_refusals_last ON login_refusals (last_at);
