# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Where a case's schema keeps the objects that it should have and, being closed, does not have.

Triggers, events and views of a staged or kept copy would fire, run, or stand in the way of RENAME TABLE. So their
definitions lie in a table of that schema, with its data and as durable as it: no file on a host can be lost or differ.
"""

from __future__ import annotations

import json

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import MySession, hex_text, quote_name, sql
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import OWN, has_table

OBJECTS = OWN + "objects"
#: the table whose name says whether a RENAME TABLE, which it is part of, has happened
PENDING, MOVED = OWN + "pending", OWN + "moved"


def store(session: MySession, schema: str, kept: Json) -> None:
    """Keep ``kept`` ({"objects", "grants", …}) in ``schema``; it is on disk when this returns."""
    place = f"{quote_name(schema)}.{quote_name(OBJECTS)}"
    session.run(f"DROP TABLE IF EXISTS {place}")
    session.run(f"CREATE TABLE {place} (id INT PRIMARY KEY, kept LONGTEXT NOT NULL) ENGINE=InnoDB CHARSET=utf8mb4")
    rest = {key: value for key, value in kept.items() if key != "objects"}
    session.run("START TRANSACTION")
    for number, entry in enumerate([rest, *kept["objects"]]):
        session.run(
            sql("INSERT INTO {p:raw} VALUES ({n:raw}, {e:raw})", p=place, n=number, e=hex_text(json.dumps(entry)))
        )
    session.run("COMMIT")


def load(session: MySession, schema: str) -> Json | None:
    """What :func:`store` kept in ``schema``; None when nothing is kept."""
    if not has_table(session, schema, OBJECTS):
        return None
    rows = session.column(sql("SELECT kept FROM {s:name}.{t:name} ORDER BY id", s=schema, t=OBJECTS))
    if not rows:
        return None
    rest, *objects = (json.loads(row) for row in rows)
    return {**rest, "objects": objects}


def announce(session: MySession, schema: str) -> None:
    """Say that what is kept is whole and an exchange may begin. InnoDB writes its log to disk for a new table, so what
    was stored before is on disk too, whatever innodb_flush_log_at_trx_commit is."""
    session.run(
        f"CREATE TABLE IF NOT EXISTS {quote_name(schema)}.{quote_name(PENDING)} (id INT PRIMARY KEY) ENGINE=InnoDB"
    )
