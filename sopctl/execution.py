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

from sopctl import approval, clock, fsio, locks, signing
from sopctl import plan as plans
from sopctl.context import key_digest
from sopctl.errors import GateRefused
from sopctl.gate_server import GateServer
from sopctl.models import Json
from sopctl.play_gate import PlayGate
from sopctl.progress import listener
from sopctl.runner import RunOutcome, RunRequest, Stop, environment, run
from sopctl.session import Session, Signer

NOTHING = "Nothing was started and no connection opened."


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


def _kind(plan: Json, check: bool) -> tuple[str, str]:
    """The ledger's word for such a run, and the letter in its id: what changes nothing is no execution."""
    if plan["operation"] in {"plan", plans.SCAN}:
        return "observed", "P"
    if check and not plan["case"].startswith("CEK-"):
        return "observed", "S"
    if plan["operation"] == "clean":
        return "destruction", "H"
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
    progress: Callable[[Json], None] = lambda _: None,
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
        folder = Path(tempfile.mkdtemp(prefix="sop-", dir=short_temp()))
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
            with GateServer(folder, gate.answer, listener(plan, progress)) as server:
                request = RunRequest(
                    playbook=f"diskominfo.sop.{plan['operation']}",
                    inventories=[site.inventory, generated],
                    folder=folder,
                    keep=keep,
                    hosts=plans.targeted(plan),
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
    if plan["operation"] != plans.SCAN and session.policy.asset_review == "warn":
        for reason in approval.review_reasons(session.context(), plan):
            session.say(f"warning: {reason}")
    data = fsio.canonical_json(plan)
    signature = session.sign(data, "sop-document", signer)
    key = signing.verify(data, signature, "sop-document")
    session.code  # noqa: B018  # taken before the run: the record names the code that ran, and must not fail on it later
    with session.vault_open():
        redactor = session.redactor(plan)  # a secret that is missing or unfit is told before anything starts
        started = clock.now()
        opened = open_run(
            session,
            plan,
            decide,
            check=check,
            who=signer.person.id,
            say=session.say,
            key=key,
            case_held=case_held,
            progress=progress,
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


def short_temp() -> str:
    """A folder for sockets: Unix socket paths end at about 100 bytes, and site paths may be deep."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and len(runtime) < 40 and os.access(runtime, os.W_OK):
        return runtime
    return "/tmp"  # noqa: S108  # mkdtemp below makes a folder of our own, mode 0700
