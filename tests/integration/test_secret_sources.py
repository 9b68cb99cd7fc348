# SPDX-License-Identifier: Apache-2.0
"""Secrets from Ansible Vault, as docs/reference/site-files.md has them: real backups by a sopctl whose venv is not activated."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.checks import one_line_error
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.long

VAULT = Path(sys.executable).parent / "ansible-vault"
COMMAND = ["ansible-vault", "view", "--vault-password-file", "secrets/ansible-vault", "secrets/vault.enc"]


def encrypt(site: SiteBuilder, data: str, to: Path) -> None:
    """As the page says: the secret comes by standard input."""
    to.parent.mkdir(parents=True, exist_ok=True)
    command = [VAULT, "encrypt", "--vault-password-file", site.root / "secrets/ansible-vault", "--output", to]
    subprocess.run([str(word) for word in command], input=data.encode(), check=True, capture_output=True)


@pytest.fixture
def site(tmp_path: Path) -> SiteBuilder:
    """A site whose vault password and whose inventory's variables are encrypted by Ansible Vault."""
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if not part.startswith(sys.prefix))
    made = SiteBuilder(tmp_path, path=path)
    made.env["LC_ALL"] = "id_ID.UTF-8"  # not generated here
    key = made.root / "secrets/ansible-vault"
    key.write_text(f"{secrets.token_hex(16)}\n", encoding="ascii")
    key.chmod(0o600)
    plain = made.root / "secrets/vault-password"
    encrypt(made, plain.read_text(encoding="utf-8"), made.root / "secrets/vault.enc")
    made.edit("sop.yml", "password: {file: secrets/vault-password}", f"password: {json.dumps({'command': COMMAND})}")
    made.edit("sop.yml", "policy:", "ansible: {vault_password_file: secrets/ansible-vault}\npolicy:")
    made.sign_trust()
    made.server("srv01", inventory={"owner": "BKD"})
    encrypt(made, json.dumps({"ansible_connection": "local"}), made.root / "inventory/group_vars/all/rahasia.yml")
    with sqlite3.connect(tmp_path / "antrean.db") as connection:
        connection.execute("CREATE TABLE antrean (nomor INTEGER)")
    connection.close()
    made.dataset(
        "antrean", engine="sqlite", server="srv01", path=str(tmp_path / "antrean.db"), state_dir=str(made.state_dir)
    )
    made.schedule()
    return made


def test_a_run_with_both(site: SiteBuilder) -> None:
    """The run needs the variable to reach the server and the password to open the vault; the plain file is gone."""
    plain = site.root / "secrets/vault-password"
    password = plain.read_text(encoding="utf-8").strip()
    plain.unlink()
    assert site.run_json("schedule", "run", "--due", as_="pelaksana")["exit"] == 0
    [backup] = site.run_json("vault", "list")
    assert backup["verified"]
    kept = site.folder / "password"
    kept.write_text(password, encoding="utf-8")
    command = ["restic", "-r", str(site.vault / "srv01"), "--no-cache", "--password-file", str(kept), "snapshots"]
    assert b"sop-dataset=antrean" in subprocess.run(command, check=True, capture_output=True).stdout
    kept.unlink()
    for path in site.folder.rglob("*"):
        assert not path.is_file() or password.encode() not in path.read_bytes(), path


def test_the_wrong_ansible_vault_password(site: SiteBuilder) -> None:
    """One line, nothing started, nothing of any secret shown."""
    (site.root / "secrets/ansible-vault").write_text("another\n", encoding="ascii")
    done = site.run("schedule", "run", "--due", as_="pelaksana", check=False)
    one_line_error(done, 2, "secret command exited", "vault.password", "Run it by hand")
    assert not list(site.vault.iterdir())
