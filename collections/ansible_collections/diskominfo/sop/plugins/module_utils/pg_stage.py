# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A staged copy beside the live database: made closed, loaded by an ordinary role, complete or gone."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, Place, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    PgClient,
    PsqlSession,
    quote_ident,
    quote_literal,
    sigterm_raises,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_content import read_globals
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import (
    case_name,
    complete_mark,
    create_database,
    database_facts,
    drop_database,
    note_sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_fitness import Fit, Fitness
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_load import Loader, LoadRole, drop_role
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_properties import carry_over_sql, read_properties

#: space wanted for a load: rows, indexes and WAL, as a multiple of the dump's bytes
SPACE_FACTOR = 2.2
#: bytes that must stay free while loading, unless the dataset says ``reserve_bytes``
SPACE_RESERVE = 256 << 20


class SpaceGuard:
    """Watches the file system of a directory that we can see; a directory that we cannot see is not watched."""

    def __init__(self, label: str, path: str | None, reserve: int) -> None:
        self._label = label
        self._path = path
        self._reserve = reserve

    def _free(self) -> int | None:
        if self._path is None:
            return None
        try:
            state = os.statvfs(self._path)
        except OSError:
            return None
        return state.f_bavail * state.f_frsize

    def place(self, dump_bytes: int) -> Place:
        """What a load of ``dump_bytes`` asks of this directory."""
        return Place(self._path, int(dump_bytes * SPACE_FACTOR), self._reserve)

    def require(self, dump_bytes: int) -> None:
        """SopError when the load would not fit."""
        need = self.place(dump_bytes).needs + self._reserve
        free = self._free()
        if free is not None and free < need:
            raise SopError(
                f"{self._label}: {self._path} has {free >> 20} MiB free, the restore needs {need >> 20} MiB "
                f"({SPACE_FACTOR} times the dump, and a reserve); make room and stage again"
            )

    def check(self) -> None:
        """SopError when less than the reserve is left."""
        free = self._free()
        if free is not None and free < self._reserve:
            raise SopError(
                f"{self._label}: only {free >> 20} MiB are free under {self._path}, below the reserve of "
                f"{self._reserve >> 20} MiB; the load was stopped and its copy dropped. Make room and stage again"
            )


def server_guard(client: PgClient, dataset: Json) -> SpaceGuard:
    """The guard of the server's data directory, when the server is on this host."""
    host = str(client.connection.get("host") or "/")
    path = None
    if host.startswith("/") or host in ("localhost", "127.0.0.1", "::1"):
        path = client.execute(client.maintenance_db, "SHOW data_directory;").strip()
    return SpaceGuard(client.label, path, int(dataset.get("reserve_bytes") or SPACE_RESERVE))


def load_role(database: str, case: str) -> str:
    """Name of the role that loads a copy of ``database``."""
    return case_name(f"sop_{database}", "load", case)


class Copy:
    """A database of our own while it is being loaded: complete or gone, and closed to others until then."""

    def __init__(self, client: PgClient, name: str, role: str) -> None:
        self.client = client
        self.name = name
        self.role = role

    def discard(self) -> None:
        """Drop the copy and its role. An incomplete copy goes the same way."""
        facts = database_facts(self.client, self.name)
        inside = self.name if facts is not None and facts["datallowconn"] else None
        with contextlib.suppress(SopError):
            drop_role(self.client, self.role, inside)
        drop_database(self.client, self.name)
        drop_role(self.client, self.role, None)

    def load(self, fit: Fit, source: DumpSource, manifest: Json, guard: SpaceGuard) -> Json:
        """Make and load it; its content with checksums, and its globals. The caller discards it on any failure."""
        role = LoadRole.create(self.client, self.role)
        create_database(self.client, self.name, self.role, fit.locale, fit.locale["tablespace"])
        loader = Loader(
            self.client, role, self.name, source, manifest, fit.tablespaces, guard.check, fit.event_triggers
        )
        content = loader.run()
        with PsqlSession(self.client, self.name) as session:
            globals_ = read_globals(session)
        drop_role(self.client, self.role, None)
        return {**content, "globals": globals_}


class Stage:
    """Staging of one case beside one live database."""

    def __init__(self, client: PgClient, dataset: Json, case: str) -> None:
        self.client = client
        self.dataset = dataset
        self.case = case
        self.live: str = dataset["database"]
        self.copy = Copy(client, case_name(self.live, "shadow", case), load_role(self.live, case))

    def discard(self) -> None:
        """Drop the copy and its role."""
        self.copy.discard()

    def run(self, source: DumpSource, manifest: Json) -> Json:
        """Make the copy; its content with checksums, and its globals."""
        fitness = Fitness(self.client, self.dataset)
        fit = fitness.for_staging(manifest)
        gone = database_facts(self.client, self.live) is None
        guard = server_guard(self.client, self.dataset)
        guard.require(int(manifest.get("bytes") or 0))
        with sigterm_raises():
            try:
                self.discard()
                if gone:
                    self._placeholder(manifest["content"]["globals"])
                content = self.copy.load(fit, source, manifest, guard)
                self._close(fit.locale["owner"])
                return content
            except BaseException:
                with contextlib.suppress(SopError):
                    self.discard()
                    if gone:
                        drop_database(self.client, self.live)
                raise

    def _placeholder(self, facts: Json) -> None:
        """An empty, closed live database where it was dropped, with what the dump knows of it: the swap needs one."""
        create_database(self.client, self.live, self.client.user, facts["database"], None)
        with PsqlSession(self.client, self.client.maintenance_db) as session:
            session.execute("BEGIN;")
            for step in carry_over_sql(self.live, facts["properties"], read_properties(session, self.live)):
                session.execute(step)
            session.execute(note_sql(self.client, self.live, "known", {"extensions": [], "event_triggers": []}))
            session.execute(f"ALTER DATABASE {quote_ident(self.live)} ALLOW_CONNECTIONS false; COMMIT;")

    def _close(self, owner: str) -> None:
        shadow = quote_ident(self.copy.name)
        self.client.execute(
            self.client.maintenance_db,
            f"""BEGIN;
            ALTER DATABASE {shadow} OWNER TO {quote_ident(owner)};
            ALTER DATABASE {shadow} ALLOW_CONNECTIONS false;
            COMMENT ON DATABASE {shadow} IS {quote_literal(complete_mark(self.case))};
            COMMIT;""",
        )
