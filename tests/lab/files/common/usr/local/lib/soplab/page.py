"""What the lab's web applications have in common: JSON in, JSON out, and a way to make one ill.

GET /health answers 503 while the file /var/lib/soplab/red-<application> is there, whatever the application says: it is
what a test needs that wants a service which runs, takes writes, and is never healthy. The file outlives a restart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RED = Path("/var/lib/soplab")


class Unavailable(Exception):
    """The data cannot be reached at the moment: 503."""


class Refused(Exception):
    """The data can be reached and says no: 422."""


class Page(BaseHTTPRequestHandler):
    """One application: `collection` is the path of its rows; `add`, `count` and `probe` are its business."""

    protocol_version = "HTTP/1.1"
    application: str
    collection: str

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        """Keep one row and return {"id": …} once it is durable; ValueError, KeyError or TypeError: no such request."""
        raise NotImplementedError

    def count(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def probe(self) -> None:
        """Write and take it back: return only when the data takes a write."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """The health probe and the number of rows."""
        if self.path == "/health":
            if (RED / f"red-{self.application}").exists():
                self._answer(503, {"error": "made ill by a test"})
            else:
                self._try(self._healthy, 200)
        elif self.path == self.collection:
            self._try(lambda: {"jumlah": self.count()}, 200)
        else:
            self._answer(404, {"error": f"no such page: {self.path}"})

    def do_POST(self) -> None:
        """A new row."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path != self.collection:
            self._answer(404, {"error": f"no such page: {self.path}"})
            return
        self._try(lambda: self.add(json.loads(body)), 201)

    def _healthy(self) -> dict[str, Any]:
        self.probe()
        return {"status": "ok"}

    def _try(self, work: Callable[[], dict[str, Any]], status: int) -> None:
        try:
            answer = work()
        except Unavailable as error:
            self._answer(503, {"error": str(error)})
        except Refused as error:
            self._answer(422, {"error": str(error)})
        except (ValueError, KeyError, TypeError) as error:
            self._answer(400, {"error": f"cannot read the request: {error!r}"})
        else:
            self._answer(status, answer)

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a health check ten times a second is no news."""


def serve(page: type[Page], address: str, port: int) -> None:
    """Serve until the unit is stopped."""
    ThreadingHTTPServer((address, port), page).serve_forever()
