-- The schema zoo: every kind of object that an application's database may hold. Run by the superuser in the new database
-- zoo of role zoo_app, whose tablespaces zoo_ruang and zoo_indeks and the roles of pg_zoo_roles.sql exist.
-- What a single version has stands in pg_zoo_<major>.sql.

-- extensions: trusted ones by the owner, in public and in a schema of their own; others by the superuser
CREATE SCHEMA ext AUTHORIZATION zoo_app;
GRANT CREATE, USAGE ON SCHEMA public TO zoo_app, zoo_dinas;
SET ROLE zoo_app;
CREATE EXTENSION hstore SCHEMA ext;
CREATE EXTENSION btree_gist;
RESET ROLE;
CREATE EXTENSION citext;
CREATE EXTENSION pageinspect;
CREATE EXTENSION postgres_fdw;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO zoo_app;
CREATE EXTENSION unaccent SCHEMA ext;
COMMENT ON EXTENSION hstore IS 'pasangan kunci dan nilai';
GRANT USAGE ON SCHEMA ext TO PUBLIC;

SET ROLE zoo_app;
CREATE SCHEMA data;
CREATE SCHEMA "Arsip Lama";
GRANT USAGE ON SCHEMA data TO zoo_baca, zoo_dinas;
GRANT ALL ON SCHEMA data TO zoo_dinas WITH GRANT OPTION;

-- types
CREATE TYPE data.golongan AS ENUM ('III/b', 'I/a', 'II');
ALTER TYPE data.golongan ADD VALUE 'I/b' AFTER 'I/a';
CREATE DOMAIN data.nip AS text COLLATE "C" DEFAULT '000000' NOT NULL CONSTRAINT angka CHECK (VALUE ~ '^[0-9]{4,18}$');
CREATE DOMAIN data.nip_asn AS data.nip CHECK (length(VALUE) = 6);
CREATE TYPE data.alamat AS (jalan text, kota text COLLATE "C", koordinat point);
ALTER TYPE data.alamat ADD ATTRIBUTE kode_pos int;
CREATE FUNCTION data.jarak(a float8, b float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT a - b';
CREATE TYPE data.nilai AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = data.jarak);
CREATE TYPE data.pasangan AS (a data.golongan, b data.nip[]);

-- collations
CREATE COLLATION data.urut FROM "C";
COMMENT ON COLLATION data.urut IS 'urutan bita';

-- tables: identity, generated, defaults, storage, options, column ACL, statistics, exclusion
CREATE SEQUENCE data.nomor AS int START 5 INCREMENT -5 MINVALUE -50 MAXVALUE 50 CACHE 3 CYCLE;
SELECT nextval('data.nomor') FROM generate_series(1, 4) \g /dev/null
CREATE TABLE data.opd (
    id int GENERATED ALWAYS AS IDENTITY (START WITH 10 INCREMENT BY 3) PRIMARY KEY,
    kode ext.hstore, nama citext NOT NULL UNIQUE, nomor int DEFAULT nextval('data.nomor')
);
INSERT INTO data.opd (kode, nama) SELECT ext.hstore('k', g::text), 'Dinas ' || g FROM generate_series(1, 20) g;
CREATE TABLE data.pegawai (
    id bigserial PRIMARY KEY, nip data.nip_asn NOT NULL, nama text COLLATE data.urut NOT NULL,
    gol data.golongan DEFAULT 'I/a', rumah data.alamat, riwayat data.pasangan[], rentang data.nilai,
    opd_id int REFERENCES data.opd ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED,
    gaji numeric(12, 2) NOT NULL CHECK (gaji >= 0), pajak numeric GENERATED ALWAYS AS (gaji * 0.05) STORED,
    foto bytea, catatan text, dibuang int, EXCLUDE USING gist (nip WITH =, opd_id WITH <>)
) WITH (fillfactor = 70, autovacuum_enabled = false);
ALTER TABLE data.pegawai DROP COLUMN dibuang;
ALTER TABLE data.pegawai ALTER catatan SET STORAGE EXTERNAL, ALTER gaji SET STATISTICS 321, ALTER gol SET (n_distinct = 4);
INSERT INTO data.pegawai (nip, nama, gol, rumah, riwayat, rentang, opd_id, gaji, foto, catatan)
SELECT (100000 + g)::text, 'Pegawai ' || g, (enum_range(NULL::data.golongan))[g % 4 + 1],
       ROW('Jl. ' || g, NULL, point(g, -g), g)::data.alamat, ARRAY[ROW('II', ARRAY['1234', '12345'])::data.pasangan],
       data.nilai(g, g + 0.5), 10 + 3 * (g % 20), g * 1000, decode(md5(g::text), 'hex'), E'baris\n\\.\t' || g
  FROM generate_series(1, 500) g;
CREATE INDEX pegawai_besar ON data.pegawai ((lower(nama))) INCLUDE (gol) WHERE gaji > 100000;
CREATE INDEX pegawai_ruang ON data.pegawai (opd_id DESC NULLS LAST) TABLESPACE zoo_indeks;
CREATE UNIQUE INDEX pegawai_utama ON data.pegawai (nip, opd_id);
ALTER TABLE data.pegawai REPLICA IDENTITY FULL, CLUSTER ON pegawai_utama;
CREATE STATISTICS data.pegawai_stat (ndistinct, dependencies) ON gol, opd_id FROM data.pegawai;
CREATE STATISTICS data.pegawai_ungkapan ON (gaji % 7), (lower(nama)) FROM data.pegawai;
ALTER STATISTICS data.pegawai_stat SET STATISTICS 77;
ALTER TABLE data.pegawai ADD CONSTRAINT belum_sah CHECK (gaji < 400000) NOT VALID;
ALTER TABLE data.pegawai ADD COLUMN atasan bigint, ADD CONSTRAINT atasan_fk FOREIGN KEY (atasan) REFERENCES data.pegawai NOT VALID;
CREATE TABLE data.berkas (id int PRIMARY KEY, ruang text) TABLESPACE zoo_ruang;
INSERT INTO data.berkas SELECT g, repeat('x', 3000) FROM generate_series(1, 50) g;
CREATE UNLOGGED TABLE data.sementara (x int);
INSERT INTO data.sementara VALUES (1), (2);
CREATE TABLE data.jenis_dari OF data.alamat (jalan WITH OPTIONS NOT NULL);
CREATE TABLE data.tanpa_kolom ();
INSERT INTO data.tanpa_kolom DEFAULT VALUES;

-- partitions: list, range, hash, default, nested, attached indexes; inheritance
CREATE TABLE data.presensi (id bigint, tanggal date NOT NULL, wilayah text, isi text, UNIQUE (id, tanggal, wilayah)) PARTITION BY RANGE (tanggal);
CREATE TABLE data.presensi_2025 PARTITION OF data.presensi FOR VALUES FROM (MINVALUE) TO ('2026-01-01') PARTITION BY LIST (wilayah);
CREATE TABLE data.presensi_2025_kota PARTITION OF data.presensi_2025 FOR VALUES IN ('kota', NULL) PARTITION BY HASH (id);
CREATE TABLE data.presensi_2025_kota_0 PARTITION OF data.presensi_2025_kota FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE data.presensi_2025_kota_1 PARTITION OF data.presensi_2025_kota FOR VALUES WITH (MODULUS 2, REMAINDER 1) TABLESPACE zoo_ruang;
CREATE TABLE data.presensi_2025_lain PARTITION OF data.presensi_2025 DEFAULT;
CREATE TABLE data.presensi_sisa PARTITION OF data.presensi DEFAULT;
CREATE TABLE data.presensi_2026 (wilayah text, isi text DEFAULT 'sendiri', id bigint, tanggal date NOT NULL);
ALTER TABLE data.presensi ATTACH PARTITION data.presensi_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO data.presensi SELECT g, '2025-03-01'::date + g * 2, (ARRAY['kota', 'desa', NULL])[g % 3 + 1], 'i' || g FROM generate_series(1, 400) g;
CREATE INDEX presensi_isi ON ONLY data.presensi (isi);
CREATE INDEX presensi_isi_2026 ON data.presensi_2026 (isi);
ALTER INDEX data.presensi_isi ATTACH PARTITION data.presensi_isi_2026;
CREATE INDEX ON data.presensi (wilayah);
CREATE TABLE data.induk (a int, b text DEFAULT 'i' NOT NULL, CHECK (a > 0), CHECK (a < 1000) NO INHERIT);
CREATE TABLE data.induk_lain (c int);
CREATE TABLE data.anak (a int, d int) INHERITS (data.induk, data.induk_lain);
INSERT INTO data.induk VALUES (1, 'x');
INSERT INTO data.anak VALUES (2, 'y', 3, 4);

-- routines, operators, aggregates, casts, text search
CREATE FUNCTION data.tambah(VARIADIC n int[] DEFAULT '{}', OUT jumlah bigint) LANGUAGE sql STABLE PARALLEL SAFE STRICT COST 7
    AS 'SELECT coalesce(sum(x), 0) FROM unnest(n) x';
CREATE FUNCTION data.baris(batas int) RETURNS TABLE (a int, b text) LANGUAGE plpgsql ROWS 9 SECURITY DEFINER
    SET search_path = data, pg_temp SET work_mem = '8MB'
    AS $isi$ BEGIN RETURN QUERY SELECT g, 'kutip '' $$ ; \ ' FROM generate_series(1, batas) g; END $isi$;
CREATE FUNCTION data.baku(x int) RETURNS int BEGIN ATOMIC SELECT x + count(*)::int FROM data.opd; END;
CREATE PROCEDURE data.kosongkan(INOUT a int) LANGUAGE plpgsql AS $$ BEGIN a := 1; COMMIT; END $$;
CREATE AGGREGATE data.gabung(text) (SFUNC = textcat, STYPE = text, INITCOND = '', PARALLEL = SAFE);
CREATE AGGREGATE data.urutan(ORDER BY text) (SFUNC = textcat, STYPE = text, INITCOND = '');
CREATE FUNCTION data.sama(int, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1::text = $2';
CREATE FUNCTION data.samb(text, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2::text';
CREATE OPERATOR data.=== (LEFTARG = int, RIGHTARG = text, FUNCTION = data.sama, COMMUTATOR = OPERATOR(data.===));
CREATE OPERATOR data.=== (LEFTARG = text, RIGHTARG = int, FUNCTION = data.samb, COMMUTATOR = OPERATOR(data.===));
CREATE FUNCTION data.ke_teks(data.alamat) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).jalan';
CREATE CAST (data.alamat AS text) WITH FUNCTION data.ke_teks(data.alamat) AS ASSIGNMENT;
COMMENT ON CAST (data.alamat AS text) IS 'jalannya';
CREATE TEXT SEARCH DICTIONARY data.sederhana (TEMPLATE = pg_catalog.simple, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION data.indonesia (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION data.indonesia ALTER MAPPING FOR asciiword WITH data.sederhana, simple;
CREATE CONVERSION data.ubah FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;

-- views and rules
CREATE VIEW data.ringkas WITH (security_barrier, check_option = cascaded) AS SELECT id, nama, gaji FROM data.pegawai WHERE gaji < 9999999;
CREATE VIEW data.berantai AS SELECT r.id, count(*) OVER () n FROM data.ringkas r;
CREATE RECURSIVE VIEW data.hitung (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM hitung WHERE n < 9;
CREATE MATERIALIZED VIEW data.ringkas_mv TABLESPACE zoo_ruang AS SELECT opd_id, sum(gaji) AS total FROM data.pegawai GROUP BY 1;
CREATE UNIQUE INDEX ON data.ringkas_mv (opd_id);
CREATE MATERIALIZED VIEW data.kosong_mv AS SELECT 1 AS x WITH NO DATA;
CREATE RULE catat_ubah AS ON UPDATE TO data.ringkas DO ALSO NOTIFY ubah;
CREATE RULE diam AS ON DELETE TO data.opd WHERE old.id < 0 DO INSTEAD NOTHING;
ALTER TABLE data.opd DISABLE RULE diam;

-- triggers: row, statement with transition table, WHEN, column, constraint (deferred), disabled, always, instead of
CREATE FUNCTION data.picu() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER a_baris BEFORE UPDATE OF gaji, nama ON data.pegawai FOR EACH ROW WHEN (old.gaji <> new.gaji) EXECUTE FUNCTION data.picu('arg', 'kut''ip');
CREATE TRIGGER b_pernyataan AFTER INSERT ON data.pegawai REFERENCING NEW TABLE AS baru FOR EACH STATEMENT EXECUTE FUNCTION data.picu();
CREATE CONSTRAINT TRIGGER c_tunda AFTER DELETE ON data.pegawai FROM data.opd DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION data.picu();
CREATE TRIGGER d_mati BEFORE DELETE ON data.pegawai FOR EACH ROW EXECUTE FUNCTION data.picu();
ALTER TABLE data.pegawai DISABLE TRIGGER d_mati;
CREATE TRIGGER e_selalu BEFORE DELETE ON data.pegawai FOR EACH ROW EXECUTE FUNCTION data.picu();
ALTER TABLE data.pegawai ENABLE ALWAYS TRIGGER e_selalu;
CREATE TRIGGER f_partisi AFTER INSERT ON data.presensi FOR EACH ROW EXECUTE FUNCTION data.picu();
ALTER TABLE data.presensi_2026 DISABLE TRIGGER f_partisi;
CREATE TRIGGER g_ganti INSTEAD OF INSERT ON data.berantai FOR EACH ROW EXECUTE FUNCTION data.picu();
COMMENT ON TRIGGER a_baris ON data.pegawai IS 'pemicu';

-- row security, on tables of two roles, forced on one
CREATE TABLE data.rahasia (id int PRIMARY KEY, milik name DEFAULT current_user, isi text);
INSERT INTO data.rahasia SELECT g, 'zoo_baca', 'isi ' || g FROM generate_series(1, 50) g;
ALTER TABLE data.rahasia ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY milik ON data.rahasia AS PERMISSIVE FOR SELECT TO zoo_baca, zoo_app USING (milik = current_user);
CREATE POLICY batas ON data.rahasia AS RESTRICTIVE FOR ALL TO PUBLIC USING (id > 0) WITH CHECK (isi <> '');
GRANT SELECT (id, isi), UPDATE (isi) ON data.rahasia TO zoo_baca WITH GRANT OPTION;
GRANT REFERENCES ON data.rahasia TO zoo_dinas;
RESET ROLE;
SET ROLE zoo_dinas;
CREATE TABLE data.dinas (id int REFERENCES data.rahasia, isi text);
ALTER TABLE data.dinas ENABLE ROW LEVEL SECURITY;
CREATE POLICY tak_seorang_pun ON data.dinas USING (false);
INSERT INTO data.dinas SELECT g, 'd' FROM generate_series(1, 9) g;
RESET ROLE;
SET ROLE zoo_baca;
GRANT SELECT (isi) ON data.rahasia TO zoo_dinas;
RESET ROLE;

-- privileges
SET ROLE zoo_app;
GRANT SELECT ON ALL TABLES IN SCHEMA data TO "Zoo Pengawas";
GRANT USAGE, SELECT ON SEQUENCE data.nomor TO zoo_baca;
REVOKE EXECUTE ON FUNCTION data.tambah(int[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION data.tambah(int[]) TO zoo_dinas WITH GRANT OPTION;
GRANT EXECUTE ON PROCEDURE data.kosongkan(int) TO zoo_baca;
REVOKE USAGE ON TYPE data.golongan FROM PUBLIC;
GRANT USAGE ON DOMAIN data.nip TO zoo_baca;
REVOKE ALL ON data.berkas FROM zoo_app;
GRANT SELECT ON data.berkas TO zoo_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA data GRANT SELECT ON TABLES TO zoo_baca;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE zoo_app GRANT USAGE ON TYPES TO "Zoo Pengawas" WITH GRANT OPTION;
COMMENT ON TABLE data.pegawai IS 'Pegawai; "kutip" ''satu'' \ é';
COMMENT ON COLUMN data.pegawai.gaji IS 'rupiah';
COMMENT ON CONSTRAINT belum_sah ON data.pegawai IS 'belum diperiksa';
COMMENT ON INDEX data.pegawai_besar IS 'sebagian';
COMMENT ON POLICY milik ON data.rahasia IS 'hanya milik';
COMMENT ON DOMAIN data.nip IS 'nomor';
COMMENT ON STATISTICS data.pegawai_stat IS 'kaitan';
COMMENT ON PROCEDURE data.kosongkan(int) IS 'hapus';
COMMENT ON AGGREGATE data.gabung(text) IS 'sambung';
COMMENT ON SCHEMA data IS NULL;
COMMENT ON TEXT SEARCH CONFIGURATION data.indonesia IS 'bahasa';
CREATE TABLE "Arsip Lama"."Tabel; DROP -- é" ("kolom 'a'" text, ":v" int);
INSERT INTO "Arsip Lama"."Tabel; DROP -- é" VALUES ('é', 1);

-- foreign data
CREATE SERVER jauh TYPE 'pg' VERSION '12' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1', dbname 'x');
CREATE USER MAPPING FOR zoo_app SERVER jauh OPTIONS (user 'u', password 'p;"''\');
CREATE USER MAPPING FOR PUBLIC SERVER jauh OPTIONS (user 'umum', password 'x');
CREATE FOREIGN TABLE data.tamu (id int OPTIONS (column_name 'nomor'), nama text) SERVER jauh OPTIONS (table_name 't');
CREATE FOREIGN TABLE data.presensi_jauh (id bigint, tanggal date NOT NULL, wilayah text, isi text) SERVER jauh;
GRANT USAGE ON FOREIGN SERVER jauh TO zoo_baca;
COMMENT ON SERVER jauh IS 'di luar';

-- large objects with owners, grants and a comment
SELECT lo_from_bytea(70001, decode(repeat('ab', 5000), 'hex')), lo_create(70002) \g /dev/null
GRANT SELECT ON LARGE OBJECT 70001 TO zoo_baca WITH GRANT OPTION;
COMMENT ON LARGE OBJECT 70001 IS 'berkas besar';
RESET ROLE;
SET ROLE zoo_dinas;
SELECT lo_from_bytea(70003, 'dinas') \g /dev/null
RESET ROLE;
SELECT lo_from_bytea(70004, 'superuser') \g /dev/null

-- publications, event triggers, and a table, a view and a function of the superuser
CREATE PUBLICATION terbit FOR TABLE data.pegawai, data.presensi WITH (publish = 'insert, delete', publish_via_partition_root);
CREATE PUBLICATION semua FOR ALL TABLES;
ALTER PUBLICATION terbit OWNER TO zoo_app;
COMMENT ON PUBLICATION semua IS 'terbitan';
CREATE FUNCTION public.jaga() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER jaga_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION public.jaga();
CREATE EVENT TRIGGER jaga_mati ON sql_drop EXECUTE FUNCTION public.jaga();
ALTER EVENT TRIGGER jaga_mati DISABLE;
COMMENT ON EVENT TRIGGER jaga_ddl IS 'penjaga';
CREATE TABLE public.milik_super (x int);
INSERT INTO public.milik_super VALUES (1), (2);
GRANT SELECT ON public.milik_super TO zoo_app WITH GRANT OPTION;
SET ROLE zoo_app;
GRANT SELECT ON public.milik_super TO zoo_baca;
RESET ROLE;
CREATE VIEW public.lihat_super AS SELECT * FROM public.milik_super;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO zoo_baca;
