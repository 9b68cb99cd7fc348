-- The demo's application database where PostgreSQL has no build. Some 100,000 rows, all invented.
PRAGMA journal_mode = WAL;
PRAGMA foreign_keys = ON;
CREATE TABLE warga (id INTEGER PRIMARY KEY, nama TEXT NOT NULL, desa TEXT NOT NULL);
CREATE TABLE jenis_layanan (id INTEGER PRIMARY KEY, nama TEXT NOT NULL UNIQUE);
CREATE TABLE transaksi (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    warga   INTEGER NOT NULL REFERENCES warga,
    jenis   INTEGER NOT NULL REFERENCES jenis_layanan,
    biaya   INTEGER NOT NULL DEFAULT 0 CHECK (biaya >= 0),
    dibuat  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
CREATE INDEX transaksi_dibuat ON transaksi (dibuat);
CREATE TABLE jejak (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    transaksi  INTEGER NOT NULL REFERENCES transaksi ON DELETE CASCADE,
    tindakan   TEXT NOT NULL,
    dibuat     TEXT NOT NULL
);
CREATE INDEX jejak_transaksi ON jejak (transaksi);
CREATE TABLE denyut (id INTEGER PRIMARY KEY, terakhir TEXT NOT NULL);
CREATE TRIGGER transaksi_jejak AFTER INSERT ON transaksi BEGIN
    INSERT INTO jejak (transaksi, tindakan, dibuat) VALUES (NEW.id, 'dibuat', NEW.dibuat);
END;
CREATE VIEW rekap AS
    SELECT j.nama AS layanan, count(t.id) AS jumlah, coalesce(sum(t.biaya), 0) AS biaya
      FROM jenis_layanan j LEFT JOIN transaksi t ON t.jenis = j.id GROUP BY j.nama;
BEGIN;
INSERT INTO jenis_layanan (nama) VALUES ('KTP'), ('KK'), ('Akta kelahiran'), ('Akta kematian'), ('Pindah datang'),
    ('Izin usaha'), ('Izin bangunan'), ('Retribusi pasar'), ('Pajak daerah'), ('Aduan'), ('Bantuan sosial'), ('Legalisasi');
WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c WHERE n < 20000)
    INSERT INTO warga (nama, desa) SELECT printf('Warga %05d', n), 'Desa ' || (n % 152 + 1) FROM c;
WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c WHERE n < 40000)
    INSERT INTO transaksi (warga, jenis, biaya, dibuat)
    SELECT n * 7919 % 20000 + 1, n * 31 % 12 + 1, n * 37 % 400 * 500,
           strftime('%Y-%m-%d %H:%M:%f', 'now', printf('-%d minutes', (40001 - n) * 6)) FROM c;
COMMIT;
