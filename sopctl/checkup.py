# SPDX-License-Identifier: Apache-2.0
"""``doctor``: looks, never repairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sopctl import (
    addresses,
    approval,
    archive,
    assets,
    content,
    control,
    indonesian,
    kept,
    locks,
    paper,
    remains,
    stamping,
)
from sopctl.errors import ConfigError, SopctlError
from sopctl.runner import tool_path
from sopctl.session import Session
from sopctl.site import Site, find_site


@dataclass(frozen=True)
class Item:
    """One thing looked at."""

    what: str
    state: Literal["ok", "warn", "bad"]
    detail: str


def examine(site_option: str | None) -> list[Item]:
    """Everything that a run needs, in the order in which one would mend it."""
    found = [_try("versions", lambda: ", ".join(f"{name} {version}" for name, version in content.versions().items()))]
    for tool, package in (
        ("ssh-keygen", "openssh-client"),
        ("ssh", "openssh-client"),
        ("ansible-playbook", "ansible-core (pip)"),
        ("restic", "restic"),
    ):
        path = shutil.which(tool, path=tool_path())
        if path:
            found.append(Item(tool, "ok", path))
        else:
            found.append(
                Item(
                    tool,
                    "warn" if tool == "restic" else "bad",
                    f"missing; install {package}" + (" on every server that is backed up" if tool == "restic" else ""),
                )
            )
    found.append(_try("code", content.code_digest))
    try:
        session = Session(Site(find_site(site_option)))
    except SopctlError as error:
        return [*found, Item("site", "bad", str(error))]
    return found + _site(session)


def _try(what: str, look: Callable[[], str]) -> Item:
    try:
        return Item(what, "ok", look())
    except SopctlError as error:
        return Item(what, "bad", str(error))


def _site(session: Session) -> list[Item]:
    site = session.site
    found = [
        _try("sop.yml", lambda: f"{site.root}, profile {site.config.profile}, {site.tz.key}"),
        _try("profile", lambda: site.profile.reference),
        _try(
            "trust",
            lambda: (
                f"serial {session.trust.file.serial} until {session.trust.file.valid_until}, root pinned in {session.trust.root_source}"
            ),
        ),
        _try("register", lambda: f"{len(site.servers)} servers, {len(site.datasets)} datasets"),
        _try("inventory", lambda: str(site.inventory)),
        _try("ledger", lambda: f"head {session.ledger.head()}"),
        _try("vault secrets", lambda: _vault(session)),
    ]
    if site.config.forms.pdf:
        lacking = paper.problem()
        found.append(Item("form.pdf", "warn" if lacking else "ok", lacking or f"forms are kept as {paper.VARIANT} too"))
    found.append(_schedule(session))
    found += [
        Item("review", "warn", f"{server}: the yearly review is overdue: sopctl asset review {server} --as PERSON")
        for server in _overdue(session)
    ]
    found += _gaps(session)
    runs = sorted((site.state / "runs").glob("*")) if (site.state / "runs").is_dir() else []
    found += [
        Item(
            "run",
            "warn",
            f"{path.name} broke off before its record was sealed; the next command that acts on its case seals what lies in {path}",
        )
        for path in runs
    ]
    found += [Item("lock", "warn", str(lock)) for lock in locks.peek(site.state)]
    found += [
        Item("case", "warn", f"{case} is closed, but its record was never sealed: sopctl case seal {case} --as PERSON")
        for case in _unsealed(session)
    ]
    found += [
        Item("archive", "warn", f"{path} is an unfinished record; the run's artifacts are in it")
        for path in archive.unfinished(site.archive)
    ]
    found += _timestamps(session)
    found += _notices(session)
    found += _kept(session)
    found += _mode(site)
    return found


def _timestamps(session: Session) -> list[Item]:
    """What has no time stamp yet, by authority."""
    try:
        waiting = stamping.waiting(session)
    except SopctlError as error:
        return [Item("time stamps", "bad", str(error))]
    return [
        Item("time stamps", "warn", f"{name}: {len(todo)} wait, the newest {todo[0].kind} {todo[0].name}: {hint}")
        if todo
        else Item("time stamps", "ok", f"{name}: nothing waits")
        for name, todo in waiting.items()
        for hint in [f"sopctl audit timestamp {name}"]
    ]


def _notices(session: Session) -> list[Item]:
    """Who is told, what is wrong with how, and what nobody has got yet."""
    config = session.site.config.notices
    if not config.people:
        return []
    try:
        wrong = addresses.problems(session)
    except SopctlError as error:
        wrong = [str(error)]
    how = f"{len(config.people)} people over {', '.join(config.channels)}"
    return [Item("notices", "warn", one) for one in wrong] or [Item("notices", "ok", how)]


def _vault(session: Session) -> str:
    """Every server's way into the vault. A door is asked whom it is for; it is opened to nobody."""
    servers = session.site.servers
    if session.site.config.vault.door is None:
        return f"{len([session.vault_access(server) for server in servers])} servers"
    stored = {dataset.server for dataset in session.site.datasets.values()}
    if shut := sorted(stored - session.doors.servers()):
        raise ConfigError(
            f"the door is not for {', '.join(shut)}",
            where="sop.yml:vault.door",
            hint="Have the vault's administrator name them in vault_server_users, without a password_hash.",
        )
    return f"the door answers, for {len(stored)} servers"


def _kept(session: Session) -> list[Item]:
    """Disk that servers give to what restores have set aside, and what of it could be dropped."""
    try:
        cases = {case.id: case for case in session.all_cases()}
        servers = remains.by_server(
            kept.everything(session.site, session.ledger.lines(), session.policy.keep_days), cases
        )
    except SopctlError as error:
        return [Item("kept", "bad", str(error))]
    found = []
    for one in servers:
        listed = ", ".join(f"{copy['name']} until {copy['until'][:10]}" for copy in one.copies)
        unknown = f" and {one.unknown} of unknown size" if one.unknown else ""
        found.append(Item("kept", "ok", f"{one.server}: {indonesian.format_size(one.size)}{unknown} ({listed})"))
        found += [
            Item(
                "kept",
                "warn",
                f"{one.server} {copy['name']}: its keep time was over on {copy['until'][:10]}: {copy['next']}",
            )
            for copy in one.copies
            if copy["cleanable"]
        ]
    return found


def _mode(site: Site) -> list[Item]:
    """The mode, and for each thing that the stronger one needs, what is missing."""
    try:
        lacking, guarded = control.missing(site), control.not_enrolled(site)
    except SopctlError as error:
        return [Item("mode", "bad", str(error))]
    if lacking:
        detail = "guard rail: mistakes are stopped; whoever owns the SSH key and this account is not"
        found = [
            Item("mode", "ok", detail),
            *(Item("control", "warn", f"missing for control: {one}") for one in lacking),
        ]
    else:
        found = [Item("mode", "ok", "control: people hold no key of the site; root of this machine still does")]
    if guarded:
        found.append(
            Item("enrolled", "warn", f"hosts that check no grants, by their newest evidence: {', '.join(guarded)}")
        )
    return found


def _unsealed(session: Session) -> list[str]:
    """Closed cases without a record."""
    try:
        sealed = {line.ref for line in session.ledger.lines() if line.kind == "record"}
        return [case.id for case in session.all_cases() if case.state.closed and f"{case.id}-C" not in sealed]
    except SopctlError:
        return []


def _overdue(session: Session) -> list[str]:
    try:
        return assets.overdue(session)
    except SopctlError:
        return []


def _gaps(session: Session) -> list[Item]:
    """What is not registered, as far as scans have seen it; a site that was never scanned is told so once."""
    try:
        found = assets.missing(session, assets.everything(session))
    except SopctlError as error:
        return [Item("register", "warn", str(error))]
    new = [gap for gap in found if gap.kind == "never-scanned"]
    shown = [Item("register", "warn", gap.line()) for gap in found if gap.kind != "never-scanned"]
    if new:
        shown.append(Item("register", "ok", f"{len(new)} servers were never looked at: sopctl asset scan --as PERSON"))
    return shown


def _schedule(session: Session) -> Item:
    site = session.site
    if not site.schedule_path.exists():
        return Item("schedule", "warn", "there is none yet")
    try:
        schedule = site.schedule()
        signature = site.schedule_path.with_name("schedule.yml.sig")
        reasons = approval.standing_order(
            session.context(),
            schedule,
            site.schedule_path.read_bytes(),
            signature.read_bytes() if signature.exists() else None,
        )
    except SopctlError as error:
        return Item("schedule", "bad", str(error))
    if reasons:
        return Item("schedule", "bad", "; ".join(reasons))
    return Item("schedule", "ok", f"{len(schedule.entries)} datasets, until {schedule.valid.until}")
