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


class Story:
    """A local site with datasets ``arsip`` (files) and ``antrean`` (sqlite), and what tests do to it."""

    def __init__(self, folder: Path, profile: str, **options: Any) -> None:
        self.site = SiteBuilder(folder, profile=profile, **options)
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
        self, operation: str, *datasets: str, specification: Path | None = None, as_: str = "pemohon", more: tuple[str, ...] = ()
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
