"""Typed access to the running lab, for tests: `Lab.load()` reads what `lab.py up` wrote to .cache/lab/lab.json."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.inside import inside
from tests.lab.system import LabError, run

HERE = Path(__file__).resolve().parent
#: what removes a switch that a broken test left armed, or a service that it left held down
FORGET_SWITCHES = """
systemctl stop 'sop-settle-*.timer' 'sop-settle-*.service' 2>/dev/null || true
rm -rf /run/sop/* /var/lib/sop/switch /etc/systemd/system/*.d/sop-hold.conf
find /etc/systemd/system -name 'sop-settle-*' -delete
systemctl daemon-reload; systemctl reset-failed
"""
#: a second lab beside the first is told from it by $SOPLAB
NAME = os.environ.get("SOPLAB", "")
CACHE = HERE.parents[1] / ".cache" / (f"lab-{NAME}" if NAME else "lab")
GENERATORS = {"simpeg": HERE / "generate.sql", "perizinan": HERE / "generate-mariadb.sql"}
# What restores made beside each database.
KEPT = {
    "simpeg": r"SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname LIKE 'simpeg\_\_%'",
    "perizinan": r"SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'perizinan\_\_%'",
}


@dataclass(frozen=True)
class Host:
    """One host of the lab; `ssh_host_key` is `ssh-ed25519 AAAA…`, read inside the container."""

    name: str
    ip: str
    machine_id: str
    ssh_host_key: str
    container: str


def check_route(host: Host) -> None:
    """Nothing may be sent to a host's address unless it stays on this machine.

    While no container runs the bridge is gone, and packets would take the default route and reach strangers.
    """
    routes = json.loads(run(["ip", "-json", "route", "get", host.ip]).stdout)
    if not routes or "gateway" in routes[0]:
        raise LabError(f"lab: {host.name} ({host.ip}) is not on a bridge of this machine; run `make lab`", code=3)


@dataclass(frozen=True)
class Lab:
    """The running lab: its hosts, and the files that reach them."""

    hosts: dict[str, Host]
    inventory: Path
    known_hosts: Path
    private_key: Path
    ca: Path
    facts: dict[str, Any]

    @classmethod
    def load(cls, cache: Path = CACHE) -> Lab:
        """Read lab.json; LabError (3) saying `make lab` when there is none or its hosts cannot be reached."""
        path = cache / "lab.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise LabError(f"lab: {path.name} is not there: the lab is not up; run `make lab`", code=3) from error
        except ValueError as error:
            raise LabError(f"lab: {path} cannot be read ({error}); run `make lab`", code=3) from error
        hosts = {name: Host(name=name, **facts["hosts"][name]) for name in facts["hosts"]}
        for host in hosts.values():
            check_route(host)
        ssh = facts["ssh"]
        return cls(
            hosts=hosts,
            inventory=Path(facts["inventory"]),
            known_hosts=Path(ssh["known_hosts"]),
            private_key=Path(ssh["private_key"]),
            ca=Path(facts["vault"]["ca"]),
            facts=facts,
        )

    @property
    def web_url(self) -> str:
        """The personnel application as its users reach it (through nginx)."""
        return str(self.facts["web"]["url"])

    @property
    def licence_url(self) -> str:
        """The licensing application as its users reach it (through nginx)."""
        return str(self.facts["licences"]["url"])

    @property
    def queue_url(self) -> str:
        """The queue service on file01."""
        return str(self.facts["queue"]["url"])

    @property
    def filing_url(self) -> str:
        """The filing service on file01."""
        return str(self.facts["files"]["url"])

    def vault_password(self, user: str) -> str:
        """The password that a host's vault user logs in with (not a repository's password)."""
        try:
            entry = self.facts["vault"]["users"][user]
        except KeyError as error:
            known = ", ".join(self.facts["vault"]["users"])
            raise LabError(f"lab: the vault knows no user {user!r}; it has {known}") from error
        return Path(entry["password_file"]).read_text(encoding="utf-8")

    def vault_url(self, user: str, repository: str = "", *, small: bool = False) -> str:
        """The restic repository URL of a host, with its password in it; `small`: in the vault that fills up."""
        template = str(self.facts["vault"]["small_url" if small else "url"])
        return template.format(user=user, password=self.vault_password(user)) + repository

    def exec(
        self,
        host: str,
        command: str | Sequence[str],
        *,
        user: str = "root",
        stdin: bytes | None = None,
        check: bool = True,
        timeout: float | None = 300,
    ) -> str:
        """Run a program (a list) or a shell script (a string) inside a host, past SSH; returns its standard output."""
        if host not in self.hosts:
            raise LabError(f"lab: no host {host!r}; there are {', '.join(self.hosts)}")
        argv = ["sh", "-euc", command] if isinstance(command, str) else list(command)
        full = inside(self.hosts[host].container, argv, user)
        done = run(full, root=True, stdin=stdin, check=check, timeout=timeout)
        return done.stdout.decode(errors="replace")

    def exit_code(self, host: str, command: str | Sequence[str], *, user: str = "root") -> int:
        """Run as `exec` does and return the exit code alone."""
        argv = ["sh", "-euc", command] if isinstance(command, str) else list(command)
        full = inside(self.hosts[host].container, argv, user)
        return run(full, root=True, check=False, timeout=300).returncode

    def psql(self, statement: str, database: str = "simpeg", *, host: str = "db01", user: str = "postgres") -> str:
        """Run SQL on a host's PostgreSQL through its socket; rows as unaligned text, columns parted by `|`."""
        argv = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
        return self.exec(host, argv, user=user, stdin=statement.encode()).rstrip("\n")

    def mysql(self, statement: str, database: str = "perizinan", *, host: str = "db02") -> str:
        """Run SQL on a host's MariaDB as root through its socket; rows as text, columns parted by tabs."""
        argv = [
            "mariadb",
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
            f"--database={database}",
        ]
        return self.exec(host, argv, stdin=statement.encode(), timeout=900).rstrip("\n")

    def put(self, host: str, path: str, content: bytes, *, mode: int = 0o644, owner: str = "root:root") -> None:
        """Write a file inside a host."""
        name = shlex.quote(path)
        script = f"umask 077; cat >{name}; chown {shlex.quote(owner)} {name}; chmod {mode:o} {name}"
        self.exec(host, script, stdin=content)

    def generate(self, megabytes: int, database: str = "simpeg") -> int:
        """Make the personnel (or the licensing) database anew, about this large; returns its size in bytes.

        A gigabyte takes a minute or two."""
        with self.held("data"):
            if database == "simpeg":
                argv = ["psql", "-X", "-q", "-v", f"mb={megabytes}", "-d", "postgres", "-f", "-"]
                self.exec("db01", argv, user="postgres", stdin=GENERATORS[database].read_bytes(), timeout=900)
                return int(self.psql("SELECT pg_database_size('simpeg')", "postgres"))
            self.forget_databases("perizinan")
            self.mysql(f"SET @mb = {megabytes};\n{GENERATORS[database].read_text(encoding='utf-8')}", "mysql")
            query = "SELECT sum(file_size) FROM information_schema.innodb_sys_tablespaces WHERE name LIKE 'perizinan/%'"
            return int(self.mysql(query, "mysql"))

    def forget_databases(self, database: str) -> None:
        """Drop what restores kept or staged beside one database."""
        if database == "simpeg":
            self.psql(f"{KEPT[database]} \\gexec", "postgres")
            return
        for name in self.mysql(KEPT[database], "mysql").split():
            self.mysql(f"DROP DATABASE `{name}`", "mysql")

    def forget_kept(self) -> None:
        """Remove what restores and broken tests left beside the live data: kept and shadow databases and paths."""
        for database in GENERATORS:
            self.forget_databases(database)
        self.exec("file01", "find /srv /srv/antrean -mindepth 1 -maxdepth 1 -name '*__*_*' -exec rm -rf -- {} +")

    def forget_switches(self, *hosts: str) -> None:
        """Take away what a broken test left armed or held down on these hosts (on all, when none is named)."""
        for host in hosts or tuple(self.hosts):
            self.exec(host, FORGET_SWITCHES)

    @contextmanager
    def held(self, name: str, *, shared: bool = False) -> Iterator[None]:
        """Hold one of the lab's locks, against other processes: the lab is one, and tests run side by side."""
        with self.inventory.with_name(f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield

    def databases(self) -> list[str]:
        """The names of the databases on db01, templates left out."""
        query = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1"
        return self.psql(query, "postgres").splitlines()
