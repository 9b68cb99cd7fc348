# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A pg_dump being produced, and the row counts of the very snapshot it dumps."""

from __future__ import annotations

import contextlib
import subprocess
import threading

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpStream, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    TOOL_SESSION,
    PgClient,
    PsqlSession,
    Stderr,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_content import read_content, read_globals
from ansible_collections.diskominfo.sop.plugins.module_utils.pipes import widen

_MAGIC = b"PGDMP"
# An application that holds an exclusive lock makes pg_dump fail after this long instead of waiting for ever.
_LOCK_WAIT_MS = 120_000


class PgDumpStream(DumpStream):
    """``pg_dump -Fc -Z0`` of one database; a second session counts rows in the same exported snapshot."""

    def __init__(self, client: PgClient, database: str) -> None:
        self._client = client
        self._database = database
        self._errors = Stderr()
        self._head = b""
        self._finished = False
        self._content: Json = {}
        self._count_error: BaseException | None = None
        self._session = PsqlSession(client, database)
        try:
            self._session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;")
            snapshot = self._session.execute("SELECT pg_export_snapshot();").strip()
            self._globals = {**read_globals(self._session), "dumped_by": client.tool_major("pg_dump")}
            self._child = client.spawn(
                "pg_dump",
                [
                    "--format=custom",
                    "--compress=0",
                    "--no-password",
                    f"--snapshot={snapshot}",
                    f"--lock-wait-timeout={_LOCK_WAIT_MS}",
                ],
                database=database,
                stdout=subprocess.PIPE,
                stderr=self._errors.fd,
                session=TOOL_SESSION,
            )
        except BaseException:
            self._session.close()
            self._errors.close()
            raise
        if self._child.stdout is not None:
            widen(self._child.stdout)
        self._counter = threading.Thread(target=self._count, name="sop-count", daemon=True)
        self._counter.start()

    @property
    def pid(self) -> int:
        """Process id of pg_dump."""
        return self._child.pid

    def _count(self) -> None:
        try:
            self._content = read_content(self._session, checksums=False)
        except BaseException as error:  # handed to finish(), in the caller's thread
            self._count_error = error

    def read(self, size: int) -> bytes:
        """See :class:`DumpStream`."""
        if self._child.stdout is None:
            return b""
        data = self._child.stdout.read(size)
        if len(self._head) < len(_MAGIC):
            self._head += data[: len(_MAGIC) - len(self._head)]
        return data

    def finish(self) -> Json:
        """See :class:`DumpStream`."""
        try:
            if self._child.stdout is not None and self._child.stdout.read(1):
                raise SopError(f"{self._client.label}: the dump was not read to its end; nothing counts")
            code = self._child.wait()
            if code != 0:
                how = f"was killed by signal {-code}" if code < 0 else f"exited {code}"
                raise SopError(
                    f"{self._client.label}: pg_dump {how} ({self._errors.line()}); nothing was stored that counts, "
                    "mend the cause and run the backup again"
                )
            if self._head != _MAGIC:
                raise SopError(
                    f"{self._client.label}: pg_dump did not write an archive; nothing was stored that counts"
                )
            self._counter.join()
            if isinstance(self._count_error, Exception):
                raise SopError(f"{self._client.label}: the rows could not be counted ({self._count_error})")
            if self._count_error is not None:
                raise self._count_error
            return {**self._content, "globals": self._globals}
        finally:
            self._close()

    def abort(self) -> None:
        """See :class:`DumpStream`."""
        with contextlib.suppress(Exception):
            self._close()

    def _close(self) -> None:
        if self._finished:
            return
        self._finished = True
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._session.kill()
        self._counter.join()
        self._session.close()
        self._errors.close()
