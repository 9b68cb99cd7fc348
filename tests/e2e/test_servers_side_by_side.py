# SPDX-License-Identifier: Apache-2.0
"""A fleet's backups run side by side: no server waits for another one's dump or proof."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.e2e.checks import all_verified, events
from tests.support.site_builder import SiteBuilder

SERVERS = ("srv01", "srv02", "srv03")


def test_no_server_waits_for_the_backup_of_another(tmp_path: Path) -> None:
    site = SiteBuilder(tmp_path)
    for server in SERVERS:
        site.server(server)
        path = tmp_path / f"{server}.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE surat (id INTEGER PRIMARY KEY)")
        connection.close()
        site.dataset(f"data-{server}", engine="sqlite", server=server, path=str(path))
    site.schedule()
    site.run("schedule", "run", "--due", as_="pelaksana")
    [record] = site.records
    order = [
        (event["event"], event["event_data"]["host"], event["event_data"]["task_action"].rpartition(".")[2])
        for event in events(record)
        if event["event"] in {"runner_on_start", "runner_on_ok"}
    ]
    begun = [order.index(("runner_on_start", server, "backup_dataset")) for server in SERVERS]
    first_proven = min(order.index(("runner_on_ok", server, "verify_dataset")) for server in SERVERS)
    assert max(begun) < first_proven
    all_verified(site)
