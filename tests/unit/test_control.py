# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.control and sopctl.front: who is believed, what is signed for what was typed, and which mode a site is in."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from sopctl import checkpoints, control, front, fsio, signing
from sopctl.errors import ConfigError, GateRefused, SopctlError, UsageError
from sopctl.front import SignerServer, objection, typed
from sopctl.site import Site
from tests.support.case_site import CaseSite

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="control.yml is root's")
CASE = "RST-2026-0001"


def document(**changes: Any) -> bytes:
    body = {"schema": "sop/document/v1", "case": CASE, "act": "decide", "actor": {"person": "kabid", "role": "kabid"}}
    return fsio.canonical_json({**body, **changes})


def plan(**changes: Any) -> bytes:
    return fsio.canonical_json({"schema": "sop/plan/v1", "case": CASE, "operation": "restore", **changes})


def reviewed(person: str = "pengurus") -> bytes:
    return fsio.canonical_json({"schema": "sop-review/v1", "actor": {"person": person, "role": "pengurus-aset"}})


MANIFEST = b"a" * 64 + b"  bagit.txt\n" + b"b" * 64 + b" manifest-sha256.txt\n"
CHECKPOINT = checkpoints.Checkpoint("0" * 36, 4, "sha256:" + "0" * 64, "2026-11-22T03:00:00Z").data
DECIDE = ["case", "decide", CASE, "--approve", "--reason", "sesuai", "--as", "kabid"]
EXECUTE = ["case", "execute", CASE, "--as", "pelaksana"]
SCAN = ["asset", "scan", "db01", "--as", "pelaksana"]
REVIEW = ["asset", "review", "--all", "--as", "pengurus"]
RUN = ["schedule", "run", "--due", "--as", "pelaksana"]


@pytest.mark.parametrize(
    ("words", "namespace", "data"),
    [
        (DECIDE, "sop-document", document()),
        (["-C", "/srv/site", "--json", *DECIDE], "sop-document", document()),
        (["case", "request", "restore", "--as=kabid"], "sop-document", document(act="request")),
        (EXECUTE, "sop-document", plan()),
        (EXECUTE, "sop-document", document(act="execute", actor={"person": "pelaksana"})),
        (EXECUTE, "sop-record", MANIFEST),
        (RUN, "sop-document", plan(case="BKP-2026-0007", operation="backup")),
        (RUN, "sop-document", document(case="BKP-2026-0007", act="execute", actor={"person": "pelaksana"})),
        (RUN, "sop-record", MANIFEST),
        (RUN, "sop-checkpoint", CHECKPOINT),
        (["audit", "checkpoint", "--as", "pelaksana"], "sop-checkpoint", CHECKPOINT),
        (["schedule", "sign", "--as", "kabid"], "sop-schedule", b"schema: x\n"),
        (["asset", "sign", "--as", "pengurus"], "sop-register", b"schema: x\n"),
        (SCAN, "sop-document", plan(case="AST-2026-0001", operation="scan", items=[])),
        (SCAN, "sop-record", MANIFEST),
        (SCAN, "sop-checkpoint", CHECKPOINT),
        (REVIEW, "sop-register", reviewed()),
        (REVIEW, "sop-record", MANIFEST),
    ],
)
def test_what_fits_is_signed(words: list[str], namespace: str, data: bytes) -> None:
    assert objection(typed(words), namespace, data) == ""


@pytest.mark.parametrize(
    ("words", "namespace", "data", "why"),
    [
        (DECIDE, "sop-document", document(act="execute"), "the act execute, and you typed case decide"),
        (DECIDE, "sop-document", document(actor={"person": "kadis"}), "names kadis as the one who acts, not kabid"),
        (DECIDE, "sop-document", document(actor=None), "names None as the one who acts"),
        (DECIDE, "sop-document", document(case="RST-2026-0002"), "of case RST-2026-0002, and you act on RST-2026-0001"),
        (DECIDE, "sop-document", plan(), "that is a plan, and you are executing none"),
        (DECIDE[:-2], "sop-document", document(), "not None"),
        (EXECUTE, "sop-document", plan(case="RST-2026-0002"), "of case RST-2026-0002"),
        (["case", "execute", "--as", "pelaksana"], "sop-document", plan(), "executing none"),
        (EXECUTE, "sop-document", document(actor={"person": "pelaksana"}), "the act decide, and you typed case execute"),
        (RUN, "sop-document", plan(), "executing none"),
        (RUN, "sop-document", document(actor={"person": "pelaksana"}), "the act decide, and you typed schedule run"),
        (["doctor", "--as", "kabid"], "sop-document", document(), "the act decide, and you typed doctor"),
        (["next"], "sop-record", MANIFEST, "for namespace sop-record, and you typed next"),
        (EXECUTE, "sop-record", document(act="execute"), "for namespace sop-record"),
        (EXECUTE, "sop-record", MANIFEST + b"more", "for namespace sop-record"),
        (EXECUTE, "sop-record", b"", "for namespace sop-record"),
        (RUN, "sop-schedule", b"x", "for namespace sop-schedule, and you typed schedule run"),
        (EXECUTE, "sop-checkpoint", MANIFEST, "for namespace sop-checkpoint"),
        (["next"], "sop-checkpoint", CHECKPOINT, "for namespace sop-checkpoint, and you typed next"),
        (EXECUTE, "sop-register", b"x", "for namespace sop-register"),
        (SCAN, "sop-document", plan(), "that is a plan, and you are executing none"),
        (SCAN, "sop-document", plan(operation="scan", items=[{"dataset": {"id": "x"}}]), "you are executing none"),
        (EXECUTE[:-2], "sop-document", plan(case="AST-2026-0001", operation="scan", items=[]), "of case AST-2026-0001"),
        (REVIEW, "sop-document", plan(operation="scan", items=[]), "you are executing none"),
        (REVIEW, "sop-register", b"schema: x\n", "for namespace sop-register"),
        (REVIEW, "sop-register", reviewed("kabid"), "for namespace sop-register"),
        (["asset", "sign", "--as", "pengurus"], "sop-register", reviewed(), "for namespace sop-register"),
        (["asset", "list", "--as", "pengurus"], "sop-register", reviewed(), "for namespace sop-register"),
        (["asset", "list", "--as", "pengurus"], "sop-record", MANIFEST, "for namespace sop-record"),
        *((DECIDE, name, document(), "nothing is signed in namespace") for name in ("sop-trust", "sop-grant", "sop-witness", "git", "file", "")),
        *((DECIDE, "sop-document", data, "that is no document") for data in (b"", b"[]", b"\xff", b"[" * 100_000, b"1")),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_not_signed(words: list[str], namespace: str, data: bytes, why: str) -> None:
    assert why in objection(typed(words), namespace, data)


def test_key_file_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOPCTL_AS", "kadis")
    said = typed(["case", "dispose", CASE, "--key", "/home/kadis/key", "--to=kabid", "--key=/other"])
    assert said.rest == ["case", "dispose", CASE, "--to=kabid"]
    assert (said.key, said.person, said.case, said.command) == ("/other", "kadis", CASE, ("case", "dispose"))


# the signer ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This machine in control mode, with this account as its account; a person's home with one key."""
    for name in [name for name in os.environ if name.startswith("SOPCTL_")] + ["SSH_AUTH_SOCK"]:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "etc").mkdir()
    write_control(tmp_path, monkeypatch)
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / ".ssh/id_ed25519")], check=True)
    monkeypatch.setenv("HOME", str(home))
    with patch.dict(os.environ):  # sopctl clears the environment of its process, which is here that of all later tests
        yield tmp_path


def write_control(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    values = {
        "schema": "sop-control/v1",
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "site": "/srv/sop/site",
        "command": "/usr/bin/true",
    }
    path = folder / "etc/control.yml"
    path.write_text(json.dumps({**values, **changes}))
    monkeypatch.setattr(control, "CONTROL", path)


def test_signer_signs_and_tells_what_it_does_not_sign(here: Path) -> None:
    told: list[str] = []
    with SignerServer(typed(DECIDE), os.geteuid(), told.append) as server:
        assert server.path.parent.stat().st_mode & 0o777 == 0o711
        remote = control.RemoteSigner(server.path)
        (key,) = remote.public_keys()
        assert signing.verify(document(), remote.sign(document(), "sop-document"), "sop-document") == key
        with pytest.raises(GateRefused, match="your signer refuses: that is the act execute"):
            remote.sign(document(act="execute"), "sop-document")
        with pytest.raises(GateRefused, match="you have no such key"):
            remote.sign(document(), "sop-document", ["ssh-ed25519 AAAA"])
    assert told == [
        "Not signed: that is the act execute, and you typed case decide.",
        "Not signed: you have no such key.",
    ]
    assert not server.path.parent.exists()
    with pytest.raises(SopctlError, match="the signer does not answer"):
        remote.public_keys()


def test_signer_answers_nobody_else(here: Path) -> None:
    with SignerServer(typed(DECIDE), 65534, lambda _: None) as server, socket.socket(socket.AF_UNIX) as other:
        other.connect(str(server.path))
        other.settimeout(10)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # the door was shut in our face
            other.sendall(b'{"keys": true}\n')
            assert other.recv(100) == b""


@pytest.mark.parametrize(
    "line", [b"\n", b"[]\n", b"{}\n", b'{"sign": 1, "namespace": "x"}\n', b'{"sign": "!", "namespace": "x"}\n']
)
def test_question_that_cannot_be_understood_is_refused(line: bytes, here: Path) -> None:
    with SignerServer(typed(DECIDE), os.geteuid(), lambda _: None) as server, socket.socket(socket.AF_UNIX) as other:
        other.connect(str(server.path))
        other.settimeout(10)
        other.sendall(line)
        assert b'"refused"' in other.recv(1000)


def test_given_key_is_the_only_one(here: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(here / "own")], check=True)
    with SignerServer(typed([*DECIDE, "--key", str(here / "own")]), os.geteuid(), lambda _: None) as server:
        assert control.RemoteSigner(server.path).public_keys() == [" ".join((here / "own.pub").read_text().split()[:2])]
    with pytest.raises(UsageError, match="the key file does not exist"):
        SignerServer(typed([*DECIDE, "--key", "/nonexistent"]), os.geteuid(), lambda _: None)


def test_key_of_an_agent(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(here / "agent")], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(here / "agent"))
        key = here / "home/.ssh/id_ed25519"
        while subprocess.run(["ssh-add", "-q", str(key)], check=False, stderr=subprocess.DEVNULL).returncode:
            time.sleep(0.1)
        public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        key.unlink()
        key.with_suffix(".pub").unlink()
        with SignerServer(typed(DECIDE), os.geteuid(), lambda _: None) as server:
            signature = control.RemoteSigner(server.path).sign(document(), "sop-document")
        assert signing.verify(document(), signature, "sop-document") == public
    finally:
        agent.terminate()
        agent.wait()


# control.yml and the front --------------------------------------------------------------------------------------------


def test_no_control_file_is_no_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONTROL", tmp_path / "control.yml")
    assert control.configured() is None
    assert front.front(DECIDE, print) is None
    assert control.site_option("x") == "x"
    with pytest.raises(UsageError, match="takes a signer"):
        control.RemoteSigner(tmp_path / "socket")


def test_control_file_that_others_could_have_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (control.CONTROL, control.CONTROL.parent):
        mode = path.stat().st_mode & 0o7777
        path.chmod(mode | 0o020)
        with pytest.raises(ConfigError, match="not writable by others"):
            front.front(DECIDE, print)
        path.chmod(mode)
    write_control(here, monkeypatch, user="tidak-ada")
    with pytest.raises(ConfigError, match="there is no account"):
        front.front(DECIDE, print)
    write_control(here, monkeypatch, site="srv/../site")
    with pytest.raises(ConfigError, match="not a plain absolute path"):
        front.front(DECIDE, print)


def test_site_is_fixed_and_the_environment_counts_for_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOPCTL_SITE", "SOPCTL_ROOT", "SOPCTL_KEY", "SOPCTL_AS", "ANSIBLE_CONFIG", "PYTHONPATH"):
        monkeypatch.setenv(name, "/x")
    assert control.site_option(None) == "/srv/sop/site"
    assert [name for name in os.environ if name.startswith(("SOPCTL_", "ANSIBLE_", "PYTHON"))] == []
    with pytest.raises(UsageError, match="this machine's site is /srv/sop/site"):
        control.site_option("/other")


@pytest.fixture
def other_account(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's account is another; what stands for sudo runs the command as we are, and so may not ask the signer."""
    sudo = here / "sudo"
    sudo.write_text('#!/bin/sh\n[ "$1 $2 $3 $4" = "-n -u nobody --" ] || exit 99\nshift 4\nexec "$@"\n')
    sudo.chmod(0o755)
    monkeypatch.setattr(front, "SUDO", sudo)
    write_control(here, monkeypatch, user="nobody", command=str(here / "command"))
    return here


def command(folder: Path, text: str) -> None:
    (folder / "command").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "command").chmod(0o755)


def test_front_hands_on_words_output_and_exit_code(other_account: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command(other_account, 'echo "$@"; echo oops >&2; exit 21')
    assert front.front([*DECIDE, "--key", str(other_account / "home/.ssh/id_ed25519")], print) == 21
    said = capfd.readouterr()
    option, path, *words = said.out.split()
    assert (option, words, said.err) == ("--signer", DECIDE, "oops\n")
    assert not Path(path).exists()
    assert front.front(["case", "--help"], print) is None
    with pytest.raises(UsageError, match="takes a signer"):
        front.front(["--signer", "/tmp/x", *DECIDE], print)


def test_front_relays_signals(other_account: Path, tmp_path: Path) -> None:
    """SIGTERM to the front reaches the command through the socket: sudo takes no signal from an ordinary user."""
    program = (
        "import os, sys; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path\n"
        "from sopctl import control\n"
        "class Remote(control.RemoteSigner):\n"
        "    def __init__(self, path): self._path = path\n"
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(130))\n"
        "Remote(Path(sys.argv[4])).follow(); Path(sys.argv[1], 'up').touch(); time.sleep(30)\n"
    )
    (tmp_path / "follow.py").write_text(program)
    root = Path(__file__).resolve().parents[2]
    command(other_account, f'exec {sys.executable} {tmp_path}/follow.py {tmp_path} {root} "$@"')

    def end() -> None:
        while not (tmp_path / "up").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    uid = os.geteuid()
    with pytest.MonkeyPatch.context() as patch:  # the command above runs as ourselves
        real = SignerServer.__init__
        patch.setattr(SignerServer, "__init__", lambda self, said, _uid, tell: real(self, said, uid, tell))
        threading.Thread(target=end).start()
        assert front.front(EXECUTE, print) == 130


# the mode ------------------------------------------------------------------------------------------------------------


def test_mode_names_what_is_missing(site: CaseSite, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONTROL", here / "none.yml")
    assert control.mode(Site(site.root)) == "guard rail"
    assert control.missing(Site(site.root)) == [f"{here}/none.yml is not there"]

    write_control(here, monkeypatch, site=str(site.root))
    pin = here / "etc/root"
    monkeypatch.setattr(control, "ROOT_PIN", pin)
    for path in site.root.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o022)
    (site.root / "secrets").chmod(0o700)
    assert control.missing(Site(site.root)) == [f"{pin} is not there: the root key is pinned by the environment"]
    pin.write_text("root\n")
    assert control.mode(Site(site.root)) == "control"

    for name, mode in (("sop.yml", 0o666), ("trust", 0o777), ("trust/trust.yml", 0o664)):
        before = (site.root / name).stat().st_mode & 0o7777
        (site.root / name).chmod(mode)
        (said,) = control.missing(Site(site.root))
        assert f"{site.root / name} is not" in said
        (site.root / name).chmod(before)
    (site.root / "secrets/vault-password").chmod(0o644)
    assert control.missing(Site(site.root)) == [f"{site.root / 'secrets/vault-password'} can be read by others"]
    (site.root / "secrets/vault-password").chmod(0o600)
    key = here / "ssh-key"
    key.write_text("x")
    key.chmod(0o640)
    (site.root / "inventory/more.yml").write_text(f"all: {{vars: {{ansible_ssh_private_key_file: {key}}}}}\n")
    (site.root / "inventory/more.yml").chmod(0o600)
    assert control.missing(Site(site.root)) == [f"{key} can be read by others"]
    write_control(here, monkeypatch, site="/srv/other")
    assert "fixes another site" in control.missing(Site(site.root))[0]


def test_hosts_that_check_no_grants_are_named(site: CaseSite) -> None:
    assert control.not_enrolled(Site(site.root)) == ["srv01", "srv02"]
    record = next((site.root / "archive/records").rglob("evidence.json"))
    record.write_text(json.dumps([{"host": "srv01", "kind": "backup", "enrolled": True}]))
    assert control.not_enrolled(Site(site.root)) == ["srv02"]
