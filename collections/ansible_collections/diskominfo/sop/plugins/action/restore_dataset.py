# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The gate's question before each stage of a restore."""

from __future__ import annotations

from typing import Any

from ansible_collections.diskominfo.sop.plugins.plugin_utils.gate import GatedAction


class ActionModule(GatedAction):
    """Ask the gate, then run diskominfo.sop.restore_dataset."""

    def operation(self, args: dict[str, Any]) -> str:
        """Name of the operation these arguments ask for."""
        return f"restore.{args.get('state')}"

    def takes_long(self, args: dict[str, Any]) -> bool:
        """See :class:`GatedAction`; while the services are stopped there is nothing to watch, and no time for it."""
        return args.get("state") not in {"swapped", "finalised", "reverted"}
