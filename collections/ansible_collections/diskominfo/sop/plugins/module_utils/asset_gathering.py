# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Everything that the asset register wants to know of a host, as one value."""

from __future__ import annotations

from ansible_collections.diskominfo.sop.plugins.module_utils.asset_databases import database_facts
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Json, Look
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_machine import machine_facts, system_facts
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_network import addresses
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_services import backup_clients, services, time_facts
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_web import web_facts


def gather(look: Look) -> Json:
    """Everything that the register wants to know."""
    return {
        "machine": machine_facts(look),
        "system": system_facts(look),
        "addresses": addresses(look),
        "services": services(look),
        "databases": database_facts(look),
        "web": web_facts(look),
        "time": time_facts(look),
        "backup_clients": backup_clients(look),
    }
