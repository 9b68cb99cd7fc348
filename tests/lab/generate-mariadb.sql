-- The lab's licensing database, of a size to choose: `SET @mb = 1024;` before this, as root on the server.
-- Whatever stood there under its name goes first. Everything is made on the server and the same each time; it holds one of
-- each thing that a dump, a restore or a swap of databases may lose. Names that a restore made are dropped by Lab.generate.
SET NAMES utf8mb4;
SET @@session.time_zone = '+07:00', @@session.sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION';
-- Nobody writes before the end: whoever waits for the application to be healthy waits for the whole of it.
REVOKE ALL PRIVILEGES, GRANT OPTION FROM perizinan_app@'%', perizinan_owner@localhost;
DROP DATABASE IF EXISTS perizinan;
CREATE DATABASE perizinan CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci COMMENT 'Sistem Perizinan (data uji)';
GRANT ALL PRIVILEGES ON perizinan.* TO perizinan_owner@localhost;
USE perizinan;

CREATE TABLE wilayah (
    id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
    kode varchar(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
    nama varchar(100) NOT NULL,
    induk_id int,
    CONSTRAINT wilayah_induk FOREIGN KEY (induk_id) REFERENCES wilayah (id)
) ENGINE = InnoDB;
CREATE TABLE pemohon (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    nik char(16) NOT NULL,
    nama varchar(120) NOT NULL,
    wilayah_id int NOT NULL,
    lahir date NOT NULL,
    modal decimal(14, 2) NOT NULL,
    retribusi decimal(14, 2) GENERATED ALWAYS AS (modal * 0.02) STORED,
    inisial char(1) GENERATED ALWAYS AS (left(nama, 1)) VIRTUAL,
    jenis enum('perorangan', 'badan', 'koperasi') NOT NULL,
    hak set('baca', 'ubah', 'cetak') NOT NULL DEFAULT 'baca',
    rincian longtext CHECK (json_valid(rincian)),
    sidik binary(32),
    lokasi point,
    CONSTRAINT pemohon_modal CHECK (modal > 0),
    CONSTRAINT pemohon_wilayah FOREIGN KEY (wilayah_id) REFERENCES wilayah (id) ON UPDATE CASCADE,
    UNIQUE KEY nik (nik),
    KEY inisial (inisial),
    FULLTEXT KEY nama (nama)
) ENGINE = InnoDB COMMENT = 'Pemohon izin';
-- The bulk of the data.
CREATE TABLE izin (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    pemohon_id bigint NOT NULL,
    wilayah_id int NOT NULL,
    terbit datetime(3) NOT NULL,
    uraian text NOT NULL,
    lampiran blob,
    KEY izin_terbit (pemohon_id, terbit DESC),
    CONSTRAINT izin_pemohon FOREIGN KEY (pemohon_id) REFERENCES pemohon (id) ON DELETE CASCADE,
    CONSTRAINT izin_wilayah FOREIGN KEY (wilayah_id) REFERENCES wilayah (id)
) ENGINE = InnoDB;
CREATE TABLE kunjungan (
    pemohon_id bigint NOT NULL,
    tanggal date NOT NULL,
    catatan varchar(50),
    PRIMARY KEY (pemohon_id, tanggal)
) ENGINE = InnoDB PARTITION BY RANGE COLUMNS (tanggal) (
    PARTITION p2025 VALUES LESS THAN ('2026-01-01'),
    PARTITION p2026 VALUES LESS THAN ('2027-01-01')
);
CREATE TABLE tarif (
    id int NOT NULL PRIMARY KEY,
    nilai decimal(12, 2) NOT NULL
) ENGINE = InnoDB WITH SYSTEM VERSIONING;
CREATE TABLE transaksi (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    pemohon_id bigint NOT NULL,
    jenis varchar(30) NOT NULL,
    nilai int NOT NULL,
    pada timestamp(6) NOT NULL DEFAULT current_timestamp(6),
    CONSTRAINT transaksi_pemohon FOREIGN KEY (pemohon_id) REFERENCES pemohon (id)
) ENGINE = InnoDB;
CREATE TABLE jejak (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    tabel varchar(30) NOT NULL,
    aksi varchar(10) NOT NULL,
    baris longtext NOT NULL CHECK (json_valid(baris))
) ENGINE = InnoDB;
CREATE TABLE denyut (satu tinyint NOT NULL PRIMARY KEY CHECK (satu = 1), pada datetime(6) NOT NULL) ENGINE = InnoDB;
CREATE TABLE `Tabel ``Aneh``; -- '"` (`kolom 1` int NOT NULL PRIMARY KEY, `Ünïcode` text, bita bit(5)) ENGINE = InnoDB;
CREATE SEQUENCE nomor_surat START WITH 1000 INCREMENT BY 5 CACHE 10;

DELIMITER $$
CREATE DEFINER = perizinan_owner@localhost FUNCTION umur(lahir date) RETURNS int DETERMINISTIC
    RETURN 2026 - year(lahir) $$
CREATE DEFINER = perizinan_owner@localhost PROCEDURE naikkan(IN persen decimal(5, 2)) MODIFIES SQL DATA
    UPDATE pemohon SET modal = modal * (1 + persen / 100) $$
CREATE DEFINER = perizinan_owner@localhost AGGREGATE FUNCTION gabung(kata varchar(50)) RETURNS text DETERMINISTIC
BEGIN
    DECLARE hasil text DEFAULT '';
    DECLARE CONTINUE HANDLER FOR NOT FOUND RETURN hasil;
    LOOP
        FETCH GROUP NEXT ROW;
        SET hasil = concat(hasil, kata);
    END LOOP;
END $$
-- It would run, as the scheduler is on; its time has not come.
CREATE DEFINER = perizinan_owner@localhost EVENT bersihkan ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 02:00:00'
    COMMENT 'Hapus jejak lama' DO DELETE FROM jejak WHERE id < 0 $$
DELIMITER ;

INSERT INTO wilayah (kode, nama, induk_id)
SELECT concat('W', seq), concat('Wilayah ', seq), IF(seq > 5, 1 + seq % 5, NULL) FROM seq_1_to_50;

-- One row of pemohon for each 50 kB wanted, at least 2000.
SET @orang = greatest(2000, @mb * 20), @izin = greatest(1000, @mb * 760);
SET @@session.unique_checks = 0, @@session.foreign_key_checks = 0;
EXECUTE IMMEDIATE concat("INSERT INTO pemohon (nik, nama, wilayah_id, lahir, modal, jenis, hak, rincian, sidik, lokasi)
SELECT lpad(3500000000 + seq, 16, '0'),
       concat(elt(1 + seq % 6, 'Siti', 'Budi', 'Dewi', 'Agus', 'Rina', 'Joko'), ' ', md5(seq)), 1 + seq % 50,
       date '1970-01-01' + INTERVAL seq % 12000 DAY, 2500000 + (seq % 5000) * 1000, 1 + seq % 3, 1 + seq % 7,
       json_object('agama', seq % 6, 'pendidikan', concat('S', 1 + seq % 3)), unhex(sha2(seq, 256)),
       point(111 + seq % 100 / 100, -8 + seq % 90 / 100)
FROM seq_1_to_", @orang);
-- About 1.2 kB a row, unlike its neighbours: restic finds little to fold.
EXECUTE IMMEDIATE concat("INSERT INTO izin (id, pemohon_id, wilayah_id, terbit, uraian, lampiran)
SELECT i, 1 + i % ", @orang, ", 1 + i % 50, timestamp '2010-01-01 00:00:00.125' + INTERVAL i % 7000000 MINUTE,
       concat(a, b, md5(a), md5(b), a, md5(concat(b, a)), md5(concat(a, b)), repeat(concat(md5(concat(a, 'x')), b, md5(concat(b, 'y'))), 9)),
       IF(i % 5 = 0, unhex(sha2(a, 512)), NULL)
FROM (SELECT seq AS i, md5(seq) AS a, md5(-seq) AS b FROM seq_1_to_", @izin, ") AS benih");
SET @@session.unique_checks = 1, @@session.foreign_key_checks = 1;

INSERT INTO kunjungan
SELECT p.seq, date '2025-12-15' + INTERVAL h.seq DAY, NULLIF(p.seq % 7, 0) FROM seq_1_to_2000 AS p, seq_0_to_29 AS h;
-- The past of a versioned table is data too: these rows were changed once and deleted.
SET @@session.timestamp = unix_timestamp('2026-01-02 00:00:00');
INSERT INTO tarif SELECT seq, seq * 1000 FROM seq_1_to_10;
SET @@session.timestamp = unix_timestamp('2026-02-03 00:00:00');
UPDATE tarif SET nilai = nilai + 500 WHERE id <= 5;
SET @@session.timestamp = unix_timestamp('2026-03-04 00:00:00');
DELETE FROM tarif WHERE id = 10;
SET @@session.timestamp = DEFAULT;
INSERT INTO `Tabel ``Aneh``; -- '"` VALUES (1, 'baris\nbaru\ttab \\ "kutip" ''satu''', b'10101'), (2, NULL, NULL),
    (3, '', b'0'), (4, '😀\0\Z', b'11111');
INSERT INTO denyut VALUES (1, '2026-01-01 00:00:00');
DO nextval(nomor_surat), nextval(nomor_surat);

DELIMITER $$
CREATE DEFINER = perizinan_owner@localhost TRIGGER transaksi_catat AFTER INSERT ON transaksi FOR EACH ROW
    INSERT INTO jejak (tabel, aksi, baris)
    VALUES ('transaksi', 'INSERT', json_object('id', NEW.id, 'jenis', NEW.jenis, 'nilai', NEW.nilai)) $$
CREATE DEFINER = perizinan_owner@localhost TRIGGER pemohon_nama BEFORE UPDATE ON pemohon FOR EACH ROW
BEGIN
    SET NEW.nama = trim(NEW.nama);
END $$
CREATE DEFINER = perizinan_owner@localhost TRIGGER pemohon_batas BEFORE UPDATE ON pemohon FOR EACH ROW FOLLOWS pemohon_nama
    SET NEW.modal = least(NEW.modal, 999999999) $$
DELIMITER ;
CREATE DEFINER = perizinan_owner@localhost SQL SECURITY DEFINER VIEW daftar AS
    SELECT p.nik, p.nama, w.nama AS wilayah, umur(p.lahir) AS umur FROM pemohon p JOIN wilayah w ON w.id = p.wilayah_id;
CREATE DEFINER = perizinan_owner@localhost SQL SECURITY INVOKER VIEW aktif AS
    SELECT id, pemohon_id FROM transaksi WHERE nilai > 0 WITH CASCADED CHECK OPTION;
INSERT INTO transaksi (pemohon_id, jenis, nilai, pada) SELECT seq, 'awal', seq, '2026-01-05 08:00:00.5' FROM seq_1_to_100;
ANALYZE TABLE wilayah, pemohon, izin, kunjungan, transaksi;

GRANT SELECT ON perizinan.* TO perizinan_app@'%';
GRANT INSERT, UPDATE, DELETE ON perizinan.transaksi TO perizinan_app@'%';
GRANT UPDATE (pada) ON perizinan.denyut TO perizinan_app@'%';
GRANT EXECUTE ON FUNCTION perizinan.umur TO perizinan_app@'%';
