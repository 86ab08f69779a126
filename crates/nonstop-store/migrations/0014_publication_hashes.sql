-- The SHA-256 of every sample and report of every version of every day, also of those that are no longer
-- there: what must not leave as it is. By first byte, so that to look for one takes a page or two of each
-- publication; `hashes` are 32 bytes each, ascending.
CREATE TABLE publication_hashes (
    first INTEGER NOT NULL CHECK (first BETWEEN 0 AND 255),
    publication INTEGER NOT NULL REFERENCES publications (id),
    hashes BLOB NOT NULL CHECK (length(hashes) > 0 AND length(hashes) % 32 = 0),
    PRIMARY KEY (first, publication)
) STRICT;
