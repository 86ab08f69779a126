-- Samples that were put before a guest: what is wanted, and what became of it.
CREATE TABLE injections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    environment INTEGER NOT NULL REFERENCES environments (id),
    machine INTEGER NOT NULL REFERENCES machines (id),
    generation INTEGER NOT NULL,
    domain TEXT NOT NULL,
    by_person TEXT NOT NULL,
    way TEXT NOT NULL CHECK (way IN ('disc', 'agent')),
    zip INTEGER NOT NULL CHECK (zip IN (0, 1)),
    items TEXT NOT NULL CHECK (json_valid(items)),
    state TEXT NOT NULL CHECK (state IN ('preparing', 'there', 'failed', 'ended')),
    at INTEGER NOT NULL,
    there_at INTEGER,
    ended_at INTEGER,
    ended_by TEXT,
    failure TEXT,
    guest_says TEXT,
    -- What held when it was there, and when it was not any more.
    facts_there TEXT CHECK (facts_there IS NULL OR json_valid(facts_there)),
    facts_end TEXT CHECK (facts_end IS NULL OR json_valid(facts_end)),
    CHECK ((ended_at IS NULL) = (state IN ('preparing', 'there'))),
    CHECK ((failure IS NOT NULL) = (state = 'failed')),
    CHECK ((ended_by IS NOT NULL) = (state = 'ended'))
) STRICT;

CREATE INDEX injections_of ON injections (environment);

CREATE UNIQUE INDEX one_disc_a_machine ON injections (machine)
WHERE way = 'disc' AND state IN ('preparing', 'there');

CREATE UNIQUE INDEX injections_one_at_a_time ON injections (machine) WHERE state = 'preparing';
