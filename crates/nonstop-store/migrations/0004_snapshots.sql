-- What machines were at one time, by a name that their researcher gave it.
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    environment INTEGER NOT NULL REFERENCES environments (id),
    name TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('taking', 'whole', 'failed', 'deleted')),
    note TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE UNIQUE INDEX snapshot_names_once ON snapshots (environment, name) WHERE state <> 'deleted';
CREATE UNIQUE INDEX snapshots_one_at_a_time ON snapshots (environment) WHERE state = 'taking';

-- The generation of each machine that a snapshot names, and what that was made from. The row
-- stays when the name is deleted: others may have been made from the generation.
CREATE TABLE snapshot_machines (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id),
    machine INTEGER NOT NULL REFERENCES machines (id),
    generation INTEGER NOT NULL CHECK (generation > 0),
    origin INTEGER CHECK (origin < generation),
    memory INTEGER NOT NULL CHECK (memory IN (0, 1)),
    PRIMARY KEY (snapshot, machine)
) STRICT;

-- What the current generation was made from; NULL for the image.
ALTER TABLE machines ADD COLUMN origin INTEGER CHECK (origin < generation);
-- The memory that the guest goes on with instead of booting, by generation and snapshot.
ALTER TABLE machines ADD COLUMN resume_generation INTEGER;
ALTER TABLE machines ADD COLUMN resume_snapshot INTEGER
    CHECK ((resume_snapshot IS NULL) = (resume_generation IS NULL));
