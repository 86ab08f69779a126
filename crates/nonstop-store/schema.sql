CREATE TABLE accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    full_name TEXT NOT NULL,
    affiliation TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('researcher', 'staff')),
    state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'removed')),
    sources TEXT NOT NULL CHECK (json_valid(sources)),
    added_at INTEGER NOT NULL
, edition TEXT
    CHECK (edition IS NULL OR (role = 'researcher' AND edition <> ''))) STRICT;

CREATE TABLE bandwidth (
    account INTEGER PRIMARY KEY REFERENCES accounts (id),
    kbit INTEGER NOT NULL CHECK (kbit = 0 OR kbit BETWEEN 64 AND 10000000)
) STRICT;

CREATE TABLE blobs (
    id TEXT PRIMARY KEY CHECK (length(id) = 32),
    environment INTEGER NOT NULL REFERENCES environments (id),
    root TEXT NOT NULL CHECK (root IN ('import', 'export')),
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    made_at INTEGER NOT NULL,
    -- Whether nothing needs it any more: the file is to be removed.
    going INTEGER NOT NULL DEFAULT 0 CHECK (going IN (0, 1))
) STRICT;

CREATE INDEX blobs_environment ON blobs (environment);

CREATE INDEX blobs_going ON blobs (id) WHERE going = 1;

CREATE TABLE card_keys (
    fingerprint TEXT PRIMARY KEY,
    card INTEGER NOT NULL REFERENCES cards (id)
) STRICT;

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

CREATE UNIQUE INDEX cards_in_hand ON cards (guid) WHERE state <> 'revoked';

CREATE INDEX cards_of_account ON cards (account);

CREATE TABLE deletions (
    sha256 TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    decided_at INTEGER NOT NULL,
    done_at INTEGER
) STRICT;

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

CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- What clients know it by: at random, an order would tell one side of the other.
    token TEXT NOT NULL UNIQUE CHECK (length(token) = 32),
    environment INTEGER NOT NULL REFERENCES environments (id),
    root TEXT NOT NULL CHECK (root IN ('import', 'export')),
    -- 0: it lies in the root itself.
    parent INTEGER NOT NULL,
    name TEXT NOT NULL CHECK (name <> ''),
    -- NULL: a folder.
    blob TEXT REFERENCES blobs (id),
    bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0 AND (blob IS NOT NULL OR bytes = 0)),
    -- Which machine gave what it holds; NULL for what was brought from outside.
    machine INTEGER REFERENCES machines (id),
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    -- From when on what it holds is an export, if it is left alone; NULL: nothing is due.
    due_at INTEGER CHECK (due_at IS NULL OR root = 'export'),
    UNIQUE (environment, root, parent, name)
) STRICT;

CREATE INDEX entries_blob ON entries (blob) WHERE blob IS NOT NULL;

CREATE INDEX entries_due ON entries (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX entries_parent ON entries (parent);

CREATE TABLE environments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES accounts (id),
    template TEXT NOT NULL,
    template_json TEXT NOT NULL CHECK (json_valid(template_json)),
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL CHECK (until_at > from_at),
    slot INTEGER NOT NULL CHECK (slot >= 0),
    state TEXT NOT NULL CHECK (state IN ('granted', 'ended', 'gone')),
    destroy_at INTEGER CHECK ((state = 'granted') = (destroy_at IS NULL))
) STRICT;

CREATE TABLE export_decisions (
    export INTEGER NOT NULL REFERENCES exports (id),
    state TEXT NOT NULL CHECK (state IN ('held', 'blocked', 'released', 'refused', 'revoked')),
    by TEXT NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (export, state)
) STRICT;

CREATE UNIQUE INDEX export_decisions_once ON export_decisions (export)
    WHERE state IN ('released', 'refused');

CREATE TABLE exports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    environment INTEGER NOT NULL REFERENCES environments (id),
    machine INTEGER NOT NULL REFERENCES machines (id),
    path TEXT NOT NULL CHECK (path <> ''),
    version INTEGER NOT NULL CHECK (version > 0),
    -- The name that holds it; no longer there once it was removed.
    entry INTEGER NOT NULL,
    blob TEXT NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes > 0),
    state TEXT NOT NULL CHECK (state IN ('submitted', 'screening', 'held', 'blocked', 'released',
        'refused', 'withdrawn', 'revoked')),
    submitted_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL CHECK (changed_at >= submitted_at),
    released_at INTEGER,
    note TEXT NOT NULL DEFAULT '',
    -- What the screening said.
    screened_at INTEGER,
    screened_ms INTEGER CHECK (screened_ms >= 0),
    sha256 TEXT CHECK (length(sha256) = 64),
    content_type TEXT,
    verdict TEXT CHECK (verdict IN ('pass', 'hold', 'block')),
    findings TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(findings)),
    rules_digest TEXT CHECK (length(rules_digest) = 64),
    -- Where its bytes lie by their SHA-256.
    kept TEXT CHECK (kept IN ('trace', 'quarantine')),
    UNIQUE (environment, path, version),
    CHECK ((screened_at IS NULL) = (verdict IS NULL)),
    CHECK (state NOT IN ('held', 'blocked', 'released', 'refused', 'revoked')
        OR (screened_at IS NOT NULL AND sha256 IS NOT NULL)),
    CHECK ((state IN ('released', 'revoked')) = (released_at IS NOT NULL))
) STRICT;

CREATE INDEX exports_blob ON exports (blob);

CREATE INDEX exports_entry ON exports (entry) WHERE state IN ('submitted', 'screening', 'held');

CREATE INDEX exports_state ON exports (state, environment, id);

CREATE INDEX exports_submitted ON exports (environment, submitted_at);

CREATE TABLE head_places (
    place TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    sent_at INTEGER,
    failed_at INTEGER,
    why TEXT CHECK ((failed_at IS NULL) = (why IS NULL))
) STRICT;

CREATE TABLE heads (
    seq INTEGER PRIMARY KEY REFERENCES trace (seq),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    at INTEGER NOT NULL,
    authority BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;

CREATE TRIGGER heads_are_never_changed BEFORE UPDATE ON heads
BEGIN
    SELECT raise(ABORT, 'heads are append-only');
END;

CREATE TRIGGER heads_are_never_deleted BEFORE DELETE ON heads
BEGIN
    SELECT raise(ABORT, 'heads are append-only');
END;

CREATE TABLE imports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    environment INTEGER NOT NULL REFERENCES environments (id),
    path TEXT NOT NULL CHECK (path <> ''),
    blob TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('looking', 'visible', 'refused', 'removed')),
    sha256 TEXT CHECK (length(sha256) = 64),
    content_type TEXT,
    findings TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(findings)),
    CHECK (state <> 'visible' OR sha256 IS NOT NULL)
) STRICT;

CREATE INDEX imports_state ON imports (state, environment, id);

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
    facts_begin TEXT CHECK (facts_begin IS NULL OR json_valid(facts_begin)),
    facts_end TEXT CHECK (facts_end IS NULL OR json_valid(facts_end)), reached INTEGER NOT NULL DEFAULT 0 CHECK (reached IN (0, 1)),
    CHECK ((ended_at IS NULL) = (state IN ('preparing', 'there'))),
    CHECK ((failure IS NOT NULL) = (state = 'failed')),
    CHECK ((ended_by IS NOT NULL) = (state = 'ended'))
) STRICT;

CREATE INDEX injections_going_on ON injections (id) WHERE facts_end IS NULL;

CREATE INDEX injections_of ON injections (environment);

CREATE UNIQUE INDEX injections_one_at_a_time ON injections (machine) WHERE state = 'preparing';

CREATE TABLE kept_exports (
    export INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    kept_by TEXT NOT NULL,
    kept_at INTEGER NOT NULL
) STRICT;

CREATE TABLE lab (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    uuid TEXT NOT NULL,
    created_at INTEGER NOT NULL
, pool TEXT) STRICT;

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

CREATE TABLE machines (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    environment INTEGER NOT NULL REFERENCES environments (id),
    position INTEGER NOT NULL CHECK (position BETWEEN 0 AND 11),
    role TEXT NOT NULL CHECK (role IN ('analyst', 'debugger', 'debuggee')),
    image TEXT NOT NULL,
    image_digest TEXT NOT NULL,
    memory_mib INTEGER NOT NULL CHECK (memory_mib > 0),
    vcpus INTEGER NOT NULL CHECK (vcpus > 0),
    generation INTEGER NOT NULL DEFAULT 1 CHECK (generation > 0),
    power TEXT NOT NULL CHECK (power IN ('on', 'off')),
    force_off_at INTEGER NOT NULL DEFAULT 0,
    reset_pending INTEGER NOT NULL DEFAULT 0 CHECK (reset_pending IN (0, 1)),
    guest_user TEXT,
    password TEXT NOT NULL,
    prepared_generation INTEGER NOT NULL DEFAULT 0,
    desktop_port INTEGER CHECK (desktop_port BETWEEN 1 AND 65535),
    seen_in TEXT, origin INTEGER CHECK (origin < generation), resume_generation INTEGER, resume_snapshot INTEGER
    CHECK ((resume_snapshot IS NULL) = (resume_generation IS NULL)),
    UNIQUE (environment, role),
    UNIQUE (environment, position)
) STRICT;

CREATE UNIQUE INDEX one_disc_a_machine ON injections (machine)
WHERE way = 'disc' AND state IN ('preparing', 'there');

CREATE TABLE publication_hashes (
    first INTEGER NOT NULL CHECK (first BETWEEN 0 AND 255),
    publication INTEGER NOT NULL REFERENCES publications (id),
    hashes BLOB NOT NULL CHECK (length(hashes) > 0 AND length(hashes) % 32 = 0),
    PRIMARY KEY (first, publication)
) STRICT;

CREATE TABLE "publications" (
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

CREATE INDEX publications_by_state ON publications (domain, state);

CREATE UNIQUE INDEX publications_one_a_day ON publications (domain, kind, day)
    WHERE state = 'published';

CREATE UNIQUE INDEX publications_one_under_way ON publications (domain, kind, day)
    WHERE state IN ('taken', 'checked', 'loaded');

CREATE TABLE recording_plays (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    recording INTEGER NOT NULL REFERENCES recordings (id),
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

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

CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES accounts (id),
    template TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL CHECK (until_at > from_at),
    purpose TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'approved', 'refused')),
    decided_by TEXT CHECK ((state = 'open') = (decided_by IS NULL)),
    reason TEXT CHECK ((state = 'refused') = (reason IS NOT NULL)),
    environment INTEGER UNIQUE REFERENCES environments (id)
        CHECK ((state = 'approved') = (environment IS NOT NULL))
) STRICT;

CREATE TABLE session_flows (
    session INTEGER NOT NULL REFERENCES sessions (id),
    target TEXT NOT NULL,
    bytes_in INTEGER NOT NULL CHECK (bytes_in >= 0),
    bytes_out INTEGER NOT NULL CHECK (bytes_out >= 0),
    connections INTEGER NOT NULL CHECK (connections >= 0),
    PRIMARY KEY (session, target)
) STRICT;

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES accounts (id),
    source TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    pid INTEGER NOT NULL,
    run TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER
, port INTEGER NOT NULL DEFAULT 0 CHECK (port BETWEEN 0 AND 65535), client TEXT NOT NULL DEFAULT '', ended TEXT NOT NULL DEFAULT '', ending INTEGER NOT NULL DEFAULT 0 CHECK (ending IN (0, 1)), uncounted INTEGER NOT NULL DEFAULT 0 CHECK (uncounted IN (0, 1))) STRICT;

CREATE INDEX sessions_open ON sessions (account) WHERE closed_at IS NULL;

CREATE INDEX sessions_opened ON sessions (opened_at);

CREATE UNIQUE INDEX slots_once ON environments (slot) WHERE state <> 'gone';

CREATE TABLE snapshot_injections (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id),
    injection INTEGER NOT NULL REFERENCES injections (id),
    PRIMARY KEY (snapshot, injection)
) STRICT;

CREATE TABLE snapshot_machines (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id),
    machine INTEGER NOT NULL REFERENCES machines (id),
    generation INTEGER NOT NULL CHECK (generation > 0),
    origin INTEGER CHECK (origin < generation),
    memory INTEGER NOT NULL CHECK (memory IN (0, 1)),
    PRIMARY KEY (snapshot, machine)
) STRICT;

CREATE UNIQUE INDEX snapshot_names_once ON snapshots (environment, name) WHERE state <> 'deleted';

CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    environment INTEGER NOT NULL REFERENCES environments (id),
    name TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('taking', 'whole', 'failed', 'deleted')),
    note TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE UNIQUE INDEX snapshots_one_at_a_time ON snapshots (environment) WHERE state = 'taking';

CREATE TABLE trace (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (json_valid(detail)),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TRIGGER trace_has_no_gap BEFORE INSERT ON trace
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM trace)
BEGIN
    SELECT raise(ABORT, 'the trace has no gaps');
END;

CREATE TRIGGER trace_is_never_changed BEFORE UPDATE ON trace
BEGIN
    SELECT raise(ABORT, 'the trace is append-only');
END;

CREATE TRIGGER trace_is_never_deleted BEFORE DELETE ON trace
BEGIN
    SELECT raise(ABORT, 'the trace is append-only');
END;

CREATE INDEX trace_subject ON trace (subject);

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
