# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The gate's question before a look at a server: it changes nothing, but only registered servers are looked at."""

from __future__ import annotations

from typing import Any

from ansible_collections.diskominfo.sop.plugins.plugin_utils.gate import GatedAction


class ActionModule(GatedAction):
    """Ask the gate, then run diskominfo.sop.asset_facts."""

    TAKES = ()

    def operation(self, args: dict[str, Any]) -> str:
        """Name of the operation these arguments ask for."""
        return "facts"
