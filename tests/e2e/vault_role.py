# SPDX-License-Identifier: Apache-2.0
"""Runs the role vault_server in the lab, as the vault's administrator does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab.hosts import Lab

ROOT = Path(__file__).parents[2]


def serve(lab: Lab, folder: Path, name: str, port: int, **more: Any) -> str:
    """Have vault01 serve ``name`` with the lab's certificate; ``more`` are further variables. Returns what Ansible said."""
    variables = {
        "vault_server_hosts": "vault01",
        "vault_server_name": name,
        "vault_server_root": f"/srv/{name}",
        "vault_server_listen": f":{port}",
        "vault_server_certificate_file": "server.pem",
        "vault_server_key_file": "server.key",
        **more,
    }
    (folder / "vault.yml").write_text(json.dumps(variables), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "diskominfo.sop.vault_server"]
    command += ["-i", str(lab.inventory), "-e", f"@{folder / 'vault.yml'}", "--diff"]
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PWD": str(lab.ca.parent),
    }
    done = subprocess.run(command, env=env, cwd=lab.ca.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
