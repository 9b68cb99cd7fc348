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
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.diskominfo.sop.plugins.plugin_utils.watch import Watch

GATE = "SOPCTL_GATE"
NEVER_GIVEN = ("grant", "vault", "secrets")
UNDONE = "what it had not finished does not count"
HOW = "Changes run inside sopctl only: sopctl case execute CASE --as PERSON, or sopctl schedule run --due --as PERSON."


def ask_gate(question: dict[str, Any]) -> dict[str, Any]:
    """The live sopctl's answer: {"allowed", "reasons", "grant", "vault", "secrets"}. Never raises: no answer is no."""
    path = os.environ.get(GATE, "")
    if not path:
        return {"allowed": False, "reasons": ["no sopctl holds a run open"]}
    try:
        answer: dict[str, Any] = json.loads(_exchange(path, question, 120))
    except (OSError, ValueError) as error:
        return {"allowed": False, "reasons": [f"the sopctl that held this run open does not answer ({error})"]}
    return answer


def tell_gate(message: dict[str, Any]) -> None:
    """Tell the live sopctl how far a task has come. Nothing depends on it, so nothing is said when it is not heard."""
    with suppress(OSError, ValueError):
        _exchange(os.environ[GATE], message, 5)


def _exchange(path: str, question: dict[str, Any], seconds: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(json.dumps(question, default=str).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            piece = connection.recv(65536)
            if not piece:
                break
            data += piece
    return data


class GatedAction(ActionBase):
    """Ask, then run the module of the same name with the grant."""

    TRANSFERS_FILES = False
    _requires_connection = True
    #: what the module takes from the gate besides the grant
    TAKES: tuple[str, ...] = ("vault", "secrets")

    def operation(self, args: dict[str, Any]) -> str:
        """Name of the operation these arguments ask for."""
        raise NotImplementedError

    def takes_long(self, args: dict[str, Any]) -> bool:  # noqa: ARG002  (a module's own plugin looks at them)
        """Whether the module moves a dump and says meanwhile how far it has come."""
        return False

    def _watch(self, host: str, args: dict[str, Any]) -> AbstractContextManager[object]:
        if self._task.check_mode or not self.takes_long(args):
            return nullcontext()
        return Watch(self, host, args.get("dataset") or {}, str(args.get("case")), tell_gate)

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
        if isinstance(args.get("dataset"), dict):
            result["sop_dataset"] = str(args["dataset"].get("id"))
        try:
            with self._watch(host, args):
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
            if "dataset" in evidence and isinstance(
                args.get("dataset"), dict
            ):  # a host speaks of no other than it was asked of
                evidence["dataset"] = args["dataset"].get("id")
        if result.get("_ansible_parsed") is False and (ended := _ended(result)):
            result["msg"] = (
                f"{where}: the module {ended}; see the host's journal (out of memory?), then run again: {UNDONE}"
            )
            # as a module's own answer has it: a failure is told of its dataset
            result["invocation"] = {"module_args": args}
        return result


def _ended(result: dict[str, Any]) -> str:
    """How a module ended that gave no answer: killed, or cut off from us; "" where what it printed tells more."""
    code = int(result.get("rc") or 0)
    number = -code if code < 0 else code - 128
    if 0 < number < 65:
        return f"was killed on the host (signal {number})"
    said = f"{result.get('module_stdout') or ''}{result.get('module_stderr') or ''}"
    return "" if said.strip() else "ended on the host without an answer"


def _name(args: dict[str, Any]) -> str:
    for key in ("dataset", "service"):
        value = args.get(key)
        if isinstance(value, dict):
            return str(value.get("id") or value.get("name"))
    return str(args.get("vault_path") or "?")
