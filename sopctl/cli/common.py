# SPDX-License-Identifier: Apache-2.0
"""What all commands share: the settings of this call, and the options for who acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import click

from sopctl.output import Output
from sopctl.session import Session
from sopctl.site import Site, find_site

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Settings:
    """``-C`` and ``--json`` of this call."""

    site_option: str | None
    as_json: bool

    @cached_property
    def output(self) -> Output:
        """Where words go."""
        return Output(self.as_json)

    @cached_property
    def session(self) -> Session:
        """The site's session."""
        return Session(Site(find_site(self.site_option)), self.output.remark)


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


settings = click.make_pass_decorator(Settings)
