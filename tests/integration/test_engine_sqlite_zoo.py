"""Everything that an SQLite database can hold survives backup, swap, revert and swap, by what sqlite3 itself says."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.compare import mismatches
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.sqlite import SqliteEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import TreeSource

from tests.integration.module_process import run_module
from tests.integration.sop_fixtures import dataset_for, make_database, tmpfs, vault_at

CASE = "RST-2026-0001"
ZOO = """
CREATE TABLE unit (kode TEXT PRIMARY KEY COLLATE NOCASE, nama TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pegawai (
    id INTEGER PRIMARY KEY AUTOINCREMENT, nama TEXT NOT NULL CHECK (length(nama) > 0), unit TEXT REFERENCES unit (kode)
        ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED, gaji REAL DEFAULT 1.5,
    besar TEXT GENERATED ALWAYS AS (upper(nama)) STORED, panjang INT AS (length(nama)) VIRTUAL);
CREATE TABLE ketat (a INTEGER, b TEXT, c BLOB, d ANY) STRICT;
CREATE TABLE "tabel ""aneh""; --" ("kolom é" , [lain], PRIMARY KEY ("kolom é", [lain]));
CREATE TABLE jejak (id, apa);
CREATE INDEX parsial ON pegawai (gaji) WHERE gaji > 10;
CREATE INDEX ungkapan ON pegawai (lower(nama), gaji DESC);
CREATE UNIQUE INDEX unik ON jejak (id, apa);
CREATE VIEW mahal AS SELECT nama, gaji FROM pegawai WHERE gaji > 100;
CREATE TRIGGER catat AFTER UPDATE OF gaji ON pegawai BEGIN INSERT INTO jejak VALUES (old.id, new.gaji); END;
CREATE TRIGGER ganti INSTEAD OF INSERT ON mahal BEGIN INSERT INTO pegawai (nama, gaji) VALUES (new.nama, new.gaji); END;
CREATE VIRTUAL TABLE surat USING fts5 (perihal, isi, tokenize = 'unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE lokasi USING rtree (id, x1, x2, y1, y2);
INSERT INTO unit VALUES ('KOM', 'Kominfo'), ('KES', 'Kesehatan');
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
    INSERT INTO pegawai (nama, unit, gaji) SELECT 'Pegawai ' || i || ' é ☃', iif(i % 2, 'KOM', 'KES'), i FROM n;
DELETE FROM pegawai WHERE id > 480;
UPDATE pegawai SET gaji = gaji * 2 WHERE id < 20;
INSERT INTO mahal VALUES ('Lewat tampilan', 1e300);
INSERT INTO ketat VALUES (9223372036854775807, 'x', x'00ff', 1), (NULL, NULL, NULL, 'teks'), (-1, '', x'', 1.5);
INSERT INTO "tabel ""aneh""; --" VALUES (1, NULL), ('1', x'31'), (CAST(x'ff00fe' AS TEXT), 9e999);
INSERT INTO surat VALUES ('Undangan rapat', 'Rapat koordinasi pengamanan data'), ('Nota dinas', 'Pemulihan cadangan');
INSERT INTO lokasi SELECT id, id, id + 1, -id, -id + 0.5 FROM pegawai;
PRAGMA user_version = 4242;
PRAGMA application_id = 0x534f5031;
ANALYZE;
"""
SHAPES = ["wal", "delete", "truncate", "persist"]
SETTINGS = [
    "encoding",
    "page_size",
    "auto_vacuum",
    "user_version",
    "application_id",
    "journal_mode",
    "foreign_key_check",
]
#: sqlite3's own digest of everything in a database
SHA3 = [".sha3sum --schema", ".sha3sum"]


def shell(path: Path, *commands: str) -> str:
    """What the sqlite3 program says; it leaves no file behind."""
    done = subprocess.run(["sqlite3", "-bail", path, *commands], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8", "surrogateescape")


def fill(path: Path, shape: str = "wal", encoding: str = "UTF-8", page_size: int = 4096, vacuum: int = 0) -> None:
    connection = sqlite3.connect(path)
    for setting in (f"encoding = '{encoding}'", f"page_size = {page_size}", f"auto_vacuum = {vacuum}"):
        connection.execute(f"PRAGMA {setting}")
    connection.executescript(ZOO)
    connection.execute(f"PRAGMA journal_mode = {shape}")
    connection.close()


def independent(path: Path) -> dict[str, str]:
    """Dump, digests, settings and a look through the virtual tables."""
    found = {name: shell(path, f"PRAGMA {name}") for name in SETTINGS if name != "journal_mode"}
    found["dump"] = shell(path, ".dump")
    found["sha3"] = shell(path, *SHA3)
    found["fts"] = shell(path, "SELECT rowid, perihal FROM surat WHERE surat MATCH 'pemulihan OR rapat'")
    found["rtree"] = shell(path, "SELECT id FROM lokasi WHERE x1 > 10 AND x2 < 14", "SELECT rtreecheck('lokasi')")
    found["check"] = shell(path, "PRAGMA integrity_check", "INSERT INTO surat(surat) VALUES ('integrity-check')")
    assert found["check"] == "ok\n"
    return found


class Bytes(DumpSource):
    """A dump in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self) -> IO[bytes]:
        return io.BytesIO(self.data)


def engine_for(path: Path) -> SqliteEngine:
    return SqliteEngine(dataset_for(path, path.parent), {})


def take(engine: SqliteEngine) -> tuple[Bytes, Json]:
    dump = engine.dump()
    parts = []
    while part := dump.read(65536):
        parts.append(part)
    return Bytes(b"".join(parts)), {"content": dump.finish()}


def damage(path: Path) -> None:
    shell(path, "DELETE FROM pegawai WHERE id < 300", "DROP TABLE ketat", "INSERT INTO surat VALUES ('baru', 'baru')")


@pytest.mark.parametrize(
    ("shape", "encoding", "page_size", "vacuum"),
    [
        ("wal", "UTF-8", 4096, 0),
        ("delete", "UTF-16le", 512, 1),
        ("truncate", "UTF-16be", 65536, 2),
        ("persist", "UTF-8", 1024, 0),
    ],
)
def test_everything_survives_swap_revert_swap(
    tmp_path: Path, shape: str, encoding: str, page_size: int, vacuum: int
) -> None:
    path = tmp_path / "srv" / "zoo é.db"
    path.parent.mkdir()
    fill(path, shape, encoding, page_size, vacuum)
    good = independent(path)
    engine = engine_for(path)
    dump, manifest = take(engine)
    with engine.scratch(dump, manifest) as proven:
        assert mismatches(manifest["content"], proven) == []
    damage(path)
    bad = independent(path)
    assert bad["sha3"] != good["sha3"]
    staged = engine.stage(CASE, dump, manifest)
    assert mismatches(proven, staged) == []
    for _round in (1, 2):
        engine.swap(CASE)
        assert independent(path) == good
        engine.revert(CASE)
        assert independent(path) == bad
    engine.swap(CASE)
    assert independent(path) == good
    if shape == "wal":
        assert shell(path, "PRAGMA journal_mode") == "wal\n"
    shell(path, "INSERT INTO pegawai (nama) VALUES ('sesudah')")
    assert shell(path, "SELECT max(id) FROM pegawai") == "502\n"  # AUTOINCREMENT does not use 481 again
    engine.drop_kept(CASE)
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


def test_owner_access_list_and_attributes_come_back_without_a_live_file(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setfacl") is None:
        pytest.skip("needs root and the package acl")
    path = tmp_path / "zoo.db"
    fill(path)
    os.chown(path, 1001, 1002)
    path.chmod(0o640)
    subprocess.run(["setfacl", "-m", "u:33:rw", path], check=True)
    os.setxattr(path, "user.catatan", b"\0x")
    engine = engine_for(path)
    dump, manifest = take(engine)

    def shown(of: Path) -> tuple[bytes, bytes]:
        listed = subprocess.run(["getfacl", "-n", "-c", of], check=True, capture_output=True).stdout
        return listed, os.getxattr(of, "user.catatan")

    good = shown(path)
    target = tmp_path / "salinan.db"
    engine.place(str(target), CASE, dump, manifest)
    assert shown(target) == good
    assert (target.stat().st_uid, target.stat().st_gid) == (1001, 1002)
    path.unlink()
    engine.stage(CASE, dump, manifest)
    engine.swap(CASE)
    assert shown(path) == good
    assert "user.sop.placed" not in os.listxattr(path)


def test_in_place(tmp_path: Path) -> None:
    path = tmp_path / "srv" / "zoo.db"
    path.parent.mkdir()
    fill(path)
    good = independent(path)
    path.chmod(0o640)
    engine = engine_for(path)
    dump, manifest = take(engine)
    damage(path)
    engine.empty(CASE)
    engine.empty(CASE)
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (0, 0o640)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    engine.stage(CASE, dump, manifest)
    engine.swap(CASE)
    assert independent(path) == good
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_place_beside(tmp_path: Path) -> None:
    path = tmp_path / "zoo.db"
    fill(path)
    good = independent(path)
    engine = engine_for(path)
    dump, manifest = take(engine)
    target = tmp_path / "lain.db"
    log = Path(f"{target}-wal")
    log.write_bytes(b"log of another database")
    with pytest.raises(SopError, match=r"lain.db-wal: exists already"):
        engine.place(str(target), CASE, dump, manifest)
    log.unlink()
    dump.data, whole = dump.data[:-4096], dump.data
    with pytest.raises(SopError):
        engine.place(str(target), CASE, dump, manifest)
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name]
    dump.data = whole
    engine.place(str(target), CASE, dump, manifest)
    assert engine.placed(str(target), CASE)
    assert independent(target) == independent(path) == good
    assert sorted(each.name for each in tmp_path.iterdir()) == [target.name, path.name]
    with pytest.raises(SopError, match="exists already"):
        engine.place(str(path), "RST-2026-0002", dump, manifest)


def test_schema_with_the_application_s_own_functions_and_collations(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    connection = sqlite3.connect(path)
    connection.create_function("sandi", 1, lambda value: f"<{value}>", deterministic=True)
    connection.create_collation("abjad", lambda one, two: (one.lower() > two.lower()) - (one.lower() < two.lower()))
    connection.executescript(
        """
        CREATE TABLE a (n TEXT COLLATE abjad PRIMARY KEY, s AS (sandi(n)) STORED, CHECK (sandi(n) <> ''));
        CREATE TABLE w (n TEXT COLLATE abjad PRIMARY KEY) WITHOUT ROWID;
        CREATE INDEX i ON a (sandi(s));
        INSERT INTO a (n) VALUES ('x'), ('Y'), ('z');
        INSERT INTO w VALUES ('b'), ('A');
        """
    )
    connection.close()
    engine = engine_for(path)
    dump, manifest = take(engine)
    assert {name: table["rows"] for name, table in manifest["content"]["tables"].items()} == {"a": 3, "w": 2}
    staged = engine.stage(CASE, dump, manifest)
    assert staged["tables"] == engine.manifest(checksums=True)["tables"]
    engine.swap(CASE)


# -- bad input -------------------------------------------------------------------------------------------------------


def _encrypt(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def _corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_encrypt, "if it is encrypted, register its folder"), (_corrupt, "malformed.*restore it from a backup")],
)
def test_database_that_cannot_be_read_is_not_backed_up(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "app.db"
    fill(path, "delete")
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(SopError, match=f"{path}: cannot be read as an SQLite database .*{words}"):
        take(engine_for(path))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["app.db"]


def test_encrypted_live_file_is_kept_with_its_log(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path, "delete")
    engine = engine_for(path)
    dump, manifest = take(engine)
    _encrypt(path)
    secret, log = path.read_bytes(), Path(f"{path}-wal")
    log.write_bytes(b"log")
    engine.stage(CASE, dump, manifest)
    assert engine.quiesce(1)["readable"] is False
    engine.swap(CASE)
    kept = Path(engine.before_name(CASE))
    assert (kept.read_bytes(), Path(f"{kept}-wal").read_bytes(), log.exists()) == (secret, b"log", False)
    assert shell(path, "PRAGMA integrity_check") == "ok\n"
    for end in ("-wal", "-shm"):
        assert not Path(f"{path}{end}").exists()
    engine.revert(CASE)
    assert (path.read_bytes(), log.read_bytes()) == (secret, b"log")


def test_backup_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    fill(path)
    engine = engine_for(path)
    _dump, manifest = take(engine)
    for call in (engine.stage, lambda *args: engine.place(str(tmp_path / "x"), *args)):
        with pytest.raises(SopError, match="is one of a folder, not of a database"):
            call(CASE, TreeSource(), manifest)
    assert [each.name for each in tmp_path.iterdir()] == ["app.db"]


def test_full_file_system_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    make_database(path, rows=20_000)
    dump, manifest = take(engine_for(path))
    with tmpfs(tmp_path / "fs", "80m") as place:
        live = place / "app.db"
        shutil.copy(path, live)
        with (place / "isi").open("wb") as stream:
            stream.write(bytes(20 << 20))
        engine = SqliteEngine(dataset_for(live, tmp_path), {})
        calls = (engine.stage, lambda *args: engine.place(str(place / "x"), *args))
        for call in calls:
            with pytest.raises(SopError, match=r"MiB free, the .*copy needs"):
                call(CASE, dump, manifest)
        manifest["content"]["bytes"] = 0  # a manifest that lies: the disk fills while it is written
        (place / "isi").unlink()
        with (place / "isi").open("wb") as stream:
            stream.write(bytes(14 << 20))
        for call in calls:
            with pytest.raises((SopError, OSError)):
                call(CASE, Bytes(dump.data + os.urandom(80 << 20)), manifest)
        assert sorted(each.name for each in place.iterdir()) == ["app.db", "isi"]


def test_modules_refuse_the_backup_of_another_engine_or_dataset(tmp_path: Path) -> None:
    path, folder = tmp_path / "antrean.db", tmp_path / "berkas"
    make_database(path)
    folder.mkdir()
    (folder / "a").write_text("isi")
    common: Json = {"case": "BKP-2026-0001", "vault": vault_at(tmp_path)}
    database = {**dataset_for(path, tmp_path / "state"), "id": "berkas"}
    files = dataset_for(folder, tmp_path / "state", "files")
    run_module("vault_repository", {**common, "dataset": database}, "vault_repository")
    args = {**common, "dataset": database, "period": "2026-11", "name": "n"}
    backup = run_module("backup_dataset", args, "backup")["sop_evidence"]
    ids = {key: backup[key] for key in ("snapshot", "manifest_snapshot")}
    restore = {**common, **ids, "case": CASE, "state": "staged"}
    for dataset, words in (
        (files, "was made by engine 'sqlite', the dataset's is 'files'"),
        ({**database, "id": "lain"}, "its dataset is not 'lain'"),
    ):
        result = run_module("restore_dataset", {**restore, "dataset": dataset}, "restore.staged")
        assert result.get("failed"), result
        assert words in result["msg"]
    assert {each.name for each in tmp_path.iterdir()} == {"antrean.db", "berkas", "state", "vault"}
