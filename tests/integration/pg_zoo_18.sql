-- PostgreSQL 18 and newer.
SET ROLE zoo_app;
CREATE TABLE data.maya (a int NOT NULL, b int GENERATED ALWAYS AS (a * 2) VIRTUAL);
INSERT INTO data.maya VALUES (1), (2);
ALTER TABLE data.maya ADD CONSTRAINT a_ada CHECK (a > 0) NOT ENFORCED;
CREATE TABLE data.masa (id int, berlaku daterange, PRIMARY KEY (id, berlaku WITHOUT OVERLAPS));
INSERT INTO data.masa VALUES (1, '[2026-01-01,2026-02-01)');
ALTER TABLE data.masa ADD COLUMN c int, ADD CONSTRAINT c_ada NOT NULL c NOT VALID;
RESET ROLE;
GRANT MAINTAIN ON data.opd TO zoo_baca;
