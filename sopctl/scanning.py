# SPDX-License-Identifier: Apache-2.0
"""``asset scan``: look at registered servers without changing them, and keep what was found beside the register.

Like ``case plan``'s look at capacity it needs no approval: it needs a role, registered hosts, and the signature that proves who
looks. What changed is sealed in a record before it is kept; a scan that finds nothing new writes nothing.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sopctl import approval, assets, clock, facts, fsio, gaps
from sopctl import plan as plans
from sopctl.errors import ExitCode, GateRefused, Interrupted, RunFailed, SopctlError, UsageError
from sopctl.execution import Run, execute, short_temp
from sopctl.facts import Change, FactsFile
from sopctl.gaps import Gap, Remembered
from sopctl.models import Json, Server
from sopctl.profile import KEEPER
from sopctl.register import SCAN
from sopctl.runner import environment
from sopctl.sealing import seal_maintenance
from sopctl.session import Session, Signer


@dataclass
class Scanned:
    """What a scan came to: what changed by server, who did not answer and why, what is not registered, and its record."""

    number: str
    servers: list[str]
    check: bool
    changes: dict[str, list[Change]] = field(default_factory=dict)
    first: set[str] = field(default_factory=set)
    unread: dict[str, list[Json]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    record: Path | None = None

    @property
    def code(self) -> ExitCode:
        """Partly done where a server could not be looked at."""
        return ExitCode.PARTIAL if self.silent else ExitCode.OK


def scan(
    session: Session,
    names: Sequence[str],
    person: str | None,
    key: str | None,
    *,
    check: bool,
    progress: Callable[[Json], None],
) -> Scanned:
    """Look at the servers ``names`` (asset ids or inventory names; all, when empty) and keep what is new of them.

    With ``check`` nothing is kept. UsageError for a name that is not registered, GateRefused where the register is not as
    its keeper signed it, RunFailed where no server could be looked at.
    """
    session.read_what_decides()
    signer = session.signer(person, key)
    session.role(signer.person, scanners(session), "scanning servers")
    servers, site = _chosen(session, names), session.site
    folder = Path(tempfile.mkdtemp(prefix="sop-", dir=short_temp()))
    try:
        hosts = plans.inventory_hosts(site, environment(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = Scanned(_number(session), sorted(servers), check)
    there = {one: server for one, server in servers.items() if not (why := _out_of_reach(server, hosts))}
    result.silent = {one: why for one, server in servers.items() if (why := _out_of_reach(server, hosts))}
    met = _met(session, servers, hosts)
    known = {server: one.file for server, one in facts.load_all(site.root, site.servers).items()}
    found: dict[str, FactsFile] = {}
    if there:
        found = _look(session, there, known, signer, result, progress)
    for server, file in found.items():
        before = known.get(server)
        if before is None:
            result.first.add(server)
        if file is not before and (changed := facts.compare(before.facts if before else None, file.facts)):
            result.changes[server] = changed
    met = Remembered(
        silent={
            one: why
            for one, why in {**met.silent, **result.silent}.items()
            if one not in found and one not in met.homeless
        },
        strangers=met.strangers,
        homeless=met.homeless,
    )
    if not check:
        _keep(session, result, found, known, signer)
        gaps.remember(site.state, met)
    result.gaps = gaps.find(site.servers, site.datasets, assets.scheduled(session), {**known, **found}, met)
    return result


def scanners(session: Session) -> list[str]:
    """Roles that may look at servers: the register's keeper, and whoever executes."""
    flows = session.site.profile.profile.flows.values()
    roles = [KEEPER, *(role for flow in flows for step in flow.steps if step.act == "execute" for role in step.actors)]
    return list(dict.fromkeys(roles))


def _chosen(session: Session, names: Sequence[str]) -> dict[str, Server]:
    servers = session.site.servers
    if not servers:
        raise UsageError("no server is registered", where="register/servers", hint="Register one first.")
    by_host = {server.inventory_hostname: server.id for server in servers.values()}
    chosen = {}
    for name in names:
        server = name if name in servers else by_host.get(name)
        if server is None:
            raise UsageError(
                f"server {name!r} is not in the asset register",
                where="register/servers",
                hint=f"Register it first; registered are {', '.join(list(servers)[:20])}.",
            )
        chosen[server] = servers[server]
    return chosen or dict(servers)


def _out_of_reach(server: Server, hosts: Mapping[str, Json]) -> str:
    """Why a server cannot be looked at, before anything is tried; empty when it can."""
    if server.inventory_hostname not in hosts:
        return f"host {server.inventory_hostname} is not in the inventory"
    if hosts[server.inventory_hostname].get("ansible_connection") != "local" and not server.ssh_host_key:
        return f"register/servers/{server.id}.yml has no ssh_host_key"
    return ""


def _met(session: Session, servers: Mapping[str, Server], hosts: Mapping[str, Json]) -> Remembered:
    """What was remembered, without what this scan looks at anew."""
    before, registered = gaps.remembered(session.site.state), session.site.servers
    own = {server.inventory_hostname for server in registered.values()}
    return Remembered(
        silent={one: why for one, why in before.silent.items() if one in registered and one not in servers},
        strangers=sorted(set(hosts) - own),
        homeless=sorted(one.id for one in registered.values() if one.inventory_hostname not in hosts),
    )


def _number(session: Session) -> str:
    begin = f"{SCAN}{clock.parse(clock.now()).astimezone(session.site.tz):%Y}-"
    taken = {line.ref.split("/")[0] for line in session.ledger.lines() if line.ref.startswith(begin)}
    return f"{begin}{len(taken) + 1:04d}"


def scan_plan(session: Session, number: str, servers: Mapping[str, Server]) -> Json:
    """Plan of a look at ``servers``. An entry without ``machine_id`` may be looked at: that is how one comes to know it."""
    hosts = {
        server.inventory_hostname: {
            "server": server.id,
            "machine_id": server.machine_id,
            "ssh_host_key": server.ssh_host_key,
        }
        for server in servers.values()
    }
    return {
        "schema": plans.SCHEMA,
        "site": session.site.config.site,
        "case": number,
        "flow": "",
        "operation": plans.SCAN,
        "at": clock.now(),
        "hosts": hosts,
        "items": [],
    }


def _look(
    session: Session,
    servers: Mapping[str, Server],
    known: Mapping[str, FactsFile],
    signer: Signer,
    result: Scanned,
    progress: Callable[[Json], None],
) -> dict[str, FactsFile]:
    """The facts of every server that answered; the others enter ``result.silent``."""
    run = execute(
        session,
        scan_plan(session, result.number, servers),
        lambda current: approval.registered(session.context(), current),
        signer,
        check=result.check,
        progress=progress,
    )
    shutil.rmtree(run.folder, ignore_errors=True)
    found: dict[str, FactsFile] = {}
    if run.outcome.interrupted:
        raise Interrupted("stopped before every server was looked at", where=result.number, hint="Nothing was kept.")
    said = {str(one.get("host")): one for one in run.outcome.evidence if one.get("kind") == "facts"}
    for server in servers.values():
        why = _unanswered(run, server, said)
        if not why:
            try:
                evidence = said[server.inventory_hostname]
                file = facts.from_evidence(evidence, server.id, result.number, known.get(server.id), clock.now())
                why = _other_machine(server, file)
            except SopctlError as error:
                why = error.message
        if why:
            result.silent[server.id] = why
        else:
            found[server.id] = file
            if unread := facts.unread_of(evidence):
                result.unread[server.id] = unread
    if run.outcome.refused:
        raise GateRefused(run.outcome.refused, where=result.number)
    if not found:
        said_why = [f"{one}: {why}" for one, why in result.silent.items()]
        raise RunFailed("; ".join(said_why[:5]), where=result.number, hint="Nothing was kept, nothing was changed.")
    return found


def _unanswered(run: Run, server: Server, said: Mapping[str, Json]) -> str:
    host, outcome = server.inventory_hostname, run.outcome
    if host in outcome.unreachable:
        return outcome.unreachable[host]
    failure = next((str(one["msg"]) for one in outcome.failures if one["host"] == host), "")
    if failure or host not in said:
        return failure or "; ".join(outcome.problems) or "it returned no facts"
    return ""


def _other_machine(server: Server, file: FactsFile) -> str:
    """Why this is not the registered machine; empty when it is, or when the register does not say which."""
    answered = file.facts.machine.machine_id
    if server.machine_id and answered and answered != server.machine_id:
        return f"another machine answers: its machine_id is {answered}, registered is {server.machine_id}"
    return ""


def _keep(
    session: Session,
    result: Scanned,
    found: Mapping[str, FactsFile],
    known: Mapping[str, FactsFile],
    signer: Signer,
) -> None:
    """Seal what changed, then write the facts: whoever is killed between finds the same changes again."""
    new = {server: facts.file_bytes(file) for server, file in found.items() if file is not known.get(server)}
    if not new:
        return
    evidence = [
        {
            "kind": "facts",
            "server": server,
            "scan": result.number,
            "changes": facts.changes_json(result.changes.get(server, [])),
            "facts": fsio.sha256_bytes(data),
        }
        for server, data in new.items()
    ]
    files = {f"facts/{server}.json": data for server, data in new.items()}
    files["evidence.json"] = (json.dumps(evidence, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()
    said = f"asset scan: {len(new)} of {len(result.servers)} servers differ from what was known"
    result.record = seal_maintenance(session, result.number, files, signer, said)
    (session.site.root / facts.FOLDER).mkdir(parents=True, exist_ok=True)
    for server, data in new.items():
        fsio.write_atomic(facts.path_of(session.site.root, server), data)
