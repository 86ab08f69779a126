-- Cards, the only way in from outside. Key files of earlier labs are cards of a kind of their own.
CREATE TABLE cards (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN ('piv', 'key_file')),
    state TEXT NOT NULL CHECK (state IN ('issuing', 'active', 'revoked')),
    act TEXT CHECK (act IN ('issue', 'enrol')),
    guid TEXT CHECK (length(guid) = 32),
    -- What the card has to sign; given once, and taken away with its signature.
    challenge TEXT CHECK (challenge IS NULL OR (state = 'issuing' AND length(challenge) = 64)),
    algorithm TEXT,
    line TEXT CHECK ((line IS NULL) = (algorithm IS NULL)),
    fingerprint TEXT CHECK ((fingerprint IS NULL) = (line IS NULL)),
    proven INTEGER NOT NULL DEFAULT 0 CHECK (proven IN (0, 1)),
    issued_at INTEGER NOT NULL,
    expires_at INTEGER,
    activated_at INTEGER CHECK (state <> 'active' OR activated_at IS NOT NULL),
    revoked_at INTEGER CHECK ((state = 'revoked') = (revoked_at IS NOT NULL)),
    revoked_by TEXT CHECK ((state = 'revoked') = (revoked_by IS NOT NULL)),
    reason TEXT CHECK ((state = 'revoked') = (reason IS NOT NULL)),
    CHECK (state <> 'active' OR line IS NOT NULL)
) STRICT;

CREATE INDEX cards_of_account ON cards (account);

-- A card of plastic is one card here at a time, and one of issue keeps its number when it is
-- issued again.
CREATE UNIQUE INDEX cards_in_hand ON cards (guid) WHERE state <> 'revoked';

-- Every key that a card ever had: none is taken for a second one.
CREATE TABLE card_keys (
    fingerprint TEXT PRIMARY KEY,
    card INTEGER NOT NULL REFERENCES cards (id)
) STRICT;

INSERT INTO cards
    (id, account, kind, state, algorithm, line, fingerprint, issued_at, activated_at)
SELECT id, account, 'key_file', 'active',
    CASE substr(line, 1, instr(line, ' ') - 1)
        WHEN 'ssh-ed25519' THEN 'ed25519'
        WHEN 'ecdsa-sha2-nistp256' THEN 'ec-p256'
        WHEN 'ecdsa-sha2-nistp384' THEN 'ec-p384'
        WHEN 'ecdsa-sha2-nistp521' THEN 'ec-p521'
        -- Of its bytes 23 are not the modulus, with the usual exponent.
        ELSE 'rsa-' || ((length(rtrim(substr(line, 9), '=')) * 3 / 4 - 23) * 8)
    END,
    line, fingerprint, added_at, added_at
FROM keys;

INSERT INTO card_keys (fingerprint, card) SELECT fingerprint, id FROM keys;

DROP TABLE keys;
