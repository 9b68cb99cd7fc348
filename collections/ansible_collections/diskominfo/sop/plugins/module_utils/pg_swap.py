# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Fencing a database, and exchanging it with its staged copy in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import Journal
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    PgClient,
    PsqlSession,
    quote_ident,
    quote_literal,
    sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import (
    case_name,
    complete_mark,
    database_facts,
    is_half_dropped,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_properties import carry_over_sql, read_properties
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_standby import Standbys

_ATTEMPTS = 5
_POLL_S = 0.05
_Steps = Callable[[PsqlSession], list[str]]


def fence_sql(name: str) -> str:
    """Close a database to new sessions and end those it has."""
    return (
        f"ALTER DATABASE {quote_ident(name)} ALLOW_CONNECTIONS false;\n"
        f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {quote_literal(name)};"
    )


class Fence:
    """Keeps everybody out of the live database.

    ``state_dir``: where the host remembers the connection limit that :meth:`narrow` puts aside.
    """

    def __init__(self, client: PgClient, live: str, state_dir: str | None = None) -> None:
        self.client = client
        self.live = live
        self._limit = Journal(state_dir, f"limit-{client.label}") if state_dir else None

    def _facts(self) -> Json:
        facts = database_facts(self.client, self.live)
        if facts is None:
            raise SopError(f"{self.client.label}: no database {self.live} on this server")
        return facts

    def closed(self) -> bool:
        """True when the live database takes no sessions."""
        return not self._facts()["datallowconn"]

    def lift(self) -> None:
        """Open it again."""
        self._widen()
        if self.closed():
            self.client.execute(
                self.client.maintenance_db, f"ALTER DATABASE {quote_ident(self.live)} ALLOW_CONNECTIONS true;"
            )

    def narrow(self, timeout: float) -> Json:
        """Let in superusers only, whom a connection limit does not bind; end all other sessions; the proof."""
        self.refuse_blockers()
        if self._limit is None:
            raise SopError(f"{self.client.label}: no state_dir to remember the connection limit in; report this")
        if self._limit.read() is None:  # written before the limit is changed, so that a crash loses nothing
            self._limit.write({"limit": int(self._facts()["datconnlimit"])})
        deadline = time.monotonic() + timeout
        while True:
            self.client.execute(
                self.client.maintenance_db,
                f"ALTER DATABASE {quote_ident(self.live)} ALLOW_CONNECTIONS true CONNECTION LIMIT 0;\n"
                f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = {quote_literal(self.live)};",
            )
            proof = self._proof()
            if proof["sessions"] == 0:
                return proof
            if time.monotonic() > deadline:
                self.lift()
                raise SopError(
                    f"{self.client.label}: {proof['sessions']} sessions come back to {self.live} within {timeout:g} s "
                    f"({', '.join(proof['who'])}); superusers use it, stop what they belong to and run again"
                )
            time.sleep(_POLL_S)

    def _widen(self) -> None:
        """Give the connection limit back that :meth:`narrow` put aside."""
        kept = self._limit.read() if self._limit is not None else None
        if kept is None or self._limit is None:
            return
        self.client.execute(
            self.client.maintenance_db,
            f"ALTER DATABASE {quote_ident(self.live)} CONNECTION LIMIT {int(kept['limit'])};",
        )
        self._limit.remove()

    def _blockers(self) -> Json:
        blockers: Json = self.client.query(
            self.client.maintenance_db,
            sql(
                """SELECT json_build_object(
                'prepared', (SELECT coalesce(json_agg(gid), '[]') FROM pg_prepared_xacts WHERE database = {name}),
                'slots', (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_replication_slots
                           WHERE database = {name} AND NOT temporary),
                'subscriptions', (SELECT coalesce(json_agg(subname), '[]') FROM pg_subscription s
                                    JOIN pg_database d ON d.oid = s.subdbid WHERE datname = {name}));""",
                name=self.live,
            ),
        )
        return blockers

    def refuse_blockers(self) -> None:
        """SopError when something would go on using the database behind the fence."""
        steps = {
            "prepared": ("prepared transactions", "COMMIT PREPARED or ROLLBACK PREPARED each"),
            "slots": ("logical replication slots", "drop them, or plan the restore with their owner"),
            "subscriptions": ("subscriptions", "drop them, or plan the restore with their owner"),
        }
        for key, names in self._blockers().items():
            if names:
                what, step = steps[key]
                raise SopError(f"{self.client.label}: {self.live} has {what} ({', '.join(names)}); {step}")

    def put(self, timeout: float) -> Json:
        """Close, end all sessions, wait until none is left; the proof. On failure the fence is as it was."""
        was_closed = self.closed()
        self.refuse_blockers()
        deadline = time.monotonic() + timeout
        try:
            while True:
                self.client.execute(self.client.maintenance_db, fence_sql(self.live))
                proof = self._proof()
                if proof["sessions"] == 0 and proof["prepared"] == 0 and proof["fenced"]:
                    self._widen()  # the fence is what keeps everybody out from here on
                    standbys = Standbys(self.client)
                    ended = standbys.end_sessions(self.live, deadline)
                    return {**proof, "ended_on_standbys": ended, "standbys_unlisted": standbys.unlisted()}
                if time.monotonic() > deadline:
                    raise SopError(
                        f"{self.client.label}: {proof['sessions']} sessions and {proof['prepared']} prepared "
                        f"transactions are still in {self.live} after {timeout:g} s ({', '.join(proof['who'])}); "
                        "stop what they belong to and try again"
                    )
                time.sleep(_POLL_S)
        except BaseException:
            if not was_closed:
                self.lift()
            raise

    def _proof(self) -> Json:
        proof: Json = self.client.query(
            self.client.maintenance_db,
            sql(
                """SELECT json_build_object(
                'sessions', (SELECT count(*) FROM pg_stat_activity WHERE datname = {name}),
                'who', (SELECT coalesce(json_agg(DISTINCT concat_ws(' ', usename, application_name, client_addr)),
                                         '[]') FROM pg_stat_activity WHERE datname = {name}),
                'prepared', (SELECT count(*) FROM pg_prepared_xacts WHERE database = {name}),
                'fenced', NOT datallowconn,
                'lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
              FROM pg_database WHERE datname = {name};""",
                name=self.live,
            ),
        )
        return proof


class Swap:
    """The exchange of one case. The database's own names say what has happened; there is no other state."""

    def __init__(self, client: PgClient, live: str, case: str) -> None:
        self.client = client
        self.case = case
        self.live = live
        self.shadow = case_name(live, "shadow", case)
        self.before = case_name(live, "before", case)

    def state(self) -> str:
        """absent | staged | swapped."""
        if database_facts(self.client, self.before) is not None:
            return "swapped"
        shadow = database_facts(self.client, self.shadow)
        complete = shadow is not None and shadow["comment"] == complete_mark(self.case)
        return "staged" if shadow is not None and complete and not is_half_dropped(shadow) else "absent"

    def _identity(self, old_name: str, new_name: str, started: float | None) -> Json:
        sides = {}
        for side, name in (("old", old_name), ("new", new_name)):
            facts = database_facts(self.client, name)
            if facts is None:
                raise SopError(
                    f"{self.client.label}: database {name} is missing; nothing was changed, look at `psql -l`"
                )
            sides[side] = {"oid": facts["oid"], "name": name}
        elapsed = 0 if started is None else round((time.monotonic() - started) * 1000)
        return {**sides, "ms": elapsed}

    def forward(self) -> Json:
        """Live becomes before, shadow becomes live. Idempotent."""
        state = self.state()
        if state == "swapped":
            return self._identity(self.before, self.live, None)
        if state != "staged":
            raise SopError(f"{self.client.label}: nothing complete is staged for {self.case}; stage it first")
        fence = Fence(self.client, self.live)
        if not fence.closed():
            raise SopError(f"{self.client.label}: {self.live} is still open to sessions; quiesce it first")
        fence.refuse_blockers()
        started = time.monotonic()
        self._exchange(self._forward_steps)
        return self._identity(self.before, self.live, started)

    def back(self) -> Json:
        """Before becomes live again and open, the new data becomes the staged copy. Idempotent."""
        state = self.state()
        if state == "staged":
            return self._identity(self.live, self.shadow, None)
        if state != "swapped":
            raise SopError(f"{self.client.label}: no data is kept for {self.case}; there is nothing to revert to")
        if database_facts(self.client, self.shadow) is not None:
            raise SopError(f"{self.client.label}: {self.shadow} is in the way of the revert; discard it first")
        Fence(self.client, self.live).refuse_blockers()
        started = time.monotonic()
        self._exchange(self._back_steps)
        return self._identity(self.live, self.shadow, started)

    def _exchange(self, steps: _Steps) -> None:
        """Fence, then both renames and all properties in one transaction; again when a session slips in between."""
        live_open = not Fence(self.client, self.live).closed()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with PsqlSession(self.client, self.client.maintenance_db) as session:
                    session.execute(fence_sql(self.live))
                    session.execute("BEGIN; SET LOCAL lock_timeout = '3s';")
                    for step in steps(session):
                        session.execute(step)
                    session.execute("COMMIT;")
            except SopError:
                if attempt == _ATTEMPTS or not self._visited():
                    if live_open:
                        Fence(self.client, self.live).lift()
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def _visited(self) -> bool:
        count = self.client.query(
            self.client.maintenance_db,
            sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname IN ({live}, {shadow}, {before});",
                live=self.live,
                shadow=self.shadow,
                before=self.before,
            ),
        )
        return int(count) > 0

    def _forward_steps(self, session: PsqlSession) -> list[str]:
        old, new = read_properties(session, self.live), read_properties(session, self.shadow)
        if old["tablespace"] != new["tablespace"]:
            raise SopError(
                f"{self.client.label}: {self.live} was moved to another tablespace after staging; stage again"
            )
        live, shadow, before = (quote_ident(name) for name in (self.live, self.shadow, self.before))
        return [
            f"ALTER DATABASE {live} RENAME TO {before};",
            f"ALTER DATABASE {shadow} RENAME TO {live};",
            *carry_over_sql(self.live, old, new),
            f"ALTER DATABASE {before} ALLOW_CONNECTIONS false;",
        ]

    def _back_steps(self, _session: PsqlSession) -> list[str]:
        live, shadow, before = (quote_ident(name) for name in (self.live, self.shadow, self.before))
        return [
            f"ALTER DATABASE {live} RENAME TO {shadow};",
            f"ALTER DATABASE {before} RENAME TO {live};",
            f"COMMENT ON DATABASE {shadow} IS {quote_literal(complete_mark(self.case))};",
            f"ALTER DATABASE {shadow} ALLOW_CONNECTIONS false IS_TEMPLATE false;",
            f"ALTER DATABASE {live} ALLOW_CONNECTIONS false;",
        ]
