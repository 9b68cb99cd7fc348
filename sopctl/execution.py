# SPDX-License-Identifier: Apache-2.0
"""One execution: gate → locks → ledger → Ansible behind the gate's socket → what came of it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl import approval, clock, fsio, locks, signing
from sopctl import plan as plans
from sopctl.context import key_digest
from sopctl.errors import ConfigError, GateRefused
from sopctl.gate_server import Answer, GateServer
from sopctl.ledger import LedgerLine
from sopctl.models import Json
from sopctl.runner import RunOutcome, RunRequest, Stop, environment, run
from sopctl.session import Session, Signer

GRANT_MINUTES = 15
GRANT_SCHEMA = "sop/grant/v1"
#: kinds of ledger lines that name a run and its plan
RUN_LINES = {"run-started", "observed"}
#: the site's own key, below its root: signs grants, and nothing else
RUN_KEY = "secrets/run-key"
NOTHING = "Nothing was started and no connection opened."
OPERATIONS = {
    "backup": {"vault_repository", "backup", "verify"},
    "plan": {"capacity"},
    "restore": {
        "restore.staged", "restore.swapped", "restore.finalised", "restore.reverted",
        "quiesce.quiesced", "quiesce.released", "service.stopped", "service.started",
    },
}  # fmt: skip
#: arguments besides the dataset that must be the plan's: argument → key of the planned item
BOUND = {
    "backup": {"period": "period", "name": "name"},
    "verify": {"depth": "verify"},
    "restore": {"snapshot": "snapshot", "manifest_snapshot": "manifest_snapshot", "expected": "expected"},
}
#: what leads back to a running service: granted after Ctrl-C, and once a service was stopped whatever the gate says now
ANEW = {"authorize", "service.stopped", "restore.swapped"}
WAY_BACK = {"restore.reverted", "quiesce.released", "service.started"}


@dataclass(frozen=True)
class Run:
    """A finished run: its plan, what it did, and where its artifacts lie until they are sealed."""

    id: str
    plan: Json
    plan_signature: bytes | None
    outcome: RunOutcome
    folder: Path
    started: str
    finished: str
    check: bool
    inventory: bytes
    known_hosts: str
    #: (host, service) whose stop was granted; without later evidence they count as down
    stops: frozenset[tuple[str, str]] = frozenset()


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
        self._stopped = False
        self._finalised: set[str] = set()

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
            self._follow(operation, item)
            if operation == "service.stopped":
                self._stop.stops.add((str(host), str(args["service"]["name"])))
        return {
            "allowed": True,
            "grant": self._grant(operation, str(host), args, item),
            "vault": self._session.vault_access(item["server"]) if item else None,
            "secrets": self._session.database_secrets(item["dataset"]["id"]) if item else None,
        }

    def _reasons(self, operation: str, host: Any, args: Json, question: Json) -> list[str]:
        if self._check and not question.get("check"):
            return ["this run is a check; the task is not"]
        if operation in ANEW:  # the code that runs may have been changed since the run began
            self._session.forget_code()
        found = [] if self._stopped and operation in WAY_BACK else self._decide(self._plan)
        if args.get("case") != self._plan["case"]:
            found.append(f"case {args.get('case')} is not the case of this run ({self._plan['case']})")
        if operation == "authorize":
            planned = sorted({item["host"] for item in self._plan["items"]})
            if question.get("hosts") != planned:
                found.append(f"the play's hosts {question.get('hosts')} are not the planned hosts {planned}")
            if args.get("playbook") != self._plan["operation"]:
                found.append(f"playbook {args.get('playbook')} is not the planned {self._plan['operation']}")
            return found
        if operation not in OPERATIONS[self._plan["operation"]]:
            return [*found, f"operation {operation} is no part of a {self._plan['operation']}"]
        if self._stop.asked and not self._stop.critical and operation not in WAY_BACK:
            found.append("the run was interrupted; no further step is begun")
        if operation.startswith("service."):
            return found + self._service(host, args)
        return found + self._data(operation, host, args)

    def _service(self, host: Any, args: Json) -> list[str]:
        for item in self._plan["items"]:
            for planned in item["services"]:
                if planned["host"] == host and planned["service"]["name"] == (args.get("service") or {}).get("name"):
                    return [
                        f"argument service.{name} is not the planned one"
                        for name in approval.differences(planned["service"], args["service"])
                    ]
        return [f"service {(args.get('service') or {}).get('name')} on {host} is not in the plan"]

    def _data(self, operation: str, host: Any, args: Json) -> list[str]:
        item = self._item(args)
        vault = self._plan.get("vault")
        if operation == "capacity" and vault and (host, args.get("vault_path")) == (vault["host"], vault["path"]):
            return []
        if item is None:
            return [f"dataset {(args.get('dataset') or {}).get('id')} is not in the plan"]
        found = []
        if item["host"] != host:
            found.append(f"host {host} is not the planned host of {item['dataset']['id']} ({item['host']})")
        found += [
            f"argument dataset.{name} is not the planned one"
            for name in approval.differences(item["dataset"], args.get("dataset"))
        ]
        bound = BOUND.get(operation.partition(".")[0], {})
        found += [f"argument {name} is not the planned one" for name in bound if args.get(name) != item[bound[name]]]
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
            "expires": clock.plus(clock.now(), minutes=GRANT_MINUTES),
            "nonce": secrets.token_hex(16),
        }
        return {"grant": grant, "grant_signature": self._key.sign(grant)}

    def _runs(self, case: str) -> list[LedgerLine]:
        lines = self._session.ledger.lines()
        return [line for line in lines if line.kind in RUN_LINES and line.ref.startswith(f"{case}/")]

    def _follow(self, operation: str, item: Json | None) -> None:
        """From the stop until every dataset is finalised, Ctrl-C waits."""
        if operation == "service.stopped":
            self._stopped = self._stop.critical = True
        elif operation == "restore.finalised" and item:
            self._finalised.add(item["dataset"]["id"])
            if self._finalised == {planned["dataset"]["id"] for planned in self._plan["items"]}:
                self._stop.critical = False


def _kind(plan: Json, check: bool) -> tuple[str, str]:
    """The ledger's word for such a run, and the letter in its id: what changes nothing is no execution."""
    if plan["operation"] == "plan":
        return "observed", "P"
    if check and not plan["case"].startswith("CEK-"):
        return "observed", "S"
    return "run-started", ""


@contextmanager
def open_run(
    session: Session,
    plan: Json,
    decide: Callable[[Json], list[str]],
    *,
    check: bool,
    who: str,
    say: Callable[[str], None],
    key: str = "",
    case_held: bool = False,
) -> Iterator[tuple[RunRequest, Stop, str]]:
    """Hold a run open: locks, ledger line, gate socket, private folder. Yields the prepared request.

    ``key`` is the operator's public key, whose digest enters the ledger: whoever starts a run has executed, also when it
    never comes to its document. ``case_held``: the caller holds the case's lock already.

    GateRefused before anything is opened; LockedError when another command works on the case or a dataset.
    """
    reasons = decide(plan)
    if reasons:
        raise GateRefused(reasons, where=plan["case"], hint=NOTHING)
    site = session.site
    names = [] if case_held else [plan["case"]]
    names += [f"dataset-{item['dataset']['id']}" for item in plan["items"]]
    with locks.held(site.state, names, who, case=plan["case"]):
        folder = Path(tempfile.mkdtemp(prefix="sop-", dir=_short_temp()))
        try:
            hosts = plans.inventory_hosts(site, environment(folder))
            plans.check_reachable(site, plan, hosts)
            kind, mark = _kind(plan, check)
            before = [
                line for line in session.ledger.lines() if line.kind == kind and line.ref.startswith(f"{plan['case']}/")
            ]
            run_id = f"{plan['case']}-{mark}{len(before) + 1:02d}"
            keep = site.state / "runs" / f"{run_id}-{secrets.token_hex(3)}"
            keep.mkdir(parents=True, mode=0o700)
            generated = folder / "sop_inventory.json"
            generated.write_text(json.dumps(plans.generated_inventory(plan, hosts)))
            stop = Stop(say)
            # made here, so that a run key that must not be used is told before a line is entered
            gate = PlayGate(session, plan, decide, stop, check)
            digest = fsio.sha256_bytes(fsio.canonical_json(plan))
            digests = {"plan": digest} | ({"operator": key_digest(key)} if key else {})
            session.ledger.append(kind, f"{plan['case']}/{run_id}", digests, unique=True)
            password_file = site.config.ansible.vault_password_file
            with GateServer(folder, gate.answer) as server:
                request = RunRequest(
                    playbook=f"diskominfo.sop.{plan['operation']}",
                    inventories=[site.inventory, generated],
                    folder=folder,
                    keep=keep,
                    hosts=sorted({item["host"] for item in plan["items"]}),
                    all_hosts=sorted(plan["hosts"]),
                    known_hosts=plans.known_hosts(plan, hosts),
                    check=check,
                    forks=site.config.ansible.forks,
                    vault_password_file=site.root / password_file if password_file else None,
                    gate=server.path,
                )
                yield request, stop, run_id
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def execute(
    session: Session,
    plan: Json,
    decide: Callable[[Json], list[str]],
    signer: Signer,
    *,
    check: bool,
    progress: Callable[[Json], None],
    case_held: bool = False,
) -> Run:
    """Run ``plan``. The operator signs it first: that proves the key, and it is the record's plan.

    The gate is asked before anything else: sop.yml may name any command for a secret.
    """
    with session.deciding():
        reasons = decide(plan)
    if reasons:
        raise GateRefused(reasons, where=plan["case"], hint=NOTHING)
    data = fsio.canonical_json(plan)
    signature = session.sign(data, "sop-document", signer)
    key = signing.verify(data, signature, "sop-document")
    session.code  # noqa: B018  # taken before the run: the record names the code that ran, and must not fail on it later
    redactor = session.redactor(plan)  # a secret that is missing or unfit is told before anything starts
    started = clock.now()
    opened = open_run(
        session, plan, decide, check=check, who=signer.person.id, say=session.say, key=key, case_held=case_held
    )
    with opened as (request, stop, run_id):
        outcome = run(request, redactor, progress, stop)
        inventory = (request.folder / "sop_inventory.json").read_bytes()
    return Run(
        id=run_id,
        plan=plan,
        plan_signature=signature,
        outcome=outcome,
        folder=request.keep,
        started=started,
        finished=clock.now(),
        check=check,
        inventory=inventory,
        known_hosts=request.known_hosts,
        stops=frozenset(stop.stops),
    )


def _short_temp() -> str:
    """A folder for sockets: Unix socket paths end at about 100 bytes, and site paths may be deep."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and len(runtime) < 40 and os.access(runtime, os.W_OK):
        return runtime
    return "/tmp"  # noqa: S108  # mkdtemp below makes a folder of our own, mode 0700
