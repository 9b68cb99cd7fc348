# SPDX-License-Identifier: Apache-2.0
"""The demo's web service: takes transactions into the database, and has a few customers of its own.

``python -m sopctl.demo.app start|stop|status|serve FOLDER`` are the commands of its service manager; ``app.json`` in
FOLDER says where database and port are. ``status`` exits 0 when it runs, 3 when it does not.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sopctl.demo.database import Database, Postgres, Sqlite

RUNNING, NOT_RUNNING = 0, 3
WRITE_EVERY = 0.5  # seconds
STARTS_WITHIN, STOPS_WITHIN = 20.0, 10.0  # seconds
USAGE = "usage: python -m sopctl.demo.app start|stop|status|serve FOLDER"


def configure(folder: Path, *, engine: str, port: int, place: str, database_port: int = 0) -> None:
    """Write ``app.json``; ``place`` is the socket's folder or the database file."""
    value = {"engine": engine, "port": port, "place": place, "database_port": database_port}
    (folder / "app.json").write_text(json.dumps(value, indent=2) + "\n")


def database(settings: dict[str, Any]) -> Database:
    """The database of ``app.json``."""
    if settings["engine"] == "sqlite":
        return Sqlite(Path(settings["place"]))
    return Postgres(settings["place"], settings["database_port"])


class Counter:
    """What the service does with its database."""

    def __init__(self, source: Database) -> None:
        self._source = source
        self._random = random.Random(20230106)  # noqa: S311  # customers, not secrets

    def take(self, resident: int, kind: int, fee: int) -> None:
        """Store one transaction, committed when this returns."""
        mark = self._source.mark
        with closing(self._source.connect()) as connection:
            connection.execute(
                f"INSERT INTO transaksi (warga, jenis, biaya) VALUES ({mark}, {mark}, {mark})",  # noqa: S608  # marks
                (resident, kind, fee),
            )

    def healthy(self) -> int:
        """Write, read back, count transactions; raises when any of it fails."""
        with closing(self._source.connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(
                f"INSERT INTO denyut (id, terakhir) VALUES (1, {self._source.now})"  # noqa: S608  # a constant
                " ON CONFLICT (id) DO UPDATE SET terakhir = excluded.terakhir"
            )
            cursor.execute("SELECT terakhir FROM denyut WHERE id = 1")
            if cursor.fetchone() is None:
                raise LookupError("what was written cannot be read")
            cursor.execute("SELECT count(*) FROM transaksi")
            return int(cursor.fetchone()[0])

    def summary(self) -> list[tuple[Any, ...]]:
        """Transactions by kind."""
        return self._source.rows("SELECT layanan, jumlah FROM rekap ORDER BY 1")

    def customers(self, ended: threading.Event) -> None:
        """Somebody comes every half second, until ``ended``."""
        while not ended.wait(WRITE_EVERY):
            try:
                self.take(
                    self._random.randint(1, 20000), self._random.randint(1, 12), self._random.randint(0, 99) * 500
                )
            except Exception as error:  # whatever happens to the database, the next customer tries again
                print(f"transaction lost: {str(error).splitlines()[0]}", flush=True)


class Handler(BaseHTTPRequestHandler):
    """``GET /``, ``GET /health``, ``POST /transaksi``."""

    counter: Counter

    def do_GET(self) -> None:  # the name http.server looks for
        """The front page and the health."""
        try:
            if self.path == "/health":
                self._answer(200, {"status": "ok", "transaksi": self.counter.healthy()})
            elif self.path == "/":
                self._answer(200, dict(self.counter.summary()))
            else:
                self._answer(404, {"error": "no such page"})
        except Exception as error:  # a broken database is what /health is there to tell
            self._answer(503, {"status": "error", "error": str(error).splitlines()[0]})

    def do_POST(self) -> None:  # the name http.server looks for
        """One transaction: ``{"warga": 1, "jenis": 2, "biaya": 500}``."""
        if self.path != "/transaksi":
            self._answer(404, {"error": "no such page"})
            return
        try:
            given = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 4096)))
            values = [int(given[name]) for name in ("warga", "jenis", "biaya")]
        except (ValueError, KeyError, TypeError):
            self._answer(400, {"error": "send warga, jenis and biaya as numbers"})
            return
        try:
            self.counter.take(*values)
        except Exception as error:  # refused by the database, or there is none
            self._answer(503, {"error": str(error).splitlines()[0]})
        else:
            self._answer(201, {"status": "stored"})

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # the base class's name
        """Health checks are not worth a line each."""


def serve(folder: Path) -> int:
    """Run until SIGTERM; the pid file says that we do."""
    settings = json.loads((folder / "app.json").read_text())
    counter = Counter(database(settings))
    Handler.counter = counter
    ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", settings["port"]), Handler)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    customers = threading.Thread(target=counter.customers, args=(ended,))
    customers.start()
    pid = folder / "app.pid"
    pid.write_text(f"{os.getpid()}\n")
    try:
        server.serve_forever(poll_interval=0.05)
    finally:
        ended.set()
        customers.join()
        server.server_close()
        pid.unlink(missing_ok=True)
    return 0


def running(folder: Path) -> int | None:
    """The service's process id, None when it does not run. The pid file alone proves nothing, for numbers are used again."""
    try:
        pid = int((folder / "app.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except (OSError, ValueError):
        return None
    return pid if "serve" in command and str(folder) in command else None


def status(folder: Path) -> int:
    """Say whether it runs."""
    pid = running(folder)
    print(f"runs (pid {pid})" if pid else "does not run")
    return RUNNING if pid else NOT_RUNNING


def start(folder: Path) -> int:
    """Start it in the background and wait until it listens."""
    if running(folder):
        return 0
    with (folder / "app.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "sopctl.demo.app", "serve", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and child.poll() is None:
        if running(folder) == child.pid:
            return 0
        time.sleep(0.02)
    print(f"did not start; see {folder / 'app.log'}")
    return 1


def stop(folder: Path) -> int:
    """Stop it and wait until it has ended."""
    pid = running(folder)
    for number, patience in ((signal.SIGTERM, STOPS_WITHIN), (signal.SIGKILL, 2.0)):
        if pid is None:
            return 0
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            pid = running(folder)
            if pid is None:
                return 0
            time.sleep(0.02)
    print(f"pid {pid} does not end")
    return 1


def main(words: list[str]) -> int:
    """One command of the service manager."""
    commands = {"start": start, "stop": stop, "status": status, "serve": serve}
    if len(words) != 2 or words[0] not in commands:
        print(USAGE, file=sys.stderr)
        return 2
    return commands[words[0]](Path(words[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
