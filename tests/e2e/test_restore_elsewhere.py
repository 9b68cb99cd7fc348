# SPDX-License-Identifier: Apache-2.0
"""``--to``: one lost table and a lost file are brought back beside the live data, which nothing touches; the same case
executed again changes nothing, what is there already is never replaced, and another server is another target."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import all_verified, evidence, one_line_error, record_json, run_error
from tests.e2e.conftest import make_local_site
from tests.e2e.local import begun, untouched
from tests.support.site_builder import UNIT, SiteBuilder

Json = dict[str, Any]
ROWS = 200


@dataclass
class Story:
    """A site whose queue lost a table and whose folder lost a file, after both were backed up and proven."""

    site: SiteBuilder
    data: Path
    live: dict[str, Any]

    def ask(self, *words: str, datasets: tuple[str, ...] = ("antrean",), check: bool = True) -> Any:
        """``case request restore`` of datasets, with more words."""
        named = [word for dataset in datasets for word in ("--dataset", dataset)]
        letter = ["--letter", str(self.site.letter()), "--letter-number", "800/12/2026"]
        said = [*named, "--unit", UNIT, *letter, "--reason", "tabel hilang", *words]
        return self.site.run("case", "request", "restore", *said, "--json", as_="pemohon", check=check)

    def approved(self, *words: str, datasets: tuple[str, ...] = ("antrean",)) -> str:
        """The id of an approved case."""
        case = str(json.loads(self.ask(*words, datasets=datasets).stdout)["case"])
        self.site.run("case", "dispose", case, as_="kadis")
        self.site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="kabid")
        return case

    def execute(self, case: str) -> Json:
        """``case execute``, whatever it comes to."""
        done = self.site.run("case", "execute", case, "--json", as_="pelaksana", check=False)
        assert done.stdout, done.stderr
        made: Json = json.loads(done.stdout)
        return made

    def now(self) -> dict[str, Any]:
        """The live data: bytes, inode and times of every file; the tests' own copies aside."""
        found: dict[str, Any] = {}
        for path in sorted([self.data / "antrean.db", *(self.data / "berkas").rglob("*")]):
            seen = path.lstat()
            found[str(path)] = (seen.st_ino, seen.st_mtime_ns, path.read_bytes() if path.is_file() else None)
        return found


def rows(path: Path, table: str = "tamu") -> int:
    """How many rows a table of an SQLite file has."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # a name of these tests
    return int(count)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Back up and prove; then lose a table and a file."""
    folder = tmp_path_factory.mktemp("elsewhere")
    site = make_local_site(folder)
    data = folder / "data"
    with closing(sqlite3.connect(data / "antrean.db")) as connection, connection:
        connection.execute("CREATE TABLE tamu (id INTEGER PRIMARY KEY, nama TEXT)")
        connection.executemany("INSERT INTO tamu (nama) VALUES (?)", [(f"tamu {n}",) for n in range(ROWS)])
    (data / "berkas").mkdir()
    for name in ("satu.txt", "dua.txt"):
        (data / "berkas" / name).write_text(name)
    (data / "berkas" / "dua.txt").chmod(0o640)
    site.dataset("berkas", engine="files", server="srv01", path=str(data / "berkas"))
    site.server("srv02")
    site.edit("sop.yml", "  verify: read", "  verify: restore")
    site.schedule()
    site.run("schedule", "run", "--due", as_="pelaksana")
    with closing(sqlite3.connect(data / "antrean.db")) as connection, connection:
        connection.execute("DROP TABLE tamu")
    (data / "berkas" / "dua.txt").unlink()
    made = Story(site, data, {})
    made.live = made.now()
    return made


def test_one_lost_table_is_brought_back_beside(story: Story) -> None:
    copy = story.data / "antrean_salinan.db"
    asked = story.ask("--to", str(copy))
    assert "to ask for that instead" not in asked.stderr, "it is what was asked for"
    case = str(json.loads(asked.stdout)["case"])
    story.site.run("case", "dispose", case, as_="kadis")
    decided = story.site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="kabid")
    assert "antrean: nothing is set aside" in decided.stderr
    assert f"is restored as {copy} on srv01" in decided.stderr
    checked = story.site.run("case", "execute", case, "--check", as_="pelaksana")
    assert "nothing changed" in checked.stdout
    assert not copy.exists()
    done = story.execute(case)
    assert (done["exit"], done["result"], done["downtime_s"], done["changed"]) == (0, "berhasil", None, 1), done
    assert rows(copy) == ROWS
    assert story.now() == story.live, "the live data was not touched"
    record = Path(done["record"])
    (placed,) = evidence(record, "place")
    assert (placed["to"], placed["state"], placed["host"]) == (str(copy), "placed", "srv01")
    assert {entry["kind"] for entry in record_json(record, "evidence.json")} == {"place"}
    form = record_json(record, "form.json")
    assert form["other_place"] == f"{copy} di server srv01"
    assert (form["safety_copy"], form["data_set_aside_since"], form["downtime_s"]) == ("", None, None)
    assert form["verification"] == "berhasil"
    page = (record / "data/form.html").read_text(encoding="utf-8")
    assert "Dipulihkan ke lokasi lain; data yang berjalan dan layanannya tidak disentuh." in page
    assert "lokasi lain" in (record / "data/permintaan.html").read_text(encoding="utf-8")
    shown = story.site.run("case", "show", case).stdout
    assert f"antrean: beside the live data, as {copy} on srv01" in shown
    again = story.site.run("case", "execute", case, as_="pelaksana", check=False)
    one_line_error(again, 10, "execute is not due")
    all_verified(story.site)


def test_a_copy_that_is_there_already_is_not_replaced(story: Story) -> None:
    taken = story.data / "ada.db"
    taken.write_text("milik orang lain")
    case = story.approved("--to", str(taken))
    done = story.site.run("case", "execute", case, as_="pelaksana", check=False)
    run_error(done, 20, str(taken), "exists already and is not this case's copy; move it away or choose another place")
    assert taken.read_text() == "milik orang lain"
    assert story.now() == story.live
    assert not [path.name for path in story.data.iterdir() if "__" in path.name]


@pytest.mark.long
def test_two_datasets_on_another_server(story: Story) -> None:
    queue, tree = story.data / "lain.db", story.data / "berkas-lain"
    words = ["--to", f"antrean=srv02:{queue}", "--to", f"berkas=srv02:{tree}"]
    case = story.approved(*words, datasets=("antrean", "berkas"))
    decision = json.loads(next((story.site.root / "cases").glob(f"*/{case}/*-decide.json")).read_text())
    for target in decision["body"]["approval"]["targets"]:
        assert (target["server"], target["host"], target["services"]) == ("srv02", "srv02", [])
        assert target["to"]["source"] == "srv01"
    done = story.execute(case)
    assert (done["exit"], done["result"]) == (0, "berhasil"), done
    assert rows(queue) == ROWS
    assert (tree / "dua.txt").read_text() == "dua.txt"
    assert (tree / "dua.txt").stat().st_mode & 0o777 == 0o640
    assert {entry["host"] for entry in evidence(Path(done["record"]), "place")} == {"srv02"}
    assert story.now() == story.live


@pytest.mark.long
def test_executed_once_more_it_changes_nothing(tmp_path: Path, interrupted: Callable[[SiteBuilder, str], None]) -> None:
    """The run was killed before its document was filed: its execution is still due, finds its copy, and is filed."""
    site = make_local_site(tmp_path)
    site.run("schedule", "run", "--due", as_="pelaksana")
    copy = tmp_path / "data" / "salinan.db"
    story = Story(site, tmp_path / "data", {})
    case = story.approved("--to", str(copy))
    interrupted(site, case)
    assert rows(copy, "antrean") == ROWS
    before = copy.stat()
    done = story.execute(case)
    assert (done["exit"], done["changed"], done["result"]) == (0, 0, "berhasil"), done
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.fixture
def interrupted() -> Callable[[SiteBuilder, str], None]:
    """Runs an execution to the end of its play and kills sopctl before anything is filed."""

    def kill(site: SiteBuilder, case: str) -> None:
        process = site.start("case", "execute", case, as_="pelaksana")
        assert process.stdout is not None
        for line in process.stdout:
            if "restored as" in line:
                break
        process.kill()
        process.wait()
        site.run("case", "take-over", case, "--reason", "mati", as_="pelaksana")

    return kill


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--to", "{data}/antrean.db"], "is where dataset antrean lives"),
        (["--to", "{data}/berkas/x"], "is where dataset berkas lives"),
        (["--to", "{data}/../antrean.db"], "is not a plain absolute path"),
        (["--to", "{data}//x.db"], "is not a plain absolute path"),
        (["--to", "/etc/cron.d/x"], "is a folder of the operating system"),
        (["--to", "salinan"], "is restored to an absolute path; give one"),
        (["--to", "srv09:/srv/x.db"], "the server is not in the asset register"),
        (["--to", "berkas=/srv/x"], "'berkas' is not asked for"),
        (["--to", "/srv/a.db", "--to", "/srv/b.db"], "antrean has two targets"),
        (["--to", "/srv/a.db", "--in-place"], "--to touches no live data, --in-place replaces it"),
        (["--to", "/srv/a.db\n"], "is not a plain absolute path"),
        (["--to", ""], "names no target"),
    ],
)
def test_a_target_that_cannot_be_is_refused_at_once(story: Story, words: list[str], reason: str) -> None:
    before = set((story.site.root / "cases").glob("*/*"))
    with untouched(story.site):
        done = story.ask(*[word.format(data=story.data) for word in words], check=False)
    assert done.returncode == 2, done.stderr
    assert reason in done.stderr, done.stderr
    assert set((story.site.root / "cases").glob("*/*")) == before
    assert begun(story.site)


def test_it_is_offered_first(story: Story) -> None:
    """Whoever asks to replace the live data is shown the command that does not; it parses and is accepted."""
    done = story.ask()
    assert "Most requests need one table or a few files" in done.stderr
    offered = done.stderr.split(", then sopctl ", 1)[1].splitlines()[0]
    assert f"--to {story.data}/antrean.db_salinan" in offered
    case = json.loads(done.stdout)["case"]
    story.site.run("case", "dispose", case, as_="kadis")
    decided = story.site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="kabid").stderr
    kept = f"{story.data}/antrean.db__before_{case.lower().replace('-', '')}"
    assert "antrean: data since " in decided
    assert " old): it is not deleted, all of the old data stays on srv01 as " + kept in decided
    assert "for at least 7 days after the restore" in decided
    story.site.run("case", "withdraw", case, "--reason", "cukup satu tabel", as_="pemohon")
