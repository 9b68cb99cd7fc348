# SPDX-License-Identifier: Apache-2.0
"""The asset register as one looks at it: each server's entry, its facts, its last review, and what is due of it."""

from __future__ import annotations

from dataclasses import dataclass

from sopctl import approval, clock, facts, fsio, gaps, reviews
from sopctl.errors import SopctlError, UsageError
from sopctl.facts import FactsFile
from sopctl.gaps import Gap
from sopctl.models import Json, Server, to_json
from sopctl.reviews import Last
from sopctl.session import Session


@dataclass(frozen=True)
class Asset:
    """One server of the register.

    ``entry`` and ``digest`` are the SHA-256 of the entry and of the facts. ``holds``: day until which its review holds, None
    without one. ``changed``: what differs from what was reviewed.
    """

    server: Server
    entry: str
    facts: FactsFile | None
    digest: str | None
    last: Last | None
    holds: str | None
    overdue: bool
    changed: list[str]

    @property
    def support_until(self) -> str | None:
        """Last day of its operating system's security updates."""
        return self.facts.facts.system.support_until if self.facts else None

    @property
    def reviewed(self) -> tuple[str, str, str]:
        """Day, person and result of the newest review: the signed one, or what the entry says."""
        claimed = self.server.reviewed
        if self.last and (claimed is None or self.last.at[:10] >= claimed.at[:10]):
            return self.last.at[:10], self.last.by, self.last.said.result
        return (claimed.at[:10], claimed.by, claimed.result) if claimed else ("", "", "")


def everything(session: Session) -> list[Asset]:
    """All servers of the register, by asset id."""
    site, context = session.site, session.context()
    known = facts.load_all(site.root, site.servers)
    found = []
    for server in site.servers.values():
        looked, last = known.get(server.id), context.reviews.last.get(server.id)
        entry = fsio.sha256_bytes(site.register_bytes[f"servers/{server.id}.yml"])
        digest = looked.digest if looked else None
        found.append(
            Asset(
                server=server,
                entry=entry,
                facts=looked.file if looked else None,
                digest=digest,
                last=last,
                holds=reviews.due(last, server.reviewed.at if server.reviewed else None),
                overdue=approval.review_overdue(server, context.now, last),
                changed=reviews.changed_since(last, entry, digest),
            )
        )
    return found


def one(session: Session, name: str) -> Asset:
    """The server of that asset id or name in the inventory. UsageError when there is none."""
    for asset in everything(session):
        if name in {asset.server.id, asset.server.inventory_hostname}:
            return asset
    known = ", ".join(list(session.site.servers)[:20]) or "none"
    raise UsageError(
        f"server {name!r} is not in the asset register", where="register/servers", hint=f"Registered: {known}."
    )


def overdue(session: Session) -> list[str]:
    """Servers whose yearly review is overdue."""
    context = session.context()
    return [
        server.id
        for server in session.site.servers.values()
        if approval.review_overdue(server, context.now, context.reviews.last.get(server.id))
    ]


def scheduled(session: Session) -> set[str] | None:
    """Datasets of the standing order; None where there is none that can be read."""
    try:
        return {entry.dataset for entry in session.site.schedule().entries}
    except SopctlError:
        return None


def missing(session: Session, assets: list[Asset]) -> list[Gap]:
    """What is not registered, and what is registered and not there, as the last scans met it."""
    site = session.site
    known = {asset.server.id: asset.facts for asset in assets if asset.facts}
    return gaps.find(site.servers, site.datasets, scheduled(session), known, gaps.remembered(site.state))


def soon(asset: Asset, today: str) -> list[str]:
    """What is due of a server within the next month or already, in words; ``today`` as ``YYYY-MM-DD``."""
    horizon = clock.plus(f"{today}T00:00:00Z", days=reviews.SOON)[:10]
    found = []
    if asset.overdue:
        at, by, result = asset.reviewed
        wrong = f": {by} found it {result}" if result == reviews.BAD else ""
        found.append(f"the review is overdue (last {at or 'never'}{wrong})")
    elif asset.holds and asset.holds <= horizon:
        found.append(f"the review is due by {asset.holds}")
    if asset.changed:
        what = " and ".join({"entry": "the entry", "facts": "what the server is"}[name] for name in asset.changed)
        found.append(f"{what} changed since the review of {asset.reviewed[0]}")
    if asset.support_until and asset.support_until <= horizon:
        word = "ended" if asset.support_until < today else "ends"
        system = asset.facts.facts.system if asset.facts else None
        found.append(f"support of {system.name if system else '?'} {word} on {asset.support_until}")
    return found


def asset_json(asset: Asset) -> Json:
    """Plain JSON value of a server."""
    at, by, result = asset.reviewed
    review = {
        "at": at,
        "by": by,
        "result": result,
        "until": asset.holds,
        "overdue": asset.overdue,
        "changed": asset.changed,
    }
    review |= {"document": asset.last.document, "remarks": asset.last.said.remarks} if asset.last else {}
    return {
        "server": to_json(asset.server),
        "entry": asset.entry,
        "facts": to_json(asset.facts) if asset.facts else None,
        "review": review,
    }
