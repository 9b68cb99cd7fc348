# SPDX-License-Identifier: Apache-2.0
"""Mistakes in a site's files and on the command line: one line with the file, the key and the next step; nothing is lost."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import Done, all_verified, one_line_error
from tests.e2e.conftest import make_local_site
from tests.support.site_builder import SiteBuilder

Json = dict[str, Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """A local site with one backup; its tests put back what they spoil."""
    site = make_local_site(tmp_path_factory.mktemp("bad"))
    site.run("schedule", "run", "--due", as_="pelaksana")
    return site


@pytest.fixture
def site(base: SiteBuilder, tmp_path: Path) -> Any:
    """The site; afterwards its files are as before and its records hold."""
    kept = tmp_path / "kept"
    shutil.copytree(base.root, kept, symlinks=True)
    yield base
    ledger = (base.root / "archive/ledger.jsonl").read_bytes()
    assert ledger.startswith((kept / "archive/ledger.jsonl").read_bytes()), "the ledger lost a line"
    shutil.rmtree(base.root)
    shutil.copytree(kept, base.root, symlinks=True)
    all_verified(base)


def edit_json(site: SiteBuilder, name: str, change: Callable[[Json], object]) -> None:
    """Change a file that the builder wrote."""
    value = json.loads((site.root / name).read_text(encoding="utf-8"))
    change(value)
    site.write_yaml(name, value)


def add(site: SiteBuilder, name: str, text: str) -> None:
    """Put a line at the end of a file."""
    path = site.root / name
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def due(site: SiteBuilder) -> Done:
    """The command that reads everything."""
    return site.run("schedule", "run", "--dataset", "antrean", as_="pelaksana", check=False)


SERVER, DATASET, SCHEDULE = "register/servers/srv01.yml", "register/datasets/antrean.yml", "schedule.yml"
SERVICE = {"name": "web", "server": "srv01", "manager": "command", "start": ["x"], "stop": ["x"], "status": ["x"]}


@pytest.mark.part(4)
@pytest.mark.parametrize(
    ("name", "spoil", "key", "near"),
    [
        ("sop.yml", lambda s: add(s, "sop.yml", "timezon: Asia/Jakarta\n"), "timezon", "timezone"),
        ("sop.yml", lambda s: s.edit("sop.yml", "  kode:", "  kod: x\n  kode:"), "kod", "kode"),
        (
            "sop.yml",
            lambda s: s.edit("sop.yml", "  password: {file", "  pasword: x\n  password: {file"),
            "pasword",
            "password",
        ),
        (
            "sop.yml",
            lambda s: s.edit("sop.yml", "{file: secrets/vault-password}", "{fil: secrets/vault-password}"),
            "fil",
            "file",
        ),
        ("sop.yml", lambda s: s.edit("sop.yml", "  verify:", "  verifi: read\n  verify:"), "verifi", "verify"),
        (SERVER, lambda s: edit_json(s, SERVER, lambda v: v.update(machineid="x")), "machineid", "machine_id"),
        (SERVER, lambda s: edit_json(s, SERVER, lambda v: v["reviewed"].update(byy="x")), "byy", "by"),
        (DATASET, lambda s: edit_json(s, DATASET, lambda v: v.update(pth="/x")), "pth", "path"),
        (DATASET, lambda s: edit_json(s, DATASET, lambda v: v.update(connection={"sockt": "x"})), "sockt", "socket"),
        (
            DATASET,
            lambda s: edit_json(s, DATASET, lambda v: v.update(services=[{**SERVICE, "stopp": []}])),
            "stopp",
            "stop",
        ),
        (SCHEDULE, lambda s: edit_json(s, SCHEDULE, lambda v: v.update(entrys=[])), "entrys", "entries"),
        (SCHEDULE, lambda s: edit_json(s, SCHEDULE, lambda v: v["entries"][0].update(evry="P1D")), "evry", "every"),
        (SCHEDULE, lambda s: edit_json(s, SCHEDULE, lambda v: v["valid"].update(untl="x")), "untl", "until"),
    ],
)
def test_unknown_key(site: SiteBuilder, name: str, spoil: Callable[[SiteBuilder], None], key: str, near: str) -> None:
    spoil(site)
    one_line_error(due(site), 2, str(site.root / name), key, near)


@pytest.mark.parametrize(
    ("name", "spoil", "key"),
    [
        (DATASET, lambda s: edit_json(s, DATASET, lambda v: v.update(max_downtime="30 menit")), "max_downtime"),
        (DATASET, lambda s: edit_json(s, DATASET, lambda v: v.update(server="srv09")), "server"),
        ("sop.yml", lambda s: add(s, "sop.yml", "calendar: {holidays: XX}\n"), "calendar.holidays"),
    ],
)
def test_a_value_that_cannot_be_is_named_to_its_column(
    site: SiteBuilder, name: str, spoil: Callable[[SiteBuilder], None], key: str
) -> None:
    spoil(site)
    line = one_line_error(site.run("next", check=False), 2, key)
    place = re.search(rf"{re.escape(name)}:(\d+):(\d+):{re.escape(key)}", line)
    assert place, line
    text = (site.root / name).read_text(encoding="utf-8").splitlines()[int(place[1]) - 1]
    assert text[int(place[2]) - 1 :].lstrip('"').startswith(key.rpartition(".")[2])


def test_unknown_key_in_the_trust(site: SiteBuilder) -> None:
    """The root holder is told before signing; whoever does not sign is refused."""
    add(site, "trust/trust.yml", "peopel: []\n")
    one_line_error(due(site), 10, "trust.yml", "signature")
    done = site.run("trust", "sign", "--key", site.root_key, check=False)
    one_line_error(done, 2, str(site.root / "trust/trust.yml"), "peopel", "people")


def test_unknown_key_in_a_person(site: SiteBuilder) -> None:
    site.edit("trust/trust.yml", "  jabatan: Kepala Bidang Aptika\n", "  jabatan: Kepala Bidang Aptika\n  rols: []\n")
    done = site.run("trust", "sign", "--key", site.root_key, check=False)
    one_line_error(done, 2, str(site.root / "trust/trust.yml"), "rols", "roles")


def test_unknown_key_in_the_profile(site: SiteBuilder) -> None:
    profile = next((site.root / "profiles").glob("*.yml"))
    add(site, f"profiles/{profile.name}", "flwos: {}\n")
    one_line_error(due(site), 2, str(profile), "flwos", "flows")


def test_unknown_key_in_a_document(site: SiteBuilder) -> None:
    """A signed document is refused whatever was added to it."""
    case = site.requested("antrean")
    path = next((site.root / "cases").rglob("01-request.json"))
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "acts": 1}), encoding="utf-8")
    done = site.run("case", "dispose", case, as_="kadis", check=False)
    line = one_line_error(done, done.returncode, str(path))
    assert done.returncode in {2, 10, 30}, line
    assert "acts" in line
    shutil.rmtree(path.parent)


def test_unknown_dataset(site: SiteBuilder) -> None:
    words = ["--unit", "u", "--letter", str(site.letter()), "--letter-number", "1", "--reason", "r"]
    done = site.run("case", "request", "restore", "--dataset", "antrian", *words, as_="pemohon", check=False)
    one_line_error(done, 2, "antrian", "antrean")
    done = site.run("schedule", "run", "--dataset", "antrian", as_="pelaksana", check=False)
    one_line_error(done, 2, "antrian", "antrean")
    assert site.run_json("case", "list")[1:] == []


def test_unknown_dataset_in_the_schedule(site: SiteBuilder) -> None:
    edit_json(site, SCHEDULE, lambda value: value["entries"].append({"dataset": "antrian", "every": "P1M"}))
    one_line_error(due(site), 2, str(site.root / SCHEDULE), "antrian", "antrean")


@pytest.mark.parametrize("letter", ["tidak-ada.pdf", "kosong.pdf", "."])
def test_letter_file(site: SiteBuilder, letter: str) -> None:
    (site.folder / "kosong.pdf").touch()
    words = ["--unit", "u", "--letter", letter, "--letter-number", "1", "--reason", "r", "--dataset", "antrean"]
    cases = site.run("case", "list").stdout
    done = site.run("case", "request", "restore", *words, as_="pemohon", check=False)
    one_line_error(done, 2, letter)
    assert site.run("case", "list").stdout == cases, "no half case is left"


def test_a_key_that_is_not_the_person_s(site: SiteBuilder) -> None:
    case = site.requested("antrean")
    done = site.run("case", "dispose", case, "--key", site.keys / "kabid", as_="kadis", check=False)
    one_line_error(done, 10, "kabid", "kadis", str(site.keys / "kabid"))
    stranger = site.make_key("asing") if not (site.keys / "asing").exists() else site.keys / "asing"
    done = site.run("case", "dispose", case, "--key", stranger, as_="kadis", check=False)
    one_line_error(done, 10, "nobody", str(stranger))
    done = site.run("case", "dispose", case, "--key", "tidak-ada", as_="kadis", check=False)
    one_line_error(done, 2, "tidak-ada")
    assert site.run_json("case", "show", case)["due"]["act"] == "dispose"


def test_a_person_that_does_not_exist(site: SiteBuilder) -> None:
    done = site.run("schedule", "run", "--due", as_="kabit", check=False)
    assert "kabit" in one_line_error(done, done.returncode)
    assert done.returncode in {2, 10}


def test_no_site(base: SiteBuilder, tmp_path: Path) -> None:
    done = base.run("case", "list", check=False, site=False, cwd=tmp_path)
    one_line_error(done, 2, str(tmp_path), "sopctl init")
    done = base.run("-C", tmp_path, "case", "list", check=False, site=False)
    one_line_error(done, 2, str(tmp_path))


@pytest.mark.parametrize(
    ("name", "words"),
    [("secrets/vault-password", ("no such file",)), ("trust/trust.yml", ("trust.yml",)), (SCHEDULE, ("schedule.yml",))],
)
def test_a_file_that_is_missing(site: SiteBuilder, name: str, words: tuple[str, ...]) -> None:
    (site.root / name).unlink()
    records = len(site.records)
    one_line_error(due(site), 2, str(site.root / name), *words)
    assert len(site.records) == records


def test_a_secret_that_others_may_read(site: SiteBuilder) -> None:
    path = site.root / "secrets/vault-password"
    path.chmod(0o644)
    one_line_error(due(site), 2, str(path), "chmod 600")


def test_a_secret_too_short_to_keep_out_of_records(site: SiteBuilder) -> None:
    """Told before anything starts: no run is opened that has no record."""
    path = site.root / "secrets/vault-password"
    path.write_text("abc\n", encoding="utf-8")
    runs = len(
        [line for line in (site.root / "archive/ledger.jsonl").read_text().splitlines() if "run-started" in line]
    )
    one_line_error(due(site), 2, "password", "longer")
    lines = (site.root / "archive/ledger.jsonl").read_text().splitlines()
    assert len([line for line in lines if "run-started" in line]) == runs


@pytest.mark.parametrize(
    "text", ["a: b: c\n", "a: 1\na: 2\n", "\x00", "- [", "a: &x [*x]\n", "!!python/object:os.system {}\n"]
)
def test_yaml_that_is_none(site: SiteBuilder, text: str) -> None:
    (site.root / DATASET).write_text(text, encoding="utf-8")
    one_line_error(due(site), 2, str(site.root / DATASET))
