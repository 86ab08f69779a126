-- What the slots of environments are counted in; NULL until the first start.
ALTER TABLE lab ADD COLUMN pool TEXT;
