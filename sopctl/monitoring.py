# SPDX-License-Identifier: Apache-2.0
"""What a monitoring system asks of a site: measures for Prometheus, and one state for Nagios. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from sopctl import approval, assets, clock, locks, overview, standing, upkeep, vault
from sopctl.errors import SopctlError
from sopctl.models import Json
from sopctl.outbox import Outbox
from sopctl.schedule import Due
from sopctl.session import Session
from sopctl.vault import Backup

if TYPE_CHECKING:  # 15 ms, and only `metrics` needs it
    from prometheus_client import CollectorRegistry

#: an order or a trust that ends within so many days is told
SOON_DAYS = 30
DAY = 86400


class State(IntEnum):
    """As Nagios plugins exit."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Watched:
    """A site at one moment. ``newest``: dataset → its newest verified backup, None where it has none.

    ``order``: why the standing order does not hold; None where the SOP has no schedule. ``ends``: what ends (order, trust)
    → when (UTC). ``unconfirmed``: executed cases whose form waits for its confirmation, as ``overview`` lists them.
    ``checked``: server → when its repository in the vault was last checked. ``undelivered``: notices that nobody has got; None when
    that cannot be read.
    """

    at: str
    newest: dict[str, Backup | None]
    scheduled: list[Due]
    order: list[str] | None
    ends: dict[str, str]
    unconfirmed: list[Json]
    broken: list[str]
    reviews: list[str]
    stale: list[str]
    checked: dict[str, str]
    undelivered: int | None = 0


def watch(session: Session) -> Watched:
    """Look at the site. SopctlError when it cannot be read."""
    site, now = session.site, clock.now()
    # nothing is entered into the ledger, and a trust that has ended is told like everything else
    session.reading = True
    newest: dict[str, Backup | None] = dict.fromkeys(site.datasets)
    for backup in vault.catalogue(site):
        if backup.verified and not backup.safety and backup.dataset in newest:
            newest[backup.dataset] = backup
    ends = {"trust": session.trust.file.valid_until}
    order: list[str] | None = None
    scheduled: list[Due] = []
    if site.profile.profile.schedule_flow() is not None:
        if site.schedule_path.exists():
            signed = site.standing_order()
            order = approval.standing_order(session.context(), *signed)
            ends["order"] = signed[0].valid.until
            scheduled = standing.schedule_status(session)
        else:
            order = ["there is no schedule"]
    cases = overview.waiting(session)
    return Watched(
        at=now,
        newest=newest,
        scheduled=scheduled,
        order=order,
        ends=ends,
        unconfirmed=[line for line in cases if line["act"] == "confirm"],
        broken=[line["case"] for line in cases if line["broken"]],
        reviews=assets.overdue(session),
        stale=[lock.name for lock in locks.peek(site.state) if lock.state == "stale"],
        checked=upkeep.last_checked(session),
        undelivered=_undelivered(session),
    )


def _undelivered(session: Session) -> int | None:
    try:
        return len(Outbox(session.site.state).undelivered())
    except SopctlError:  # `doctor` names it; it must hide no overdue backup
        return None


def late(watched: Watched) -> list[Json]:
    """The unconfirmed forms whose time by the SOP is over."""
    return [line for line in watched.unconfirmed if line["left"] is not None and line["left"] < 0]


def judge(watched: Watched) -> list[tuple[State, str]]:
    """What is not as it should be, the worst first."""
    found = [(State.CRITICAL, f"the standing order does not hold ({reason})") for reason in watched.order or []]
    for line in watched.scheduled:
        if line.overdue:
            last = line.last_verified.started[:10] if line.last_verified else "never"
            found.append((State.CRITICAL, f"{line.entry.dataset} is overdue (last verified: {last})"))
    found += [(State.CRITICAL, f"{case} cannot be believed") for case in watched.broken]
    for what, until in watched.ends.items():
        left = clock.seconds_between(watched.at, until)
        if left < 0 and what == "trust":
            found.append((State.CRITICAL, f"the trust ended on {until[:10]}"))
        elif 0 <= left < SOON_DAYS * DAY:
            found.append((State.WARNING, f"the {'standing order' if what == 'order' else what} ends on {until[:10]}"))
    found += [(State.WARNING, f"the form of {line['case']} waits for its confirmation, late") for line in late(watched)]
    found += [(State.WARNING, f"the yearly review of {server} is due") for server in watched.reviews]
    found += [(State.WARNING, f"lock {name} was left by a command that died") for name in watched.stale]
    if watched.undelivered:
        found.append((State.WARNING, f"{watched.undelivered} notices could not be delivered"))
    return sorted(found, key=lambda each: -each[0])


def nagios(watched: Watched) -> tuple[State, str]:
    """State and its one line with performance data."""
    found = judge(watched)
    state = found[0][0] if found else State.OK
    proven = sum(backup is not None for backup in watched.newest.values())
    words = "; ".join(text for _, text in found) or f"{proven} of {len(watched.newest)} datasets have a verified backup"
    counts = {
        "datasets": str(len(watched.newest)),
        "verified": str(proven),
        "overdue": f"{sum(line.overdue for line in watched.scheduled)};;0",
        "unconfirmed": str(len(watched.unconfirmed)),
        "late": f"{len(late(watched))};0",
        "reviews": f"{len(watched.reviews)};0",
    }
    numbers = " ".join(f"{name}={count}" for name, count in counts.items())
    # '|' ends the words, and a line is one line
    return state, f"SOPCTL {state.name} - {' '.join(words.replace('|', '/').split())} | {numbers}"


def prometheus(watched: Watched) -> str:
    """The measures in Prometheus' text format, for node_exporter's textfile collector."""
    from prometheus_client import generate_latest

    return generate_latest(_measured(watched)).decode()


def measures(watched: Watched) -> list[Json]:
    """The same as {"name", "labels", "value"} each."""
    return [
        {"name": sample.name, "labels": sample.labels, "value": sample.value}
        for family in _measured(watched).collect()
        for sample in family.samples
    ]


def _measured(watched: Watched) -> CollectorRegistry:
    """Ages are told as the time of what is old, as is the custom there: an age would stand still when this file is no longer
    written.
    """
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()

    def gauge(name: str, text: str, values: dict[str, float], label: str = "dataset") -> None:
        made = Gauge(f"sopctl_{name}", text, [label] if label else [], registry=registry)
        for key, value in values.items():
            (made.labels(key) if label else made).set(value)

    def seconds(moment: str) -> float:
        return clock.parse(moment).timestamp()

    proven = {dataset: backup for dataset, backup in watched.newest.items() if backup}
    gauge(
        "backup_verified_timestamp_seconds",
        "When the data of the newest verified backup was read.",
        {dataset: seconds(backup.started) for dataset, backup in proven.items()},
    )
    gauge("backup_verified", "Whether there is a verified backup.", {d: float(d in proven) for d in watched.newest})
    gauge("backup_size_bytes", "Size of the newest verified backup.", {d: b.bytes for d, b in proven.items()})
    gauge(
        "backup_duration_seconds",
        "How long the newest verified backup took, without its proof.",
        {dataset: clock.seconds_between(backup.started, backup.finished) for dataset, backup in proven.items()},
    )
    by_line = {line.entry.dataset: line for line in watched.scheduled}
    gauge("backup_due", "Whether this period has no verified backup yet.", {d: x.due for d, x in by_line.items()})
    gauge(
        "backup_overdue",
        "Whether the last period passed without a verified backup and this one has none yet.",
        {dataset: line.overdue for dataset, line in by_line.items()},
    )
    gauge(
        "backup_missed_periods",
        "Past periods without a verified backup, at most twelve.",
        {dataset: len(line.missed) for dataset, line in by_line.items()},
    )
    gauge("forms_unconfirmed", "Forms that wait for their confirmation.", {"": len(watched.unconfirmed)}, "")
    gauge("forms_late", "Forms whose confirmation is late by the SOP.", {"": len(late(watched))}, "")
    gauge("reviews_due", "Servers whose yearly review is due.", {"": len(watched.reviews)}, "")
    gauge("cases_broken", "Open cases that cannot be believed.", {"": len(watched.broken)}, "")
    gauge("locks_stale", "Locks left by commands that died.", {"": len(watched.stale)}, "")
    if watched.undelivered is not None:
        gauge("notices_undelivered", "Notices that could not be delivered so far.", {"": watched.undelivered}, "")
    if watched.order is not None:
        gauge("order_holds", "Whether the signed schedule holds.", {"": not watched.order}, "")
    gauge(
        "ends_timestamp_seconds",
        "When it ends.",
        {what: seconds(until) for what, until in watched.ends.items()},
        "what",
    )
    gauge(
        "vault_checked_timestamp_seconds",
        "When the server's repository in the vault was last checked.",
        {server: seconds(at) for server, at in watched.checked.items()},
        "server",
    )
    gauge("looked_timestamp_seconds", "When these measures were taken.", {"": seconds(watched.at)}, "")
    return registry
