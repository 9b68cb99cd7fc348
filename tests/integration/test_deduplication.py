"""A month in which little changed costs the vault little: rows added at the end, or changed in one stretch.

The vault cuts a dump into pieces of about a megabyte by their content, so this holds only while a dump of the same rows is
the same bytes in the same order, whatever was changed before them.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration import my_process
from tests.integration.module_process import run_module
from tests.integration.pg_cluster import bin_dirs, running
from tests.integration.sop_fixtures import noise, vault_at

pytestmark = pytest.mark.long

Json = dict[str, Any]
#: An empty vault with the usual password. A vault draws at its making where pieces end; the three or four that each change
#: touches weigh a lot in so little data, and a piece may have 8 MB. This one has drawn, so that every run measures the same.
FIXED_VAULT = Path(__file__).with_name("fixed_vault")
ROWS = 80_000  # of a good kilobyte each, which compresses to little more than its half
CHANGED = ROWS // 50  # in a month: 2 %
FIRST = ROWS // 3  # where the changed stretch begins
BOUND = 0.10  # of what the first month stored
KINDS = ("contiguous", "appended", "random")
STRETCH = range(FIRST, FIRST + CHANGED)
ANYWHERE = sorted(random.Random(2026).sample(range(1, ROWS + 1), CHANGED))  # noqa: S311  (the same in every run)


class Data(ABC):
    """One dataset of ROWS rows with ids from 1 on. A changed row is longer than it was: what follows it moves."""

    dataset: Json

    def __init__(self, folder: Path, held: ExitStack) -> None:
        """Below ``folder``; what must be ended later goes to ``held``."""
        self.folder = folder
        self.held = held
        self.make()

    @abstractmethod
    def make(self) -> None:
        """Make the first month's rows, and say what the dataset is."""

    @abstractmethod
    def change(self, ids: Iterable[int], month: str) -> None:
        """Give these rows other content."""

    @abstractmethod
    def append(self, month: str) -> None:
        """Add CHANGED rows."""


class _Sql(Data):
    """A table ``riwayat`` that a server fills by itself."""

    #: a row's content, from its id ``i`` and a word
    content: str
    #: the ids between two numbers, as a table ``g`` with a column ``i``
    between: str

    @abstractmethod
    def sql(self, text: str) -> None:
        """Run SQL."""

    def append(self, month: str) -> None:
        self._insert(ROWS + 1, ROWS + CHANGED, month)

    def _insert(self, first: int, last: int, word: str) -> None:
        rows = self.between.format(first=first, last=last)
        content = self.content.format(word=word)
        self.sql(f"INSERT INTO riwayat SELECT i, {content} FROM {rows}")  # noqa: S608  (all of it stands in this file)

    def change(self, ids: Iterable[int], month: str) -> None:
        content, listed = self.content.format(word=month), ",".join(map(str, ids))
        self.sql(f"UPDATE riwayat SET isi = concat({content}, ' diperbaiki') WHERE i IN ({listed})")  # noqa: S608  (so is this)


class Postgresql(_Sql):
    content = " || ".join(f"encode(sha512((i || '-{n}{{word}}')::bytea), 'hex')" for n in range(8))
    between = "generate_series({first}, {last}) AS g (i)"
    bin_dir = ""

    def make(self) -> None:
        self.cluster = self.held.enter_context(running(self.bin_dir, 15000 + os.getpid() % 15000))
        self.cluster.sql("CREATE DATABASE simpeg")
        self.sql(
            "CREATE TABLE riwayat (i int PRIMARY KEY, isi text) WITH (autovacuum_enabled = off); CREATE TABLE unit AS SELECT 1 AS i"
        )
        self._insert(1, ROWS, "awal")
        self.dataset = {"engine": "postgresql", "database": "simpeg", "connection": self.cluster.connection}

    def sql(self, text: str) -> None:
        self.cluster.sql(text, "simpeg")


class Mariadb(_Sql):
    content = "concat(" + ", ".join(f"sha2(concat(i, '-{n}{{word}}'), 512)" for n in range(8)) + ")"
    between = "(SELECT seq AS i FROM seq_{first}_to_{last}) AS g"

    def make(self) -> None:
        self.server = self.held.enter_context(my_process.running())
        self.server.sql("CREATE DATABASE simpeg")
        self.sql(
            "CREATE TABLE riwayat (i INT AUTO_INCREMENT PRIMARY KEY, isi TEXT); CREATE TABLE unit AS SELECT 1 AS i"
        )
        self._insert(1, ROWS, "awal")
        self.dataset = {"engine": "mariadb", "database": "simpeg", "connection": self.server.connection}

    def sql(self, text: str) -> None:
        self.server.sql(text, "simpeg")


def row(i: int, word: str, more: str = "") -> str:
    """A row's content where Python makes it."""
    return noise(512, f"{i}-{word}".encode()).hex() + more


class Sqlite(Data):
    def make(self) -> None:
        self.path = self.folder / "riwayat.db"
        self.connection = self.held.enter_context(closing(sqlite3.connect(self.path)))
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("CREATE TABLE riwayat (i INTEGER PRIMARY KEY, isi TEXT)")
        self._insert(1, ROWS, "awal")
        self.dataset = {"engine": "sqlite", "path": str(self.path)}

    def _insert(self, first: int, last: int, word: str) -> None:
        rows = ((i, row(i, word)) for i in range(first, last + 1))
        self.connection.executemany("INSERT INTO riwayat VALUES (?, ?)", rows)
        self.connection.commit()

    def append(self, month: str) -> None:
        self._insert(ROWS + 1, ROWS + CHANGED, month)

    def change(self, ids: Iterable[int], month: str) -> None:
        rows = ((row(i, month, " diperbaiki"), i) for i in ids)
        self.connection.executemany("UPDATE riwayat SET isi = ? WHERE i = ?", rows)
        self.connection.commit()


class Files(Data):
    """Text files of A_FILE lines."""

    A_FILE = 8000

    def make(self) -> None:
        self.path = self.folder / "berkas"
        self.path.mkdir()
        for number in range(ROWS // self.A_FILE):
            first = number * self.A_FILE + 1
            self._write(number, [row(i, "awal") for i in range(first, first + self.A_FILE)])
        self.dataset = {"engine": "files", "path": str(self.path)}

    def _file(self, number: int) -> Path:
        return self.path / f"{number}.txt"

    def _write(self, number: int, lines: list[str]) -> None:
        self._file(number).write_text("\n".join(lines) + "\n", encoding="ascii")

    def append(self, month: str) -> None:
        with self._file(ROWS // self.A_FILE - 1).open("a", encoding="ascii") as stream:
            stream.writelines(row(i, month) + "\n" for i in range(CHANGED))

    def change(self, ids: Iterable[int], month: str) -> None:
        changed = {i - 1 for i in ids}
        for number in sorted({i // self.A_FILE for i in changed}):
            lines = self._file(number).read_text(encoding="ascii").splitlines()
            for i in changed & set(range(number * self.A_FILE, (number + 1) * self.A_FILE)):
                lines[i % self.A_FILE] = row(i, month, " diperbaiki")
            self._write(number, lines)


def kinds() -> Iterator[Any]:
    """Each engine; each PostgreSQL of this machine, since each release of pg_dump writes in its own way."""
    for name, bin_dir in sorted(bin_dirs().items()):
        yield pytest.param(type(name, (Postgresql,), {"bin_dir": bin_dir}), id=f"postgresql-{name}")
    missing = pytest.mark.skipif(not my_process.installed(), reason="mariadbd is not installed")
    yield pytest.param(Mariadb, id="mariadb", marks=missing)
    yield pytest.param(Sqlite, id="sqlite")
    yield pytest.param(Files, id="files")


@dataclass
class Measured:
    """Bytes that the months of one dataset added to the vault, the first month's before all."""

    dump: int
    first: int
    added: dict[str, int] = field(default_factory=dict)

    def share(self, kind: str) -> float:
        return self.added[kind] / self.first

    def line(self, name: str) -> str:
        shares = ", ".join(f"{kind} {self.share(kind):6.1%}" for kind in KINDS)
        return f"{name:<20} dump {self.dump / 1e6:5.1f} MB, stored {self.first / 1e6:4.1f} MB; {shares}"


def stored(vault: Path) -> int:
    """Bytes of the vault's data."""
    return sum(path.stat().st_size for path in (vault / "data").rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that does not stay: with the vaults of all engines it would be half a gigabyte."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.part(5)
@pytest.mark.parametrize("make", list(kinds()))
def test_a_quiet_month_adds_little(
    make: type[Data],
    folder: Path,
    record_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
) -> None:
    settings = vault_at(folder)
    shutil.copytree(FIXED_VAULT, folder / "vault")
    with ExitStack() as held:
        data = make(folder, held)
        dataset = {"id": "riwayat", "state_dir": str(folder / "state"), **data.dataset}
        args = {"case": "BKP-2026-0001", "dataset": dataset, "vault": settings}

        def back_up(period: str) -> int:
            before = stored(folder / "vault")
            done = run_module("backup_dataset", {**args, "period": period, "name": f"n_{period}"}, "backup")
            assert done.get("changed"), done
            sizes.append(done["sop_evidence"]["bytes"])
            return stored(folder / "vault") - before

        sizes: list[int] = []
        first = back_up("2026-07")
        found = Measured(sizes[0], first)
        data.change(STRETCH, "agustus")
        found.added["contiguous"] = back_up("2026-08")
        data.append("september")
        found.added["appended"] = back_up("2026-09")
        data.change(ANYWHERE, "oktober")
        found.added["random"] = back_up("2026-10")
    record_property("deduplication", found.line(request.node.callspec.id))
    assert first > ROWS * 1000 * 0.4, "the data compresses so well that the bound means nothing"
    assert len(set(sizes)) > 1, sizes
    for kind in ("contiguous", "appended"):
        assert 0.01 < found.share(kind) <= BOUND, found.line(kind)
