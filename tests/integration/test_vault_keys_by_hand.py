# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/how-to/vault-keys.md, in their order, on the vault that a site has made; the site goes on with it."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.support.page_shell import PageShell
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.long
PAGE = "how-to/vault-keys.md"
SERVERS = ("srv01", "srv02")
#: what the page's blocks do, in their order
STEPS = ("settings", "recovery", "paper", "look", "add", "change", "prove", "remove", "new repository", "back up")


def opens(repository: Path, password: str, folder: Path) -> bool:
    """Whether the password opens the repository."""
    file = folder / "tried"
    file.write_text(password, encoding="utf-8")
    command = [
        "restic",
        "-r",
        str(repository),
        "--no-lock",
        "--no-cache",
        "--password-file",
        str(file),
        "cat",
        "config",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "wrong password or no key found" in done.stderr, done.stderr
    return done.returncode == 0


def shell_of(site: SiteBuilder) -> PageShell:
    """An administrator's shell with the page's commands, about this site."""
    words = {
        "/srv/sop/site": str(site.root),
        "VAULT=/srv/vault ": f"VAULT={site.vault} ",
        '"db01 file01"': f'"{" ".join(SERVERS)}"',
        "sopctl ": f"{site.sopctl[0]} ",
        "--dataset simpeg": "--dataset antrean",
    }
    return PageShell(PAGE, STEPS, site.folder, site.env, words, keep="PAPER WORK VAULT SERVERS")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """A site with two servers, a backup in the repository of each."""
    made = SiteBuilder(tmp_path_factory.mktemp("vault-keys"))
    for server, dataset in zip(SERVERS, ("antrean", "arsip"), strict=True):
        made.server(server)
        scheduled(made, dataset, server)
    made.run("schedule", "run", "--due", as_="pelaksana")
    return made


def scheduled(site: SiteBuilder, dataset: str, server: str) -> None:
    """One more database in the schedule, whose first backup is due now."""
    path = site.folder / f"{dataset}.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE isi (catatan TEXT)")
        connection.execute("INSERT INTO isi VALUES ('satu')")
    connection.close()
    site.dataset(dataset, engine="sqlite", server=server, path=str(path))
    site.schedule(every="P1D")


def due_is_done(site: SiteBuilder, dataset: str, done: str) -> None:
    """The site's own run backed it up and proved it."""
    assert ": Berhasil (changed=1)" in done, done
    assert [item["verified"] for item in site.run_json("vault", "list", "--dataset", dataset)] == [True]


def everyday(site: SiteBuilder) -> str:
    return (site.root / "secrets/vault-password").read_text(encoding="utf-8").strip()


def stored(site: SiteBuilder, server: str, password_file: Path) -> list[str]:
    command = ["restic", "-r", str(site.vault / server), "--no-cache", "--password-file", str(password_file)]
    done = subprocess.run([*command, "snapshots", "--json"], capture_output=True, text=True, check=True)
    return [item["id"] for item in json.loads(done.stdout)]


def test_the_page(site: SiteBuilder, tmp_path: Path) -> None:
    repositories = [site.vault / server for server in SERVERS]
    old = everyday(site)
    shell = shell_of(site)
    shell.run("settings")

    recovery = shell.run("recovery").splitlines()[-1]
    assert re.fullmatch(r"([a-z2-9]{5}-){7}[a-z2-9]{5}", recovery)
    assert all(opens(repository, recovery, tmp_path) for repository in repositories)
    paper = Path(shell.variable("PAPER"))
    assert paper.is_relative_to("/dev/shm")
    shell.run("paper", typed=f"{recovery}\n")
    assert not paper.exists()
    said = shell.run("look")
    assert said.count("recovery  paper") == 2, said

    shell.run("add")
    assert everyday(site) == old
    assert site.run_json("schedule", "run", "--dataset", "antrean", as_="pelaksana")["exit"] == 0  # nothing waits
    shell.run("change")
    new = everyday(site)
    assert new != old
    assert ((site.root / "secrets/vault-password").stat().st_mode & 0o777) == 0o600
    assert all(opens(repository, word, tmp_path) for repository in repositories for word in (old, new, recovery))
    scheduled(site, "surat", "srv01")
    due_is_done(site, "surat", shell.run("prove"))
    said = shell.run("remove")
    assert said.count("sopctl") == 2, said
    assert not list((site.root / "secrets").glob("rotate*"))
    for repository in repositories:
        assert opens(repository, new, tmp_path)
        assert opens(repository, recovery, tmp_path)
        assert not opens(repository, old, tmp_path)
    scheduled(site, "memo", "srv02")
    due_is_done(site, "memo", site.run("schedule", "run", "--due", as_="pelaksana").stdout)

    before = {server: stored(site, server, site.root / "secrets/vault-password") for server in SERVERS}
    shell.run("new repository")
    for server in SERVERS:
        assert len(stored(site, server, site.root / "secrets/vault-password")) == len(before[server])
        assert not opens(site.vault / server, recovery, tmp_path)
        config = [(site.vault / name / "config").read_bytes() for name in (server, f"{server}-leaked")]
        assert config[0] != config[1]
    shell.run("back up")
    newest = [item for item in site.run_json("vault", "list") if item["dataset"] == "antrean"][-1]
    assert newest["verified"]
    assert newest["snapshot"] in stored(site, "srv01", site.root / "secrets/vault-password")
    assert newest["snapshot"] not in before["srv01"]
    recovery = shell.run("recovery").splitlines()[-1]  # the new repositories have one again
    shell.run("paper", typed=f"{recovery}\n")


def test_no_password_is_in_an_argument(site: SiteBuilder) -> None:
    """No block hands a command a password or what prints one; a file or the terminal does."""
    for step, block in shell_of(site).blocks.items():
        assert not re.search(r"RESTIC_PASSWORD=|--password[ =]|\$\(cat [^)]*(password|new)", block), step
        assert "echo" not in block, step


def test_a_run_with_a_password_that_was_taken_away_says_so(site: SiteBuilder) -> None:
    """Who forgets to change the site's secret reads which password is wrong, and nothing more."""
    file = site.root / "secrets/vault-password"
    kept = file.read_bytes()
    file.write_bytes(b"a-password-of-yesterday\n")
    try:
        done = site.run("schedule", "run", "--dataset", "antrean", as_="pelaksana", check=False)
    finally:
        file.write_bytes(kept)
    assert done.returncode == 20
    assert "wrong vault password" in done.stdout
    assert "a-password-of-yesterday" not in done.stdout + done.stderr
