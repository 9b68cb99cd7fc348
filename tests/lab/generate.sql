-- The lab's personnel database, of a size to choose: psql -v mb=1024 -f generate.sql, as superuser on the server.
-- Whatever stood there under its names goes first. Everything is made on the server and the same each time; it holds one of each
-- thing that a dump, a restore or a swap of databases may lose.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;

SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
WHERE datname = 'simpeg' OR datname LIKE 'simpeg\_\_%' \gexec

CREATE DATABASE simpeg OWNER simpeg_owner TEMPLATE template0 ENCODING 'UTF8'
    LOCALE_PROVIDER icu ICU_LOCALE 'id-ID' LOCALE 'C.UTF-8' CONNECTION LIMIT 40;
COMMENT ON DATABASE simpeg IS 'Sistem Informasi Kepegawaian (data uji)';
ALTER DATABASE simpeg SET timezone TO 'Asia/Jakarta';
ALTER DATABASE simpeg SET search_path TO kepegawaian, public;
ALTER ROLE simpeg_app IN DATABASE simpeg SET statement_timeout TO '30s';
REVOKE ALL ON DATABASE simpeg FROM PUBLIC;

\connect simpeg
SET client_min_messages = warning;
SET ROLE simpeg_owner;
CREATE SCHEMA kepegawaian;
COMMENT ON SCHEMA kepegawaian IS 'Data induk dan riwayat pegawai';
CREATE EXTENSION pg_trgm SCHEMA public;
CREATE EXTENSION hstore SCHEMA public;
SET search_path TO kepegawaian, public;

CREATE TYPE golongan AS ENUM ('I', 'II', 'III', 'IV');
CREATE DOMAIN nip AS text CHECK (VALUE ~ '^[0-9]{18}$');
CREATE COLLATION urut_angka (provider = icu, locale = 'id-u-kn-true');

CREATE TABLE unit_kerja (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kode text NOT NULL UNIQUE COLLATE urut_angka,
    nama text NOT NULL,
    induk_id integer REFERENCES unit_kerja (id)
);
CREATE TABLE pegawai (
    id bigserial PRIMARY KEY,
    nip nip NOT NULL UNIQUE,
    nama text NOT NULL,
    gol golongan NOT NULL,
    unit_id integer NOT NULL REFERENCES unit_kerja (id),
    lahir date NOT NULL,
    gaji numeric(12, 2) NOT NULL CHECK (gaji > 0),
    tunjangan numeric(12, 2) GENERATED ALWAYS AS (gaji * 0.15) STORED,
    atribut hstore NOT NULL DEFAULT '',
    foto_sidik bytea
);
-- The bulk of the data; its keys come after the rows, as they would slow every insert.
CREATE TABLE riwayat (
    id bigint NOT NULL,
    pegawai_id bigint NOT NULL,
    unit_id integer NOT NULL,
    mulai timestamptz NOT NULL,
    keterangan text NOT NULL,
    lampiran jsonb
);
CREATE TABLE presensi (
    pegawai_id bigint NOT NULL,
    tanggal date NOT NULL,
    masuk time,
    catatan text,
    PRIMARY KEY (pegawai_id, tanggal)
) PARTITION BY RANGE (tanggal);
CREATE TABLE presensi_2025 PARTITION OF presensi FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE presensi_2026 PARTITION OF presensi FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE dokumen (id serial PRIMARY KEY, pegawai_id bigint NOT NULL REFERENCES pegawai (id), isi oid NOT NULL);
CREATE TABLE transaksi (
    id bigserial PRIMARY KEY,
    pegawai_id bigint NOT NULL REFERENCES pegawai (id) DEFERRABLE INITIALLY DEFERRED,
    jenis text NOT NULL,
    nilai integer NOT NULL,
    pada timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE jejak (id bigserial PRIMARY KEY, tabel text NOT NULL, aksi text NOT NULL, baris jsonb NOT NULL);
CREATE TABLE denyut (satu boolean PRIMARY KEY DEFAULT true CHECK (satu), pada timestamptz NOT NULL);
CREATE TABLE "Tabel Aneh; -- '""" ("kolom 1" integer PRIMARY KEY, "Ünïcode" text);
CREATE SEQUENCE nomor_surat START 1000 INCREMENT 5;

CREATE FUNCTION catat() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO kepegawaian.jejak (tabel, aksi, baris) VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(NEW));
    RETURN NEW;
END $$;
CREATE FUNCTION masa_kerja(nomor text) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS
    $$ SELECT 2026 - substr(nomor, 9, 4)::integer $$;
CREATE PROCEDURE naikkan(persen numeric) LANGUAGE sql AS
    $$ UPDATE kepegawaian.pegawai SET gaji = gaji * (1 + persen / 100) $$;
CREATE AGGREGATE gabung(text) (sfunc = textcat, stype = text, initcond = '');

INSERT INTO unit_kerja (kode, nama, induk_id)
SELECT 'U' || i, 'Unit Kerja ' || i, CASE WHEN i > 5 THEN 1 + i % 5 END FROM generate_series(1, 50) AS i;

-- One row of pegawai for each 50 kB wanted, at least 2000.
SELECT greatest(2000, :mb * 20) AS pegawai, greatest(1000, :mb * 780) AS riwayat \gset
INSERT INTO pegawai (nip, nama, gol, unit_id, lahir, gaji, atribut, foto_sidik)
SELECT lpad((19700000 + i % 300000)::text, 8, '0') || '2005' || lpad((i % 1000000)::text, 6, '0'),
       (ARRAY['Siti', 'Budi', 'Dewi', 'Agus', 'Rina', 'Joko'])[1 + i % 6] || ' ' || md5(i::text),
       (ARRAY['I', 'II', 'III', 'IV'])[1 + i % 4]::golongan, 1 + i % 50, date '1970-01-01' + i % 12000,
       2500000 + (i % 5000) * 1000, hstore(ARRAY['agama', 'pendidikan'], ARRAY[(i % 6)::text, 'S' || 1 + i % 3]),
       decode(md5(i::text) || md5((i + 1)::text), 'hex')
FROM generate_series(1, :pegawai) AS i;

-- About 1.2 kB a row, unlike its neighbours: restic finds little to fold.
INSERT INTO riwayat
SELECT i, 1 + i % :pegawai, 1 + i % 50, timestamptz '2010-01-01 00:00+07' + make_interval(mins => i % 7000000),
       a || b || md5(a) || md5(b) || a || md5(b || a) || md5(a || b) || repeat(md5(a || 'x') || b || md5(b || 'y'), 9),
       CASE WHEN i % 5 = 0 THEN jsonb_build_object('nomor', i, 'sk', a, 'aktif', i % 2 = 0) END
FROM (SELECT i, md5(i::text) AS a, md5((-i)::text) AS b FROM generate_series(1, :riwayat) AS i OFFSET 0) AS benih;
SET maintenance_work_mem = '512MB';
ALTER TABLE riwayat ADD PRIMARY KEY (id);
CREATE INDEX riwayat_pegawai ON riwayat (pegawai_id, mulai DESC);
ALTER TABLE riwayat ADD FOREIGN KEY (pegawai_id) REFERENCES pegawai (id) ON DELETE CASCADE;
ALTER TABLE riwayat ADD FOREIGN KEY (unit_id) REFERENCES unit_kerja (id);
CREATE SEQUENCE riwayat_id_seq OWNED BY riwayat.id;
SELECT setval('riwayat_id_seq', :riwayat) \g /dev/null
ALTER TABLE riwayat ALTER id SET DEFAULT nextval('riwayat_id_seq');

INSERT INTO presensi
SELECT p, date '2025-12-15' + h, time '07:00' + make_interval(mins => (p * h) % 60), NULLIF(p % 7, 0)::text
FROM generate_series(1, least(:pegawai, 5000)) AS p, generate_series(0, 29) AS h;
ALTER TABLE presensi ADD FOREIGN KEY (pegawai_id) REFERENCES pegawai (id);

INSERT INTO dokumen (pegawai_id, isi)
SELECT i, lo_from_bytea(0, convert_to(repeat('dokumen ' || md5(i::text), 100 * i), 'UTF8')) FROM generate_series(1, 40) AS i;
INSERT INTO "Tabel Aneh; -- '""" VALUES (1, E'baris\nbaru\ttab \\ "kutip" ''satu'''), (2, NULL), (3, ''), (4, '\N');
INSERT INTO denyut VALUES (true, '2026-01-01 00:00+07');
SELECT nextval('nomor_surat'), nextval('nomor_surat') \g /dev/null

CREATE INDEX pegawai_nama ON pegawai USING gin (nama gin_trgm_ops);
CREATE INDEX pegawai_atribut ON pegawai USING gin (atribut);
CREATE INDEX pegawai_tinggi ON pegawai (gaji) WHERE gaji > 7000000;
CREATE TRIGGER pegawai_catat AFTER INSERT OR UPDATE ON pegawai FOR EACH ROW EXECUTE FUNCTION catat();
CREATE TRIGGER transaksi_catat AFTER INSERT ON transaksi FOR EACH ROW EXECUTE FUNCTION catat();
CREATE VIEW daftar AS
    SELECT p.nip, p.nama, u.nama AS unit, masa_kerja(p.nip) AS tahun FROM pegawai p JOIN unit_kerja u ON u.id = p.unit_id;
CREATE MATERIALIZED VIEW rekap AS
    SELECT unit_id, gol, count(*) AS orang, sum(gaji) AS gaji FROM pegawai GROUP BY unit_id, gol;
CREATE UNIQUE INDEX ON rekap (unit_id, gol);
CREATE RULE tanpa_hapus AS ON DELETE TO jejak DO INSTEAD NOTHING;
CREATE STATISTICS pegawai_gol_unit (dependencies) ON gol, unit_id FROM pegawai;
ALTER TABLE pegawai ENABLE ROW LEVEL SECURITY;
CREATE POLICY semua ON pegawai TO simpeg_app USING (true) WITH CHECK (true);
UPDATE pegawai SET gaji = gaji + 1 WHERE id <= 100;
INSERT INTO transaksi (pegawai_id, jenis, nilai) SELECT i, 'awal', i FROM generate_series(1, 100) AS i;

GRANT USAGE ON SCHEMA kepegawaian TO simpeg_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA kepegawaian TO simpeg_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA kepegawaian TO simpeg_app;
REVOKE EXECUTE ON PROCEDURE naikkan(numeric) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA kepegawaian GRANT SELECT ON TABLES TO simpeg_app;
GRANT SELECT (id, kode) ON unit_kerja TO PUBLIC;
RESET ROLE;
ANALYZE;
-- Last: whoever waits for the application to be healthy waits for the whole of it.
GRANT CONNECT ON DATABASE simpeg TO simpeg_app;
