# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Early refusal for the whole fleet: the first task of every changing playbook."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.diskominfo.sop.plugins.plugin_utils.gate import HOW, ask_gate


class ActionModule(ActionBase):
    """Ask the gate about the play as a whole; changes nothing and opens no connection."""

    BYPASS_HOST_LOOP = True
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        hosts = sorted(str(host) for host in variables.get("ansible_play_hosts_all", []))
        args = dict(self._task.args)
        answer = ask_gate(
            {
                "operation": "authorize",
                "module": "authorize",
                "host": None,
                "check": bool(self._task.check_mode),
                "args": args,
                "hosts": hosts,
            }
        )
        if answer.get("allowed") is not True:
            reasons = "; ".join(str(reason) for reason in answer.get("reasons", [])) or "no reason given"
            return {
                **result,
                "failed": True,
                "sop_refused": True,
                "msg": f"refused by the gate: {reasons}. {answer.get('next') or HOW}",
            }
        return {**result, "changed": False, "sop_authorized": answer.get("case")}
