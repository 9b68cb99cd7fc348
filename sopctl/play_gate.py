# SPDX-License-Identifier: Apache-2.0
"""The gate that a running play asks: each step against the plan, with the arguments the task really has, and its grant."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from sopctl import approval, clock, fsio, places, signing
from sopctl import plan as plans
from sopctl.errors import ConfigError, GateRefused
from sopctl.gate_server import Answer
from sopctl.ledger import LedgerLine
from sopctl.models import Json
from sopctl.runner import Stop
from sopctl.session import Session

GRANT_MINUTES = 15
GRANT_SCHEMA = "sop/grant/v1"
#: kinds of ledger lines that name a run and its plan
RUN_LINES = {"run-started", "observed", "destruction"}
#: the site's own key, below its root: signs grants, and nothing else
RUN_KEY = "secrets/run-key"
OPERATIONS = {
    "backup": {"vault_repository", "backup", "verify"},
    "plan": {"capacity"},
    "scan": {"facts"},
    "clean": {"restore.cleaned"},
    "restore": {
        "restore.staged", "restore.swapped", "restore.finalised", "restore.reverted",
        "quiesce.quiesced", "quiesce.released", "service.stopped", "service.started",
        "switch.armed", "switch.ready", "switch.committed", "switch.aborted", "switch.disarmed",
    },
    "place": {"restore.placed"},
}  # fmt: skip
#: besides, for a dataset that is restored in place: what it replaces is stored and read back before it is emptied
IN_PLACE = {"quiesce.reserved", "backup", "verify", "restore.emptied"}
#: arguments besides the dataset that must be the plan's, by operation or its first word: argument → key of the planned item
BOUND = {
    "restore.cleaned": {"snapshot": "snapshot", "manifest_snapshot": "manifest_snapshot", "kept": "kept"},
    "backup": {"period": "period", "name": "name", "passed_over": "passed_over"},
    "verify": {"depth": "verify"},
    "restore": {"snapshot": "snapshot", "manifest_snapshot": "manifest_snapshot", "expected": "expected"},
}
#: the same for the safety backup of a restore in place
BOUND_SAFETY = {
    "backup": {"period": "safety_period", "name": "safety_name", "passed_over": "passed_over"},
    "verify": {"depth": "safety_verify"},
}
#: what leads back to a running service: granted after Ctrl-C, and once a service was stopped whatever the gate says now
ANEW = {"authorize", "service.stopped", "restore.swapped", "restore.cleaned"}
WAY_BACK = {"restore.reverted", "quiesce.released", "service.started", "switch.aborted", "switch.disarmed"}
#: the same once the old data was said to count
GOING_BACK = {*WAY_BACK, "service.stopped", "quiesce.quiesced", "switch.ready"}
#: steps that a host must be watched for by its dead man's switch
WATCHED = {"service.stopped", "quiesce.quiesced", "quiesce.reserved", "restore.swapped", "restore.emptied"}


class RunKey:
    """The site's run key. A site without one gives unsigned grants, which enrolled hosts refuse."""

    def __init__(self, session: Session) -> None:
        """ConfigError or GateRefused when there is a key that must not be used, before anything is started."""
        self._path = session.site.root / RUN_KEY
        self._believed = {signing.public_line(signing.key_blob(key, "run_keys")) for key in session.trust.file.run_keys}
        self._there = self._path.exists()
        if self._there and self._path.stat().st_mode & 0o077:
            raise ConfigError("the run key is open to others", where=str(self._path), hint=f"chmod 600 {self._path}")
        self.sign({"schema": "sop/probe/v1"})

    def sign(self, grant: Json) -> str | None:
        """The armoured signature over the grant's canonical JSON."""
        if not self._there:
            return None
        data = fsio.canonical_json(grant)
        signature = signing.sign(data, "sop-grant", self._path, apart=True)
        if self._believed and signing.verify(data, signature, "sop-grant") not in self._believed:
            raise GateRefused(
                "this run key is not the one that the trust names",
                where=str(self._path),
                hint="Put that one back, or have the root holder sign the new one: sopctl trust sign.",
            )
        return signature.decode("ascii")


class PlayGate:
    """Answers the play's questions: each against the gate anew, with the arguments the task really has."""

    def __init__(
        self, session: Session, plan: Json, decide: Callable[[Json], list[str]], stop: Stop, check: bool
    ) -> None:
        self._session, self._plan, self._decide, self._stop, self._check = session, plan, decide, stop, check
        self._digest = fsio.sha256_bytes(fsio.canonical_json(plan))
        self._key = RunKey(session)
        self._stopped = self._going_back = False
        self._finalised: set[str] = set()
        #: datasets whose safety backup was read back, so that they may be emptied
        self._secured: set[str] = set()
        self._armed: set[str] = set()

    def answer(self, question: Json) -> Answer:
        """Allow with a grant, or refuse with every reason."""
        operation, host, args = str(question.get("operation")), question.get("host"), question.get("args") or {}
        reasons = self._reasons(operation, host, args, question)
        if reasons:
            return {"allowed": False, "reasons": reasons}
        if operation == "authorize":
            return {"allowed": True, "case": self._plan["case"]}
        item = self._item(args)
        if not question.get("check"):
            self._follow(operation, str(host), item)
            if operation == "service.stopped":
                self._stop.stops.add((str(host), str(args["service"]["name"])))
        return {
            "allowed": True,
            "grant": self._grant(operation, str(host), args, item),
            "vault": self._vault(item) if item and operation != "restore.cleaned" else None,
            "secrets": self._secrets(operation, str(host), item),
        }

    def _vault(self, item: Json) -> Json:
        access = self._session.vault_access(places.repository(item))
        return access | {"aliases": item["aliases"]} if item.get("aliases") else access

    def _secrets(self, operation: str, host: str, item: Json | None) -> Json | None:
        """The database secrets of one dataset; those of all datasets of the host, by id, for its switch."""
        if operation.startswith("switch."):
            here = [planned["dataset"]["id"] for planned in self._plan["items"] if planned["host"] == host]
            return {dataset: self._session.database_secrets(dataset) for dataset in here}
        if item is None or host != item["host"]:  # a drill host restores into a server of its own
            return None
        return self._session.database_secrets(item["dataset"]["id"])

    def _reasons(self, operation: str, host: Any, args: Json, question: Json) -> list[str]:
        if self._check and not question.get("check"):
            return ["this run is a check; the task is not"]
        if operation in ANEW:  # the code that runs may have been changed since the run began
            self._session.forget_code()
        back = self._stopped and operation in (GOING_BACK if self._going_back else WAY_BACK)
        found = [] if back else self._decide(self._plan)
        if args.get("case") != self._plan["case"]:
            found.append(f"case {args.get('case')} is not the case of this run ({self._plan['case']})")
        if operation == "authorize":
            planned = plans.targeted(self._plan)
            if question.get("hosts") != planned:
                found.append(f"the play's hosts {question.get('hosts')} are not the planned hosts {planned}")
            if args.get("playbook") != self._plan["operation"]:
                found.append(f"playbook {args.get('playbook')} is not the planned {self._plan['operation']}")
            return found
        if not self._part_of_the_plan(operation, args):
            return [*found, f"operation {operation} is no part of a {self._plan['operation']}"]
        if self._stop.asked and not self._stop.critical and operation not in WAY_BACK:
            found.append("the run was interrupted; no further step is begun")
        if operation in WATCHED and host not in self._armed and not question.get("check"):
            found.append(f"the dead man's switch of {host} is not armed")
        if operation.startswith("service."):
            return found + self._service(host, args)
        if operation.startswith("switch."):
            return found + self._switch(host, args)
        return found + self._data(operation, host, args)

    def _part_of_the_plan(self, operation: str, args: Json) -> bool:
        if operation in OPERATIONS[self._plan["operation"]]:
            return True
        if operation == "switch.in_place":
            return any(item.get("in_place") for item in self._plan["items"])
        return operation in IN_PLACE and bool((self._item(args) or {}).get("in_place"))

    def _service(self, host: Any, args: Json) -> list[str]:
        for item in self._plan["items"]:
            for planned in item["services"]:
                if planned["host"] == host and planned["service"]["name"] == (args.get("service") or {}).get("name"):
                    return [
                        f"argument service.{name} is not the planned one"
                        for name in approval.differences(planned["service"], args["service"])
                    ]
        return [f"service {(args.get('service') or {}).get('name')} on {host} is not in the plan"]

    def _switch(self, host: Any, args: Json) -> list[str]:
        for planned in plans.switches(self._plan):
            if planned["host"] == host:
                wanted = {key: value for key, value in planned.items() if key != "host"}
                return [
                    f"argument {name} is not the planned one"
                    for name in approval.differences(wanted, {key: args.get(key) for key in wanted})
                ]
        return [f"host {host} has nothing to watch in this plan"]

    def _data(self, operation: str, host: Any, args: Json) -> list[str]:
        item = self._item(args)
        vault = self._plan.get("vault")
        if operation == "capacity" and vault and (host, args.get("vault_path")) == (vault["host"], vault["path"]):
            return []
        if operation == "facts" and host in self._plan["hosts"]:
            return []
        if item is None:
            return [f"dataset {(args.get('dataset') or {}).get('id')} is not in the plan"]
        found = []
        planned = plans.proven_on(item) if operation == "verify" else item["host"]
        if planned != host:
            found.append(f"host {host} is not the planned host of {item['dataset']['id']} ({planned})")
        found += [
            f"argument dataset.{name} is not the planned one"
            for name in approval.differences(item["dataset"], args.get("dataset"))
        ]
        safety = BOUND_SAFETY if item.get("in_place") else {}
        kind = operation.partition(".")[0]
        bound = safety.get(kind) or BOUND.get(operation) or BOUND.get(kind, {})
        if kind == "restore" and args.get("to") != (item.get("to") or {}).get("place"):
            found.append("argument to is not the planned one")
        if operation == "restore.emptied" and not self._check and item["dataset"]["id"] not in self._secured:
            found.append(f"the safety backup of {item['dataset']['id']} was not read back in this run")
        found += [
            f"argument {name} is not the planned one" for name in bound if args.get(name) != item.get(bound[name])
        ]
        return found

    def _item(self, args: Json) -> Json | None:
        wanted = (args.get("dataset") or {}).get("id")
        return next((item for item in self._plan["items"] if item["dataset"]["id"] == wanted), None)

    def _grant(self, operation: str, host: str, args: Json, item: Json | None) -> Json:
        """``grant`` and ``grant_signature``. ``runs`` lets an enrolled host see that the ledger forgot none it worked for."""
        case = self._plan["case"]
        filed = list(self._session.site.cases.glob(f"*/{case}/*-execute.json"))
        grant = {
            "schema": GRANT_SCHEMA,
            "site": self._plan["site"],
            "case": case,
            "execution": len(filed) + 1,
            "plan": self._digest,
            "runs": [line.digests.get("plan") for line in self._runs(case)],
            "host": host,
            "machine_id": self._plan["hosts"][host]["machine_id"],
            "operation": operation,
            "dataset": item["dataset"]["id"] if item else None,
            "service": (args.get("service") or {}).get("name"),
            "snapshot": args.get("snapshot"),
            "to": args.get("to"),
            "expires": clock.plus(clock.now(), minutes=GRANT_MINUTES),
            "nonce": secrets.token_hex(16),
        }
        if item and item.get("in_place") and operation in BOUND_SAFETY:
            grant["safety"] = True  # an enrolled host must not take it for the end of this execution
        if item and operation == "verify" and item.get("drill"):
            grant["drill"] = True  # a host that only proves keeps nothing, not even restic's cache
        return {"grant": grant, "grant_signature": self._key.sign(grant)}

    def _runs(self, case: str) -> list[LedgerLine]:
        lines = self._session.ledger.lines()
        return [line for line in lines if line.kind in RUN_LINES and line.ref.startswith(f"{case}/")]

    def _follow(self, operation: str, host: str, item: Json | None) -> None:
        """From the stop until every dataset is finalised, Ctrl-C waits."""
        if operation == "verify" and item:
            self._secured.add(item["dataset"]["id"])
        if operation in {"switch.armed", "switch.aborted"}:
            self._armed.add(host)
            self._going_back = self._going_back or operation == "switch.aborted"
        if operation == "service.stopped":
            self._stopped = self._stop.critical = True
        elif operation == "restore.finalised" and item:
            self._finalised.add(item["dataset"]["id"])
            if self._finalised == {planned["dataset"]["id"] for planned in self._plan["items"]}:
                self._stop.critical = False
