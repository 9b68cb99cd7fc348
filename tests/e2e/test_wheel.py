# SPDX-License-Identifier: Apache-2.0
"""The wheel alone is enough: it carries the collection, and a backup runs from it outside any checkout."""

from __future__ import annotations

import json
import sqlite3
import sys
import zipfile
from pathlib import Path

import pytest

from sopctl import content, fsio
from tests.e2e.wheels import ROOT, built, outside_path, program
from tests.support.site_builder import SiteBuilder

COLLECTION = ROOT / "collections/ansible_collections/diskominfo/sop"
CARRIED = "sopctl/_data/collections/ansible_collections/diskominfo/sop/"
NOT_CARRIED = {"tests"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    return built(tmp_path_factory.mktemp("dist"))


def test_carries_the_collection_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    carried = {name.removeprefix(CARRIED) for name in names if name.startswith(CARRIED)}
    here = {
        str(path.relative_to(COLLECTION))
        for path in COLLECTION.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.relative_to(COLLECTION).parts[0] not in NOT_CARRIED
    }
    assert carried == here
    assert {"galaxy.yml", "meta/runtime.yml", "plugins/modules/restore_dataset.py"} <= carried
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".so"))]
    assert not [name for name in names if name.startswith(("tests/", f"{CARRIED}tests/"))]
    assert {"sopctl/ansible.cfg", "sopctl/skeleton/sop.yml.j2", "sopctl/py.typed"} <= set(names)
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert licences == {"Apache-2.0.txt", "GPL-3.0-or-later.txt"}


def test_a_backup_runs_from_it(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    program(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    program(venv / "bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    database = tmp_path / "srv/antrean.db"
    database.parent.mkdir()
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE antrean (nomor INTEGER PRIMARY KEY, loket TEXT)")
        connection.executemany("INSERT INTO antrean (loket) VALUES (?)", [(f"loket {n % 4}",) for n in range(1000)])
    connection.close()

    site = SiteBuilder(tmp_path, [str(venv / "bin/sopctl")], path=outside_path())
    site.server("srv01")
    site.dataset("antrean", engine="sqlite", server="srv01", path=str(database))
    site.schedule()
    assert site.run("--version", site=False).stdout.strip().endswith(wheel.name.split("-")[1])
    assert Path(site.run_json("paths")["collections"]).is_relative_to(venv)

    done = site.run_json("schedule", "run", "--due", as_="pelaksana")
    assert (done["exit"], done["problems"], done["failures"]) == (0, [], [])
    assert done["changed"] > 0
    assert len(site.records) == 1
    assert str(site.records[0]) == done["record"]
    site.run("record", "verify", site.records[0].name)

    assert site.run_json("schedule", "run", "--due", as_="pelaksana")["changed"] == 0
    assert len(site.records) == 1


def test_wheel_and_checkout_are_the_same_code(wheel: Path, tmp_path: Path) -> None:
    """An approval binds the code's digest: it must not matter from where the same code is run."""
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    ask = "import json; from sopctl import content, fsio; print(content.code_digest())"
    ask += "; print(json.dumps({name: fsio.sha256_bytes(path.read_bytes()) for name, path in content.code_files()}))"
    there = program(sys.executable, "-B", "-P", "-c", f"import sys; sys.path.insert(0, '.'); {ask}", cwd=unpacked)
    digest, files = there.splitlines()
    # first each file, so that a difference says where it is
    assert json.loads(files) == {name: fsio.sha256_bytes(path.read_bytes()) for name, path in content.code_files()}
    assert digest == content.code_digest()
