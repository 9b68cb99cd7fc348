# SPDX-License-Identifier: Apache-2.0
"""Covers module vault_server as far as it gets without a host to change: what it refuses, in one line, before it touches."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import vault_keeper
from ansible_collections.diskominfo.sop.plugins.module_utils.vault_install import quota_bytes, source_of

from tests.integration.module_process import run_module
from tests.integration.rest_vault import certificate

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set up a vault")
APR1 = "$apr1$Xy7kq0aB$VfU3D4yLkY4E5mG7Qp1rG/"
BCRYPT = "$2y$05$" + "a" * 53
PUBLIC = "ssh-ed25519 " + "A" * 68
Json = dict[str, Any]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Parameters that fit, but for the host."""
    path, pem = certificate(tmp_path_factory.mktemp("tls"))
    key = path.read_text().split("-----BEGIN CERTIFICATE")[0]
    users = [{"name": "db01", "password_hash": APR1}, {"name": "file01", "password_hash": BCRYPT, "quota": "2T"}]
    return {"name": "sop-integration", "certificate": pem, "key": key, "users": users}


def db01(**changes: str) -> Json:
    """The one user, with something wrong."""
    return {"users": [{"name": "db01", "password_hash": APR1, **changes}]}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "Sop Vault"}, "name: 'Sop Vault' is not 2 to 31 lower-case letters"),
        ({"name": "../x"}, "name: '../x' is not"),
        ({"listen": "8000"}, "listen: '8000' is not ADDRESS:PORT or :PORT"),
        ({"listen": ":8000 --user x"}, "listen: ':8000 --user x' is not"),
        ({"users": []}, "users: nobody is named"),
        (db01(name="../file01"), "users: '../file01' is not an asset id"),
        (db01(name="db01:x"), "users: 'db01:x' is not an asset id"),
        (db01(password_hash="CANARY-plain"), "users: password_hash of db01 is neither APR1 nor bcrypt"),
        (db01(password_hash=f"{APR1}\nroot:{APR1}"), "users: password_hash of db01 is neither"),
        (db01(quota="much"), "users: quota 'much' of db01 is not a whole number with K, M, G or T"),
        (db01(quota="-1"), "users: quota '-1' of db01"),
        ({"users": [*db01()["users"], *db01()["users"]]}, "users: db01 stands there twice"),
        ({"users": [{"name": "db01"}]}, "users: db01 has no password_hash, and nobody could let it in"),
        ({"door_keys": ["ssh-ed25519"]}, "door_keys: 'ssh-ed25519' is not one public key"),
        ({"door_keys": [f"{PUBLIC}\n{PUBLIC}"]}, "door_keys: 'ssh-ed25519 AAAA"),
        ({"door_keys": [f'command="sh" {PUBLIC}']}, "is not one public key of SSH"),
        ({"root": "/srv/a b"}, "root: '/srv/a b' is not an absolute path"),
        ({"root": "/tmp/vault"}, "root: /tmp is not a folder that only root may write to"),
        ({"root": "/etc/passwd"}, "root: /etc/passwd is not a folder"),
        ({"certificate": "CANARY-plain"}, "certificate, key: not a PEM certificate and its key"),
        ({"key": "CANARY-plain"}, "certificate, key: not a PEM certificate and its key"),
    ],
)
def test_what_does_not_fit_is_refused(given: Json, wrong: Json, told: str) -> None:
    for check in (True, False):
        result = run_module("vault_server", {**given, **wrong}, check=check)
        assert result["failed"]
        assert told in result["msg"], result["msg"]
        assert "\n" not in result["msg"]
        assert "CANARY" not in result["msg"]
    assert not Path("/etc/sop-integration").exists()


def test_key_of_another_certificate(given: Json, tmp_path: Path) -> None:
    other = certificate(tmp_path)[0].read_text().split("-----BEGIN CERTIFICATE")[0]
    result = run_module("vault_server", {**given, "key": other})
    assert "certificate, key: not a PEM certificate and its key" in result["msg"]
    assert "PRIVATE" not in result["msg"]


def test_key_with_a_pass_phrase_asks_nobody(given: Json) -> None:
    words = ["openssl", "pkey", "-aes256", "-passout", "pass:x"]
    locked = subprocess.run(words, input=given["key"], capture_output=True, text=True, check=True).stdout
    assert "without a pass phrase" in run_module("vault_server", {**given, "key": locked})["msg"]


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("100", 100), ("2K", 2048), ("500G", 500 << 30), ("1T", 1 << 40)])
def test_quota(text: str, size: int) -> None:
    assert quota_bytes("db01", text) == size


def test_keeper_is_laid_down_as_it_is() -> None:
    assert source_of(vault_keeper) == Path(vault_keeper.__file__).read_text(encoding="utf-8")
