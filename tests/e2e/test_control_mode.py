# SPDX-License-Identifier: Apache-2.0
"""Control mode in the lab: a controller whose account ``sop`` owns the site, and people with a shell on it.

The host that holds the data is enrolled. Set up as docs/how-to/control-mode.md says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.checks import Done
from tests.e2e.test_by_hand import MODULES
from tests.e2e.test_check_mode import LISTING
from tests.lab.controller import COMMAND, HOME, SITE, VENV, Controller, controller, server
from tests.lab.hosts import Lab
from tests.lab.site import QUEUE_SERVICE, host_variables, lab_site
from tests.support.public_python import public_python
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parents[2]
HOST = "file01"
PEOPLE = ("pemohon", "kadis", "kabid", "pelaksana")
SSH_KEY = f"{HOME}/.ssh/id_ed25519"
DATABASE = "/srv/antrean/antrean.db"
DATA = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TABLE antrean (catatan TEXT)")
connection.executemany("INSERT INTO antrean VALUES (?)", [("tamu",)] * 200)
connection.commit()
"""
COLLECTIONS = f"{VENV}/lib/python3.11/site-packages/sopctl/_data/collections"


@dataclass(frozen=True)
class Office:
    """The controller with its people, and the site as it was made."""

    control: Controller
    server: Controller
    site: SiteBuilder

    def sopctl(self, person: str, *words: str, env: tuple[str, ...] = ()) -> Done:
        """A person types sopctl."""
        return self.control.run(person, [COMMAND, *words, "--as", person], env=env)

    def done(self, person: str, *words: str) -> Done:
        """A person types sopctl, and it does it."""
        said = self.sopctl(person, *words)
        assert said.returncode == 0, f"{words}\n{said.stdout}\n{said.stderr}"
        return said

    def requested(self) -> str:
        """A request that the head of department has handed on."""
        self.control.root("printf 'Surat permohonan\\n' >/tmp/surat.txt; chmod 644 /tmp/surat.txt")
        words = [
            "--dataset",
            "antrean",
            "--unit",
            "Bidang Mutasi",
            "--letter",
            "/tmp/surat.txt",
            "--letter-number",
            "1",
        ]
        said = self.done("pemohon", "case", "request", "restore", *words, "--reason", "data terhapus", "--json")
        case = str(json.loads(said.stdout)["case"])
        self.done("kadis", "case", "dispose", case)
        return case

    def approved(self) -> str:
        """A case whose execution is due."""
        case = self.requested()
        self.done("kabid", "case", "decide", case, "--approve", "--reason", "sesuai")
        return case

    def host_state(self) -> str:
        """Files and services of the host that holds the data."""
        return self.server.root(LISTING.replace("systemctl list-units", "true"))


def enrol(site: SiteBuilder, *more: str) -> str:
    """The server's administrator enrols it, or takes it out."""
    env = {
        **site.env,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    env |= {"PWD": str(site.root), "ANSIBLE_HOST_KEY_CHECKING": "False"}
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "diskominfo.sop.enrol",
        "-i",
        "inventory",
        "-l",
        HOST,
        *more,
    ]
    done = subprocess.run(command, env=env, cwd=site.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def site_over(folder: Path, lab: Lab, server: Controller) -> SiteBuilder:
    """A site whose one dataset lies on ``server``, which has file01's user in the vault."""
    if server.run("root", f"test -e {DATABASE}").returncode:
        server.root(f"mkdir /srv/antrean; python3 - {DATABASE}", DATA.encode())
    site = lab_site(folder, lab, ("berkas",))
    site.server(
        HOST,
        inventory={**host_variables(lab, HOST), "ansible_host": server.ip},
        machine_id=server.root("cat /etc/machine-id").strip(),
        ssh_host_key=" ".join(server.root("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]),
    )
    site.dataset("antrean", engine="sqlite", server=HOST, path=DATABASE)
    site.schedule("antrean")
    site.edit("sop.yml", "  verify: restore", "  verify: read")
    return site


@pytest.fixture(scope="module")
def office(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A controller in control mode, and an enrolled server with one backup of its database."""
    folder = tmp_path_factory.mktemp("office") / f"e2e-control-{os.getpid()}"
    folder.mkdir()
    python = public_python(65534)
    if not python.is_relative_to("/var/tmp"):
        pytest.skip("sopctl is not installed with the system's Python here")
    with server(lab) as host, controller(lab, python.parents[1]) as control:
        site = site_over(folder, lab, host)
        assert "changed=1" in enrol(site)
        assert "changed=0" in enrol(site)
        inventory = site.root / "inventory/hosts.yml"
        inventory.write_text(inventory.read_text().replace(str(lab.private_key), SSH_KEY))
        control.put(site.root, SITE, "sop:sop")
        control.root(f"install -d -m 0700 -o sop -g sop {HOME}/.ssh; chmod -R go-w {SITE}; chmod 0700 {SITE}/secrets")
        control.put(lab.private_key, SSH_KEY, "sop:sop")
        control.root(f"chmod 600 {SSH_KEY}")
        control.put(Path(f"{site.root_key}.allowed"), "/etc/sopctl/root")
        for person in PEOPLE:
            control.account(person, site.keys / person)
        made = Office(control, host, site)
        try:
            made.done("pelaksana", "schedule", "run", "--due")
            yield made
        finally:
            lab.exec("vault01", f"rm -rf /srv/vault/*/{folder.name}")


# what people cannot read ---------------------------------------------------------------------------------------------

SECRETS = [
    SSH_KEY,
    f"{SITE}/secrets/vault-password",
    f"{SITE}/secrets/run-key",
    f"{SITE}/secrets/{HOST}",
]


@pytest.mark.parametrize("path", SECRETS, ids=lambda path: Path(path).name)
def test_operator_cannot_read(path: str, office: Office) -> None:
    assert office.control.root(f"test -s {path} && echo there") == "there\n"
    for words in (
        ["cat", path],
        ["sudo", "-n", "cat", path],
        ["sudo", "-n", "-u", "sop", "cat", path],
        ["cp", path, "/tmp/x"],
    ):
        said = office.control.run("pelaksana", words)
        assert said.returncode != 0, words
        assert said.stdout == ""


@pytest.mark.parametrize(
    "path", ["sop.yml", "trust/trust.yml", "register/index.yml", "inventory/hosts.yml", "archive/ledger.jsonl", "cases"]
)
def test_operator_cannot_write(path: str, office: Office) -> None:
    office.control.root(f"test -e {SITE}/{path}")
    assert office.control.run("pelaksana", f"echo x >>{SITE}/{path}/x || echo x >>{SITE}/{path}").returncode != 0


@pytest.mark.parametrize(
    "words",
    [
        ["id"],
        ["-u", "sop", "/bin/sh"],
        ["-u", "sop", "ansible-playbook", "--version"],
        ["-u", "sop", f"{VENV}/bin/python", "-m", "sopctl"],
        ["-u", "root", COMMAND, "doctor"],
        ["-u", "sop", "PYTHONPATH=/tmp", COMMAND, "doctor"],
        ["-u", "sop", "SOPCTL_ROOT=/tmp/root", COMMAND, "doctor"],
        ["-E", "-u", "sop", COMMAND, "doctor"],
        ["-e", f"{SITE}/sop.yml"],
    ],
    ids=" ".join,
)
def test_sudo_allows_nothing_but_sopctl(words: list[str], office: Office) -> None:
    said = office.control.run("pelaksana", ["sudo", "-n", *words])
    assert said.returncode != 0, said.stdout
    assert "sudo:" in said.stderr


# what people cannot start ---------------------------------------------------------------------------------------------


def test_no_restore_without_approval(office: Office) -> None:
    """The operator's own sopctl, as anybody, with everything that steers it."""
    case = office.requested()
    before = office.host_state()
    env = (
        f"SOPCTL_SITE={SITE}",
        "SOPCTL_ROOT=/tmp/root",
        "SOPCTL_KEYS=/tmp",
        "SOPCTL_GATE=/tmp/gate",
        "ANSIBLE_CONFIG=/tmp/x",
        "PYTHONPATH=/tmp",
    )
    assert office.sopctl("pelaksana", "case", "execute", case).returncode == 10
    assert office.sopctl("pelaksana", "case", "execute", case, env=env[3:]).returncode == 10
    said = office.sopctl("pelaksana", "case", "decide", case, "--approve", "--reason", "saya sendiri")
    assert said.returncode == 10, said.stderr
    said = office.control.run(
        "pelaksana", [COMMAND, "case", "decide", case, "--approve", "--reason", "x", "--as", "kabid"]
    )
    assert said.returncode in {2, 10}, said.stderr
    said = office.control.run("pelaksana", [COMMAND, "-C", "/tmp", "case", "execute", case, "--as", "pelaksana"])
    assert (said.returncode, "this machine's site is" in said.stderr) == (2, True), said.stderr
    said = office.control.run(
        "pelaksana", ["sudo", "-n", "-u", "sop", COMMAND, "case", "execute", case, "--as", "pelaksana"]
    )
    assert said.returncode in {2, 10}, "the account itself holds no person's key"
    assert office.host_state() == before


BY_HAND: list[list[str]] = [
    ["ansible-playbook", "diskominfo.sop.restore"],
    ["ansible-playbook", "diskominfo.sop.restore", "--start-at-task", "Restore"],
    ["ansible-playbook", "diskominfo.sop.restore", "--skip-tags", "always"],
    ["ansible-playbook", "diskominfo.sop.enrol", "-e", "enrol_state=absent"],
    ["ansible-playbook", "/tmp/own.yml"],
    ["ansible", HOST, "-m", "ansible.builtin.include_role", "-a", "name=diskominfo.sop.restore"],
    ["ansible", HOST, "-m", "ansible.builtin.command", "-a", "systemctl stop antrean"],
    *(["ansible", HOST, "-m", f"diskominfo.sop.{module}", "-a", '{"case": "RST-2026-0001"}'] for module in sorted({name for name, _ in MODULES})),
]  # fmt: skip


@pytest.fixture(scope="module")
def own_inventory(office: Office) -> str:
    """What an operator can write for themself: the host's address, the account's name, a plan."""
    item: dict[str, object] = {
        "dataset": {"id": "antrean", "engine": "sqlite", "path": DATABASE},
        "expected": {},
    }
    item |= {
        "snapshot": "a" * 64,
        "manifest_snapshot": "b" * 64,
        "services": [{"host": HOST, "service": dict(QUEUE_SERVICE)}],
    }
    services = [{"host": HOST, "service": dict(QUEUE_SERVICE)}]
    watched = {"host": HOST, "datasets": [item["dataset"]], "services": [dict(QUEUE_SERVICE)], "seconds": 60}
    run = {
        "leader": HOST,
        "entries": [{**item, "host": HOST}],
        "services": services,
        "switches": [{**watched, "together": False, "alone": True}],
        "together": False,
        "in_place": False,
    }
    share = {"sop_case": "RST-2026-0001", "sop_plan": [item], "sop_run": run}
    host = {"ansible_host": office.server.ip, "ansible_user": "sopop", "ansible_become": True, **share}
    inventory = {"all": {"hosts": {HOST: host}, "children": {"sop_targets": {"hosts": {HOST: share}}}}}
    own = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.command": "systemctl stop antrean"}]}]
    for name, value in (("inventory.json", inventory), ("own.yml", own)):
        office.control.root(f"cat >/tmp/{name}; chmod 644 /tmp/{name}", json.dumps(value).encode())
    return "/tmp/inventory.json"


@pytest.mark.part(4)
@pytest.mark.parametrize("words", BY_HAND, ids=" ".join)
def test_ansible_by_hand_has_no_key(words: list[str], office: Office, own_inventory: str) -> None:
    before = office.host_state()
    env = (
        f"ANSIBLE_COLLECTIONS_PATH={COLLECTIONS}",
        "ANSIBLE_HOST_KEY_CHECKING=False",
        "ANSIBLE_PIPELINING=True",
        "PYTHONDONTWRITEBYTECODE=1",
    )
    said = office.control.run("pelaksana", [f"{VENV}/bin/{words[0]}", "-i", own_inventory, *words[1:]], env=env)
    assert said.returncode != 0, said.stdout
    told = said.stdout + said.stderr
    assert "Permission denied (publickey" in told or "no sopctl holds a run open" in told, told
    assert office.host_state() == before


# what they can ---------------------------------------------------------------------------------------------------------


def test_approved_restore_runs(office: Office) -> None:
    """Signed by everybody's own key through their front; the record says the mode, the host checked the grants."""
    case = office.approved()
    said = office.done("pelaksana", "case", "execute", case)
    record = office.control.root(f"ls -d {SITE}/archive/records/*/*/{case}-01").strip()
    evidence = json.loads(office.control.root(f"cat {record}/data/evidence.json"))
    assert {entry["kind"] for entry in evidence if entry.get("enrolled")} >= {"stage", "swap", "finalise"}, said.stdout
    assert json.loads(office.control.root(f"cat {record}/data/versions.json"))["mode"] == "control"
    signers = office.control.root(f"cat {record}/data/trust/allowed_signers")
    assert "pelaksana" in signers
    used = office.server.root("cat /var/lib/sop/used.jsonl").splitlines()
    assert [json.loads(line)["what"] for line in used].count("finished") >= 2, "the backup and the restore"
    assert office.sopctl("pelaksana", "case", "execute", case).returncode == 10


def test_doctor_tells_the_mode(office: Office) -> None:
    said = office.control.run("pelaksana", [COMMAND, "doctor", "--json"])
    told = {item["what"]: item["detail"] for item in json.loads(said.stdout)}
    assert told.get("mode", "").startswith("control:"), said.stdout + said.stderr
    assert HOST not in told.get("enrolled", "")
    office.control.root(f"chmod 644 {SITE}/secrets/run-key")
    said = office.control.run("pelaksana", [COMMAND, "doctor", "--json"])
    office.control.root(f"chmod 600 {SITE}/secrets/run-key")
    assert "guard rail" in said.stdout
    assert f"missing for control: {SITE}/secrets/run-key can be read by others" in said.stdout


def test_another_site_is_refused_by_the_enrolled_server(office: Office, lab: Lab, tmp_path: Path) -> None:
    """Its run key is a stranger's, whoever approved there."""
    folder = tmp_path / f"e2e-other-{os.getpid()}"
    folder.mkdir()
    other = site_over(folder, lab, office.server)
    before = office.host_state()
    done = other.run("schedule", "run", "--due", as_="pelaksana", check=False)
    lab.exec("vault01", f"rm -rf /srv/vault/*/{folder.name}")
    assert done.returncode not in {0, 2}, done.stdout
    assert "is not signed by the run key that this host knows" in done.stdout, done.stdout
    assert office.host_state() == before
