# SPDX-License-Identifier: Apache-2.0
"""Role vault_server in the lab: what root of a taken-over server can do with its credentials, and what a quota does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import pg_facts, vault_role
from tests.e2e.checks import run_error, wait_until
from tests.e2e.conftest import proven_by_reading
from tests.lab.hosts import Lab
from tests.lab.site import lab_site
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab
VAULT, PORT = "sop-takeover", 8133
FOLDER = f"/srv/{VAULT}"
FORGET = f"""
systemctl -q disable --now {VAULT}-keeper.timer {VAULT}-keeper.service {VAULT}.service 2>/dev/null || true
rm -rf /etc/systemd/system/{VAULT}* /etc/{VAULT} /usr/local/lib/{VAULT} {FOLDER}
systemctl daemon-reload
id {VAULT} >/dev/null 2>&1 && userdel {VAULT} || true
"""
DESTROY = "DELETE FROM kepegawaian.transaksi; UPDATE kepegawaian.pegawai SET nama = 'rusak'"
#: sends each request byte for byte: a path is not tidied up on its way
ATTACK = """
import base64, http.client, json, ssl, sys
given = json.load(sys.stdin)
context = ssl.create_default_context(cadata=given["ca"])
answers = []
for method, path, body in given["requests"]:
    known = base64.b64encode(f"{given['user']}:{given['password']}".encode()).decode()
    line = http.client.HTTPSConnection("vault01", given["port"], context=context, timeout=60)
    try:
        data = None if body is None else body.encode()
        line.request(method, path, data, {"Authorization": "Basic " + known} if given["user"] else {})
        answer = line.getresponse()
        answers.append([answer.status, answer.read(2000).decode("latin-1")])
    except OSError:  # it answered and hung up before it had read what we sent
        answers.append([0, ""])
    line.close()
print(json.dumps(answers))
"""
Request = tuple[str, str, str | None]


def serve(lab: Lab, folder: Path, *, refused: str = "", **quotas: str) -> str:
    """The vault's administrator runs the role; ``refused``: a server whose password is another one now."""
    users = []
    for name in ("db01", "file01"):
        words = ["openssl", "passwd", "-apr1", "-salt", "Pq3kLm9z", "-stdin"]
        password = "baru" if name == refused else lab.vault_password(name)
        done = subprocess.run(words, input=password, capture_output=True, text=True, check=True)
        users.append({"name": name, "password_hash": done.stdout.strip(), "quota": quotas.get(name, "0")})
    said = vault_role.serve(lab, folder, VAULT, PORT, vault_server_users=users)
    assert not any(user["password_hash"] in said for user in users), "hashes are not shown"
    return said


@dataclass
class Own:
    """The vault that the role made, and a site that backs up into it."""

    lab: Lab
    folder: Path
    site: SiteBuilder

    def repository(self, server: str) -> str:
        """Where a server's repository lies on the vault's host."""
        return f"{FOLDER}/{server}/{self.site.folder.name}"

    def files(self, server: str) -> dict[str, str]:
        """Each file of a server's repository but locks, and its SHA-256."""
        script = f"cd {self.repository(server)}; find . -type f ! -path './locks/*' -exec sha256sum {{}} +"
        return {line[66:].removeprefix("./"): line[:64] for line in self.lab.exec("vault01", script).splitlines()}

    def attack(self, *requests: Request, user: str = "db01", password: str | None = None) -> list[tuple[int, str]]:
        """Answers to requests that root of db01 sends with the credentials that the site gives it for a run."""
        known = (self.site.root / "secrets/db01").read_text(encoding="utf-8").strip() if password is None else password
        given = {"user": user, "password": known, "ca": self.lab.ca.read_text(), "port": PORT, "requests": requests}
        said = self.lab.exec("db01", ["python3", "-c", ATTACK], stdin=json.dumps(given).encode())
        return [(status, body) for status, body in json.loads(said)]

    def restic(self, server: str, *words: str, seconds: int = 10) -> subprocess.CompletedProcess[bytes]:
        """restic as root of a server runs it, with all that a run brings there."""
        secret = [(self.site.root / "secrets" / name).read_text().strip() for name in (server, "vault-password")]
        repository = f"rest:https://{server}:{secret[0]}@vault01:{PORT}/{server}/{self.site.folder.name}/"
        script = "d=$(mktemp -d); cd $d; trap 'rm -rf $d' EXIT; umask 077; IFS= read -r RESTIC_REPOSITORY; "
        script += (
            "IFS= read -r RESTIC_PASSWORD; export RESTIC_REPOSITORY RESTIC_PASSWORD HOME=$d; cat >ca; echo baru >new; "
        )
        script += f'timeout -k 30 -s INT {seconds} restic --no-cache --cacert ca "$@"'
        lines = f"{repository}\n{secret[1]}\n".encode() + self.lab.ca.read_bytes()
        command = ["podman", "exec", "-i", self.lab.hosts[server].container, "sh", "-euc", script, "sh", *words]
        return subprocess.run(command, input=lines, capture_output=True, check=False, timeout=120)

    def keep(self) -> None:
        """The keeper's minute has come."""
        self.lab.exec("vault01", f"systemctl start {VAULT}-keeper.service")


@pytest.fixture(scope="module")
def own(lab: Lab, alone: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """db01 and file01 have been backed up into the vault, and their repositories are sealed."""
    lab.generate(8)
    lab.exec("vault01", FORGET)
    folder = tmp_path_factory.mktemp("vault")
    try:
        assert "changed=1" in serve(lab, folder)
        assert "changed=0" in serve(lab, folder)
        made = Own(lab, folder, new_site(lab, tmp_path_factory))
        made.site.run("schedule", "run", "--due", as_="pelaksana")

        def sealed() -> bool:
            made.keep()
            names = " ".join(f"{made.repository(name)}/config" for name in ("db01", "file01"))
            return lab.exec("vault01", f"stat -c %U {names}").split() == ["root", "root"]

        assert wait_until(sealed, 20)
        yield made
    finally:
        lab.exec("vault01", FORGET)


def new_site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """A site whose vault is the role's; each has repositories of its own there."""
    folder = tmp_path_factory.mktemp("site") / f"e2e-{secrets.token_hex(4)}"
    folder.mkdir()
    vault: dict[str, Any] = dict(lab.facts["vault"])
    vault["url"] = vault["url"].replace(":8000/", f":{PORT}/")
    there = dataclasses.replace(lab, facts={**lab.facts, "vault": vault})
    return proven_by_reading(lab_site(folder, there, ("simpeg", "berkas")), True)


def test_taken_over_server(own: Own, lab: Lab) -> None:
    """Root of db01 deletes and overwrites nothing, reads nobody else's, and its history restores all the same."""
    site, name = own.site, own.site.folder.name
    source = pg_facts.facts(lab, "simpeg")["tables"]
    before, others = own.files("db01"), own.files("file01")
    assert {path.split("/")[0] for path in before} == {"config", "keys", "data", "index", "snapshots"}
    base = f"/db01/{name}"
    # data/ab/abcd… lies at data/abcd… over the network
    paths = [f"{base}/{'data/' + path.rpartition('/')[2] if path.startswith('data/') else path}" for path in before]
    assert [status for status, _ in own.attack(*(("HEAD", path, None) for path in paths))] == [200] * len(paths)

    for method, body in (("DELETE", None), ("POST", "rusak"), ("POST", "")):
        answers = own.attack(*((method, path, body) for path in paths))
        assert {status for status, _ in answers} == {403}, method
    for method in ("PUT", "PATCH", "MOVE", "COPY"):
        assert {status for status, _ in own.attack(*((method, path, "rusak") for path in paths))} == {405}, method

    junk = hashlib.sha256(b"xx").hexdigest()
    into = [f"keys/{junk}", "keys/x", "keys/sub/x", f"config/{junk}", "keys/locks/x"]
    sealed = own.attack(*(("POST", f"{base}/{path}", "xx") for path in into))
    assert {status for status, _ in sealed} <= {500}, sealed
    assert own.attack(("POST", "/db01/lain/keys/x", "xx")) == [(200, "")], (
        "what a repository that is not sealed suffers"
    )
    folders = [f"{base}/", f"{base}/keys/", f"{base}/data/", f"{base}/locks/", "/db01/"]
    assert {status for status, _ in own.attack(*(("DELETE", path, None) for path in folders))} == {405}
    tricks = ["locks/../config", "locks/..%2fconfig", "locks/%2e%2e/config", "locks//../config", "./config", "/config"]
    for method, body in (("DELETE", None), ("POST", "rusak")):
        answers = own.attack(*((method, f"{base}/{path}", body) for path in tricks))
        assert {status for status, _ in answers} <= {0, 301, 403}, (method, answers)
    assert own.files("db01") == before

    reads_nobody_elses(own, others)
    # locks come and go: restic needs it
    lock = f"{base}/locks/{junk}"
    assert [status for status, _ in own.attack(("POST", lock, "xx"), ("DELETE", lock, None))] == [200, 200]
    snapshot = next(Path(path).name for path in before if path.startswith("snapshots/"))
    key = next(Path(path).name for path in before if path.startswith("keys/"))
    for words in (
        ("forget", "--prune", snapshot),
        ("forget", "--keep-last", "1", "--group-by", "", "--prune"),
        ("key", "add", "--new-password-file", "new"),
        ("key", "passwd", "--new-password-file", "new"),
        ("key", "remove", key),
        ("tag", "--set", "rusak", snapshot),
    ):
        done = own.restic("db01", *words)
        assert done.returncode != 0, (words, done.stdout)
    # what it can do: read its own history, and plant junk
    assert own.restic("db01", "cat", "config").returncode == 0
    assert own.attack(("POST", f"{base}/data/{junk}", "xx")) == [(200, "")]

    after = own.files("db01")
    assert {path: after.get(path) for path in before} == before
    added = set(after) - set(before)
    assert f"data/{junk[:2]}/{junk}" in added
    assert {path.split("/")[0] for path in added} <= {"data", "index", "snapshots"}
    assert own.files("file01") == others
    own.keep()
    check_and_restore(own, lab, source)
    assert {status for status, _ in own.attack(*(("POST", f"{base}/{path}", "xx") for path in into))} <= {500}
    assert site.run("record", "verify", check=False).returncode == 0


def reads_nobody_elses(own: Own, others: dict[str, str]) -> None:
    """With db01's credentials or none, file01's repository is neither listed nor read nor written."""
    name = own.site.folder.name
    there = f"/file01/{name}"
    shown = [f"{there}/", f"{there}/keys/", f"{there}/data/", "/file01/", "/", f"{there}/config"]
    shown += [f"{there}/{path}" for path in others if not path.startswith("data/")]
    for method, body in (("GET", None), ("HEAD", None), ("POST", "xx"), ("DELETE", None)):
        answers = own.attack(*((method, path, body) for path in shown))
        assert {status for status, _ in answers} == {403}, method
        for user, password in (("", ""), ("db01", "salah"), ("file01", None), ("file01", "")):
            answers = own.attack(*((method, path, body) for path in shown[:4]), user=user, password=password)
            assert {status for status, _ in answers} <= {401, 0}, (method, user)
    ways = ["/db01/..", "/db01/%2e%2e", "/db01/..%2f.", "/db01/x/../..", "/", "/db01/%EF%BC%8E%EF%BC%8E", "/db01/..%5c"]
    for method, body in (("GET", None), ("POST", "xx")):
        answers = own.attack(*((method, f"{way}{there}/keys/", body) for way in ways))
        answers += own.attack(*((method, f"{way}{there}/config", body) for way in ways))
        # a redirection leads to where 403 is
        bad = [answer for answer in answers if answer[0] not in {0, 301, 400, 403, 404, 500}]
        assert not [answer for answer in bad if method == "GET"], bad
    assert own.files("file01") == others


def check_and_restore(own: Own, lab: Lab, source: list[str]) -> None:
    """The vault's own side finds the history whole, and sopctl restores db01's database from it."""
    password = (own.site.root / "secrets/vault-password").read_bytes()
    script = f"RESTIC_PASSWORD_FILE=/dev/stdin restic --no-cache -r {own.repository('db01')} check --read-data"
    assert "no errors were found" in lab.exec("vault01", script, stdin=password)
    lab.psql(DESTROY)
    case = own.site.approved("simpeg")
    done = own.site.run_json("case", "execute", case, as_="pelaksana")
    assert (done["result"], done["exit"]) == ("berhasil", 0)
    restored = pg_facts.facts(lab, "simpeg")["tables"]
    assert [row for row in restored if "rekap" not in row] == [row for row in source if "rekap" not in row]


def test_quota_of_one_server(own: Own, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    """file01 is over its quota: its run says so in one line, it still reads, and db01 goes on; more room heals it."""
    pid = lab.exec("vault01", f"systemctl show -P MainPID {VAULT}")
    assert "changed=1" in serve(lab, own.folder, file01="100K")
    assert lab.exec("vault01", f"systemctl show -P MainPID {VAULT}") == pid, "nobody's upload was cut off"
    fresh = new_site(lab, tmp_path_factory)
    done = fresh.run("schedule", "run", "--due", as_="pelaksana", check=False)
    run_error(done, 22, "file01", "the vault is full for this server", "0.1 MB that it may use")
    assert lab.exec("vault01", f"ls {FOLDER}/db01/{fresh.folder.name}/snapshots | wc -l").strip() == "2"
    assert lab.exec("vault01", f"ls {FOLDER}/file01").split() == [own.site.folder.name, "vault-full"]
    old = own.restic("file01", "snapshots", "--json")
    assert (old.returncode, len(json.loads(old.stdout))) == (0, 2), old.stderr
    assert own.restic("file01", "backup", "-q", "/etc/hostname").returncode != 0
    assert "changed=1" in serve(lab, own.folder)
    assert fresh.run("schedule", "run", "--due", as_="pelaksana", check=False).returncode == 0


def test_password_that_is_changed_is_refused_at_once(own: Own, lab: Lab) -> None:
    """The server reads its users anew; the others' uploads are not cut off."""
    pid = lab.exec("vault01", f"systemctl show -P MainPID {VAULT}")
    asked = ("GET", f"/db01/{own.site.folder.name}/config", None)
    assert [status for status, _ in own.attack(asked)] == [200]
    assert "changed=1" in serve(lab, own.folder, refused="db01")
    assert [status for status, _ in own.attack(asked)] == [401]
    assert own.restic("file01", "snapshots").returncode == 0
    assert "changed=1" in serve(lab, own.folder)
    assert [status for status, _ in own.attack(asked)] == [200]
    assert lab.exec("vault01", f"systemctl show -P MainPID {VAULT}") == pid
