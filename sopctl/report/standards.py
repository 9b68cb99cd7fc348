# SPDX-License-Identifier: Apache-2.0
"""What the records answer in the terms of ISO/IEC 27001, NIST SP 800-53 and the CIS controls. An aid, no certificate."""

from __future__ import annotations

from dataclasses import dataclass

from sopctl.report.facts import Record
from sopctl.report.tongue import Pair

ISO, NIST, CIS = "ISO/IEC 27001:2022", "NIST SP 800-53", "CIS Controls v8"


@dataclass(frozen=True)
class Control:
    """``asks``: in our words. ``answer``: which part of this report answers it, and the page it stands on."""

    standard: str
    id: str
    asks: Pair
    answer: Pair
    page: str


CONTROLS = (
    Control(
        ISO,
        "A.8.13",
        ("Salinan cadangan disimpan dan diuji secara berkala", "Backup copies are kept and regularly tested"),
        ("Kalender: setiap backup dibuktikan dengan dipulihkan", "The calendar: each backup is proven by restoring it"),
        "calendar.html",
    ),
    Control(
        ISO,
        "A.5.33",
        ("Rekaman terlindung dari perubahan dan kehilangan", "Records are protected from change and loss"),
        ("Rekaman bertanda tangan, buku besar, saksi", "Signed records, the ledger, witnesses"),
        "records.html",
    ),
    Control(
        ISO,
        "A.5.9",
        ("Aset informasi terdaftar dan berpemilik", "Information assets are listed and have an owner"),
        ("Register aset dan peninjauannya", "The asset register and its reviews"),
        "register.html",
    ),
    Control(
        ISO,
        "A.5.3",
        ("Tugas yang bertentangan dipisahkan", "Conflicting duties are separated"),
        ("Kasus: siapa meminta, memutuskan, melaksanakan, memeriksa", "Cases: who asked, decided, executed, checked"),
        "cases.html",
    ),
    Control(
        NIST,
        "CP-9",
        ("Pencadangan sistem menurut jadwal", "System backup by schedule"),
        ("Kalender menurut Jadwal Back Up", "The calendar by the standing order"),
        "calendar.html",
    ),
    Control(
        NIST,
        "CP-9(1)",
        ("Keandalan dan keutuhan salinan diuji", "Reliability and integrity of the copies are tested"),
        ("Uji pulih setiap backup dan pemeriksaan vault", "The proof of each backup, and checks of the vault"),
        "durations.html",
    ),
    Control(
        NIST,
        "CP-10",
        ("Pemulihan sistem", "System recovery"),
        ("Kasus restore, lamanya, dan layanan mati", "Restores, how long they took, and downtime"),
        "durations.html",
    ),
    Control(
        NIST,
        "AC-5",
        ("Pemisahan tugas", "Separation of duties"),
        ("Kasus: setiap langkah dengan penandatangannya", "Cases: each step with its signer"),
        "cases.html",
    ),
    Control(
        NIST,
        "AU-10",
        ("Nirsangkal", "Non-repudiation"),
        (
            "Tanda tangan SSH, atau PDF yang ditandatangani, pada setiap dokumen; tanda tangan SSH pada setiap rekaman",
            "An SSH signature or a signed PDF on each document, an SSH signature on each record",
        ),
        "records.html",
    ),
    Control(
        CIS,
        "11.1",
        ("Proses pemulihan data ditetapkan", "A data recovery process is established"),
        ("SOP yang berlaku dan kasusnya", "The SOP in force and its cases"),
        "cases.html",
    ),
    Control(
        CIS,
        "11.2",
        ("Pencadangan otomatis, mingguan atau lebih sering", "Automated backups, weekly or more often"),
        ("Kalender; SOP meminta bulanan", "The calendar; the SOP asks for monthly ones"),
        "calendar.html",
    ),
    Control(
        CIS,
        "11.3",
        ("Data cadangan dilindungi setara data asal", "Recovery data is protected as the original is"),
        ("Backup terenkripsi; pemeriksaan vault", "Encrypted backups; checks of the vault"),
        "records.html",
    ),
    Control(
        CIS,
        "11.4",
        ("Salinan yang terpisah (terisolasi)", "An isolated copy of recovery data"),
        ("Rekaman penyalinan ke vault lain", "Records of copying to another vault"),
        "records.html",
    ),
    Control(
        CIS,
        "11.5",
        ("Pemulihan diuji sedikitnya tiap triwulan", "Recovery is tested at least quarterly"),
        ("Uji pulih setiap backup", "The proof of each backup by restoring it"),
        "durations.html",
    ),
)
_ALL = ("A.5.33", "AU-10")


def answered(record: Record) -> tuple[str, ...]:
    """Ids of the controls that a record helps to answer, in the order of CONTROLS; none for one that is not believed."""
    if record.doubt:
        return ()
    kinds = {(str(entry.get("kind")), entry.get("ok"), entry.get("depth")) for entry in record.evidence}
    words = {kind for kind, _, _ in kinds}
    found = set(_ALL)
    if record.operation == "backup":
        found |= {"A.8.13", "CP-9", "11.2"} if "backup" in words else set()
        if any(kind == "verify" and ok for kind, ok, _ in kinds):
            found |= {"CP-9(1)"}
        if any(kind == "verify" and ok and depth == "restore" for kind, ok, depth in kinds):
            found |= {"11.5"}
    elif record.operation == "restore":
        found |= {"CP-10", "11.1"}
    elif record.operation == "case":
        found |= {"A.5.3", "AC-5", "11.1"}
    elif record.operation == "vault":
        found |= {"CP-9(1)", "11.3"} if "vault-check" in words else set()
        found |= {"11.4"} if "vault-copy" in words else set()
    return tuple(control.id for control in CONTROLS if control.id in found)
