-- Needs a build with ICU.
SET ROLE zoo_app;
CREATE COLLATION data.tak_peduli (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE data.kata (k text COLLATE data.tak_peduli PRIMARY KEY);
INSERT INTO data.kata VALUES ('Satu'), ('dua');
RESET ROLE;
