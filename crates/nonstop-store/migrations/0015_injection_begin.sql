-- What held before anything of an injection was before its guest, in place of what held when it was there.
ALTER TABLE injections RENAME COLUMN facts_there TO facts_begin;

-- What is looked for many times a second.
CREATE INDEX injections_going_on ON injections (id) WHERE facts_end IS NULL;
