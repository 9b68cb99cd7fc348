# SPDX-License-Identifier: Apache-2.0
"""Whole cases of any agency's SOP on this machine: a folder and an SQLite database, a local vault, real keys."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from tests.support.site_builder import UNIT, SiteBuilder

Json = dict[str, Any]


THIRD = """---
schema: sop-profile/v1
id: kota-contoh-2025
document:
  nama_sop: Pengelolaan Salinan Data Elektronik
  nomor_sop: 12/SOP/UPTD-PDE/2025
  instansi: UPTD Pengolahan Data Elektronik Kota Contoh
  tanggal_pembuatan: 2025-02-03
  tanggal_efektif: 2025-03-01
  disahkan_oleh: {jabatan: Kepala UPTD Pengolahan Data Elektronik, nama: "KEPALA UPTD"}
  dasar_hukum: [Peraturan Wali Kota Contoh Nomor 5 Tahun 2024 tentang Pengelolaan Data Elektronik]
  pencatatan: [Lembar pengajuan dan risalah disimpan oleh Pengadministrasi]
roles:
  pengaju: {title: Unit Pengaju}
  penerima: {title: Pengadministrasi UPTD}
  kepala-seksi: {title: Kepala Seksi Operasi}
  sekretaris: {title: Sekretaris Daerah}
  juru-data: {title: Juru Data}
  penilik: {title: Penilik Mutu}
records:
  lembar_pengajuan: {title: Lembar Pengajuan Salinan Data, must_have: [jenis, target, alasan, kontak, batas_waktu]}
  lembar_ajuan_pulih: {title: Lembar Pengajuan Pemulihan Data, must_have: [target, alasan, titik_pemulihan, kontak]}
  catatan_penerusan: {title: Catatan Penerusan}
  rancangan: {title: Rancangan Pekerjaan}
  risalah: {title: Risalah Pekerjaan Data}
  nota_tilik: {title: Nota Tilik}
preflight: [asset_registered, asset_review_current]
sod:
  - {differ: [pengaju, kepala-seksi]}
  - {differ: [pengaju, sekretaris]}
  - {differ: [juru-data, penilik]}
  - {differ: [juru-data, kepala-seksi]}
authority: {rahasia: [sekretaris], terbatas: [kepala-seksi, sekretaris]}
break_glass: {by: [juru-data], hours: 2, ratify: kepala-seksi}
flows:
  salinan:
    trigger: request
    variants: [backup]
    steps:
      - {id: s1, act: request, nomor: "1", text: Unit mengajukan penyalinan data, by: [pengaju], out: [lembar_pengajuan]}
      - {id: s2, act: dispose, nomor: "2", text: Meneruskan pengajuan kepada Kepala Seksi, by: [penerima], needs: [lembar_pengajuan], out: [catatan_penerusan], sla: PT2H}
      - {id: s3, act: decide, nomor: "3", text: Menyetujui atau menolak penyalinan, by: [kepala-seksi], needs: [lembar_pengajuan, catatan_penerusan], sla: P1D,
         gate: {decide: kepala-seksi, approve: s4, reject: s7}}
      - {id: s4, act: plan, nomor: "4", text: Menyusun rancangan pekerjaan, by: [juru-data], needs: [catatan_penerusan], out: [rancangan], sla: P1D}
      - {id: s5, act: execute, nomor: "5", text: Menyalin data menurut rancangan, by: [juru-data], needs: [rancangan], out: [risalah], sla: P2D,
         run: {backup: [backup, verify, name, secure]}}
      - {id: s6, act: confirm, nomor: "6", text: Menilik hasil penyalinan, by: [penilik], needs: [risalah], out: [nota_tilik], sla: P1D,
         gate: {decide: penilik, approve: s7, reject: s5}}
      - {id: s7, act: inform, nomor: "7", text: Menyampaikan hasil kepada unit pengaju, by: [penerima], informs: [pengaju], sla: P1D}
      - {id: s8, act: receive, nomor: "8", text: Unit pengaju menerima hasil, by: [pengaju], run: {any: [archive]}, end: closed}
  pemulihan:
    trigger: request
    variants: [restore]
    steps:
      - {id: p1, act: request, nomor: "1", text: Unit mengajukan pemulihan data, by: [pengaju], out: [lembar_ajuan_pulih]}
      - {id: p2, act: plan, nomor: "2", text: Menyusun rancangan pemulihan, by: [juru-data], needs: [lembar_ajuan_pulih], out: [rancangan], sla: P1D}
      - {id: p3, act: decide, nomor: "3", text: Menyetujui rancangan pemulihan, by: [kepala-seksi], needs: [rancangan], sla: P1D,
         gate: {decide: kepala-seksi, approve: p4, reject: p6, checks: [kewenangan_data]}}
      - {id: p4, act: dispose, nomor: "4", text: Memerintahkan pelaksanaan, by: [penerima], out: [catatan_penerusan], sla: PT2H}
      - {id: p5a, act: execute, nomor: "5a", text: Menghentikan layanan, by: [juru-data], needs: [rancangan, catatan_penerusan], sla: P1D,
         run: {restore: [stop_service, safety_backup]}, on_failure: {restore: [start_service]}}
      - {id: p5b, act: execute, nomor: "5b", text: Memulihkan data dan menjalankan layanan, by: [juru-data], out: [risalah], sla: P1D,
         run: {restore: [restore, verify, start_service, health_check]}, on_failure: {restore: [rollback, start_service]}, next: p5c}
      - {id: p5c, act: confirm, nomor: "6", text: Menilik hasil pemulihan, by: [penilik], needs: [risalah], out: [nota_tilik], sla: P1D,
         gate: {decide: penilik, approve: p6, reject: p5a}}
      - {id: p6, act: inform, nomor: "7", text: Menyampaikan hasil pemulihan, by: [penerima], informs: [pengaju], sla: P1D}
      - {id: p7, act: receive, nomor: "8", text: Unit pengaju menerima hasil pemulihan, by: [pengaju], run: {any: [archive]}, end: closed}
"""
THIRD_PEOPLE = {
    "pengaju": "Kepala Bagian Umum",
    "penerima": "Pengadministrasi Umum",
    "kepala-seksi": "Kepala Seksi Operasi",
    "sekretaris": "Sekretaris Daerah",
    "juru-data": "Pranata Komputer",
    "penilik": "Auditor",
}


class Story:
    """A local site with datasets ``arsip`` (files) and ``antrean`` (sqlite), and what tests do to it."""

    def __init__(self, folder: Path, site: SiteBuilder) -> None:
        self.site = site
        self.data = folder / "data"
        (self.data / "arsip/surat").mkdir(parents=True)
        for number in range(5):
            (self.data / f"arsip/surat/{number}.txt").write_text(f"surat ke-{number}\n", encoding="utf-8")
        with sqlite3.connect(self.data / "antrean.db") as connection:
            connection.execute("CREATE TABLE antrean (id INTEGER PRIMARY KEY, catatan TEXT NOT NULL)")
            connection.executemany("INSERT INTO antrean (catatan) VALUES (?)", [(f"tamu ke-{n}",) for n in range(50)])
        connection.close()
        self.site.server("srv01")
        self.site.dataset("arsip", engine="files", server="srv01", path=str(self.data / "arsip"))
        self.site.dataset("antrean", engine="sqlite", server="srv01", path=str(self.data / "antrean.db"))

    # data -----------------------------------------------------------------------------------------------------

    def contents(self) -> dict[str, str]:
        """What a user would see of both datasets."""
        found = {
            str(path.relative_to(self.data)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((self.data / "arsip").rglob("*"))
            if path.is_file()
        }
        connection = sqlite3.connect(f"file:{self.data / 'antrean.db'}?mode=ro", uri=True)
        found["antrean"] = "\n".join(connection.iterdump())
        connection.close()
        return found

    def destroy(self) -> None:
        """Lose data in both."""
        (self.data / "arsip/surat/1.txt").unlink()
        (self.data / "arsip/surat/2.txt").write_text("rusak", encoding="utf-8")
        with sqlite3.connect(self.data / "antrean.db") as connection:
            connection.execute("DELETE FROM antrean WHERE id % 2 = 0")
        connection.close()

    # cases ----------------------------------------------------------------------------------------------------

    def specification(self, *datasets: str, **changed: str) -> Path:
        """The list of servers, applications, data and sizes that comes with a request."""
        said = {"server": "srv01", "application": "Aplikasi Arsip", "data": "seluruh isi", "size": "1 MB", **changed}
        path = self.site.folder / "spesifikasi.yml"
        items = [{"dataset": dataset, **said} for dataset in datasets]
        path.write_text(json.dumps({"schema": "sop-specification/v1", "items": items}), encoding="utf-8")
        return path

    def ask(
        self,
        operation: str,
        *datasets: str,
        specification: Path | None = None,
        as_: str = "pemohon",
        more: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """``sopctl case request``, whatever comes of it."""
        words = [word for dataset in datasets for word in ("--dataset", dataset)]
        words += ["--unit", UNIT, "--letter", str(self.site.letter()), "--letter-number", "800/12/2026", *more]
        words += ["--specification", str(specification)] if specification else []
        return self.site.run("case", "request", operation, *words, "--reason", "data terhapus", "--json", as_=as_, check=False)  # fmt: skip

    def request(self, operation: str, *datasets: str, **how: Any) -> str:
        """A request that is received; returns the id of the case."""
        done = self.ask(operation, *datasets, **how)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(json.loads(done.stdout)["case"])

    def folder(self, case: str) -> Path:
        """The case's folder."""
        return self.site.root / "cases" / case.split("-")[1] / case

    def forms(self, case: str) -> dict[str, str]:
        """Every form in the records of a case, by record and name, as text."""
        return {
            f"{record.name}/{path.name}": path.read_text(encoding="utf-8")
            for record in self.site.records
            if record.name.startswith(case)
            for path in sorted((record / "data").rglob("form*.html"))
        }


def started(site: SiteBuilder, case: str) -> list[str]:
    """Runs of the case that the ledger knows to have begun."""
    lines = (site.root / "archive/ledger.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [line["ref"] for line in found if line["kind"] == "run-started" and line["ref"].startswith(f"{case}/")]


def files_of(folder: Path) -> set[str]:
    """Names of all that lies below ``folder``."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
