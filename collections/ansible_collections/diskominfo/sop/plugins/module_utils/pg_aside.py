# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What a restore keeps aside, and giving live data up where there is no room to keep anything."""

from __future__ import annotations

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    PgClient,
    PsqlSession,
    quote_ident,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import (
    case_name,
    create_database,
    database_facts,
    drop_database,
    known_of,
    locale_of,
    note_sql,
    noted,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_properties import carry_over_sql, read_properties
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_swap import Fence, Swap


class Kept:
    """The old data of one case."""

    def __init__(self, client: PgClient, live: str, case: str) -> None:
        self.client = client
        self.live = live
        self.before = case_name(live, "before", case)

    def bytes(self) -> int:
        """Its size on disk, all tablespaces; 0 when nothing is kept."""
        facts = database_facts(self.client, self.before)
        if facts is None:
            return 0
        return int(self.client.query(self.client.maintenance_db, f"SELECT pg_database_size({int(facts['oid'])}::oid);"))

    def drop(self) -> None:
        """Drop it, if it is there and there is live data beside it."""
        if database_facts(self.client, self.before) is None:
            return
        if database_facts(self.client, self.live) is None:
            raise SopError(
                f"{self.client.label}: there is no database {self.live}; {self.before} is all there is and was not "
                "dropped. Restore or rename first"
            )
        drop_database(self.client, self.before)


class Emptying(Swap):
    """The live database gives way to an empty one of the same name, owner, privileges and settings, and is dropped.

    Names say how far it came: while the old data is there as ``doomed``, live is the empty one already. Afterwards the note
    on the empty one says that it is.
    """

    def __init__(self, client: PgClient, live: str, case: str) -> None:
        super().__init__(client, live, case)
        self.hollow = case_name(live, "hollow", case)
        self.doomed = case_name(live, "doomed", case)

    def run(self) -> None:
        """Idempotent; goes on where a killed run stopped."""
        if self.state() == "swapped":
            raise SopError(f"{self.client.label}: {self.case} has swapped its data in already; nothing was emptied")
        facts = database_facts(self.client, self.live)
        begun = database_facts(self.client, self.doomed) is not None
        if facts is not None and not begun and noted(self.client, self.live, "known") is None:
            fence = Fence(self.client, self.live)
            if not fence.closed():
                raise SopError(f"{self.client.label}: {self.live} is still open to sessions; quiesce it first")
            fence.refuse_blockers()
            drop_database(self.client, self.hollow)
            create_database(self.client, self.hollow, self.client.user, locale_of(facts), facts["tablespace"])
            self._exchange(self._empty_steps)
        self._drop_doomed()

    def _empty_steps(self, session: PsqlSession) -> list[str]:
        old, new = read_properties(session, self.live), read_properties(session, self.hollow)
        live, hollow, doomed = (quote_ident(name) for name in (self.live, self.hollow, self.doomed))
        return [
            f"ALTER DATABASE {live} RENAME TO {doomed};",
            f"ALTER DATABASE {hollow} RENAME TO {live};",
            *carry_over_sql(self.live, old, new),
            f"ALTER DATABASE {live} ALLOW_CONNECTIONS false;",
        ]

    def _drop_doomed(self) -> None:
        """What the old data held is noted first: staging asks for it, and must not fail for want of it afterwards."""
        facts = database_facts(self.client, self.doomed)
        if facts is None:
            return
        place, doomed = self.client.maintenance_db, quote_ident(self.doomed)
        # nobody knows this name; only we, as superuser, get past a limit of no connections
        self.client.execute(place, f"ALTER DATABASE {doomed} ALLOW_CONNECTIONS true CONNECTION LIMIT 0;")
        self.client.execute(place, note_sql(self.client, self.live, "known", known_of(self.client, self.doomed)))
        drop_database(self.client, self.doomed)
