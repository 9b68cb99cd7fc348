# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""MariaDB schemas, 10.6 and newer, through the server's own client programs."""

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
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import MyClient, MySession, sql
from ansible_collections.diskominfo.sop.plugins.module_utils.my_content import read_content, read_globals, schema_bytes
from ansible_collections.diskominfo.sop.plugins.module_utils.my_dumping import MyDumpStream
from ansible_collections.diskominfo.sop.plugins.module_utils.my_quiesce import Fence, require_swappable
from ansible_collections.diskominfo.sop.plugins.module_utils.my_scratch import scratch_content, scratch_guard
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import (
    Marks,
    drop_schema,
    require_server,
    schema_facts,
    server_guard,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_stage import Stage
from ansible_collections.diskominfo.sop.plugins.module_utils.my_swap import Swap

_SYSTEM = frozenset(("mysql", "information_schema", "performance_schema", "sys"))


class MariadbEngine(Engine):
    """One schema of a MariaDB server that runs on, or is reached from, this host."""

    kind = "mariadb"
    method_name = "mariadb-dump --single-transaction | restic"
    method = "stream"
    dump_name = "dump.sql"

    def __init__(self, dataset: Json, secrets: Json) -> None:
        super().__init__(dataset, secrets)
        self.database: str = dataset["database"]
        self.client = MyClient(dataset.get("connection") or {}, secrets.get("db_password"), dataset["id"])
        if self.database.lower() in _SYSTEM:
            raise SopError(f"{dataset['id']}: {self.database} is the server's own schema; register the application's")

    def describe(self) -> Json:
        """See :class:`Engine`."""
        with MySession(self.client) as session:
            server = require_server(session)
            exists = schema_facts(session, self.database) is not None
            size = schema_bytes(session, self.database) if exists else 0
        return {"version": server["version"], "bytes": size, "exists": exists}

    def staging_place(self, size: int) -> Place:
        """See :class:`Engine`."""
        return server_guard(self.client, self.dataset).place(size)

    def scratch_place(self, size: int) -> Place:
        """See :class:`Engine`."""
        return scratch_guard(self.client.label, self.dataset).place(size)

    def usage(self) -> Json:
        """See :class:`Engine`."""
        found: Json = self.client.query(
            sql(
                "SELECT JSON_OBJECT('sessions', COALESCE(SUM(DB = {name}), 0), "
                "'standbys', COALESCE(SUM(COMMAND = 'Binlog Dump'), 0)) FROM information_schema.PROCESSLIST",
                name=self.database,
            )
        )
        return {key: int(value) for key, value in found.items()}

    def manifest(self, checksums: bool) -> Json:
        """See :class:`Engine`."""
        with MySession(self.client) as session:
            facts = read_globals(session, self.database)
            session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            return {**read_content(session, self.database, checksums), "globals": facts}

    def dump(self) -> DumpStream:
        """See :class:`Engine`."""
        return MyDumpStream(self.client, self.database)

    @contextmanager
    def scratch(self, source: DumpSource, manifest: Json) -> Iterator[Json]:
        """See :class:`Engine`."""
        with scratch_content(self.client, self.dataset, source, manifest) as content:
            yield content

    def shadow_name(self, case: str) -> str:
        """See :class:`Engine`."""
        return Marks(self.database, case).shadow

    def before_name(self, case: str) -> str:
        """See :class:`Engine`."""
        return Marks(self.database, case).before

    def _fence(self) -> Fence:
        return Fence(self.client, self.dataset)

    def _swap(self, case: str) -> Swap:
        return Swap(self.client, self.dataset, case)

    def settle(self, case: str) -> None:
        """See :class:`Engine`."""
        self._swap(case).settle()

    def state(self, case: str) -> str:
        """See :class:`Engine`."""
        return self._swap(case).state()

    def require_swappable(self) -> None:
        """See :class:`Engine`."""
        with MySession(self.client) as session:
            require_server(session)
            marks = Marks(self.database, "RST-0000-0000")
            require_swappable(session, self.database, [marks.shadow, marks.before])

    def stage(self, case: str, source: DumpSource, manifest: Json) -> Json:
        """See :class:`Engine`."""
        self.require_swappable()
        self.settle(case)
        if self.state(case) != "absent":
            raise SopError(f"{self.dataset['id']}: {case} is already {self.state(case)}; discard or revert it first")
        return Stage(self.client, self.dataset, case).run(source, manifest)

    def discard(self, case: str) -> None:
        """See :class:`Engine`."""
        self.settle(case)
        Stage(self.client, self.dataset, case).discard()

    def quiesce(self, timeout: float) -> Json:
        """See :class:`Engine`."""
        return self._fence().put(timeout)

    def is_quiesced(self) -> bool:
        """See :class:`Engine`."""
        return self._fence().closed()

    def release(self) -> None:
        """See :class:`Engine`."""
        self._fence().lift()

    def swap(self, case: str) -> Json:
        """See :class:`Engine`."""
        return self._swap(case).forward()

    def revert(self, case: str) -> Json:
        """See :class:`Engine`."""
        return self._swap(case).back()

    # -- the kept data ---------------------------------------------------------------------------------------------

    def kept_bytes(self, case: str) -> int:
        """See :class:`Engine`."""
        with MySession(self.client) as session:
            return schema_bytes(session, self.before_name(case))

    def drop_kept(self, case: str) -> None:
        """See :class:`Engine`."""
        marks = Marks(self.database, case)
        with MySession(self.client) as session:
            found = schema_facts(session, marks.before)
            if found is None:
                return
            if found["comment"] != marks.kept:
                raise SopError(
                    f"{self.dataset['id']}: {marks.before} is not the finished kept data of {case}; settle it first"
                )
            if schema_facts(session, self.database) is None:
                raise SopError(
                    f"{self.dataset['id']}: there is no live schema {self.database}, so {marks.before} may be the only data; "
                    "bring the data back first"
                )
            drop_schema(session, marks.before)

    # -- in place, and beside --------------------------------------------------------------------------------------

    def empty(self, case: str) -> None:
        """See :class:`Engine`."""
        self.settle(case)
        if not self._fence().closed():
            raise SopError(f"{self.dataset['id']}: {self.database} is open to others; quiesce it before it is emptied")
        Stage(self.client, self.dataset, case).empty()

    def placed(self, target: str, case: str) -> bool:
        """See :class:`Engine`."""
        return Stage(self.client, self.dataset, case).placed(target)

    def place(self, target: str, case: str, source: DumpSource, manifest: Json) -> Json:
        """See :class:`Engine`."""
        return Stage(self.client, self.dataset, case).place(target, source, manifest)

    def unplace(self, target: str, case: str) -> None:
        """See :class:`Engine`."""
        Stage(self.client, self.dataset, case).unplace(target)
