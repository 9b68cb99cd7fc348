# SPDX-License-Identifier: Apache-2.0
"""The calendar: what each month came to for each dataset, by the standing orders that were in force."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import datetime, time
from typing import Literal

from sopctl import clock, periods
from sopctl.errors import ConfigError, SopctlError
from sopctl.models import ScheduleEntry, Window
from sopctl.report.facts import Facts
from sopctl.vault import Backup

State = Literal["verified", "unconfirmed", "stored", "failed", "missing", "open", "none"]
#: the worst first: a month is as good as its worst period
ORDER: tuple[State, ...] = ("missing", "failed", "stored", "unconfirmed", "open", "verified", "none")
#: periods that one entry is looked at for at most: ten years of days
_MOST = 3660


@dataclass(frozen=True)
class Month:
    """``done`` of ``due`` periods that are over have a verified backup; ``records``: what the state rests on."""

    state: State
    done: int = 0
    due: int = 0
    records: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calendar:
    """``years``, the newest first; ``datasets`` by id; (dataset, ``2026-11``) → what it came to."""

    years: list[int]
    datasets: list[str]
    months: dict[tuple[str, str], Month]

    def datasets_of(self, year: int, registered: Container[str]) -> list[str]:
        """Datasets that something is said of in that year, and those that are registered."""
        said = {dataset for dataset, month in self.months if month.startswith(f"{year}-")}
        return [dataset for dataset in self.datasets if dataset in said or dataset in registered]

    def month(self, dataset: str, year: int, number: int) -> Month:
        """A month that nothing was owed in, and nothing came of, is ``none``."""
        return self.months.get((dataset, f"{year}-{number:02d}"), Month("none"))


def calendar(facts: Facts) -> Calendar:
    """Every dataset that is registered, ordered or backed up, over the months of the period (or all that are known)."""
    confirmed = _confirmed(facts)
    failures = _failures(facts)
    found: dict[tuple[str, str], list[Month]] = {}
    counted: set[str] = set()
    for dataset, entry, window, since, until in _ordered(facts):
        serving = _serving(facts, dataset, entry, window)
        for period, owed in _periods(facts, entry, window, since, until):
            own = serving.get(period.name, [])
            counted |= {one.snapshot for one in own}
            failed = [name for at, name in failures.get(dataset, []) if period.begins <= at < period.ends]
            over = period.ends <= facts.at
            state = _state(own, confirmed, failed, over=over)
            if not owed and state in ("missing", "open"):
                continue
            records = tuple(dict.fromkeys([*(one.record for one in own), *failed]))
            month = Month(state, int(over and any(one.verified for one in own)), int(over), records)
            found.setdefault((dataset, facts.month_of(period.begins)), []).append(month)
    for backup in facts.backups:  # on request, or before any order
        if backup.snapshot not in counted and not backup.safety:
            state = _state([backup], confirmed, [], over=True)
            key = backup.dataset, facts.month_of(backup.started)
            found.setdefault(key, []).append(Month(state, records=(backup.record,)))
    for dataset, attempts in failures.items():
        for at, name in attempts:
            found.setdefault((dataset, facts.month_of(at)), [Month("failed", records=(name,))])
    months = {key: _worst(states) for key, states in found.items() if key[1] and facts.within(key[1])}
    years = {int(month[:4]) for _, month in months} | {int((facts.period or facts.month_of(facts.at))[:4])}
    datasets = sorted({dataset for dataset, _ in months} | set(facts.session.site.datasets))
    return Calendar(sorted(years, reverse=True), datasets, months)


def _state(own: list[Backup], confirmed: set[str], failed: list[str], *, over: bool) -> State:
    verified = [one for one in own if one.verified]
    if verified:
        return "verified" if any(one.record in confirmed for one in verified) else "unconfirmed"
    if any(not one.refuted and not one.forgotten for one in own):
        return "stored"
    if own or failed:
        return "failed"
    return "missing" if over else "open"


def _worst(months: list[Month]) -> Month:
    state = min((one.state for one in months), key=ORDER.index)
    records = tuple(dict.fromkeys(name for one in months for name in one.records))
    return Month(state, sum(one.done for one in months), sum(one.due for one in months), records)


def _confirmed(facts: Facts) -> set[str]:
    """Records of executions that were confirmed; of all where the case's SOP has no confirmation."""
    found = set()
    for case in facts.cases:
        executed = [str(one.document.body.get("record", "")) for one in case.all("execute")]
        word = case.body("confirm").get("decision")
        if case.flow.first("confirm") is None or word == "approve":
            found |= set(executed)
    return found


def _failures(facts: Facts) -> dict[str, list[tuple[str, str]]]:
    """Dataset → (when, record) of each backup that failed, by its form."""
    found: dict[str, list[tuple[str, str]]] = {}
    for record in facts.records:
        if record.operation != "backup" or not record.started:
            continue
        for row in record.rows:
            dataset, result = row.get("dataset"), row.get("result")
            if isinstance(dataset, str) and isinstance(result, str) and result.startswith("gagal"):
                found.setdefault(dataset, []).append((record.started, record.id))
    return found


def _ordered(facts: Facts) -> Iterator[tuple[str, ScheduleEntry, Window | None, str, str]]:
    """Each dataset's line of each order, and from when until when it held: a newer order takes the older's place."""
    for at, order in enumerate(facts.orders):
        until = min(order.valid.until, facts.at)
        if at + 1 < len(facts.orders):
            until = min(until, facts.orders[at + 1].valid.since)
        for entry in order.entries:
            yield entry.dataset, entry, order.window_of(entry), order.valid.since, until


def _periods(
    facts: Facts, entry: ScheduleEntry, window: Window | None, since: str, until: str
) -> Iterator[tuple[periods.Period, bool]]:
    """The periods of a line while it held, the newest first, and whether each is owed: one that began before it is not."""
    tz = facts.session.site.tz
    if entry.every in periods.CALENDAR:  # the order's first day counts whole
        day = clock.parse(since).astimezone(tz).date()
        since = clock.stamp(datetime.combine(day, time(), tz))
    try:
        periods.check_every(entry.every, "schedule")
        period = periods.of(until, entry.every, tz, window)
        for _ in range(_MOST):
            if period.begins < until and facts.within(facts.month_of(period.begins)):
                yield period, period.begins >= since
            if period.begins < since:
                return
            period = periods.before(period, entry.every, tz)
    except ConfigError:
        return  # an order that a record holds and that nobody could follow


def _serving(facts: Facts, dataset: str, entry: ScheduleEntry, window: Window | None) -> dict[str, list[Backup]]:
    """Period → the dataset's backups for it: a scheduled one by its own period, any other by when it began."""
    tz = facts.session.site.tz
    found: dict[str, list[Backup]] = {}
    for backup in facts.backups:
        if backup.dataset != dataset or backup.safety:
            continue
        try:
            own = periods.is_own(backup.period, entry.every, tz)
            name = backup.period if own else periods.of(backup.started, entry.every, tz, window).name
        except (SopctlError, ValueError):
            continue
        found.setdefault(name, []).append(backup)
    return found
