-- Whether something of it may be in its guest: from before an agent is given its first byte, until it is
-- known that the guest took none.
ALTER TABLE injections ADD COLUMN reached INTEGER NOT NULL DEFAULT 0 CHECK (reached IN (0, 1));

-- What agents had given to the guests of a snapshot: it is in them again after a return.
CREATE TABLE snapshot_injections (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id),
    injection INTEGER NOT NULL REFERENCES injections (id),
    PRIMARY KEY (snapshot, injection)
) STRICT;
