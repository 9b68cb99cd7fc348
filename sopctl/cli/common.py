# SPDX-License-Identifier: Apache-2.0
"""What all commands share: the settings of this call, and the options for who acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from sopctl import clock
from sopctl.control import RemoteSigner
from sopctl.errors import UsageError
from sopctl.output import Output
from sopctl.session import Session
from sopctl.site import Site, find_site

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Settings:
    """``-C`` and ``--json`` of this call."""

    site_option: str | None
    as_json: bool
    late_reason: str = ""
    remote: RemoteSigner | None = None

    @cached_property
    def output(self) -> Output:
        """Where words go."""
        return Output(self.as_json)

    @cached_property
    def session(self) -> Session:
        """The site's session."""
        session = Session(Site(find_site(self.site_option)), self.output.remark)
        session.late_reason = self.late_reason
        session.remote = self.remote
        return session


def with_json(function: F) -> F:
    """``--json`` after the command too, where people type it."""

    def switch(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            context.obj.as_json = True
            context.obj.__dict__.pop("output", None)

    return click.option("--json", is_flag=True, expose_value=False, callback=switch, help="Print the result as JSON.")(
        function
    )


def acting(function: F) -> F:
    """``--as`` and ``--key``."""
    function = click.option(
        "--key", metavar="FILE", help="Your private key (default: $SOPCTL_KEY, ~/.ssh, the agent's)."
    )(function)
    return click.option(
        "--as", "person", envvar="SOPCTL_AS", metavar="PERSON", help="Who you are (default: $SOPCTL_AS)."
    )(function)


def late(function: F) -> F:
    """``--late-reason``, for acts that the SOP gives a time."""

    def keep(context: click.Context, _parameter: click.Parameter, value: str) -> None:
        context.obj.late_reason = value

    return click.option(
        "--late-reason",
        default="",
        expose_value=False,
        callback=keep,
        help="Why this comes after its time (needed where the policy blocks late acts).",
    )(function)


def verdict(approve: bool, reject: bool) -> bool:
    """True for --approve; UsageError unless exactly one of the two was given."""
    if approve == reject:
        raise UsageError("say which", where="--approve/--reject", hint="Give exactly one of the two.")
    return approve


settings = click.make_pass_decorator(Settings)


def local(moment: str, tz: ZoneInfo) -> str:
    """A time for people: by the site's clock, to the minute."""
    return f"{clock.parse(moment).astimezone(tz):%Y-%m-%d %H:%M}"
