# SPDX-License-Identifier: Apache-2.0
"""sopctl from cron, from a venv that is not activated, under locales that do not exist, from deep places, as anybody."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checks import Done, all_verified, one_line_error
from tests.e2e.conftest import make_local_site
from tests.support.public_python import public_python
from tests.support.site_builder import UNIT, SiteBuilder

USER = "sopuji"
CRON_PATH = "/usr/bin:/bin"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """A site whose backup is there: what runs in it goes all the way to the host and finds it."""
    site = make_local_site(tmp_path_factory.mktemp("shared"))
    site.run("schedule", "run", "--due", as_="pelaksana")
    return site


@pytest.fixture
def again(shared: SiteBuilder) -> Iterator[SiteBuilder]:
    """The shared site; its environment is put back afterwards."""
    env = dict(shared.env)
    yield shared
    shared.env = env


def backed_up(site: SiteBuilder, done: Done) -> None:
    """A backup ran and was proven."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["due"] for row in site.run_json("schedule", "status")] == [False]
    all_verified(site)


def restored(site: SiteBuilder) -> None:
    """A whole case, requested to executed."""
    case = site.approved("antrean")
    done = site.run("case", "execute", case, as_="pelaksana", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_from_cron(again: SiteBuilder) -> None:
    """An environment of HOME and PATH, no terminal; the key lies in ~/.ssh; the venv is not on PATH.

    The pin is given by the command line of the crontab, as /etc/sopctl is not a test's to write.
    """
    folder = again.home / ".ssh"
    folder.mkdir(mode=0o700)
    for name in ("pelaksana", "pelaksana.pub"):
        shutil.copy(again.keys / name, folder / name.replace("pelaksana", "id_ed25519"))
    again.env = {
        "HOME": str(again.home),
        "PATH": CRON_PATH,
        "SOPCTL_ROOT": again.env["SOPCTL_ROOT"],
    }
    assert not shutil.which("ansible-playbook", path=CRON_PATH)
    backed_up(again, again.run("schedule", "run", "--dataset", "antrean", as_="pelaksana", check=False, cwd=Path("/")))


@pytest.mark.part(10)
@pytest.mark.parametrize(
    "locale",
    [
        {"LANG": "id_ID.UTF-8", "LC_ALL": ""},
        {"LC_ALL": "id_ID.UTF-8"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
    ],
    ids=["LANG=id_ID", "LC_ALL=id_ID", "LC_ALL=C", "ascii"],
)
def test_locale(again: SiteBuilder, locale: dict[str, str]) -> None:
    """id_ID.UTF-8 is not generated here; reason and letter have characters that ASCII has not."""
    assert "id_ID" not in subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout
    again.env |= locale
    backed_up(again, again.run("schedule", "run", "--dataset", "antrean", as_="pelaksana", check=False))
    words = ["--unit", UNIT, "--letter", str(again.letter()), "--letter-number", "800/№ 12"]
    words += ["--reason", "août – ñ"]
    done = again.run("case", "request", "restore", "--dataset", "antrean", *words, as_="pemohon", check=False)
    assert done.returncode == 0, done.stderr
    case = [row["case"] for row in again.run_json("case", "list") if row["flow"] == "restore"][-1]
    shown = again.run("case", "show", case, check=False)
    assert shown.returncode == 0, shown.stderr
    assert again.run_json("case", "show", case)["request"]["reason"] == "août – ñ"


def test_words_that_the_locale_cannot_decode(again: SiteBuilder) -> None:
    """What is signed must be what was typed: bytes that are no text here are refused."""
    env = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["--unit", "u", "--letter", str(again.letter()), "--letter-number", "1", "--reason", "août"]
    done = again.run("case", "request", "restore", "--dataset", "antrean", *words, as_="pemohon", check=False, env=env)
    one_line_error(done, 2, "locale", "LC_ALL=C.UTF-8")


@pytest.mark.long
def test_from_a_deep_folder(tmp_path: Path) -> None:
    """Control sockets and the gate's socket do not grow with the site's path."""
    deep = tmp_path
    while len(str(deep)) < 160:
        deep = deep / "bidang aplikasi informatika"
    deep.mkdir(parents=True)
    site = make_local_site(deep)
    backed_up(site, site.run("schedule", "run", "--due", as_="pelaksana", check=False, cwd=deep, site=True))
    restored(site)


@pytest.mark.long
def test_with_a_site_found_by_walking_up(again: SiteBuilder) -> None:
    """And ``--json``: progress goes to stderr, stdout is one JSON value."""
    below = again.root / "register/datasets"
    words = ["schedule", "run", "--dataset", "antrean", "--json"]
    done = again.run(*words, as_="pelaksana", check=False, site=False, cwd=below)
    backed_up(again, done)
    assert json.loads(done.stdout)["result"] == "berhasil"


def test_two_runs_at_once(local_site: SiteBuilder) -> None:
    """One does the work; the other says who is at it and leaves with 11, or finds the work done."""
    first = local_site.start("schedule", "run", "--due", as_="pelaksana")
    second = local_site.start("schedule", "run", "--due", as_="pelaksana")
    said = {process.communicate()[0]: process.returncode for process in (first, second)}
    assert sorted(said.values()) == [0, 11], said
    [locked] = [text for text, code in said.items() if code == 11]
    assert len(locked.strip().splitlines()) == 1, locked
    assert "schedule is held by" in locked
    assert "pelaksana" in locked
    assert len(local_site.records) == 1
    assert len(local_site.run_json("case", "list")) == 1
    all_verified(local_site)


@pytest.fixture
def ordinary() -> Iterator[str]:
    """A user without any rights, with a home; made for the test when root runs it."""
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid()).pw_name
        return
    subprocess.run(["userdel", "--remove", USER], capture_output=True, check=False)
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", USER], check=True)
    yield USER
    subprocess.run(["userdel", "--remove", USER], capture_output=True, check=False)


@pytest.mark.long
def test_as_an_ordinary_user(ordinary: str) -> None:
    """Neither sopctl nor its modules need root where the data is the user's own."""
    home = Path(pwd.getpwnam(ordinary).pw_dir)
    with tempfile.TemporaryDirectory(prefix="sop-ordinary-", dir="/var/tmp") as name:
        folder = Path(name)
        site = make_local_site(folder)
        site.env |= {"HOME": str(home), "USER": ordinary}
        if os.geteuid() == 0:
            site.letter()
            subprocess.run(["chown", "-R", f"{ordinary}:", name], check=True)
            site.sopctl = as_user(ordinary)
        shown = site.run("schedule", "run", "--due", as_="pelaksana", check=False)
        backed_up(site, shown)
        assert {path.owner() for path in site.root.rglob("*")} == {ordinary}
        restored(site)
        all_verified(site)


def as_user(user: str) -> list[str]:
    """The command as that user."""
    python = public_python(pwd.getpwnam(user).pw_uid)
    change = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--inh-caps=-all", "--"]
    return [*change, str(python), "-P", "-m", "sopctl"]


def test_without_anything(again: SiteBuilder) -> None:
    """Not even HOME: the user's own from the password file is taken, or the missing thing is named."""
    again.env = {"PATH": CRON_PATH}
    done = again.run("case", "list", check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode in {0, 2}
    if done.returncode:
        one_line_error(done, 2)
