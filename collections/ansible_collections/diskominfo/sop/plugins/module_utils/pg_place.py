# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A restore under a name of its own, beside the live database or on a server that has none."""

from __future__ import annotations

import contextlib

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    PgClient,
    PsqlSession,
    quote_ident,
    sigterm_raises,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import (
    NAME_BYTES,
    case_name,
    database_facts,
    drop_database,
    note_sql,
    noted,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_fitness import Fitness, globals_of
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_properties import carry_over_sql, read_properties
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_stage import Copy, load_role, server_guard


class PlacedCopy:
    """The copy of one case under the name ``target``. It has another name until it is complete."""

    def __init__(self, client: PgClient, dataset: Json, target: str, case: str) -> None:
        self.client = client
        self.dataset = dataset
        self.target = target
        self.case = case
        self.copy = Copy(client, case_name(target, "placing", case), load_role(target, case))

    def finished(self) -> bool:
        """Whether the target is what this case placed there."""
        return bool(noted(self.client, self.target, "placed") == self.case)

    def require_free(self) -> None:
        """SopError unless the target can be made."""
        label = self.client.label
        if not self.target or len(self.target.encode()) > NAME_BYTES:
            raise SopError(
                f"{label}: {self.target[:80]!r} has {len(self.target.encode())} bytes, a database's name has 1 to "
                f"{NAME_BYTES}; choose another"
            )
        if database_facts(self.client, self.target) is not None:
            raise SopError(
                f"{label}: database {self.target} is there already and is kept; choose another name for --to"
            )

    def run(self, source: DumpSource, manifest: Json) -> Json:
        """Make it; its content with checksums, and its globals."""
        self.require_free()
        fit = Fitness(self.client, self.dataset).for_placing(manifest)
        guard = server_guard(self.client, self.dataset)
        guard.require(int(manifest.get("bytes") or 0))
        with sigterm_raises():
            try:
                self.copy.discard()
                content = self.copy.load(fit, source, manifest, guard)
                self._open(globals_of(self.client.label, manifest)["properties"])
                return content
            except BaseException:
                with contextlib.suppress(SopError):
                    self.copy.discard()
                raise

    def _open(self, properties: Json) -> None:
        """Name, owner, privileges and settings in one transaction: whoever sees the name sees all of it."""
        wanted = {**properties, "is_template": False, "labels": []}
        with PsqlSession(self.client, self.client.maintenance_db) as session:
            session.execute(
                f"BEGIN; ALTER DATABASE {quote_ident(self.copy.name)} RENAME TO {quote_ident(self.target)};"
            )
            for step in carry_over_sql(self.target, wanted, read_properties(session, self.target)):
                session.execute(step)
            session.execute(note_sql(self.client, self.target, "placed", self.case))
            session.execute(f"ALTER DATABASE {quote_ident(self.target)} ALLOW_CONNECTIONS true; COMMIT;")

    def drop(self) -> None:
        """Drop the target if this case placed it."""
        if self.finished():
            drop_database(self.client, self.target)
