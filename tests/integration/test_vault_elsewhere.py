# SPDX-License-Identifier: Apache-2.0
"""A vault in an S3 bucket, whose server checks who asks, and a copy of it over SFTP: restic's own ways, with sopctl's secrets."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.e2e.checks import wait_until
from tests.integration.test_vault_maintenance import Vaulted
from tests.support.witness_host import keygen

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace of its own needs root"),
    pytest.mark.skipif(shutil.which("sshd", path="/usr/sbin") is None, reason="no sshd; make deps installs one"),
]
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def bucket() -> Iterator[tuple[str, str, str]]:
    """URL, access key and secret of a bucket; without them the server refuses."""
    port = free_port()
    server = subprocess.Popen(
        [Path(sys.executable).parent / "moto_server", "-p", str(port)],
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "4"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: answers(port), 60)
        url = f"http://127.0.0.1:{port}"
        told = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
        accounts = boto3.client("iam", **told)
        accounts.create_user(UserName="sop")
        accounts.put_user_policy(UserName="sop", PolicyName="sop", PolicyDocument=json.dumps(POLICY))
        key = accounts.create_access_key(UserName="sop")["AccessKey"]
        boto3.client("s3", **told).create_bucket(Bucket="sop")
        yield f"s3:{url}/sop/{{server}}", key["AccessKeyId"], key["SecretAccessKey"]
    finally:
        server.terminate()
        server.wait()


@contextmanager
def sftp_server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """URL of a place behind a real sshd, and the words before a command whose ssh may go there."""
    port = free_port()
    host = keygen(folder / "host_key")
    (ssh := folder / "dot-ssh").mkdir(mode=0o700)
    (ssh / "authorized_keys").write_text(keygen(ssh / "id_ed25519") + "\n")
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}\n")
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder / 'host_key'}\nAuthorizedKeysFile {ssh / 'authorized_keys'}\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    home = Path("/root/.ssh")
    home.mkdir(mode=0o700, exist_ok=True)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: answers(port), 20)
        bound = f'mount --bind {ssh} {home} && exec "$@"'
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", bound, "sh"]
        yield f"sftp://root@127.0.0.1:{port}/{folder}/luar/{{server}}", words
    finally:
        server.terminate()
        server.wait()


def secret(vaulted: Vaulted, name: str, value: str) -> dict[str, str]:
    path = vaulted.site.root / "secrets" / name
    path.write_text(value + "\n")
    path.chmod(0o600)
    return {"file": f"secrets/{name}"}


def test_a_vault_in_s3_and_its_copy_over_sftp(tmp_path: Path) -> None:
    made = Vaulted(tmp_path)
    with bucket() as (url, user, password), sftp_server(tmp_path) as (copy, words):
        made.site.sopctl = [*words, *made.site.sopctl]
        path = made.site.root / "sop.yml"
        lines = [line for line in path.read_text().splitlines() if not line.startswith("  url:")]
        path.write_text("\n".join(lines) + "\n")
        copies = [{"name": "luar", "url": copy, "media": "pusat data provinsi"}]
        made.set_vault(url=url, user=user, user_password=secret(made, "s3", password[:-3] + "xxx"), copies=copies)
        refused = made.site.run("vault", "check", as_="pelaksana", check=False)
        assert (refused.returncode, "access key or secret" in refused.stderr) == (2, True), refused.stderr
        failed = made.site.run("schedule", "run", "--due", as_="pelaksana", check=False)
        assert "the vault refused the user name or password" in failed.stdout + failed.stderr
        secret(made, "s3", password)
        made.backup()
        assert made.rows()[-1]["verified"]
        code, row = made.check("--read-share", "all")
        assert (code, row["clean"], row["scrubbed"]) == (0, True, "could not scrub: no folder")
        done: Any = made.site.run_json("vault", "copy", as_="pelaksana")
        assert [one["verified"] for one in done["copies"][0]["copied"]] == [True]
        assert made.rows()[-1]["three_two_one"]["kept"]
        assert (tmp_path / "luar/srv01/config").is_file()
        code, row = made.check("--copy", "luar", "--read-share", "all")
        assert (code, row["clean"]) == (0, True)
        made.spoil(tmp_path / "luar/srv01")
        code, row = made.check("--copy", "luar", "--read-share", "all")
        assert (code, row["scrubbed"]) == (30, "could not scrub: no folder")
        assert [one["name"] for one in row["damaged"]] == [made.rows()[-1]["name"]]
        case = made.site.approved("antrean")
        made.site.run("case", "execute", case, as_="pelaksana")
    shown = b"".join(path.read_bytes() for path in (made.site.root / "archive").rglob("*") if path.is_file())
    assert password.encode() not in shown
