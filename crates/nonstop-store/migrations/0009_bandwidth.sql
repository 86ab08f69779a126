-- Limits of bandwidth that accounts have for themselves, in kbit/s each way; 0 for none at all. Who
-- is not in it has the lab's.
CREATE TABLE bandwidth (
    account INTEGER PRIMARY KEY REFERENCES accounts (id),
    kbit INTEGER NOT NULL CHECK (kbit = 0 OR kbit BETWEEN 64 AND 10000000)
) STRICT;
