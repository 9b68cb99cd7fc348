# SPDX-License-Identifier: Apache-2.0
"""How people are reached: the site's channels, whose addresses are secrets, and each person's own address there."""

from __future__ import annotations

from sopctl import channels, register
from sopctl.errors import ConfigError, SopctlError
from sopctl.outbox import Outbox
from sopctl.session import Session


class Addresses:
    """The addresses of one command; a channel's secret is read when it is first needed, and once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._urls: dict[str, str] = {}

    def of(self, channel: str, person: str, to: str) -> str:
        """The whole address, a secret from here on. ConfigError says what is wrong without showing anything of it."""
        config, where = self._session.site.config.notices, f"{self._session.site.root / 'sop.yml'}:notices"
        if channel not in config.channels:
            known = ", ".join(config.channels) or "none"
            raise ConfigError(
                f"channel {channel!r} is not described",
                where=f"{where}.people.{person}.to",
                hint=f"Described: {known}.",
            )
        if channel not in self._urls:
            secret = self._session.site.secret(config.channels[channel].url, f"{where}.channels.{channel}.url")
            self._urls[channel] = secret or ""
        return channels.address(self._urls[channel], to, f"{where}.people.{person}.to.{channel}")


def require_signed(session: Session) -> None:
    """ConfigError unless the channels are those that the trust was signed over: who may edit sop.yml could have forms sent
    elsewhere, or name a command for a password."""
    if reason := register.setting_reason(session.trust.file, session.site.config, register.CHANNELS):
        where = f"{session.site.root / 'sop.yml'}:{register.CHANNELS}"
        raise ConfigError(
            f"no notice is sent: {reason}", where=where, hint="Have the root holder sign: sopctl trust sign."
        )


def problems(session: Session) -> list[str]:
    """What is wrong with the settings, and what nobody has got yet, one sentence each. Nothing is connected to."""
    config, found, addresses = session.site.config.notices, list[str](), Addresses(session)
    try:
        require_signed(session)
    except SopctlError as error:
        return [error.message]  # before a command of theirs is started
    people = {person.id for person in session.trust.file.people}
    for person, entry in config.people.items():
        if person not in people:
            found.append(f"{person} is not in the trust, so nothing is sent to them")
        for channel, to in entry.to.items():
            try:
                if wrong := channels.problem(addresses.of(channel, person, to)):
                    found.append(f"channel {channel} {wrong}")
            except SopctlError as error:
                found.append(f"{error.where}: {error.message}")
    waiting = Outbox(session.site.state).undelivered()
    causes = {entry.channel: entry.cause for entry in waiting}
    found += [
        f"{sum(entry.channel == channel for entry in waiting)} not delivered over {channel}: {cause}"
        for channel, cause in causes.items()
    ]
    return list(dict.fromkeys(found))
