# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Sessions on standbys: a primary's fence keeps new ones out there too, but does not end those that are in.

They could only read, but they would go on reading the old data, under whatever name it has. A primary cannot reach
them, so the dataset's record lists its hot standbys (``connection.standbys``); one that is not listed is told in the proof.
"""

from __future__ import annotations

import time

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import PgClient, sql

_POLL_S = 0.05
_SYSTEM = (
    "SELECT json_build_object('recovery', pg_is_in_recovery(), "
    "'system', (SELECT system_identifier::text FROM pg_control_system()));"
)
_END = """
SELECT json_build_object(
  'fenced', coalesce((SELECT NOT datallowconn FROM pg_database WHERE datname = {name}), false),
  'ended', (SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {name}) t));
"""


class Standbys:
    """The hot standbys that the dataset's record lists."""

    def __init__(self, primary: PgClient) -> None:
        self.primary = primary
        self.clients = [
            PgClient({**primary.connection, "standbys": [], **entry}, primary.password, primary.label)
            for entry in primary.connection.get("standbys") or []
        ]

    @staticmethod
    def _name(client: PgClient) -> str:
        connection = client.connection
        return f"{connection.get('host') or connection.get('socket') or 'localhost'}:{connection.get('port') or 5432}"

    def require_reachable(self) -> None:
        """SopError when one cannot be asked, or is no standby of this server."""
        if not self.clients:
            return
        own: Json = self.primary.query(self.primary.maintenance_db, _SYSTEM)
        for client in self.clients:
            try:
                found: Json = client.query(client.maintenance_db, _SYSTEM)
            except SopError as error:
                raise SopError(
                    f"{client.label}: standby {self._name(client)} cannot be asked ({error}); let this host in there, or "
                    "correct the dataset's connection.standbys"
                ) from None
            if not found["recovery"] or found["system"] != own["system"]:
                raise SopError(
                    f"{client.label}: {self._name(client)} is no standby of this server; correct the dataset's "
                    "connection.standbys"
                )

    def unlisted(self) -> int:
        """How many replication connections there are beyond the listed standbys (backups in progress count too)."""
        seen = self.primary.query(self.primary.maintenance_db, "SELECT count(*) FROM pg_stat_replication;")
        return max(0, int(seen) - len(self.clients))

    def end_sessions(self, database: str, deadline: float) -> int:
        """End all sessions in the fenced ``database`` on every standby; how many there were. SopError at ``deadline``."""
        self.require_reachable()
        total = 0
        for client in self.clients:
            while True:
                found: Json = client.query(client.maintenance_db, sql(_END, name=database))
                total += int(found["ended"])
                if found["fenced"] and not found["ended"]:  # nobody can come in any more, and nobody is in
                    break
                if time.monotonic() > deadline:
                    raise SopError(
                        f"{client.label}: standby {self._name(client)} still has sessions in {database}, or has not yet "
                        "replayed that it is closed; look at its replay lag (pg_stat_replication) and try again"
                    )
                time.sleep(_POLL_S)
        return total
