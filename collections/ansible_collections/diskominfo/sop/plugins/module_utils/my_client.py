# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Running MariaDB's own client programs: the right user, no option files but ours, one-line errors, no secret in sight.

There is no Python driver on the hosts, so everything goes through mariadb and mariadb-dump.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import string
import subprocess
from collections.abc import Iterable, Sequence
from typing import IO, Any, Union

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import Stderr, die_with_parent
from ansible_collections.diskominfo.sop.plugins.module_utils.secretfile import SecretFile

Stream = Union[int, IO[bytes], None]

DEFAULT_SOCKET = "/run/mysqld/mysqld.sock"
OLDEST = (10, 6)
#: seconds that a statement waits for another session's lock on a table, where nothing else is said
LOCK_WAIT_S = 10
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# binary-mode: without it a line "\! command" in what we send would be run by the client's shell
_CLIENT_ARGS = [
    "--connect-timeout=10",
    "--batch",
    "--skip-column-names",
    "--unbuffered",
    "--binary-mode",
    "--skip-reconnect",
    "-A",
]
_END = "sop-end-of-answer"
# What an administrator could have set otherwise for all sessions, and what decides how values are written as text.
_SESSION = (
    "SET NAMES utf8mb4",
    "SET SESSION sql_mode = '', time_zone = '+00:00', max_statement_time = 0, autocommit = 1, "
    f"group_concat_max_len = 4294967295, lock_wait_timeout = {LOCK_WAIT_S}, innodb_lock_wait_timeout = {LOCK_WAIT_S}, "
    "foreign_key_checks = 1, unique_checks = 1, sql_select_limit = DEFAULT, tx_read_only = 0, "
    "tx_isolation = 'REPEATABLE-READ', sql_safe_updates = 0, big_tables = 0, old_mode = '', div_precision_increment = 4",
)
#: errors whose text quotes rows or statements
_TELLING = frozenset((1062, 1064, 1292, 1366, 1411, 1525, 1586, 4078))
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "0": "\0"}


class MySqlError(SopError):
    """What the server said; ``code`` is its number, 0 when it could not be reached."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def quote_name(name: str) -> str:
    """``name`` as an SQL identifier."""
    if "\0" in name:
        raise SopError("a name from MariaDB holds a NUL byte")
    return "`" + name.replace("`", "``") + "`"


def quote_text(text: str) -> str:
    """``text`` as an SQL string (our sessions have no NO_BACKSLASH_ESCAPES)."""
    if "\0" in text:
        raise SopError("a value for MariaDB holds a NUL byte")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def hex_text(text: str) -> str:
    """``text`` as an SQL expression in which nothing of it can be read as SQL or as a client's command."""
    return f"CONVERT(0x{text.encode('utf-8').hex()} USING utf8mb4)" if text else "''"


class _Sql(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "raw":
            return str(value)
        return quote_name(str(value)) if format_spec == "name" else quote_text(str(value))


def sql(template: str, **values: Any) -> str:
    """``template`` with ``{x}`` as a string, ``{x:name}`` as an identifier, ``{x:raw}`` as it is."""
    return _Sql().vformat(template, (), values)


def _option(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'{name}="{escaped}"\n'


class MyClient:
    """One server, reached as one account. ``label`` begins every error (the dataset's id)."""

    def __init__(self, connection: Json, password: str | None, label: str) -> None:
        self.connection = connection
        self.password = password
        self.label = label
        self.user: str = connection.get("user") or "root"
        self.bin_dir: str = connection.get("bin_dir") or _find_bin_dir(label)
        self.account = self._account()

    @property
    def remote(self) -> bool:
        """True when the server is another machine's."""
        host = str(self.connection.get("host") or "")
        return bool(host) and not host.startswith("/") and host not in ("localhost", "127.0.0.1", "::1")

    def _account(self) -> pwd.struct_passwd | None:
        """The OS account that client programs run as, or None for our own."""
        name = self.connection.get("os_user")
        if not name or os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(name)
        except KeyError:
            raise SopError(f"{self.label}: no OS user {name} on this host; correct connection.os_user") from None

    def as_account(self, name: str, password: str) -> MyClient:
        """The same server as another account."""
        return MyClient({**self.connection, "user": name}, password, self.label)

    def program(self, name: str) -> str:
        """Path of a program of MariaDB; the server's own lie in another folder than the clients."""
        for folder in (self.bin_dir, *_PATH.split(":")):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                return path
        raise SopError(f"{self.label}: no {name} in {self.bin_dir}; install it or correct connection.bin_dir")

    def _options(self) -> bytes:
        host = str(self.connection.get("host") or "")
        text = "[client]\n" + _option("user", self.user) + "default-character-set=utf8mb4\n"
        if host and not host.startswith("/"):
            text += _option("host", host) + f"port={int(self.connection.get('port') or 3306)}\nprotocol=tcp\n"
        else:
            text += _option("socket", host or self.connection.get("socket") or DEFAULT_SOCKET) + "protocol=socket\n"
        if self.password is not None:
            text += _option("password", self.password)
        return text.encode()

    def spawn(
        self,
        program: str,
        args: Sequence[str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.DEVNULL,
        stderr: Stream = subprocess.DEVNULL,
        pass_fds: Iterable[int] = (),
        client: bool = True,
        death: int = signal.SIGKILL,
    ) -> subprocess.Popen[bytes]:
        """Start a program as the connection's OS user, with our options alone where it is a ``client``.

        Call it in a thread that lives as long as the child should.
        """
        uid = gid = groups = None
        if self.account is not None:
            uid, gid = self.account.pw_uid, self.account.pw_gid
            groups = os.getgrouplist(self.account.pw_name, gid)
        with contextlib.ExitStack() as stack:
            fds, first = list(pass_fds), []
            if client:
                secret = stack.enter_context(SecretFile(self._options(), uid))
                fds.append(secret.fd)
                first = [f"--defaults-file={secret.path}"]
            return subprocess.Popen(
                [self.program(program), *first, *args],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
                cwd="/",
                pass_fds=fds,
                preexec_fn=die_with_parent(death),  # noqa: PLW1509 (calls prctl only, no locks)
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=groups,
            )

    def query(self, text: str) -> Any:
        """The one JSON value that ``text`` selects, in a session of its own; None for no row."""
        with MySession(self) as session:
            return session.value(text)

    def error(self, stderr: Stderr) -> MySqlError:
        """What the server or the client said, in one line without rows."""
        text = os.pread(stderr.fd, 1 << 20, 0).decode("utf-8", "replace")
        found = re.findall(r"^ERROR (\d+)(?: \(\w+\))?(?: at line \d+)?: (.*)$", text, re.MULTILINE)
        if not found:
            return MySqlError(f"{self.label}: the MariaDB client gave up ({stderr.line()})", 0)
        code, line = int(found[-1][0]), str(found[-1][1])
        if code in _TELLING:
            line = re.sub(r"(near|entry|value:?) '.*'", r"\1 '…'", line)
        line = re.sub(r"\s+", " ", line)[:300]
        if code in (2002, 2003, 2005, 2006, 2013, 1045, 1698, 1053, 4151):
            return MySqlError(
                f"{self.label}: cannot talk to MariaDB as {self.user} ({code}: {line}); start it or correct the connection",
                code,
            )
        return MySqlError(f"{self.label}: MariaDB refused a step ({code}: {line})", code)


class MySession:
    """One connection that stays open over several statements. After an error it is gone."""

    def __init__(self, client: MyClient, schema: str | None = None) -> None:
        self.client = client
        self._errors = Stderr()
        self._child = client.spawn(
            "mariadb", _CLIENT_ARGS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors.fd
        )
        try:
            for statement in _SESSION:
                self.run(statement)
            if schema is not None:
                self.run(f"USE {quote_name(schema)}")
        except BaseException:
            self.close()
            raise

    def run(self, statement: str) -> list[list[str]]:
        """Run one statement (without its ``;``); its rows as text. SQL NULL cannot be told from the word."""
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            raise SopError(f"{self.client.label}: the session has no pipes")
        try:
            stdin.write(f"{statement}\n;\nSELECT '{_END}';\n".encode("utf-8", "surrogateescape"))
            stdin.flush()
        except (BrokenPipeError, ValueError):
            self._fail()
        rows: list[list[str]] = []
        for raw in stdout:
            line = raw.decode("utf-8", "surrogateescape").rstrip("\n")
            if line == _END:
                return rows
            rows.append([_ESCAPE.sub(_unescape, field) for field in line.split("\t")])
        return self._fail()

    def each(self, statements: Iterable[str]) -> None:
        """Run several statements."""
        for statement in statements:
            self.run(statement)

    def values(self, statement: str) -> list[Any]:
        """The JSON values in the first column of ``statement``'s rows."""
        return [json.loads(row[0]) for row in self.run(statement)]

    def value(self, statement: str) -> Any:
        """The one JSON value that ``statement`` selects; None for no row."""
        found = self.values(statement)
        return found[0] if found else None

    def column(self, statement: str) -> list[str]:
        """The first column of ``statement``'s rows as text."""
        return [row[0] for row in self.run(statement)]

    def _fail(self) -> list[list[str]]:
        self._child.wait()
        raise self.client.error(self._errors)

    def close(self) -> None:
        """End the session; an open transaction is rolled back."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._errors.close()

    def __enter__(self) -> MySession:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPED.get(match.group(1), match.group(1))


def _find_bin_dir(label: str) -> str:
    """Where MariaDB's client programs are when the plan does not say."""
    found = shutil.which("mariadb", path=_PATH)
    if found is None:
        raise SopError(f"{label}: MariaDB's client programs are not on this host; set connection.bin_dir")
    return os.path.dirname(os.path.realpath(found))
