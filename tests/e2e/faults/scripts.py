# SPDX-License-Identifier: Apache-2.0
"""What the subjects of the fault matrix run on the lab's hosts: changes after the backup, facts, the writer's rows."""

from __future__ import annotations

PG_CHANGE = """
UPDATE kepegawaian.pegawai SET nama = 'sesudah backup ' || id, gaji = 1000 + id
WHERE id % 3 = 0 AND nama NOT LIKE 'sesudah backup %';
DELETE FROM kepegawaian.riwayat WHERE id % 7 = 0;
DELETE FROM kepegawaian.presensi WHERE pegawai_id > 1000;
UPDATE kepegawaian.unit_kerja SET nama = 'Unit Baru ' || id WHERE id > 25;
CREATE TABLE IF NOT EXISTS kepegawaian.sesudah AS SELECT generate_series(1, 20) AS id;
SELECT setval('kepegawaian.nomor_surat', 5000) \\g /dev/null
DROP VIEW IF EXISTS kepegawaian.daftar;
SELECT lo_unlink(isi) FROM kepegawaian.dokumen WHERE id <= 5 \\g /dev/null
DELETE FROM kepegawaian.dokumen WHERE id <= 5;
-- a server that crashes skips the numbers that a sequence had logged ahead since the last checkpoint
CHECKPOINT;
"""
#: number and 1 when the row that the trigger adds is there, once
PG_WRITTEN = """
SELECT t.nilai, CASE WHEN count(j.id) = 1 THEN 1 ELSE 0 END
FROM kepegawaian.transaksi AS t
LEFT JOIN kepegawaian.jejak AS j ON j.tabel = 'transaksi' AND (j.baris ->> 'id')::bigint = t.id
WHERE t.jenis = 'penulis' GROUP BY t.id, t.nilai;
"""

MY_CHANGE = """
UPDATE pemohon SET nama = concat('sesudah backup ', id), modal = 1000 + id WHERE id % 3 = 0;
DELETE FROM izin WHERE id % 7 = 0;
DELETE FROM kunjungan WHERE pemohon_id > 1000;
UPDATE wilayah SET nama = concat('Wilayah Baru ', id) WHERE id > 25;
CREATE TABLE IF NOT EXISTS sesudah (id int NOT NULL PRIMARY KEY);
INSERT IGNORE INTO sesudah SELECT seq FROM seq_1_to_20;
DO setval(nomor_surat, 5000);
DROP VIEW IF EXISTS daftar;
DROP PROCEDURE IF EXISTS naikkan;
-- setval is on disk with the next commit's log, or a second later
FLUSH ENGINE LOGS;
"""
#: one line a table of the dump, and one a definition; not the AUTO_INCREMENT counters: InnoDB gives them out in advance and
#: counts anew from the rows after a crash
MY_FACTS = r"""
mariadb-dump --routines --events --triggers --skip-comments --skip-extended-insert --order-by-primary --hex-blob "$1" |
    awk '/^\) ENGINE=/ { sub(/ AUTO_INCREMENT=[0-9]+/, "") }
         /penulis/ && /^INSERT INTO `(transaksi|jejak)`/ { next }
         { print }' |
    grep -v -e '^/\*!' -e '^$' | awk '{ key = /^INSERT/ ? $3 : "definitions"; print > "/tmp/facts." (key in n ? n[key] : n[key] = ++m); name[n[key]] = key }
         END { for (i in name) { close("/tmp/facts." i); printf "%s ", name[i]; fflush(); system("sha256sum </tmp/facts." i "; rm /tmp/facts." i) } }'
mariadb-dump --routines --triggers --events --no-data --skip-comments "$1" | grep -E 'CREATE.*(TRIGGER|EVENT|FUNCTION|PROCEDURE|VIEW)' | sed 's/ AUTO_INCREMENT=[0-9]*//'
mariadb --batch --skip-column-names "$1" -e 'SELECT id, nilai, row_start, row_end FROM tarif FOR SYSTEM_TIME ALL'
mariadb --batch --skip-column-names "$1" -e 'SELECT next_not_cached_value FROM nomor_surat'
"""
MY_WRITTEN = """
SELECT t.nilai, IF(count(j.id) = 1, 1, 0) FROM transaksi AS t
LEFT JOIN jejak AS j ON j.tabel = 'transaksi' AND json_value(j.baris, '$.id') = t.id
WHERE t.jenis = 'penulis' GROUP BY t.id, t.nilai;
"""

#: the service makes what is missing of its schema whenever it starts, so nothing of that is dropped
LITE_CHANGE = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=20)
c.execute("BEGIN IMMEDIATE")
c.execute("UPDATE antrean SET catatan = 'sesudah backup ' || id WHERE loket_id = 2 AND id <= 2000")
c.execute("DELETE FROM antrean WHERE loket_id = 3 AND id <= 2000")
c.execute("UPDATE jumlah SET total = 7 WHERE loket_id = 3")
c.execute("UPDATE loket SET nama = 'Loket Baru' WHERE id = 4")
c.execute("CREATE TABLE IF NOT EXISTS sesudah AS SELECT 1 AS id")
c.commit()
"""
#: the writer stands at counter 1, so that counter's total and the last number given are its own
LITE_FACTS = """
import hashlib, json, sqlite3, sys
c = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True)
c.execute("BEGIN")
found = {"check": c.execute("PRAGMA integrity_check").fetchall(),
         "schema": c.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()}
but = {"antrean": " WHERE catatan IS NULL OR catatan NOT LIKE 'penulis %'", "jumlah": " WHERE loket_id <> 1"}
for name, in c.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall():
    rows = c.execute(f"SELECT * FROM {name}{but.get(name, '')} ORDER BY 1").fetchall()
    found[name] = [len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()]
print(json.dumps(found))
"""
#: whole when the counter that the trigger keeps agrees with the rows
LITE_WRITTEN = """
import glob, sqlite3
for path in glob.glob("/srv/antrean/antrean.db*"):
    if path.endswith(("-wal", "-shm", "-journal")):
        continue
    place = "live" if path == "/srv/antrean/antrean.db" else path
    c = sqlite3.connect("file:" + path + "?mode=ro", uri=True)
    c.execute("BEGIN")
    total, rows = c.execute("SELECT (SELECT total FROM jumlah WHERE loket_id = 1), "
                            "(SELECT count(*) FROM antrean WHERE loket_id = 1)").fetchone()
    for note, in c.execute("SELECT catatan FROM antrean WHERE catatan LIKE 'penulis %'"):
        print(f"{place}|{note.split()[1]}|{int(total == rows)}")
"""

TREE_CHANGE = """cd /srv/berkas
rm -rf unit-03 kosong tautan
printf 'sesudah backup\\n' >"unit-01/surat masuk/surat 005.pdf"
printf 'sesudah backup\\n' >masuk/00000003.json
touch -d @1770000000 "unit-01/surat masuk/surat 005.pdf" "unit-01/surat masuk" masuk/00000003.json unit-01 .
chmod 0777 rahasia.txt
chown root: unit-02
setfacl -b laporan*
setfattr -x user.klasifikasi nama-kedua.pdf 2>/dev/null || true
printf 'asing\\n' >"berkas asing.txt"
touch -d @1770000000 "berkas asing.txt" .
"""
#: names, kinds, modes, owners, sizes, times, links, contents, ACLs, attributes; of the folder where letters come in, while they
#: come in, those that are not the writer's
TREE_FACTS = r"""cd "$1"
find . -ignore_readdir_race -path ./masuk -prune -o ! -type d -printf '%p %y %m %U:%G %s %T@ %l %n\0' | LC_ALL=C sort -z | tr '\0' '\n'
find . -ignore_readdir_race -path ./masuk -prune -o -type d -printf '%p d %m %U:%G %T@\0' | LC_ALL=C sort -z | tr '\0' '\n'
find . -ignore_readdir_race -path ./masuk -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
find . -ignore_readdir_race -path ./masuk -prune -print0 -o -print0 | LC_ALL=C sort -z | xargs -0 getfacl -P -n
find . -ignore_readdir_race -path ./masuk -prune -print0 -o ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfattr -d -m -
python3 - <<'END'
import glob, hashlib, os
for path in sorted(glob.glob("masuk/*")):
    data, seen = open(path, "rb").read(), os.stat(path)
    if b'"penulis ' not in data:
        print(path, oct(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_mtime_ns, hashlib.sha256(data).hexdigest())
END
"""
#: whole when the content is what its checksum says
TREE_WRITTEN = """
import glob, hashlib, json, os
for folder in glob.glob("/srv/berkas*/masuk"):
    place = folder.rpartition("/")[0]
    for path in glob.glob(folder + "/*.json"):
        text = open(path, encoding="utf-8").read()
        if '"penulis ' in text:
            try:
                letter = json.loads(text)
                whole = hashlib.sha256(letter["perihal"].encode()).hexdigest() == letter["sha256"]
            except ValueError:
                letter, whole = {"perihal": text[13:].split('"')[0]}, False
            print(f"{'live' if place == '/srv/berkas' else place}|{letter['perihal'].split()[1]}|{int(whole)}")
"""
