# SPDX-License-Identifier: Apache-2.0
"""A whole test site with real keys, made with sopctl's public commands only.

    site = SiteBuilder(tmp_path)                                        # init, keys, trust signed and pinned
    site.server("srv01")                                                # this machine, through ansible_connection: local
    site.dataset("antrean", engine="sqlite", server="srv01", path=path)
    site.schedule()                                                     # every dataset, monthly, signed by the kabid
    site.run("schedule", "run", "--due", as_="pelaksana")
    case = site.approved("antrean")                                     # request, disposition, approval
    assert site.run("case", "execute", case, as_="pelaksana", check=False).returncode == 0

The people of the profile are there under their roles' names (pemohon, kadis, kabid, pelaksana), and ``pengurus``, who
keeps the register and signs it whenever the builder has changed it. Nothing of the caller's environment or home
directory is used, and there is no bypass: what a test may do, a person may do.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support import standby

Json = dict[str, Any]

#: by profile: the people and their jabatan
PEOPLE = {
    "trenggalek": {
        "pemohon": "Kepala Bidang Mutasi",
        "kadis": "Kepala Dinas Komunikasi dan Informatika",
        "kabid": "Kepala Bidang Aptika",
        "pelaksana": "Pranata Komputer Ahli Pertama",
    },
    "kaltim": {
        "pemohon": "Kepala Bidang Mutasi",
        "administrator": "Administrator Bidang TIK",
        "pengawas": "Pengawas Infrastruktur TIK",
        "pengelola": "Pengelola TIK",
        "pemeriksa": "Pemeriksa TIK",
    },
}
KEEPER = "pengurus"
UNIT = "Bidang Mutasi"
LOCAL = {"ansible_connection": "local"}
#: compiled code lies here and never in the collection; without any, each of thousands of sopctl compiles itself anew
COMPILED = Path(__file__).resolve().parents[2] / ".cache/pyc"
TIMEOUT = 900  # seconds; a command that hangs must not hang the suite
STAMP = "%Y-%m-%dT%H:%M:%SZ"


#: the program of the interpreter that runs the tests
OWN = str(Path(sys.executable).parent / "sopctl")


def installed_sopctl() -> list[str]:
    """The sopctl of the interpreter that runs the tests; $SOPCTL_TEST_COMMAND names another, of a copy for example."""
    given = os.environ.get("SOPCTL_TEST_COMMAND")
    return shlex.split(given) if given else [OWN]


def local_machine_id() -> str:
    """This machine's identity as the register wants it; containers without one get a fixed stand-in."""
    path = Path("/etc/machine-id")
    text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return text or "0" * 32


class SiteBuilder:
    """Makes and drives one site below ``folder``; ``sopctl`` is the argv of the command under test.

    Places: ``root`` is the site, ``keys`` holds each person's private key under their id, ``vault`` is the folder of the
    local restic repositories, ``state_dir`` keeps the locks and journals of local datasets, ``home`` is everybody's HOME.
    ``env`` is the whole environment of every command; tests may change it. ``profile`` is a shipped SOP or the file of
    another, whose ``people`` (role: jabatan) begin with the requester.
    """

    def __init__(
        self,
        folder: Path,
        sopctl: Sequence[str] | None = None,
        *,
        vault: str | None = None,
        profile: str | Path = "trenggalek",
        people: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> None:
        self.folder = folder
        self.sopctl = list(sopctl or installed_sopctl())
        self.root = folder / "site"
        self.keys = folder / "keys"
        self.home = folder / "home"
        self.vault = folder / "vault"
        self.state_dir = folder / "host-state"
        self.root_key = self.keys / "root"
        for made in (self.keys, self.home, self.vault):
            made.mkdir(parents=True, exist_ok=True)
        self.env: dict[str, str] = {
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PATH": path or os.environ.get("PATH", os.defpath),
            # what a test has installed or copied goes with its folder
            "PYTHONPYCACHEPREFIX": str(folder / "pyc" if sopctl else COMPILED),
            "SOPCTL_KEYS": str(self.keys),
            "SOPCTL_ROOT": f"{self.root_key}.allowed",
            "USER": os.environ.get("USER", "root"),
        }
        self._hosts: dict[str, Json] = {}
        self.datasets: list[str] = []
        #: entered with a command's arguments while ``run`` runs it
        self.around: Callable[[Sequence[str | Path]], AbstractContextManager[None]] = lambda _: nullcontext()
        self._register_changed = False
        self.profile = str(profile)
        self.people = dict(people or PEOPLE[self.profile])
        self.run("init", self.root, "--profile", profile, "--vault", vault or f"{self.vault}/{{server}}", site=False)
        # a second of printing for each record, where paper is not the matter
        (self.root / "sop.yml").open("a", encoding="utf-8").write("forms: {pdf: false}\n")
        self._make_trust()

    # commands -------------------------------------------------------------------------------------------------

    def run(
        self,
        *args: str | Path,
        as_: str | None = None,
        check: bool = True,
        site: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``sopctl -C <site> ARGS [--as PERSON]``. With ``check`` a failure is an AssertionError with all output.

        ``env`` is laid over the builder's environment; ``site=False`` leaves ``-C`` away.
        """
        if self._register_changed and site:
            self.sign_register()
        place = ["-C", str(self.root)] if site else []
        who = ["--as", as_] if as_ else []
        command = [*self.sopctl, *place, *(str(arg) for arg in args), *who]
        environment = {**self.env, **(env or {})}
        with self.around(args):
            done = self._run(command, environment, cwd or self.folder)
        if check and done.returncode:
            shown = f"{shlex.join(command)} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
            raise AssertionError(shown)
        return done

    def _run(self, command: list[str], env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """The installed sopctl is the one that stands by, loaded; any other is started."""
        if self.sopctl == [OWN] and standby.fits(env):
            return standby.standby().run(command, env, cwd, TIMEOUT)
        return subprocess.run(
            command,
            env=env,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT,
        )

    def start(self, *args: str | Path, as_: str | None = None) -> subprocess.Popen[str]:
        """Start ``sopctl`` in a process group of its own, for tests that interrupt or kill it."""
        if self._register_changed:
            self.sign_register()
        who = ["--as", as_] if as_ else []
        command = [*self.sopctl, "-C", str(self.root), *(str(arg) for arg in args), *who]
        return subprocess.Popen(
            command,
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run_json(self, *args: str | Path, as_: str | None = None, check: bool = True) -> Any:
        """The ``--json`` result of a command."""
        return json.loads(self.run(*args, "--json", as_=as_, check=check).stdout)

    # people ---------------------------------------------------------------------------------------------------

    def _make_trust(self) -> None:
        self.run("trust", "init", "--root-key", self.root_key, "--no-passphrase", site=False)
        requester = next(iter(self.people))
        for person, jabatan in self.people.items():
            options = ["--unit", UNIT] if person == requester else []
            self.person(person, [person], jabatan, sign=False, options=options)
        self.person(KEEPER, ["pengurus-aset"], "Pengurus Barang", sign=False)
        self.sign_trust()

    def person(
        self,
        person: str,
        roles: Sequence[str],
        jabatan: str = "Staf",
        *,
        sign: bool = True,
        options: Sequence[str] = (),
    ) -> Path:
        """Add a person with an Ed25519 key of their own (no pass phrase); returns the private key's path."""
        key = self.make_key(person)
        words = [word for role in roles for word in ("--role", role)]
        self.run("trust", "add", person, *words, "--jabatan", jabatan, "--key", f"{key}.pub", *options)
        if sign:
            self.sign_trust()
        return key

    def make_key(self, name: str) -> Path:
        """An Ed25519 key pair in ``keys``; it is nobody's until the trust says so."""
        key = self.keys / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return key

    def sign_trust(self) -> None:
        """The root holder signs ``trust.yml`` as it lies."""
        self.run("trust", "sign", "--key", self.root_key)

    def sign_register(self) -> None:
        """The keeper signs the register as it lies."""
        self._register_changed = False
        self.run("asset", "sign", as_=KEEPER)

    # register -------------------------------------------------------------------------------------------------

    def server(
        self,
        server: str,
        *,
        host: str | None = None,
        inventory: Mapping[str, Any] | None = None,
        machine_id: str | None = None,
        ssh_host_key: str | None = None,
        **more: Any,
    ) -> None:
        """Register a server and put it into the inventory. Without ``inventory`` variables it is this machine."""
        name = host or server
        self._hosts[name] = dict(LOCAL if inventory is None else inventory)
        entry = {
            "schema": "sop-server/v1",
            "id": server,
            "inventory_hostname": name,
            "machine_id": machine_id or local_machine_id(),
            "ssh_host_key": ssh_host_key,
            "reviewed": {"at": datetime.now(UTC).strftime("%Y-%m-%d"), "by": "kabid"},
            **more,
        }
        self.write_yaml(f"register/servers/{server}.yml", entry)
        self._register_changed = True
        self.write_inventory()

    def dataset(self, dataset: str, *, engine: str, server: str, **more: Any) -> None:
        """Register a dataset; ``more`` are further keys of its file (path, database, connection, services …)."""
        entry = {
            "schema": "sop-dataset/v1",
            "id": dataset,
            "name": f"Data {dataset}",
            "engine": engine,
            "server": server,
            "owner_unit": UNIT,
            "classification": "terbatas",
            **more,
        }
        registered = json.loads((self.root / f"register/servers/{server}.yml").read_text(encoding="utf-8"))
        if self._hosts[registered["inventory_hostname"]].get("ansible_connection") == "local":
            entry.setdefault("state_dir", str(self.state_dir))
        self.write_yaml(f"register/datasets/{dataset}.yml", entry)
        self._register_changed = True
        if dataset not in self.datasets:
            self.datasets.append(dataset)

    def schedule(self, *datasets: str, every: str = "P1M", sign_as: str | None = "kabid") -> None:
        """Write the standing order over ``datasets`` (default: all so far) and have it signed."""
        now = datetime.now(UTC)
        profile = next((self.root / "profiles").glob("*.yml")).stem
        order = {
            "schema": "sop-schedule/v1",
            "site": self.uuid,
            "profile": profile,
            "valid": {
                "since": (now - timedelta(hours=1)).strftime(STAMP),
                "until": (now + timedelta(days=366)).strftime(STAMP),
            },
            "entries": [{"dataset": dataset, "every": every} for dataset in datasets or self.datasets],
        }
        self.write_yaml("schedule.yml", order)
        if sign_as:
            self.run("schedule", "sign", as_=sign_as)

    # files ----------------------------------------------------------------------------------------------------

    @property
    def uuid(self) -> str:
        """The site's identity."""
        for line in (self.root / "sop.yml").read_text(encoding="utf-8").splitlines():
            if line.startswith("site:"):
                return line.split()[1]
        raise AssertionError("sop.yml has no site")

    @property
    def records(self) -> list[Path]:
        """The sealed records, oldest first."""
        return sorted(path.parent for path in (self.root / "archive/records").rglob("bagit.txt"))

    def write_yaml(self, name: str, value: Json) -> Path:
        """Write a file of the site; JSON is YAML that no value can break."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        return path

    def write_inventory(self) -> Path:
        """Write the inventory of the hosts so far."""
        return self.write_yaml("inventory/hosts.yml", {"all": {"hosts": self._hosts}})

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the site, unsigned as an editor leaves it; AssertionError when it is not there."""
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{path} does not say {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    # cases ----------------------------------------------------------------------------------------------------

    def letter(self, text: str = "Surat permohonan pemulihan data\n") -> Path:
        """A scanned request letter."""
        path = self.folder / "surat.txt"
        path.write_text(text, encoding="utf-8")
        return path

    def requested(self, *datasets: str, point: str = "latest", as_: str = "pemohon") -> str:
        """File a restore request; returns the case's id."""
        words = [word for dataset in datasets for word in ("--dataset", dataset)]
        words += ["--unit", UNIT, "--letter", str(self.letter()), "--letter-number", "800/12/2026"]
        made = self.run_json(
            "case", "request", "restore", *words, "--reason", "data terhapus", "--point", point, as_=as_
        )
        return str(made["case"])

    def approved(self, *datasets: str, point: str = "latest") -> str:
        """Request, disposition and approval; returns the id of the case, whose execution is due now."""
        case = self.requested(*datasets, point=point)
        self.run("case", "dispose", case, as_="kadis")
        self.run("case", "decide", case, "--approve", "--reason", "sesuai kewenangan", as_="kabid")
        return case
