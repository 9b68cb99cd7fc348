# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Keeping everybody out of a schema. MariaDB cannot close one, so the accounts that reach it are locked.

Which accounts *we* locked and which events *we* disabled stands in a file of this host, written before the first of
them: only those are opened again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import Journal, default_state_dir, utc_now
from ansible_collections.diskominfo.sop.plugins.module_utils.my_accounts import lock_sql, open_by_pattern, writers
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import (
    MyClient,
    MySession,
    MySqlError,
    quote_name,
    sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_objects import set_event
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import hold, kill, movable, schema_facts

_POLL_S = 0.1
#: the server's numbers for: a lock was not had in time, a table is gone, somebody is in the way
LOCKED_OUT = (1205, 1213)
_SESSIONS = """
SELECT JSON_OBJECT('id', ID, 'user', USER, 'host', HOST, 'db', DB) FROM information_schema.PROCESSLIST
 WHERE ID <> CONNECTION_ID() AND COMMAND NOT IN ('Daemon', 'Binlog Dump', 'Slave_IO', 'Slave_SQL') AND USER <> 'system user'
"""


class Fence:
    """Keeps everybody out of the live schema."""

    def __init__(self, client: MyClient, dataset: Json) -> None:
        self.client = client
        self.live: str = dataset["database"]
        # by server and schema, not by dataset: whoever fences the same schema sees the same fence
        place = f"{client.connection.get('host') or ''}|{client.connection.get('socket') or ''}|{client.connection.get('port') or ''}"
        key = hashlib.sha256(f"{place}|{self.live}".encode()).hexdigest()[:12]
        self.journal = Journal(
            str(dataset.get("state_dir") or default_state_dir()), f"mariadb-fence-{dataset['id']}-{key}"
        )

    # -- state -----------------------------------------------------------------------------------------------------

    def noted(self) -> Json | None:
        """What the fence remembers: {"accounts", "events", "grants", "definers"}; None without a fence."""
        return self.journal.read()

    def note(self, **changes: object) -> None:
        """Change what the fence remembers."""
        self.journal.write({"accounts": [], "events": [], **(self.noted() or {}), **changes})

    def closed(self) -> bool:
        """True when there is a fence of ours, nobody who could write may log in, and nobody is there."""
        if self.noted() is None:
            return False
        with MySession(self.client) as session:
            return not self._open(session) and not self._visitors(session) and not self._enabled(session)

    @contextlib.contextmanager
    def _session(self) -> Iterator[MySession]:
        with MySession(self.client) as session:
            hold(session, f"fence of {self.live}")
            yield session

    def _open(self, session: MySession) -> list[Json]:
        return [entry for entry in writers(session, self.live) if not entry["locked"]]

    def _enabled(self, session: MySession) -> list[str]:
        return session.column(
            sql(
                "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {s} AND STATUS = 'ENABLED'",
                s=self.live,
            )
        )

    def _visitors(self, session: MySession) -> list[Json]:
        """Sessions in the schema, and those of accounts that we shut out, wherever they are."""
        shut = {(entry["user"]) for entry in (self.noted() or {}).get("accounts", [])}
        found: list[Json] = session.values(_SESSIONS)
        return [each for each in found if each["db"] == self.live or each["user"] in shut]

    # -- up and down -----------------------------------------------------------------------------------------------

    def put(self, timeout: float) -> Json:
        """Lock, end all sessions, wait until none is left and no transaction holds a table; the proof. On failure the
        fence is as it was."""
        was_there = self.noted() is not None
        deadline = time.monotonic() + timeout
        try:
            while True:
                with self._session() as session:
                    self._close(session)
                    proof = self._proof(session)
                if not proof["who"] and proof["tables_free"] and proof["fenced"]:
                    return proof
                if time.monotonic() > deadline:
                    named = ", ".join(proof["who"]) or "a transaction that holds a table of it"
                    raise SopError(
                        f"{self.client.label}: {self.live} is still in use after {timeout:g} s ({named}); stop what that "
                        "belongs to and try again"
                    )
                time.sleep(_POLL_S)
        except BaseException:
            if not was_there:
                self.lift()
            raise

    def _close(self, session: MySession) -> None:
        if schema_facts(session, self.live) is None:
            raise SopError(f"{self.client.label}: no schema {self.live} on this server; stage a restore first")
        prepared = session.run("XA RECOVER")
        if prepared:
            raise SopError(
                f"{self.client.label}: the server has prepared XA transactions ({len(prepared)}), which may hold rows of "
                f"{self.live}; XA COMMIT or XA ROLLBACK each, XA RECOVER shows them"
            )
        noted = self.noted() or {"accounts": [], "events": []}
        opened, enabled = self._open(session), self._enabled(session)
        if opened or enabled or self.noted() is None:
            ours = [*noted["accounts"], *({"user": entry["user"], "host": entry["host"]} for entry in opened)]
            self.note(accounts=ours, events=sorted({*noted["events"], *enabled}), since=noted.get("since") or utc_now())
        for entry in opened:
            session.run(lock_sql(entry, locked=True))
        for name in enabled:
            set_event(session, self.live, name, enabled=False)
        for visitor in self._visitors(session):
            kill(session, int(visitor["id"]))

    def _proof(self, session: MySession) -> Json:
        visitors = self._visitors(session)
        return {
            "sessions": len(visitors),
            "who": sorted({f"{each['user']} {each['host']}" for each in visitors}),
            "locked": sorted(f"{entry['user']}@{entry['host']}" for entry in (self.noted() or {}).get("accounts", [])),
            "fenced": not self._open(session) and not self._enabled(session),
            "tables_free": self.tables_free(),
            "prepared": 0,
            "at": utc_now(),
        }

    def tables_free(self) -> bool:
        """True when no transaction, of whatever account, holds a table of the schema: then each can be locked."""
        with MySession(self.client) as session:
            names = movable(session, self.live)
        # WRITE also finds open readers, which RENAME TABLE would wait for; it opens what triggers name, and where that
        # is broken READ still finds everybody who has written
        for mode in ("WRITE", "READ") if names else ():
            listed = ", ".join(f"{quote_name(self.live)}.{quote_name(name)} {mode}" for name in names)
            with MySession(self.client) as session:
                session.run("SET SESSION lock_wait_timeout = 1")
                try:
                    session.run(f"LOCK TABLES {listed}")
                except MySqlError as error:
                    if error.code in LOCKED_OUT:
                        return False
                    if mode == "READ":
                        raise
                else:
                    return True
        return True

    def lift(self) -> None:
        """Open again what we closed. Idempotent."""
        noted = self.noted()
        if noted is None:
            return
        with self._session() as session:
            for entry in noted["accounts"]:
                session.run(lock_sql(entry, locked=False))
            for name in noted["events"]:
                set_event(session, self.live, name, enabled=True)
        self.journal.remove()


# -- what would block the exchange ---------------------------------------------------------------------------------


def require_swappable(session: MySession, live: str, beside: list[str]) -> None:
    """SopError naming what would block the exchange, or make it harm others; changes nothing."""
    label = session.client.label
    if session.column("SELECT @@global.read_only")[0] not in ("0", "OFF"):
        raise SopError(f"{label}: the server is read-only; restore on the primary, or SET GLOBAL read_only = 0")
    if session.run("SHOW ALL SLAVES STATUS"):
        raise SopError(f"{label}: the server is a replica of another one; restore on its primary")
    if session.column(
        "SELECT COALESCE(MAX(VARIABLE_VALUE), 'OFF') FROM information_schema.GLOBAL_VARIABLES WHERE VARIABLE_NAME = 'WSREP_ON'"
    ) == ["ON"]:
        raise SopError(
            f"{label}: the server is a node of a Galera cluster, which does not exchange tables as one step; restore on a "
            "single server and let the cluster take it from there"
        )
    if session.column("SELECT @@global.event_scheduler")[0] == "DISABLED" and session.run(
        sql("SELECT 1 FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {s}", s=live)
    ):
        raise SopError(
            f"{label}: {live} has events, and event_scheduler=DISABLED lets nobody change them; set it to OFF in the "
            "server's configuration and restart it"
        )
    outside = session.run(
        sql(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME "
            "FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA <> UNIQUE_CONSTRAINT_SCHEMA "
            "AND {s} IN (CONSTRAINT_SCHEMA, UNIQUE_CONSTRAINT_SCHEMA)",
            s=live,
        )
    )
    if outside:
        named = ", ".join(f"{row[0]}.{row[1]} ({row[2]}) to {row[3]}.{row[4]}" for row in outside[:5])
        raise SopError(
            f"{label}: foreign keys lead from one schema to another: {named}; the kept data would go on holding the other "
            "schema's rows, or be held by them: drop these keys, they can be added again after the restore"
        )
    patterns = open_by_pattern(session, beside, live)
    if patterns:
        raise SopError(
            f"{label}: grants by pattern would open the staged and the kept data too: {', '.join(patterns[:5])}; grant on "
            f"{live} itself instead"
        )
    foreign = session.column(
        sql(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {s} AND TABLE_TYPE <> 'VIEW' "
            "AND (ENGINE IS NULL OR ENGINE <> 'InnoDB')",
            s=live,
        )
    )
    if foreign:
        raise SopError(
            f"{label}: {live} has tables that are not InnoDB ({', '.join(foreign[:5])}), which do not move as one with the "
            "others; convert each with ALTER TABLE … ENGINE=InnoDB, or drop what is broken"
        )
