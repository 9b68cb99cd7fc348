"""A private MariaDB server for tests, in a folder of its own, reached by a socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def installed() -> bool:
    """Whether this machine has the programs."""
    names = ("mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump")
    return all(shutil.which(name, path=ENVIRONMENT["PATH"]) for name in names)


def server_account() -> str:
    """The OS user that servers run as: MariaDB refuses root."""
    return "mysql" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


@dataclass
class Server:
    """A server that can be killed and started again. Its administrator is who runs the tests, by the socket."""

    path: Path
    extra: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def admin(self) -> str:
        return pwd.getpwuid(os.geteuid()).pw_name

    @property
    def connection(self) -> dict[str, Any]:
        return {"socket": str(self.path / "s"), "user": self.admin}

    def start(self) -> None:
        """Start it and wait until it answers."""
        log = (self.path / "log").open("ab")
        self.process = subprocess.Popen(
            [
                "mariadbd", "--no-defaults", f"--datadir={self.path}/data", f"--socket={self.path}/s", "--skip-networking",
                f"--pid-file={self.path}/pid", f"--tmpdir={self.path}/tmp", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M",
                "--event-scheduler=ON", "--performance-schema=OFF", *self.extra,
            ],
            stdout=log, stderr=log, cwd="/", env=ENVIRONMENT, user=server_account() if os.geteuid() == 0 else None,
        )  # fmt: skip
        log.close()
        for attempt in range(300):
            try:
                self.sql("SELECT 1")
                return
            except AssertionError as error:
                if attempt == 299 or self.process.poll() is not None:
                    raise AssertionError((self.path / "log").read_text(errors="replace")[-3000:]) from error
                time.sleep(0.1)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def sql(self, text: str, schema: str = "", user: str = "", password: str = "") -> str:
        """Run SQL with the client, as tests' own way to look (not the engine's)."""
        done = self.run(text, schema, user, password)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run(self, text: str, schema: str = "", user: str = "", password: str = "") -> subprocess.CompletedProcess[str]:
        """The same, whatever comes of it."""
        return subprocess.run(
            [
                "mariadb", "--no-defaults", f"--socket={self.path}/s", f"--user={user or self.admin}", "-N", "-B", "-r",
                "--default-character-set=utf8mb4", *([f"--password={password}"] if password else []),
                *([schema] if schema else []),
            ],
            input=text, text=True, capture_output=True, check=False, cwd="/", env=ENVIRONMENT,
        )  # fmt: skip

    def dump(self, schema: str) -> str:
        """A whole dump by mariadb-dump, made comparable: rows, definitions, nothing of time."""
        history = ["--dump-history"]
        done = subprocess.run(
            [
                "mariadb-dump", "--no-defaults", f"--socket={self.path}/s", f"--user={self.admin}", "--skip-dump-date",
                "--skip-extended-insert", "--hex-blob", "--routines", "--events", "--triggers", "--order-by-primary",
                "--single-transaction", "--default-character-set=utf8mb4", *history, schema,
            ],
            text=True, capture_output=True, check=False, cwd="/", env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return "\n".join(line for line in done.stdout.splitlines() if "Host: " not in line)


@contextmanager
def running(*extra: str) -> Iterator[Server]:
    """A server in a directory of its own, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="sop-my-"))
    path.chmod(0o755)
    account = server_account()
    # a server that starts removes what others have of temporary tables in its folder for them, which is /tmp by default
    (path / "tmp").mkdir()
    if os.geteuid() == 0:
        shutil.chown(path, account)
        shutil.chown(path / "tmp", account)
    server = Server(path, list(extra))
    try:
        done = subprocess.run(
            [
                "mariadb-install-db", "--no-defaults", f"--datadir={path}/data", "--skip-test-db",
                "--auth-root-authentication-method=socket", f"--auth-root-socket-user={server.admin}",
                f"--tmpdir={path}/tmp", "--innodb-log-file-size=16M",
            ],
            capture_output=True, text=True, check=False, cwd="/", env=ENVIRONMENT,
            user=account if os.geteuid() == 0 else None,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
        shutil.rmtree(path, ignore_errors=True)
