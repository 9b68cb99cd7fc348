# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Exchanging a live schema with its staged copy; a crash at any point leaves what settles to wholly old or wholly new.

There is no rename of a schema. Its tables and sequences move by one RENAME TABLE, which MariaDB 10.6 does whole or not
at all, crash included; before it every other object is dropped, after it they are made again. So that nothing is lost
between, the leaving schema gets their definitions first (:mod:`my_keep`), and a table that is renamed in the very same
statement says whether it has happened:

1. the leaving schema is made, "under way"; the definitions are kept in it; the mark "pending" is made
2. views, triggers, routines and events of the live schema are dropped
3. RENAME TABLE live.* to leaving.*, coming.* to live.*, pending to moved
4. the coming data's objects are made, its events disabled; the coming schema, empty now, is dropped; done

A crash before 3 goes back (the kept objects are made again), one after 3 goes forward. Both can be done again and again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_accounts import (
    account_list,
    routine_grant_sql,
    routine_grants,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import (
    MyClient,
    MySession,
    MySqlError,
    quote_name,
    sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_keep import (
    MOVED,
    OBJECTS,
    PENDING,
    announce,
    load,
    store,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_objects import drop_all, make_all, read_objects
from ansible_collections.diskominfo.sop.plugins.module_utils.my_quiesce import LOCKED_OUT, Fence
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import (
    OWN,
    Marks,
    create_schema,
    drop_schema,
    has_table,
    hold,
    mark_schema,
    movable,
    schema_facts,
)

#: for sessions that are ended to be gone
_CLOSING_S = 30.0
_ATTEMPTS = 5
_LOCK_WAIT_S = 2
_POLL_S = 0.1


class Swap:
    """The exchange of one case. The server's own catalogue says what has happened; there is no other state."""

    def __init__(self, client: MyClient, dataset: Json, case: str) -> None:
        self.client = client
        self.case = case
        self.live: str = dataset["database"]
        self.marks = Marks(self.live, case)
        self.fence = Fence(client, dataset)

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> str:
        """absent | staged | swapped, whatever a crash left."""
        with MySession(self.client) as session:
            return self._state(session)

    def _state(self, session: MySession) -> str:
        before, shadow = (self._comment(session, name) for name in (self.marks.before, self.marks.shadow))
        if before == self.marks.under_way("swap"):
            return "swapped" if has_table(session, self.marks.before, MOVED) else "staged"
        if shadow == self.marks.under_way("revert"):
            return "staged" if has_table(session, self.marks.shadow, MOVED) else "swapped"
        if before == self.marks.kept:
            return "swapped"
        return "staged" if shadow == self.marks.staged else "absent"

    def _comment(self, session: MySession, name: str) -> str | None:
        """What the schema's comment says it is; None when there is no such schema.

        The server writes a comment into a file that is empty at first and that it does not bring through to the disk, so a
        crash can lose it. Then what it said is read from our tables, which InnoDB keeps.
        """
        found = schema_facts(session, name)
        if found is None:
            return None
        if found["comment"] or load(session, name) is None:  # or somebody else's
            return str(found["comment"])
        verb, done, other = ("swap", self.marks.kept, self.marks.shadow)
        if name == self.marks.shadow:
            verb, done, other = ("revert", self.marks.staged, self.marks.before)
        begun = has_table(session, name, PENDING) or has_table(session, name, MOVED)
        empty = not movable(session, name) and schema_facts(session, other) is not None
        return self.marks.under_way(verb) if begun or empty else done

    # -- the two ways ----------------------------------------------------------------------------------------------

    def forward(self) -> Json:
        """Live becomes before, shadow becomes live. Idempotent."""
        with self._session() as session:
            self._settle(session)
            state = self._state(session)
            if state == "swapped":
                return self._proof(session, self.marks.before, self.live, None)
            if state != "staged":
                raise SopError(f"{self.client.label}: nothing complete is staged for {self.case}; stage it first")
            if not self.fence.closed():
                raise SopError(f"{self.client.label}: {self.live} is still open to others; quiesce it first")
            if self._comment(session, self.marks.before) is not None:
                raise SopError(
                    f"{self.client.label}: schema {self.marks.before} is in the way and not of this case; move it"
                )
        return self._exchange("swap", self.marks.shadow, self.marks.before)

    def back(self) -> Json:
        """Before becomes live again, the new data becomes the staged copy. Idempotent."""
        with self._session() as session:
            self._settle(session)
            state = self._state(session)
            if state == "staged":
                return self._proof(session, self.live, self.marks.shadow, None)
            if state != "swapped":
                raise SopError(f"{self.client.label}: no data is kept for {self.case}; there is nothing to revert to")
            if self._comment(session, self.marks.shadow) is not None:
                raise SopError(
                    f"{self.client.label}: {self.marks.shadow} is in the way of the revert; discard it first"
                )
        if (
            not self.fence.closed()
        ):  # whoever takes the data back after a crash finds it opened; nobody else closes it then
            self.fence.put(_CLOSING_S)
        return self._exchange("revert", self.marks.before, self.marks.shadow)

    @contextlib.contextmanager
    def _session(self) -> Iterator[MySession]:
        """A session that has this schema's exchange to itself. A statement that a killed process had sent goes on in the
        server; who comes after waits until it is over."""
        with MySession(self.client) as session:
            hold(session, f"exchange of {self.live}")
            yield session

    def _exchange(self, verb: str, coming: str, leaving: str) -> Json:
        started = time.monotonic()
        self._require_free()
        try:
            with self._session() as session:
                ids = (identity(session, self.live), identity(session, coming))
                self._prepare(session, verb, leaving)
                drop_all(session, self.live)
            self._rename(coming, leaving, (leaving, PENDING, MOVED))
            with self._session() as session:
                self._finish(session, verb, coming, leaving)
        except SopError:
            self._undo(coming, leaving)
            raise
        with self._session() as session:
            old, new = (leaving, self.live) if verb == "swap" else (self.live, leaving)
            if ids != (identity(session, leaving), identity(session, self.live)):
                raise SopError(
                    f"{self.client.label}: the tables of {self.live} are not those of {coming} after the exchange; leave "
                    "the service stopped and look at both schemas"
                )
            return self._proof(session, old, new, started)

    def _require_free(self) -> None:
        """SopError while a transaction holds a table of the live schema: whoever is not shut out by the fence may have
        come since. Asked before anything is dropped, for what is dropped could not be made again either."""
        for attempt in range(1, _ATTEMPTS + 1):
            if self.fence.tables_free():
                return
            if attempt < _ATTEMPTS:
                time.sleep(_POLL_S)
        raise SopError(
            f"{self.client.label}: a transaction that the fence does not shut out holds a table of {self.live}; nothing was "
            "changed. End it (SHOW PROCESSLIST, KILL), then run again"
        )

    def _undo(self, coming: str, leaving: str) -> None:
        """After an error of the server, which was no crash: back to what was live. Each step has its own session, as the
        one in which a statement failed is gone."""
        with self._session() as session:
            moved = has_table(session, leaving, MOVED) and self._comment(session, coming) is not None
        if moved:
            with self._session() as session:
                drop_all(session, self.live)
            self._rename(leaving, coming, (leaving, MOVED, PENDING))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._session() as session:
                    self._settle(session)
            except MySqlError as error:
                if error.code not in LOCKED_OUT or attempt == _ATTEMPTS:
                    raise
            else:
                return

    def _prepare(self, session: MySession, verb: str, leaving: str) -> None:
        """Step 1: nothing of the live schema is changed yet."""
        facts = schema_facts(session, self.live)
        assert facts is not None  # noqa: S101  (identity() has read it)
        waiting = set((self.fence.noted() or {}).get("events", []))
        objects = read_objects(session, self.live)
        for item in objects:  # the fence has disabled those that are to run again
            if item["kind"] == "event":
                item["enabled"] = item["enabled"] or item["name"] in waiting
        create_schema(session, leaving, facts["charset"], facts["collation"], self.marks.under_way(verb))
        kept = {"objects": objects, "grants": routine_grants(session, self.live), "collation": facts["collation"]}
        store(session, leaving, kept)
        announce(session, leaving)

    def _moves(self, session: MySession, coming: str, leaving: str) -> list[str]:
        live = quote_name(self.live)
        out = [f"{live}.{quote_name(x)} TO {quote_name(leaving)}.{quote_name(x)}" for x in movable(session, self.live)]
        return out + [
            f"{quote_name(coming)}.{quote_name(x)} TO {live}.{quote_name(x)}" for x in movable(session, coming)
        ]

    def _rename(self, coming: str, leaving: str, mark: tuple[str, str, str]) -> None:
        """Step 3: live.* to leaving.*, coming.* to live.*, and the mark (schema, from, to); again when somebody slips in
        between."""
        schema, old, new = (quote_name(name) for name in mark)
        for attempt in range(1, _ATTEMPTS + 1):
            with self._session() as session:
                pairs = [*self._moves(session, coming, leaving), f"{schema}.{old} TO {schema}.{new}"]
                session.run(f"SET SESSION lock_wait_timeout = {_LOCK_WAIT_S}, foreign_key_checks = 0")
                try:
                    session.run(f"RENAME TABLE {', '.join(pairs)}")
                except MySqlError as error:
                    if error.code not in LOCKED_OUT or attempt == _ATTEMPTS:
                        raise
                else:
                    return
            time.sleep(_POLL_S)

    def _finish(self, session: MySession, verb: str, coming: str, leaving: str) -> None:
        """Step 4, from wherever a crash left it."""
        kept = load(session, coming)
        if kept is not None:
            self._make(session, kept, load(session, leaving) or {"objects": [], "grants": []}, coming)
        if self._comment(session, coming) is not None:
            if movable(session, coming):
                raise SopError(
                    f"{self.client.label}: {coming} still holds tables; leave the service stopped and look at it"
                )
            drop_schema(session, coming)
        mark_schema(session, leaving, self.marks.kept if verb == "swap" else self.marks.staged)
        session.run(f"DROP TABLE IF EXISTS {quote_name(leaving)}.{quote_name(MOVED)}")

    def _make(self, session: MySession, kept: Json, other: Json, foreign: str | None) -> None:
        """Give the live schema its objects; all that it has now are rests of an earlier try."""
        known = [item["name"] for item in [*kept["objects"], *other["objects"]] if item["kind"] == "trigger"]
        drop_all(session, self.live, known)
        if foreign is not None:
            self._own_sequences(session, foreign)
        events = make_all(session, self.live, kept["objects"])
        collation = kept.get("collation") or other.get("collation")
        if collation and session.column("SELECT @@collation_database")[0] != collation:
            session.run(sql("ALTER DATABASE {live:name} COLLATE {c}", live=self.live, c=collation))
        self._grant(session, kept, other)
        self.fence.note(events=events)

    def _grant(self, session: MySession, kept: Json, other: Json) -> None:
        """Privileges on single routines: those of the schema that was live, by name; those kept where it had none."""
        accounts = account_list(session)
        made = {(item["type"], item["name"]) for item in kept["objects"] if item["kind"] == "routine"}
        had = {(item["type"], item["name"]) for item in other["objects"] if item["kind"] == "routine"}
        emptied = [
            grant for grant in (self.fence.noted() or {}).get("grants", []) if (grant["type"], grant["name"]) not in had
        ]
        chosen = [grant for grant in [*other["grants"], *emptied] if (grant["type"], grant["name"]) in made]
        chosen += [grant for grant in kept["grants"] if (grant["type"], grant["name"]) in made - had]
        for grant in chosen:
            if (grant["user"], grant["host"]) in accounts:
                session.each(routine_grant_sql(self.live, grant))

    def _own_sequences(self, session: MySession, foreign: str) -> None:
        """A default that takes a sequence's next number names the schema in which the table was made."""
        rows = session.run(
            sql(
                "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_DEFAULT FROM information_schema.COLUMNS "
                "WHERE TABLE_SCHEMA = {s} AND LOCATE({mark}, COLUMN_DEFAULT) > 0",
                s=self.live,
                mark=f"val({quote_name(foreign)}.",
            )
        )
        for table, column, default in rows:
            session.run("SET SESSION system_versioning_alter_history = KEEP")
            session.run(
                sql(
                    "ALTER TABLE {live:name}.{table:name} ALTER COLUMN {column:name} SET DEFAULT ({expression:raw})",
                    live=self.live,
                    table=table,
                    column=column,
                    expression=default.replace(f"val({quote_name(foreign)}.", f"val({quote_name(self.live)}."),
                )
            )

    # -- after a crash ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring what a crash left to wholly old or wholly new."""
        try:
            with self._session() as session:
                self._settle(session)
        except MySqlError as error:
            if not error.code:  # the server is away: nothing was decided
                raise
            # forward is barred by something that the server refuses; nothing new was open to anybody yet, so go back
            for coming, leaving in (
                (self.marks.shadow, self.marks.before),
                (self.marks.before, self.marks.shadow),
            ):
                self._undo(coming, leaving)

    def _settle(self, session: MySession) -> None:
        for verb, coming, leaving in (
            ("swap", self.marks.shadow, self.marks.before),
            ("revert", self.marks.before, self.marks.shadow),
        ):
            if self._comment(session, leaving) != self.marks.under_way(verb):
                continue
            if has_table(session, leaving, MOVED):
                self._finish(session, verb, coming, leaving)
                continue
            kept = load(session, leaving) if has_table(session, leaving, PENDING) else None
            if kept is not None:  # else nothing of the live schema was dropped yet
                self._make(session, kept, kept, None)
            drop_schema(session, leaving)
        for name in (self.marks.before, self.marks.shadow):
            comment = self._comment(session, name)
            if comment in (self.marks.kept, self.marks.staged):
                if (schema_facts(session, name) or {})["comment"] != comment:  # a crash has lost it
                    mark_schema(session, name, comment)
                session.run(f"DROP TABLE IF EXISTS {quote_name(name)}.{quote_name(MOVED)}")

    def _proof(self, session: MySession, old: str, new: str, started: float | None) -> Json:
        elapsed = 0 if started is None else round((time.monotonic() - started) * 1000)
        return {
            "old": {"name": old, **identity(session, old)},
            "new": {"name": new, **identity(session, new)},
            "ms": elapsed,
        }


def identity(session: MySession, schema: str) -> Json:
    """{"tables", "ids"}: how many tables a schema has, and a digest of their numbers in InnoDB, which no renaming
    changes."""
    rows = session.run(
        sql(
            "SELECT SUBSTRING_INDEX(NAME, '/', -1), TABLE_ID FROM information_schema.INNODB_SYS_TABLES "
            "WHERE NAME LIKE CONCAT(REPLACE(CAST(CONVERT({s} USING filename) AS CHAR CHARACTER SET utf8mb4), '_', '\\\\_'), '/%') ORDER BY 1",
            s=schema,
        )
    )
    ours = (OBJECTS, PENDING, MOVED)
    kept = [row for row in rows if row[0] not in ours and not row[0].startswith((OWN, "FTS_"))]
    return {"tables": len(kept), "ids": hashlib.sha256(repr(kept).encode()).hexdigest()[:16]}
