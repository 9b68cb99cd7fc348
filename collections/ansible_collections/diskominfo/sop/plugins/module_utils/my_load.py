# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Loading a dump into an empty schema as an account that can reach nothing else: staging, proof and placing share it."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_accounts import quote_account
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import (
    MyClient,
    MySession,
    quote_name,
    quote_text,
    sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_content import read_content
from ansible_collections.diskominfo.sop.plugins.module_utils.my_replay import Replay
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import movable
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import Stderr, sigterm_raises

_BLOCK = 1 << 20
_TICK_S = 0.25
_GRANTS = "SELECT, INSERT, CREATE, DROP, ALTER, INDEX, REFERENCES, LOCK TABLES"
# Strict mode is off as in every dump: an old row that today's mode would refuse must come back as it was.
_SETUP = (
    "SET NAMES utf8mb4; SET SESSION time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO', unique_checks = 0, "
    "foreign_key_checks = 0, autocommit = 0, max_statement_time = 0, sql_notes = 0, innodb_strict_mode = 0, "
    "explicit_defaults_for_timestamp = 1, default_storage_engine = InnoDB;\n"
)
_HISTORY = "SET SESSION system_versioning_insert_history = 1;\n"


@contextlib.contextmanager
def undone_by_signals() -> Iterator[None]:
    """Within the block a signal that asks us to end raises. A module listens already, and says as its result that it was
    ended; only where nobody does do we."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        with sigterm_raises():
            yield
    else:
        yield


def native_hash(password: str) -> str:
    """What MariaDB stores for ``password``, so that the password itself is never in a statement or a log."""
    inner = hashlib.sha1(password.encode()).digest()  # noqa: S324  (the server's own format; the password is 256 bits)
    return "*" + hashlib.sha1(inner).hexdigest().upper()  # noqa: S324  (as above)


def quote_pattern(schema: str) -> str:
    """``schema`` where GRANT takes a pattern, so that it means this one schema alone."""
    return quote_name(schema.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%"))


@dataclass(frozen=True)
class LoadAccount:
    """The account that loads into this one schema."""

    name: str
    host: str
    password: str

    @classmethod
    def create(cls, session: MySession, schema: str) -> LoadAccount:
        """Make it, with a password that nothing else knows."""
        host = session.column("SELECT SUBSTRING_INDEX(USER(), '@', -1)")[0]  # as the server sees where we come from
        made = cls(account_name(schema), host, secrets.token_urlsafe(32))
        who = quote_account(made.name, host)
        place = quote_pattern(schema)
        session.each(
            (
                f"CREATE OR REPLACE USER {who} IDENTIFIED VIA mysql_native_password USING "
                f"{quote_text(native_hash(made.password))} WITH MAX_USER_CONNECTIONS 4",
                f"GRANT {_GRANTS} ON {place}.* TO {who}",
            )
        )
        return made


def account_name(schema: str) -> str:
    """Name of the account that loads into ``schema``."""
    return f"sop_load_{hashlib.sha256(schema.encode()).hexdigest()[:16]}"


def drop_account(session: MySession, schema: str) -> None:
    """Remove the account that loads into ``schema``, wherever it came from."""
    name = account_name(schema)
    for host in session.column(sql("SELECT Host FROM mysql.global_priv WHERE User = {name}", name=name)):
        session.run(f"DROP USER IF EXISTS {quote_account(name, host)}")


@dataclass
class Loader:
    """One load of ``source`` into the existing, empty ``schema``."""

    admin: MyClient
    account: LoadAccount
    schema: str
    source: DumpSource
    manifest: Json
    #: called a few times a second; raises SopError to stop the load (the disk fills up)
    watch: Callable[[], None]

    def run(self) -> Json:
        """Load, analyse, read the content back; the content with checksums."""
        client = self.admin.as_account(self.account.name, self.account.password)
        self._restore(client)
        # Analysed and read by the loading account: nothing that the dump brought runs as the administrator.
        with MySession(client) as session:
            names = movable(session, self.schema)
            for start in range(0, len(names), 50):
                listed = (f"{quote_name(self.schema)}.{quote_name(name)}" for name in names[start : start + 50])
                session.run(f"ANALYZE TABLE {', '.join(listed)}")
            session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            return read_content(session, self.schema, checksums=True)

    def _restore(self, client: MyClient) -> None:
        """Feed the dump's statements to the client; the stream is read to its end and its hash compared."""
        facts: Json = self.manifest["content"]["globals"]
        errors = Stderr()
        stream = self.source.open()
        child = client.spawn(
            "mariadb",
            ["--batch", "--binary-mode", "--skip-reconnect", "--local-infile=0", "-A"],
            stdin=subprocess.PIPE,
            stderr=errors.fd,
        )
        pump: _Pump | None = None
        try:
            head = f"USE {quote_name(self.schema)};\n{_SETUP}{_HISTORY if facts.get('history') else ''}"
            pump = _Pump(stream, child, head.encode(), self, str(facts["schema"]["name"]))
            while pump.is_alive():
                self.watch()
                pump.join(_TICK_S)
            pump.raise_error()
            while child.poll() is None:
                self.watch()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_TICK_S)
            if child.returncode != 0:
                raise SopError(
                    f"{self.admin.error(errors)}; it happened while loading into {self.schema}, the live data is untouched. "
                    "Mend the cause or choose another backup"
                )
            self._compare(pump)
        finally:
            child.kill()
            child.wait()
            if pump is not None:
                pump.stop()
            stream.close()
            errors.close()

    def _compare(self, pump: _Pump) -> None:
        for name, found in (("bytes", pump.bytes), ("sha256", pump.digest.hexdigest())):
            wanted = self.manifest.get(name)
            if wanted is not None and wanted != found:
                raise SopError(
                    f"{self.admin.label}: the dump from the vault has {name} {found}, its manifest says {wanted}; "
                    "it was refused. Restore another backup and have this one examined"
                )


class _Pump(threading.Thread):
    """Reads the stream in one thread, makes statements of it and writes them to the client."""

    def __init__(
        self, stream: IO[bytes], child: subprocess.Popen[bytes], head: bytes, loader: Loader, source: str
    ) -> None:
        super().__init__(name="sop-pump", daemon=True)
        self.bytes = 0
        self.digest = hashlib.sha256()
        self._stream = stream
        self._child = child
        self._head = head
        self._replay = Replay(self._lines(), source, loader.schema, loader.admin.label)
        self._stopped = False
        self._error: BaseException | None = None
        self.start()

    def _read(self) -> bytes:
        block = b"" if self._stopped else self._stream.read(_BLOCK)
        self.bytes += len(block)
        self.digest.update(block)
        return block

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        while block := self._read():
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest

    def run(self) -> None:
        stdin = self._child.stdin
        assert stdin is not None  # noqa: S101  (spawned with a pipe)
        try:
            stdin.write(self._head)
            waiting: list[bytes] = []
            size = 0
            for part in self._replay.statements():
                waiting.append(part)
                size += len(part)
                if size >= _BLOCK:
                    stdin.write(b"".join(waiting))
                    waiting, size = [], 0
            stdin.write(b"".join(waiting))
            while self._read():  # the second part is not loaded, but it belongs to what the manifest describes
                pass
        except BrokenPipeError:
            pass  # the client's own error is the better explanation
        except BaseException as error:  # raise_error raises it in the caller's thread
            if not self._stopped:
                self._error = error
                self._child.kill()
        finally:
            with contextlib.suppress(OSError, ValueError):
                stdin.close()

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True

    def raise_error(self) -> None:
        """Raise what ended the reading."""
        if self._error is not None:
            raise self._error
