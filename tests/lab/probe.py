"""Watches a health URL from outside while something happens, and says for how long it did not answer 200."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any


def healthy(url: str, timeout: float = 1.0) -> bool:
    """Whether the URL answers 200 within `timeout` seconds."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"not a web address: {url}")
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - the scheme is checked above
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, http.client.HTTPException):
        return False


def post(url: str, body: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """Send JSON and return the JSON answer; urllib's HTTPError where the service says no."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"not a web address: {url}")
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")  # noqa: S310 - checked above
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - the scheme is checked above
        found: dict[str, Any] = json.load(answer)
        return found


def wait_healthy(url: str, seconds: float) -> bool:
    """Wait until the URL answers 200; False when it did not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if healthy(url):
            return True
        time.sleep(0.1)
    return False


@dataclass
class Probe:
    """`with Probe(url) as probe: …`; then `probe.outages` holds each outage's length in seconds.

    An outage lasts from the last good answer before it to the first good one after it, so it is never told too short.
    """

    url: str
    interval: float = 0.05
    outages: list[float] = field(default_factory=list)
    answers: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def longest(self) -> float:
        """The longest outage in seconds; 0 without one."""
        return max(self.outages, default=0.0)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        good = time.monotonic()
        down = False
        while True:
            stopping = self._stop.is_set()
            answered = healthy(self.url)
            now = time.monotonic()
            self.answers += answered
            if answered and down:
                self.outages.append(now - good)
            if answered:
                good, down = now, False
            else:
                down = True
            if stopping:
                break
            self._stop.wait(self.interval)
        if down:
            self.outages.append(time.monotonic() - good)
