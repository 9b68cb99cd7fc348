# SPDX-License-Identifier: Apache-2.0
"""A witness on another account, behind a real sshd on a free port, with the forced command of docs/how-to/witness.md."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl import sop_witness
from tests.support.case_site import CaseSite

Json = dict[str, Any]
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


def keygen(path: Path) -> str:
    """A new key without pass phrase; returns its public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text(encoding="ascii").strip()


def name_witnesses(site: CaseSite, entries: list[Json]) -> None:
    """Write them into sop.yml, and have the root holder sign the trust over them."""
    import json

    text = (site.root / "sop.yml").read_text(encoding="utf-8")
    (site.root / "sop.yml").write_text(f"{text}\nwitnesses: {json.dumps(entries)}\n", encoding="utf-8")
    site.retrust(lambda file: file)


@dataclass
class WitnessHost:
    """``folder`` belongs to ``account`` alone; ``entry`` is what sop.yml says of it."""

    folder: Path
    account: str
    entry: Json

    @property
    def lines(self) -> list[bytes]:
        """What it keeps."""
        path = self.folder / "ledger.jsonl"
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


@contextmanager
def witness_host(site: CaseSite) -> Iterator[WitnessHost]:
    """Root only: makes an account, its sshd, and the site's key to reach it."""
    account = f"sopw{os.getpid()}"
    place = Path(tempfile.mkdtemp(prefix="sopw-"))  # pytest's own folders are closed to other accounts
    place.chmod(0o755)
    subprocess.run(["useradd", "-r", "-M", "-d", str(place), "-s", "/bin/sh", "-p", "*", account], check=True)
    try:
        entry = pwd.getpwnam(account)
        own, host = keygen(place / "key"), keygen(place / "host_key")
        folder = place / "kept"
        folder.mkdir()
        program = place / "sop_witness.py"
        shutil.copy(sop_witness.__file__, program)
        for path in (folder, place / "key"):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        (site.root / "secrets").mkdir(exist_ok=True)
        reach = keygen(site.root / "secrets/witness-key")
        forced = f"{PYTHON} {program} --name kabag --key {place / 'key'} {folder}"
        (place / "authorized_keys").write_text(f'restrict,command="{forced}" {reach}\n', encoding="ascii")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = place / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {place / 'host_key'}\nAuthorizedKeysFile {place / 'authorized_keys'}\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nLogLevel VERBOSE\n",
            encoding="ascii",
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (
            (place / "sshd.log").open("wb") as log,
            subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=log) as daemon,
        ):
            try:
                _wait(port)
                yield WitnessHost(
                    folder,
                    account,
                    {
                        "name": "kabag",
                        "kind": "ssh",
                        "to": f"{account}@127.0.0.1",
                        "port": port,
                        "keys": [own],
                        "host_key": host,
                        "identity": "secrets/witness-key",
                    },
                )
            finally:
                daemon.terminate()
    finally:
        subprocess.run(["userdel", account], check=False, capture_output=True)
        shutil.rmtree(place)


def _wait(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("sshd did not start")
