# SPDX-License-Identifier: Apache-2.0
"""The 3 a.m. page as plain text: 80 columns, no colours; it is read on a phone, over a slow line, and in the record."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import tzinfo

from sopctl import clock
from sopctl.errors import one_line
from sopctl.escalation import HostPage, Page, ServicePage
from sopctl.escalation_data import DataPage, SwitchPage

WIDTH = 80


def text(page: Page, zone: tzinfo) -> str:
    """The page; a command stands on a line of its own, however long, so that it can be copied."""
    return "\n".join(_lines(page, zone)) + "\n"


def _lines(page: Page, zone: tzinfo) -> Iterator[str]:
    yield "=" * WIDTH
    yield f"THE SERVICE IS DOWN   case {page.case}   run {page.run}"
    yield f"{_time(page.at, zone)}"
    yield "=" * WIDTH
    given_up = any(data.given_up for host in page.hosts for data in host.datasets)
    calm = (
        "Old data was given up for a restore in place: it is in the safety backup in the vault, see below. Read to the end "
        "before you type."
        if given_up
        else "Nothing was destroyed: old and new data are both on the servers. Read to the end before you type."
    )
    yield from _wrapped(calm, "")
    yield ""
    yield "WHAT FAILED"
    for failure in page.failures or ["nothing was said; see the record's run/stdout.txt"]:
        yield from _wrapped(failure, "  ")
    for host in page.hosts:
        yield ""
        yield from _host(host, zone)
    yield ""
    yield "WHAT TO DO"
    for number, step in enumerate(page.steps, 1):
        yield from _wrapped(f"{number}. {step.text}", "  ", "     ")
        yield from (f"       {command}" for command in step.commands)
    yield "=" * WIDTH


def _host(host: HostPage, zone: tzinfo) -> Iterator[str]:
    yield from _wrapped(
        f"HOST {host.host}: " + ("answers" if host.answers else f"DOES NOT ANSWER ({host.why})"), "", "  "
    )
    for data in host.datasets:
        yield from _data(data)
    for service in host.services:
        yield from _wrapped(_service(service, zone), "  ", "    ")
    yield from _wrapped(f"dead man's switch: {_switch(host.switch, zone)}", "  ", "    ")


def _data(data: DataPage) -> Iterator[str]:
    yield f"  {data.dataset} ({data.engine}): {data.state.upper()}"
    if data.doubt:
        yield from _wrapped(data.doubt, "    ")
    yield from _wrapped(f"{data.live}: {data.live_is}", "    live  ", "          ")
    if data.kept:
        yield from _wrapped(f"{data.kept}: {data.kept_is}", "    kept  ", "          ")
    yield from (f"    look  {command}" for command in data.look)


def _service(service: ServicePage, zone: tzinfo) -> str:
    words = {
        "runs": "runs",
        "stopped": "STOPPED",
        "held": f"STOPPED AND HELD DOWN by /run/sop/hold-{service.unit}",
        "unknown": "NOT KNOWN, take it as down",
    }
    since = f" since {_time(service.since, zone)}" if service.since and service.state != "unknown" else ""
    health = f"; health: {service.health}" if service.health else ""
    return f"service {service.service}: {words[service.state]}{since}{health}"


def _switch(switch: SwitchPage | None, zone: tzinfo) -> str:
    if switch is None:
        return "none is known to be armed"
    if switch.deadline is None:
        return f"{switch.phase}; it {switch.does}"
    when = _time(switch.deadline, zone)
    word = "was to fire" if switch.fired else "fires"
    return f"{switch.phase}; {word} at {when} and then {switch.does}"


def _time(at: str, zone: tzinfo) -> str:
    return clock.parse(at).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z") if clock.is_time(at) else at


def _wrapped(words: str, first: str, later: str | None = None) -> list[str]:
    return textwrap.wrap(
        one_line(words),
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if later is None else later,
        break_long_words=False,
        break_on_hyphens=False,
    )
