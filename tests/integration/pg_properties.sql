-- Properties that stand on the database simpeg itself, not in its dump.
ALTER DATABASE simpeg CONNECTION LIMIT 77;
COMMENT ON DATABASE simpeg IS 'Basis data ''simpeg'' \ resmi';
REVOKE TEMPORARY ON DATABASE simpeg FROM PUBLIC;
GRANT CONNECT ON DATABASE simpeg TO kepeg WITH GRANT OPTION;
SET ROLE kepeg; GRANT CONNECT ON DATABASE simpeg TO pembaca; RESET ROLE;
GRANT CREATE, TEMPORARY ON DATABASE simpeg TO "Petugas ""Arsip""";
ALTER DATABASE simpeg SET search_path = "$user", public, "Skema ""Aneh"" — é";
ALTER DATABASE simpeg SET work_mem = '12345kB';
ALTER DATABASE simpeg SET "app.tahun" = 'dua ribu ''dua'' \ enam';
ALTER ROLE kepeg IN DATABASE simpeg SET search_path = '';
ALTER ROLE kepeg IN DATABASE simpeg SET timezone = 'Asia/Jakarta';
