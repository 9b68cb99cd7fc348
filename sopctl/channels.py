# SPDX-License-Identifier: Apache-2.0
"""Delivering a notice through Apprise: one address, one text, never longer than a moment. The only importer of apprise.

An address holds passwords and tokens, so nothing of it is repeated: not in what went wrong, not in a log.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from sopctl.errors import ConfigError, SopctlError, one_line
from sopctl.redact import MIN_LENGTH, Redactor

if TYPE_CHECKING:
    from apprise import AppriseAsset, NotifyBase

#: seconds for one delivery, whatever the server does; the two others are for its connection and for each answer
DEADLINE, CONNECT, ANSWER = 15.0, 5, 10
#: where a person's own address belongs in a channel's
PLACE = "{to}"
LONGEST_CAUSE = 200
_ADDRESS = re.compile(r"[^\s,;<>\"'\\\x00-\x1f\x7f]{1,254}")
#: what Apprise says of a failed connection only to those who debug it
_TOLD = ("Socket Exception",)


class NotDelivered(SopctlError):  # names what happened
    """A notice did not arrive: later. The message holds nothing of the address."""

    what = "notice"


def address(url: str, to: str, where: str) -> str:
    """A channel's ``url`` with a person's own address in it. ConfigError at ``where`` when one is there and the other is not."""
    if PLACE not in url:
        if to:
            raise ConfigError(
                f"the channel's address has no place for {to!r}",
                where=where,
                hint=f"Put {PLACE} into it, or leave this empty.",
            )
        return url
    if not _ADDRESS.fullmatch(to) or to.startswith("-"):
        raise ConfigError(f"{to!r} is no address", where=where, hint="One address, without a name and without spaces.")
    return url.replace(PLACE, quote(to, safe=""))


def problem(url: str) -> str:
    """Why Apprise cannot use this address, in words that hold nothing of it; empty when it can. Nothing is connected to."""
    return "" if _service(url) else "is no address that Apprise knows"


def carries_files(url: str) -> bool:
    """Whether the channel can carry files."""
    service = _service(url)
    return service is not None and bool(service.attachment_support)


def deliver(url: str, title: str, body: str, files: Sequence[Path] = (), *, seconds: float = DEADLINE) -> None:
    """Send one text, with ``files`` where the channel can carry them. NotDelivered says why it could not be."""
    said: list[str] = []
    done: list[bool] = []
    service = _service(url)  # here: loading Apprise takes a second or two, which is not the server's
    if service is None:
        raise ConfigError("is no address that Apprise knows")

    def work() -> None:
        with _listening(said):
            try:
                done.append(_send(service, title, body, files))
            except Exception as error:  # over a hundred plugins, and whatever they do is no reason to stop
                said.append(f"{type(error).__name__}: {error}")
                done.append(False)

    # a daemon: a server that goes on answering a byte at a time must not keep the command from ending
    thread = threading.Thread(target=work, daemon=True, name="sop-notice")
    thread.start()
    thread.join(seconds)
    if not done:
        raise NotDelivered(f"no answer within {seconds:.0f} seconds")
    if not done[0]:
        raise NotDelivered(_without_secrets("; ".join(said), url) or "the channel took it not, and did not say why")


def _send(service: NotifyBase, title: str, body: str, files: Sequence[Path]) -> bool:
    from apprise import AppriseAttachment, NotifyFormat

    attached = None
    if files and service.attachment_support:
        attached = AppriseAttachment(asset=_asset())
        for path in files:
            if not attached.add(str(path)):
                raise ConfigError(f"{path.name} cannot be attached")
    return bool(service.notify(body=body, title=title, attach=attached, body_format=NotifyFormat.TEXT))


def _service(url: str) -> NotifyBase | None:
    from apprise import Apprise

    given = {"format": "text", "cto": str(CONNECT), "rto": str(ANSWER)}
    added = "&".join(f"{key}={value}" for key, value in given.items() if f"{key}=" not in url.partition("?")[2])
    with _listening([]):
        return Apprise.instantiate(f"{url}{'&' if '?' in url else '?'}{added}", asset=_asset())


def _asset() -> AppriseAsset:
    from apprise import AppriseAsset

    # nothing on the disk, and no redirection: what an address holds goes to that address alone
    asset = AppriseAsset(app_id="sopctl", app_desc="sopctl", app_url="", storage_mode="memory")
    asset.http_redirects = False
    return asset


class _Listener(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self.said, self.thread = said, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.thread == self.thread and (record.levelno >= logging.WARNING or text.startswith(_TOLD)):
            self.said.append(text)


class _listening:  # noqa: N801  # reads as what it does
    """Apprise's own log goes into ``said``, and nowhere else: it names servers and people."""

    def __init__(self, said: list[str]) -> None:
        self._handler = _Listener(said)
        self._logger = logging.getLogger("apprise")

    def __enter__(self) -> None:
        self._logger.propagate = False
        self._logger.setLevel(logging.DEBUG)
        self._logger.addHandler(self._handler)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self._handler)


def _without_secrets(text: str, url: str) -> str:
    """``text`` in one short line, without any piece of ``url``: which of them is a token is known to each service alone."""
    pieces = {piece for form in (url, unquote(url)) for piece in re.split(r"[/:@?&=#,;+\s]+", form)}
    pieces |= {unquote(piece) for piece in pieces} | {url, unquote(url)}
    harmless = {url.partition(":")[0], "format", "text"}
    kept_out = [piece for piece in pieces - harmless if len(piece.strip()) >= MIN_LENGTH]
    return one_line(Redactor(kept_out).text(text))[:LONGEST_CAUSE]
