# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Running PostgreSQL's own client programs: the right user, a clean environment, one-line errors, no secret in sight.

There is no Python driver on the hosts, so everything goes through psql, pg_dump and pg_restore.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import pwd
import re
import shutil
import signal
import string
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Union

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.secretfile import SecretFile

Stream = Union[int, IO[bytes], None]

# Settings of the session that a database's owner could have changed by ALTER DATABASE … SET, and those that decide how
# values are written as text (checksums must not depend on them). row_security=off: an error instead of missing rows.
_SESSION = {
    "search_path": "pg_catalog",
    "role": "none",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": r"read\ committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_min_messages": "warning",
    "row_security": "off",
    "datestyle": "ISO,YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "jit": "off",
}
#: the part of it that pg_dump and pg_restore need; they set the rest themselves
TOOL_SESSION = {
    name: _SESSION[name]
    for name in (
        "role",
        "default_transaction_read_only",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
    )
}
# PostgreSQL 17 and newer; older servers refuse a connection that names it
_NO_TRANSACTION_TIMEOUT = "DO $sop$ BEGIN PERFORM set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'; END $sop$;\n"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PR_SET_PDEATHSIG = 1
_NO_PASSFILE = 'password file "/dev/null"'  # libpq warns of it; it is how we say that there is none
_DEBIAN = "/usr/lib/postgresql"
_LIBC = ctypes.CDLL(None, use_errno=True)


def quote_ident(name: str) -> str:
    """``name`` as an SQL identifier."""
    if "\0" in name:
        raise SopError("a name from PostgreSQL holds a NUL byte")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """``text`` as an SQL string, whatever standard_conforming_strings says."""
    if "\0" in text:
        raise SopError("a value for PostgreSQL holds a NUL byte")
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted


class _Sql(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "raw":
            return str(value)
        return quote_ident(str(value)) if format_spec == "name" else quote_literal(str(value))


def sql(template: str, **values: Any) -> str:
    """``template`` with ``{x}`` as a string literal, ``{x:name}`` as an identifier, ``{x:raw}`` as it is."""
    return _Sql().vformat(template, (), values)


def die_with_parent(sign: int = signal.SIGKILL) -> Callable[[], None]:
    """A preexec_fn: the kernel sends ``sign`` to the child when the thread that started it ends, kill -9 included."""
    parent = os.getpid()

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(sign))
        if os.getppid() != parent:
            os._exit(1)

    return prepare


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise SystemExit, so that ``finally`` clauses clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    saved = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)


class Stderr:
    """The error output of a child in memory; :meth:`line` is what a person may see of it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("sop-stderr")

    def line(self) -> str:
        """The first error in one line, without DETAIL, CONTEXT and without the values of rows."""
        text = os.pread(self.fd, 1 << 20, 0).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and _NO_PASSFILE not in line]
        named = [line for line in lines if re.search(r"\b(error|ERROR|FATAL|PANIC)\b", line)]
        line = re.sub(r"^psql:<stdin>:\d+:\s*", "", (named or lines or ["no message"])[0])
        copied = re.match(r'(.*COPY failed for table ".*?": )(.*)$', line)
        if copied:  # what follows may quote a value of a row
            line = copied.group(1) + re.sub(r'".*"', '"…"', copied.group(2))
        return re.sub(r"\s+", " ", line)[:300]

    def close(self) -> None:
        """Forget it. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class PgClient:
    """One server, reached as one role. ``label`` begins every error (the dataset's id)."""

    def __init__(self, connection: Json, password: str | None, label: str) -> None:
        self.connection = connection
        self.password = password
        self.label = label
        self.user: str = connection.get("user") or "postgres"
        self.maintenance_db: str = connection.get("maintenance_db") or "postgres"
        self.bin_dir: str = connection.get("bin_dir") or _find_bin_dir(label)
        self.account = self._account()
        self._tools_dir: str | None = None

    def _account(self) -> pwd.struct_passwd | None:
        """The OS account that client programs run as, or None for our own."""
        name = self.connection.get("os_user")
        if not name or os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(name)
        except KeyError:
            raise SopError(f"{self.label}: no OS user {name} on this host; correct connection.os_user") from None

    def as_role(self, name: str, password: str, host: str | None) -> PgClient:
        """The same server as another role; ``host`` None means the same way in as ours."""
        connection = {**self.connection, "user": name, "host": host or self.connection.get("host")}
        connection["bin_dir"] = self.tools_dir()  # the role might not be let into the maintenance database to ask
        return PgClient(connection, password, self.label)

    def program(self, name: str) -> str:
        """Path of a client program."""
        folder = self.bin_dir if name == "psql" else self.tools_dir()
        path = os.path.join(folder, name)
        if not os.access(path, os.X_OK):
            raise SopError(f"{self.label}: no {name} in {folder}; install it or correct connection.bin_dir")
        return path

    def tools_dir(self) -> str:
        """Where the programs are whose version matters: those of the server's own major, unless the plan says where."""
        if self._tools_dir is None:
            own = None if self.connection.get("bin_dir") else os.path.join(_DEBIAN, str(self.major()), "bin")
            self._tools_dir = own if own and os.path.isdir(own) else self.bin_dir
        return self._tools_dir

    def tool_major(self, name: str) -> int:
        """Major version of a client program."""
        child = self.spawn(name, ["--version"], stdout=subprocess.PIPE)
        out, _ = child.communicate()
        found = re.search(rb"\) (\d+)", out)
        if found is None:
            raise SopError(
                f"{self.label}: {self.program(name)} does not tell its version; reinstall PostgreSQL's client"
            )
        return int(found.group(1))

    def major(self) -> int:
        """Major version of the server."""
        return int(self.query(self.maintenance_db, "SELECT current_setting('server_version_num')::int / 10000;"))

    def _environment(self, database: str | None, session: Json) -> dict[str, str]:
        host = self.connection.get("host") or self.connection.get("socket") or "/var/run/postgresql"
        environment = {
            "PATH": _PATH,
            "LC_ALL": "C.UTF-8",
            "HOME": "/nonexistent",
            "PGHOST": host,
            "PGPORT": str(self.connection.get("port") or 5432),
            "PGUSER": self.user,
            "PGAPPNAME": "sop",
            "PGCLIENTENCODING": "UTF8",
            "PGCONNECT_TIMEOUT": "10",
            "PGGSSENCMODE": "disable",
            "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in session.items()),
        }
        if database is not None:
            environment["PGDATABASE"] = database
        return environment

    def spawn(
        self,
        program: str,
        args: Sequence[str],
        *,
        database: str | None = None,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.DEVNULL,
        stderr: Stream = subprocess.DEVNULL,
        pass_fds: Iterable[int] = (),
        session: Json | None = None,
        death: int = signal.SIGKILL,
    ) -> subprocess.Popen[bytes]:
        """Start a program as the connection's OS user. Call it in a thread that lives as long as the child should."""
        environment = self._environment(database, _SESSION if session is None else session)
        fds = list(pass_fds)
        uid = gid = groups = None
        if self.account is not None:
            uid, gid = self.account.pw_uid, self.account.pw_gid
            groups = os.getgrouplist(self.account.pw_name, gid)
        secret: SecretFile | None = None
        if self.password is not None:
            escaped = self.password.replace("\\", "\\\\").replace(":", "\\:")
            secret = SecretFile(f"*:*:*:*:{escaped}\n".encode(), uid)
            environment["PGPASSFILE"] = secret.path
            fds.append(secret.fd)
        else:
            environment["PGPASSFILE"] = "/dev/null"
        try:
            return subprocess.Popen(
                [self.program(program), *args],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                cwd="/",
                pass_fds=fds,
                preexec_fn=die_with_parent(death),  # noqa: PLW1509 (calls prctl only, no locks)
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=groups,
            )
        finally:
            if secret is not None:
                secret.close()

    def execute(self, database: str, sql: str) -> str:
        """Run a script; its output as text. SopError with the first error."""
        errors = Stderr()
        try:
            child = self.spawn(
                "psql", PSQL_ARGS, database=database, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.fd
            )
            try:
                out, _ = child.communicate((_NO_TRANSACTION_TIMEOUT + sql).encode("utf-8", "surrogateescape"))
            except BaseException:
                child.kill()
                child.wait()
                raise
            if child.returncode != 0:
                raise self.error(database, errors.line())
            return out.decode("utf-8", "surrogateescape")
        finally:
            errors.close()

    def query(self, database: str, sql: str) -> Any:
        """The one JSON value that ``sql`` selects."""
        out = self.execute(database, sql).strip()
        return json.loads(out) if out else None

    def error(self, database: str, line: str) -> SopError:
        """A SopError for a failure that PostgreSQL told us."""
        if "connection to server" in line or "could not connect" in line:
            return SopError(
                f"{self.label}: cannot open database {database} ({line}); start PostgreSQL or correct the connection"
            )
        return SopError(f"{self.label}: PostgreSQL refused a step in database {database} ({line})")


PSQL_ARGS = ["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-v", "SHOW_CONTEXT=never"]
_END = "sop-end-of-answer"


class PsqlSession:
    """One database session that stays open: a transaction over several steps."""

    def __init__(self, client: PgClient, database: str) -> None:
        self._client = client
        self._database = database
        self._errors = Stderr()
        self._child = client.spawn(
            "psql", PSQL_ARGS, database=database, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors.fd
        )
        try:
            self.execute(_NO_TRANSACTION_TIMEOUT)
        except BaseException:
            self.close()
            raise

    def execute(self, sql: str) -> str:
        """Run statements (each ended with ``;``); their output. After an error the session is gone."""
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            raise SopError(f"{self._client.label}: the psql session has no pipes")
        try:
            stdin.write(f"{sql}\n;SELECT '{_END}';\n".encode("utf-8", "surrogateescape"))
            stdin.flush()
        except BrokenPipeError:
            self._fail()
        lines: list[str] = []
        for raw in stdout:
            line = raw.decode("utf-8", "surrogateescape").rstrip("\n")
            if line == _END:
                return "\n".join(lines)
            lines.append(line)
        return self._fail()

    def query(self, sql: str) -> Any:
        """The one JSON value that ``sql`` selects."""
        out = self.execute(sql).strip()
        return json.loads(out) if out else None

    def _fail(self) -> str:
        self._child.wait()
        raise self._client.error(self._database, self._errors.line())

    def kill(self) -> None:
        """Make a query that runs in another thread fail now."""
        self._child.kill()

    def close(self) -> None:
        """End the session; an open transaction is rolled back."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._errors.close()

    def __enter__(self) -> PsqlSession:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def server_programs(major: int) -> str:
    """Where Debian has the programs of a server of ``major``."""
    return f"{_DEBIAN}/{major}/bin"


def server_majors() -> list[int]:
    """The versions of which the programs of a server are here, oldest first."""
    found = [re.fullmatch(rf"{_DEBIAN}/(\d+)/bin/postgres", path) for path in glob.glob(f"{_DEBIAN}/*/bin/postgres")]
    return sorted(
        int(each[1]) for each in found if each and os.access(f"{server_programs(int(each[1]))}/initdb", os.X_OK)
    )


def _find_bin_dir(label: str) -> str:
    """Where PostgreSQL's programs are when the plan does not say: the newest Debian one, else the PATH's."""
    found = glob.glob(f"{_DEBIAN}/*/bin/psql")
    if found:
        return os.path.dirname(max(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path)]))
    psql = shutil.which("psql", path=_PATH)
    if psql is None:
        raise SopError(f"{label}: PostgreSQL's client programs are not on this host; set connection.bin_dir")
    return os.path.dirname(os.path.realpath(psql))
