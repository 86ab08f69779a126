-- The data domain that an account works on, as lab.yaml names it.
ALTER TABLE accounts ADD COLUMN edition TEXT
    CHECK (edition IS NULL OR (role = 'researcher' AND edition <> ''));

-- Whoever works on one already goes on with the one of their newest environment.
UPDATE accounts SET edition = (
    SELECT json_extract(e.template_json, '$.domain') FROM environments e
    WHERE e.account = accounts.id AND json_extract(e.template_json, '$.domain') IS NOT NULL
    ORDER BY e.id DESC LIMIT 1
) WHERE role = 'researcher';
