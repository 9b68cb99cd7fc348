-- PostgreSQL 15 and newer, and what needs its ICU.
SET ROLE zoo_app;
CREATE TABLE data.unik (a int, b int, UNIQUE NULLS NOT DISTINCT (a, b));
INSERT INTO data.unik VALUES (1, NULL);
CREATE TYPE data.jangka AS RANGE (SUBTYPE = int4, MULTIRANGE_TYPE_NAME = data.banyak_jangka);
CREATE TABLE data.jangka_tabel (x data.banyak_jangka);
INSERT INTO data.jangka_tabel VALUES ('{[1,3),[5,9)}');
CREATE VIEW data.peminta WITH (security_invoker) AS SELECT id FROM data.rahasia;
RESET ROLE;
CREATE PUBLICATION per_skema FOR TABLES IN SCHEMA data;
CREATE PUBLICATION sebagian FOR TABLE data.opd (id, nama) WHERE (id > 3);
