# SPDX-License-Identifier: Apache-2.0
"""Covers the vault's keeper: real owners and modes, a real restic, and what an enemy in the server's place could plant."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import vault_keeper
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import Restic, VaultError
from ansible_collections.diskominfo.sop.plugins.module_utils.vault_notice import full_notice

from tests.integration.rest_vault import rest_vault

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user needs root")
#: an account that every Debian has stands for the server's
USER = "daemon"
SECOND = 1.0


@dataclass
class Box:
    """A vault's folder with two servers in it."""

    root: Path
    quotas: dict[str, int]

    def __post_init__(self) -> None:
        owner = pwd.getpwnam(USER)
        self.uid, self.gid = owner.pw_uid, owner.pw_gid

    def keep(self, name: str = "db01", later: float = 60) -> list[str]:
        """A minute later the keeper comes by; what it found strange."""
        vault = vault_keeper.Vault(str(self.root), self.uid, self.gid, self.quotas)
        return vault_keeper.keep(vault, name, time.time() + later)

    def server(self, script: str) -> int:
        """The exit code of what the server's process does, below the vault's folder."""
        done = subprocess.run(
            ["sh", "-ec", f"umask 077; {script}"],
            cwd=self.root,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        return done.returncode

    def repository(self, path: str) -> Path:
        """A repository as the server lays it down."""
        made = f"mkdir -p {path} && cd {path} && mkdir data data/ab index keys locks snapshots"
        files = "echo key >keys/k1; echo config >config; echo pack >data/ab/abcd; echo l >locks/l1"
        assert self.server(f"{made}; {files}") == 0
        return self.root / path


def mode(path: Path) -> tuple[str, int]:
    """Owner and mode, links not followed."""
    found = path.lstat()
    return ("root" if found.st_uid == 0 else pwd.getpwuid(found.st_uid).pw_name), stat.S_IMODE(found.st_mode)


def tree(root: Path) -> list[tuple[str, tuple[str, int]]]:
    """Everything below a folder."""
    return sorted((str(path), mode(path)) for path in root.rglob("*"))


@pytest.fixture
def box() -> Iterator[Box]:
    folder = Path(tempfile.mkdtemp(prefix="sop-keeper-"))
    folder.chmod(0o755)
    made = Box(folder / "vault", {"db01": 0, "file01": 0})
    made.root.mkdir()
    os.chown(made.root, 0, made.gid)
    made.root.chmod(0o750)
    for name in made.quotas:
        (made.root / name).mkdir()
        os.chown(made.root / name, 0, made.gid)
        (made.root / name).chmod(0o1770)
    yield made
    shutil.rmtree(folder)


def test_repository_is_sealed_once_it_lies_still(box: Box) -> None:
    """Config and keys are root's, the server reads them and can no longer change, remove, rename or replace them."""
    place = box.repository("db01/situs")
    assert box.keep(later=0) == []
    assert mode(place / "config") == (USER, 0o600), "may still be in the making"
    assert box.keep() == []
    assert mode(place) == ("root", 0o1770)
    assert mode(place / "config") == ("root", 0o440)
    assert mode(place / "keys") == ("root", 0o550)
    assert mode(place / "keys/k1") == ("root", 0o440)
    for tried in (
        "echo x >>db01/situs/config",
        "rm -f db01/situs/config",
        "echo x >db01/situs/new; mv -f db01/situs/new db01/situs/config",
        "mv db01/situs/keys db01/situs/old",
        "mv db01/situs db01/other",
        "echo xx >db01/situs/keys/k2",
        "rm -f db01/situs/keys/k1",
        "chmod u+w db01/situs/keys",
    ):
        assert box.server(tried) != 0, tried
    assert box.server("cat db01/situs/config db01/situs/keys/k1") == 0
    assert box.server("cd db01/situs; echo p >data/ab/new; echo l >locks/l2; rm locks/l1; echo s >snapshots/s") == 0
    assert box.server("mkdir db01/lagi") == 0, "another site of the same server may come"
    before = tree(box.root)
    assert box.keep() == []
    assert tree(box.root) == before


def test_repository_in_the_server_s_own_folder(box: Box) -> None:
    """rest:https://vault01:8000/{server}/ without a site's name."""
    assert box.server("cd db01; mkdir data keys locks; echo c >config; echo k >keys/k") == 0
    assert box.keep() == []
    assert (mode(box.root / "db01/config"), mode(box.root / "db01/keys")) == (("root", 0o440), ("root", 0o550))
    assert box.server("echo x >db01/keys/junk") != 0


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ("rm config; ln -s {victim} config", "config"),
        ("rm config; mkfifo config", "config"),
        ("ln -s {victim} keys/k2", "k2"),
        ("mkfifo keys/k2", "k2"),
        ("mkdir keys/k2", "k2"),
        ("mv keys elsewhere; ln -s elsewhere keys", "keys"),
        ("ln config copy", "config"),
        ("ln keys/k1 data/k1", "k1"),
        ("rm -r keys; ln -s {folder} keys", "keys"),
    ],
)
def test_what_is_planted_is_neither_followed_nor_sealed(box: Box, planted: str, told: str) -> None:
    """Neither links nor pipes nor other names of a file."""
    victim = box.root.parent / "victim"
    victim.mkdir()
    (victim / "file").write_text("mine")
    victim.chmod(0o755)
    place = box.repository("db01/situs")
    words = planted.format(victim=victim / "file", folder=victim)
    assert box.server(f"cd db01/situs; {words}") == 0
    before = tree(victim)
    strange = box.keep()
    assert [line for line in strange if told in line and "not sealed" in line], strange
    assert (mode(victim), tree(victim)) == (("root", 0o755), before)
    assert mode(place)[0] == USER


def test_program_tells_what_is_strange_and_keeps_the_others(box: Box) -> None:
    """As systemd runs it: exit 1, a line for the journal, no traceback, and the other server's repository is sealed."""
    box.repository("db01/situs")
    other = box.repository("file01/situs")
    assert box.server("cd db01/situs; rm config; ln -s /etc/passwd config; ln -s /etc/shadow 'data/x\n<5>y'") == 0
    config = box.root.parent / "keeper.json"
    config.write_text(json.dumps({"root": str(box.root), "user": USER, "quotas": box.quotas}))
    time.sleep(vault_keeper.SETTLED + 0.1)
    command = [sys.executable, "-I", vault_keeper.__file__, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "db01/situs: config is not a regular file of one name, or keys is not a folder; not sealed" in done.stderr
    assert len(done.stderr.splitlines()) == 3
    assert "Traceback" not in done.stderr
    assert mode(other / "config") == ("root", 0o440)
    assert mode(Path("/etc/passwd")) == ("root", 0o644)


def test_symlink_in_the_place_of_a_server_s_folder(box: Box) -> None:
    """Only root can do it; it is not followed all the same."""
    shutil.rmtree(box.root / "db01")
    (box.root / "db01").symlink_to(box.root / "file01")
    with pytest.raises(OSError, match="db01"):
        box.keep()


def test_over_quota_and_back(box: Box) -> None:
    """Nothing is written any more but locks, in no folder; reading goes on; with room it is as before."""
    place, box.quotas["db01"] = box.repository("db01/situs"), 1 << 20
    box.repository("db01/dua")
    assert box.keep() == []
    before = tree(box.root)
    assert box.server("head -c 2000000 /dev/zero >db01/situs/data/ab/big") == 0
    assert box.keep() == []
    for tried in ("situs/data/ab/x", "situs/data/x", "situs/index/x", "situs/snapshots/x", "situs/x", "dua/x", "x"):
        assert box.server(f"echo x >db01/{tried}") != 0, tried
    assert box.server("rm -f db01/situs/data/ab/abcd; test ! -e db01/situs/data/ab/abcd") != 0
    assert box.server("cat db01/situs/data/ab/big >/dev/null; echo l >db01/situs/locks/l9; rm db01/situs/locks/l9") == 0
    used, quota = map(int, (box.root / "db01" / vault_keeper.NOTICE).read_text().split())
    assert used > quota == 1 << 20
    assert box.server(f"cat db01/{vault_keeper.NOTICE}") == 0
    closed = tree(box.root)
    assert box.keep() == []
    assert tree(box.root) == closed
    (place / "data/ab/big").unlink()
    assert box.keep() == []
    assert tree(box.root) == before


def test_locks_are_no_way_round_the_quota(box: Box) -> None:
    """Nor are a million empty files, a planted notice, or folders deeper than anything honest."""
    place, box.quotas["db01"] = box.repository("db01/situs"), 1 << 20
    assert box.keep() == []
    assert box.server(f"mkdir db01/{vault_keeper.NOTICE}; mkdir -p db01/a/b/c/d/e/f/g/h/i/j") == 0
    assert box.server("for n in $(seq 300); do : >db01/situs/index/$n; done") == 0
    told = box.keep()
    assert len(told) == 1
    assert "deeper" in told[0]
    assert box.server("echo x >db01/situs/data/ab/x") != 0
    assert box.server("ls db01/a/b/c/d/e/f/g/h/i") != 0
    assert box.keep() == [], "told once"
    assert box.server(f"head -c {vault_keeper.LOCKS_ROOM} /dev/zero >db01/situs/locks/big") == 0
    assert box.keep() == []
    assert box.server("echo x >db01/situs/locks/x") != 0
    assert mode(place / "locks") == ("root", 0o750)


def test_restic_by_the_local_path_as_root_and_through_the_seal(box: Box) -> None:
    """Maintenance as root leaves nothing that the server cannot read, also a key that was added."""
    env = {"PATH": os.defpath, "HOME": str(box.root.parent), "RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": "db01/situs"}

    def restic(*words: str) -> int:
        command = ["restic", "--no-cache", *words]
        return subprocess.run(command, cwd=box.root, env=env, capture_output=True, check=False).returncode

    environment = " ".join(f"{name}={value}" for name, value in env.items())
    assert box.server(f"{environment} restic --no-cache init && {environment} restic --no-cache backup /etc/hosts") == 0
    assert box.keep() == []
    assert box.server(f"{environment} restic --no-cache backup /etc/passwd") == 0
    password = box.root.parent / "new"
    password.write_text("y")
    assert restic("key", "add", "--new-password-file", str(password)) == 0
    assert restic("forget", "--keep-last", "1", "--group-by", "", "--prune") == 0
    assert box.keep() == []
    assert box.server(f"{environment} restic --no-cache check --read-data") == 0
    assert box.server(f"{environment} restic --no-cache backup /etc/group") == 0
    assert box.server(f"{environment} timeout 5 restic --no-cache key add --new-password-file /etc/hostname") != 0
    assert len(list((box.root / "db01/situs/keys").iterdir())) == 2


# what the client makes of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["2000000 1000000\n", None, "no numbers\n", "1 2\nmore"])
def test_client_is_told_whose_quota_it_is(tmp_path: Path, text: str | None) -> None:
    """A vault that answers 500 is asked why; only the keeper's own words are believed."""
    with rest_vault(tmp_path / "rest") as (server, settings):
        restic = Restic(settings, str(tmp_path))
        restic.run(["init"])
        if text is not None:
            (server.folder / "srv1" / vault_keeper.NOTICE).write_text(text)
        server.status = 500
        source = tmp_path / "data"
        source.write_bytes(os.urandom(1 << 20))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ansible_collections.diskominfo.sop.plugins.module_utils.restic.RETRY_GRACE", SECOND)
            with pytest.raises(VaultError) as raised:
                restic.run(["backup", "-q", str(source)])
    said = str(raised.value)
    if text == "2000000 1000000\n":
        assert raised.value.reason == "full"
        assert "the vault is full for this server (2.0 MB used of 1.0 MB that it may use)" in said
    else:
        assert raised.value.reason == "unreachable"
        assert "full" not in said
    assert "\n" not in said
    assert settings["repository"] not in said


def test_nobody_can_be_asked() -> None:
    """A local vault, and one that is gone."""
    assert full_notice("/srv/vault/db01", None) is None
    assert full_notice("rest:https://u:p@127.0.0.1:9/db01/", None) is None
