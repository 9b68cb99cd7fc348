# SPDX-License-Identifier: Apache-2.0
"""``doctor``: looks, never repairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sopctl import approval, archive, clock, content, control, locks
from sopctl.errors import SopctlError
from sopctl.models import Server
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
        _try("vault secrets", lambda: f"{len([session.vault_access(server) for server in site.servers])} servers"),
    ]
    found.append(_schedule(session))
    found += [
        Item("review", "warn", f"{server.id}: the yearly review is overdue")
        for server in _safe_servers(site)
        if approval.review_overdue(server, clock.now())
    ]
    runs = sorted((site.state / "runs").glob("*")) if (site.state / "runs").is_dir() else []
    found += [
        Item("run", "warn", f"{path.name} broke off before its record was sealed; its artifacts lie in {path}")
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
    found += _mode(site)
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


def _safe_servers(site: Site) -> list[Server]:
    try:
        return list(site.servers.values())
    except SopctlError:
        return []


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
