# SPDX-License-Identifier: Apache-2.0
"""Asking a time stamp authority over HTTP (RFC 3161, section 3.4).

The way there is not trusted, the token proves itself; so nothing hangs on TLS, and nothing is followed elsewhere. What is
bounded is how much an authority may say and how long it may take, from the name's look-up to the last byte.
"""

from __future__ import annotations

import queue
import threading
from typing import Any

from sopctl import clock, tokens
from sopctl.errors import SopctlError
from sopctl.settings import TimestampAuthority
from sopctl.tokens import Anchors

SECONDS = 15.0  # for one time stamp, whatever the authority does
CLOCKS_APART = 10  # minutes by which the authority's clock and ours may differ
QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"


class NoStamp(SopctlError):  # names what happened
    """The authority gave no good time stamp: later."""

    what = "time stamp"


def no_stamp(authority: TimestampAuthority, why: str) -> NoStamp:
    """That the authority gave none, and why."""
    return NoStamp(f"got none ({why})", where=authority.name, hint="Nothing is lost: the next command asks again")


def ask(authority: TimestampAuthority, data: bytes, roots: Anchors) -> bytes:
    """The authority's answer over ``data``, believed. NoStamp when it gives none that is good now."""
    question, nonce = tokens.query(data, authority)
    answer = _post(authority, question)
    asked = clock.now()
    try:
        token = tokens.verify(answer, data, authority, roots, nonce)
    except tokens.BadToken as error:
        raise no_stamp(authority, str(error)) from None
    if abs(clock.seconds_between(asked, token.at)) > CLOCKS_APART * 60:
        raise no_stamp(authority, f"its clock says {token.at}, this machine's {asked}: one of the two is wrong")
    return answer


def _post(authority: TimestampAuthority, question: bytes) -> bytes:
    """The body of the answer. In a thread of its own: neither a name's look-up nor a body that trickles ends by a time-out."""
    told: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
    threading.Thread(target=_talk, args=(authority, question, told), daemon=True).start()
    try:
        said = told.get(timeout=SECONDS)
    except queue.Empty:
        raise no_stamp(authority, f"no whole answer within {SECONDS:.0f} s") from None
    if isinstance(said, str):
        raise no_stamp(authority, said)
    return said


def _talk(authority: TimestampAuthority, question: bytes, told: queue.SimpleQueue[bytes | str]) -> None:
    """Put the body, or why there is none."""
    import http.client
    import urllib.error
    import urllib.request

    class Here(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """What is asked to go elsewhere does not: the trust is signed over one address."""

    opener = urllib.request.build_opener(Here)
    request = urllib.request.Request(  # noqa: S310  # http or https, by tokens.resolved
        authority.url, question, {"Content-Type": QUERY, "Accept": REPLY, "User-Agent": "sopctl"}
    )
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            body: bytes = answer.read(tokens.MAX_ANSWER + 1)
            kind = answer.headers.get_content_type()
    except urllib.error.HTTPError as error:
        elsewhere = " to another address, which is not followed" if 300 <= error.code < 400 else ""
        told.put(f"HTTP {error.code}{elsewhere}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)
        told.put(" ".join(str(cause).split())[:200] or type(error).__name__)
    else:
        if len(body) > tokens.MAX_ANSWER:
            told.put(f"an answer of more than {tokens.MAX_ANSWER} bytes")
        elif kind != REPLY:
            told.put(f"an answer of type {kind}, not {REPLY}: is that its address?")
        else:
            told.put(body)
