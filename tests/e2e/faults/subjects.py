# SPDX-License-Identifier: Apache-2.0
"""The four datasets that the fault matrix is run over, each with what an independent look at it needs.

Nothing here uses the code under test: a subject asks the database, or the tools of its host.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from tests.e2e import pg_facts
from tests.e2e.faults import scripts
from tests.lab.hosts import Lab

#: marks the rows of the tests' own writer, which no comparison counts
WRITER = "penulis"


@dataclass(frozen=True)
class Kept:
    """The writer's rows in one place: their numbers, and those of rows that are not whole."""

    numbers: frozenset[int]
    torn: frozenset[int]


class Subject(ABC):
    """One dataset of the lab, with the service that writes to it."""

    engine: str
    dataset: str
    host: str
    service_host: str
    unit: str
    path: str  # of the service's rows

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @property
    @abstractmethod
    def base(self) -> str:
        """The service's address as its users reach it."""

    @property
    def health(self) -> str:
        """The service's health address, from this machine."""
        return f"{self.base}/health"

    @property
    def rows(self) -> str:
        """Where a row is posted."""
        return f"{self.base}{self.path}"

    @abstractmethod
    def row(self, number: int) -> dict[str, Any]:
        """The writer's row of a number."""

    @abstractmethod
    def anew(self) -> None:
        """Make the data anew; whatever was kept beside it goes."""

    @abstractmethod
    def forget(self) -> None:
        """Drop what earlier restores kept beside the live data."""

    @abstractmethod
    def change(self) -> None:
        """Change the live data all over, so that it is nowhere what the backup is. Repeating it changes nothing more."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Everything about the live data that must be wholly old or wholly new; the writer's rows are left out."""

    @abstractmethod
    def written(self) -> dict[str, Kept]:
        """The writer's rows in each place: ``live``, and what is kept or staged beside it, by name."""

    def _written(self, text: str) -> dict[str, Kept]:
        """From lines of ``place number parts``: whole is what has all its parts (1)."""
        found: dict[str, dict[int, bool]] = {"live": {}}
        for line in text.splitlines():
            place, number, whole = line.split("|")
            found.setdefault(place, {})[int(number)] = whole == "1"
        return {
            place: Kept(frozenset(rows), frozenset(number for number, whole in rows.items() if not whole))
            for place, rows in found.items()
        }


class Personnel(Subject):
    """PostgreSQL; its application runs on another host."""

    engine, dataset, host, service_host = "postgresql", "simpeg", "db01", "web01"
    unit, path = "simpeg-web.service", "/transaksi"

    @property
    def base(self) -> str:
        return self.lab.web_url

    def row(self, number: int) -> dict[str, Any]:
        return {"pegawai": 1 + number % 100, "jenis": WRITER, "nilai": number}

    def anew(self) -> None:
        self.lab.generate(8)

    def forget(self) -> None:
        self.lab.forget_databases(self.dataset)

    def change(self) -> None:
        self.lab.psql(scripts.PG_CHANGE)

    def facts(self) -> dict[str, Any]:
        found = pg_facts.facts(self.lab, self.dataset)
        for moved in ("transaksi_id_seq", "jejak_id_seq"):
            found["sequences"].pop(moved)
        # pg_dump stores a materialised view's definition alone
        found["tables"] = [line for line in found["tables"] if not line.startswith("kepegawaian.rekap|")]
        return found

    def written(self) -> dict[str, Kept]:
        lines = [f"live|{line}" for line in self.lab.psql(scripts.PG_WRITTEN).splitlines()]
        for name in self.lab.databases():
            if name.startswith(f"{self.dataset}__"):
                # a copy that is being staged, or was dropped half-way, has not got these tables yet
                with pg_facts.opened(self.lab, name):
                    if self.lab.psql("SELECT to_regclass('kepegawaian.jejak')", name):
                        lines += [f"{name}|{line}" for line in self.lab.psql(scripts.PG_WRITTEN, name).splitlines()]
        return self._written("\n".join(lines))


class Licences(Subject):
    """MariaDB; its application runs on another host."""

    engine, dataset, host, service_host = "mariadb", "perizinan", "db02", "web01"
    unit, path = "perizinan-web.service", "/transaksi"

    @property
    def base(self) -> str:
        return self.lab.licence_url

    def row(self, number: int) -> dict[str, Any]:
        return {"pemohon": 1 + number % 100, "jenis": WRITER, "nilai": number}

    def anew(self) -> None:
        self.lab.generate(8, self.dataset)

    def forget(self) -> None:
        self.lab.forget_databases(self.dataset)

    def change(self) -> None:
        self.lab.mysql(scripts.MY_CHANGE)

    def facts(self) -> dict[str, Any]:
        text = self.lab.exec("db02", ["sh", "-euc", scripts.MY_FACTS, "sh", self.dataset])
        return {"dump": sorted(text.splitlines())}

    def written(self) -> dict[str, Kept]:
        names = [
            name for name in self.lab.mysql("SHOW DATABASES", "mysql").split() if name.startswith(f"{self.dataset}__")
        ]
        lines = []
        for name in (self.dataset, *names):
            # a copy that is being staged, or was dropped half-way, has not got these tables yet
            if self.lab.mysql(f"SHOW TABLES FROM `{name}` LIKE 'jejak'", "mysql"):
                place = "live" if name == self.dataset else name
                rows = self.lab.mysql(scripts.MY_WRITTEN, name).splitlines()
                lines += [f"{place}|{row}".replace("\t", "|") for row in rows]
        return self._written("\n".join(lines))


class Queue(Subject):
    """SQLite; its application runs beside it."""

    engine, dataset, host, service_host = "sqlite", "antrean", "file01", "file01"
    unit, path = "antrean.service", "/antrean"

    @property
    def base(self) -> str:
        return self.lab.queue_url

    def row(self, number: int) -> dict[str, Any]:
        return {"loket": 1, "catatan": f"{WRITER} {number}"}

    def anew(self) -> None:
        self.lab.exec(
            self.host, f"systemctl stop {self.unit}; rm -rf /srv/antrean/*; systemctl reset-failed {self.unit} || true"
        )
        self.lab.exec(self.host, f"systemctl start {self.unit}")

    def forget(self) -> None:
        self.lab.exec(self.host, "find /srv/antrean -mindepth 1 -maxdepth 1 -name '*__*_*' -exec rm -rf -- {} +")

    def change(self) -> None:
        self.lab.exec(self.host, ["python3", "-c", scripts.LITE_CHANGE, "/srv/antrean/antrean.db"], user="antrean")

    def facts(self, suffix: str = "") -> dict[str, Any]:
        text = self.lab.exec(self.host, ["python3", "-c", scripts.LITE_FACTS, "/srv/antrean/antrean.db" + suffix])
        found: dict[str, Any] = json.loads(text)
        return found

    def written(self) -> dict[str, Kept]:
        return self._written(self.lab.exec(self.host, ["python3", "-c", scripts.LITE_WRITTEN]))


class Letters(Subject):
    """Plain files; their application runs beside them."""

    engine, dataset, host, service_host = "files", "berkas", "file01", "file01"
    unit, path = "berkas-web.service", "/berkas"

    @property
    def base(self) -> str:
        return self.lab.filing_url

    def row(self, number: int) -> dict[str, Any]:
        return {"perihal": f"{WRITER} {number}"}

    def anew(self) -> None:
        self.lab.exec(self.host, "rm -rf /srv/berkas /srv/berkas__*; python3 /usr/local/lib/berkas/make.py /srv/berkas")

    def forget(self) -> None:
        self.lab.exec(self.host, "find /srv -mindepth 1 -maxdepth 1 -name '*__*_*' -exec rm -rf -- {} +")

    def change(self) -> None:
        self.lab.exec(self.host, scripts.TREE_CHANGE)

    def facts(self, suffix: str = "") -> dict[str, Any]:
        text = self.lab.exec(self.host, ["sh", "-euc", scripts.TREE_FACTS, "sh", "/srv/berkas" + suffix])
        return {"listing": text.splitlines()}

    def written(self) -> dict[str, Kept]:
        return self._written(self.lab.exec(self.host, ["python3", "-c", scripts.TREE_WRITTEN]))


SUBJECTS: dict[str, type[Subject]] = {kind.engine: kind for kind in (Personnel, Licences, Queue, Letters)}
