# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The changing task's own question to the gate.

A guard at the play's door is walked round with --start-at-task, --skip-tags or an ad-hoc include_role. So each
changing module has an action plugin of its own name that asks the live sopctl with the arguments the task really has,
on the host it really runs on, and hands the module a grant; without one the module refuses.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

GATE = "SOPCTL_GATE"
NEVER_GIVEN = ("grant", "vault", "secrets")
HOW = "Changes run inside sopctl only: sopctl case execute CASE --as PERSON, or sopctl schedule run --due --as PERSON."


def ask_gate(question: dict[str, Any]) -> dict[str, Any]:
    """The live sopctl's answer: {"allowed", "reasons", "grant", "vault", "secrets"}. Never raises: no answer is no."""
    path = os.environ.get(GATE, "")
    if not path:
        return {"allowed": False, "reasons": ["no sopctl holds a run open"]}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(120)
            connection.connect(path)
            connection.sendall(json.dumps(question, default=str).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                piece = connection.recv(65536)
                if not piece:
                    break
                data += piece
        answer: dict[str, Any] = json.loads(data)
    except (OSError, ValueError) as error:
        return {"allowed": False, "reasons": [f"the sopctl that held this run open does not answer ({error})"]}
    return answer


class GatedAction(ActionBase):
    """Ask, then run the module of the same name with the grant."""

    TRANSFERS_FILES = False
    _requires_connection = True
    #: what the module takes from the gate besides the grant
    TAKES: tuple[str, ...] = ("vault", "secrets")

    def operation(self, args: dict[str, Any]) -> str:
        """Name of the operation these arguments ask for."""
        raise NotImplementedError

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        args = dict(self._task.args)
        host = str(self._task.delegate_to or variables.get("inventory_hostname"))
        where = f"{host}/{_name(args)}"
        given = [key for key in NEVER_GIVEN if key in args]
        if given:
            return {
                **result,
                "failed": True,
                "msg": f"{where}: refused: {', '.join(given)} come from the gate, never from a play. {HOW}",
            }
        module = str(self._task.resolved_action or self._task.action)
        answer = ask_gate(
            {
                "operation": self.operation(args),
                "module": module.rsplit(".", 1)[-1],
                "host": host,
                "check": bool(self._task.check_mode),
                "args": args,
            }
        )
        if answer.get("allowed") is not True:
            reasons = "; ".join(str(reason) for reason in answer.get("reasons", [])) or "no reason given"
            return {
                **result,
                "failed": True,
                "sop_refused": True,
                "msg": f"{where}: refused by the gate: {reasons}. {answer.get('next') or HOW}",
            }
        if not self._is_pipelining_enabled(module_style="new"):
            message = f"{where}: refused: pipelining is off, so secrets would be written to the host. Remove ansible_pipelining/ansible_ssh_pipelining and become methods that cannot pipeline."
            return {**result, "failed": True, "msg": message}
        private = {key: answer[key] for key in ("grant", *self.TAKES) if answer.get(key) is not None}
        result["sop_host"] = host  # a failure's event names the delegating host only
        try:
            result.update(
                self._execute_module(module_name=module, module_args={**args, **private}, task_vars=variables)
            )
        except AnsibleConnectionFailure as error:
            if not self._task.delegate_to:
                raise
            # "unreachable" would end the play for the host that delegated, without its rescue, and be told as its own
            return {**result, "failed": True, "sop_unreachable": True, "msg": f"{where}: does not answer: {error}"}
        evidence = result.get("sop_evidence")
        if isinstance(evidence, dict):
            evidence["host"] = host
        return result


def _name(args: dict[str, Any]) -> str:
    for key in ("dataset", "service"):
        value = args.get(key)
        if isinstance(value, dict):
            return str(value.get("id") or value.get("name"))
    return str(args.get("vault_path") or "?")
