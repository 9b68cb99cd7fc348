# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""PostgreSQL databases, 12 and newer, through the server's own client programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import (
    DumpSource,
    DumpStream,
    Engine,
    Json,
    Place,
    SopError,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_aside import Emptying, Kept
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import PgClient, PsqlSession, sql
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_content import read_content, read_globals
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import case_name, database_facts
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_dumping import PgDumpStream
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_fitness import Fitness
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_place import PlacedCopy
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_scratch import scratch_content, scratch_guard
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_stage import Stage, server_guard
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_standby import Standbys
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_swap import Fence, Swap

_OLDEST_MAJOR = 12


class PostgresqlEngine(Engine):
    """One database of a PostgreSQL server that runs on, or is reached from, this host."""

    kind = "postgresql"
    method_name = "pg_dump -Fc -Z0 | restic"
    method = "stream"
    dump_name = "dump.pgdump"

    def __init__(self, dataset: Json, secrets: Json) -> None:
        super().__init__(dataset, secrets)
        self.database: str = dataset["database"]
        self.client = PgClient(dataset.get("connection") or {}, secrets.get("db_password"), dataset["id"])
        if self.client.maintenance_db == self.database:
            raise SopError(
                f"{dataset['id']}: connection.maintenance_db is the dataset's own database {self.database}; "
                "name another one, it must stay open while this one is swapped"
            )

    def describe(self) -> Json:
        """See :class:`Engine`."""
        facts: Json = self.client.query(
            self.client.maintenance_db,
            "SELECT json_build_object('version', current_setting('server_version'), 'major', "
            "current_setting('server_version_num')::int / 10000, 'superuser', current_setting('is_superuser'));",
        )
        if facts["major"] < _OLDEST_MAJOR:
            raise SopError(f"{self.dataset['id']}: PostgreSQL {facts['version']} is too old; {_OLDEST_MAJOR} is needed")
        if facts["superuser"] != "on":
            raise SopError(
                f"{self.dataset['id']}: {self.client.user} is no superuser here; set connection.user and os_user"
            )
        found = database_facts(self.client, self.database)
        size = 0
        if found is not None:
            size = self.client.query(self.client.maintenance_db, f"SELECT pg_database_size({int(found['oid'])}::oid);")
        return {"version": facts["version"], "bytes": size, "exists": found is not None}

    def staging_place(self, size: int) -> Place:
        """See :class:`Engine`."""
        return server_guard(self.client, self.dataset).place(size)

    def scratch_place(self, size: int) -> Place:
        """See :class:`Engine`."""
        return scratch_guard(self.client.label, self.dataset).place(size)

    def usage(self) -> Json:
        """See :class:`Engine`."""
        found: Json = self.client.query(
            self.client.maintenance_db,
            sql(
                "SELECT json_build_object('sessions', (SELECT count(*) FROM pg_stat_activity WHERE datname = {name} "
                "AND backend_type = 'client backend'), 'standbys', (SELECT count(*) FROM pg_stat_replication));",
                name=self.database,
            ),
        )
        return found

    def manifest(self, checksums: bool) -> Json:
        """See :class:`Engine`."""
        with PsqlSession(self.client, self.database) as session:
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;")
            return {**read_content(session, checksums), "globals": read_globals(session)}

    def dump(self) -> DumpStream:
        """See :class:`Engine`."""
        self.describe()
        return PgDumpStream(self.client, self.database)

    @contextmanager
    def scratch(self, source: DumpSource, manifest: Json) -> Iterator[Json]:
        """See :class:`Engine`."""
        with scratch_content(self.client, self.dataset, source, manifest) as content:
            yield content

    def shadow_name(self, case: str) -> str:
        """See :class:`Engine`."""
        return case_name(self.database, "shadow", case)

    def before_name(self, case: str) -> str:
        """See :class:`Engine`."""
        return case_name(self.database, "before", case)

    def _swap(self, case: str) -> Swap:
        return Swap(self.client, self.database, case)

    def state(self, case: str) -> str:
        """See :class:`Engine`."""
        return self._swap(case).state()

    def stage(self, case: str, source: DumpSource, manifest: Json) -> Json:
        """See :class:`Engine`."""
        self.require_swappable()
        if self.state(case) != "absent":
            raise SopError(f"{self.dataset['id']}: {case} is already {self.state(case)}; discard or revert it first")
        return Stage(self.client, self.dataset, case).run(source, manifest)

    def discard(self, case: str) -> None:
        """See :class:`Engine`."""
        Stage(self.client, self.dataset, case).discard()

    def quiesce(self, timeout: float) -> Json:
        """See :class:`Engine`."""
        return self._fence().put(timeout)

    def reserve(self, timeout: float) -> Json:
        """See :class:`Engine`. A database that takes no connections takes no pg_dump either."""
        return self._fence().narrow(timeout)

    def _fence(self) -> Fence:
        return Fence(self.client, self.database, self.dataset.get("state_dir"))

    def is_quiesced(self) -> bool:
        """See :class:`Engine`."""
        return Fence(self.client, self.database).closed()

    def release(self) -> None:
        """See :class:`Engine`."""
        self._fence().lift()

    def swap(self, case: str) -> Json:
        """See :class:`Engine`."""
        return self._swap(case).forward()

    def revert(self, case: str) -> Json:
        """See :class:`Engine`."""
        return self._swap(case).back()

    def require_swappable(self) -> None:
        """See :class:`Engine`. What a connection pooler holds cannot be seen from the server."""
        self.describe()
        fitness = Fitness(self.client, self.dataset)
        fitness.require_writable()
        fitness.require_exchangeable()
        Standbys(self.client).require_reachable()
        Fence(self.client, self.database).refuse_blockers()

    def kept_bytes(self, case: str) -> int:
        """See :class:`Engine`."""
        return Kept(self.client, self.database, case).bytes()

    def drop_kept(self, case: str) -> None:
        """See :class:`Engine`."""
        Kept(self.client, self.database, case).drop()

    def empty(self, case: str) -> None:
        """See :class:`Engine`."""
        Fitness(self.client, self.dataset).require_writable()
        Emptying(self.client, self.database, case).run()

    def placed(self, target: str, case: str) -> bool:
        """See :class:`Engine`."""
        return PlacedCopy(self.client, self.dataset, target, case).finished()

    def place(self, target: str, case: str, source: DumpSource, manifest: Json) -> Json:
        """See :class:`Engine`."""
        self.describe()
        copy = PlacedCopy(self.client, self.dataset, target, case)
        if copy.finished():
            with PsqlSession(self.client, target) as session:
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;")
                return {**read_content(session, checksums=True), "globals": read_globals(session)}
        return copy.run(source, manifest)

    def unplace(self, target: str, case: str) -> None:
        """Drop ``target`` when it is :meth:`placed` by ``case``, and nothing else."""
        PlacedCopy(self.client, self.dataset, target, case).drop()
