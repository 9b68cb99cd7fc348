# SPDX-License-Identifier: Apache-2.0
"""Real servers for notices: mail that asks for a password, a webhook, and one that accepts and never answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.support.case_site import CaseSite

USER, PASSWORD = "sop", "r4hasia-kanal/%@:x"
QUOTED = "r4hasia-kanal%2F%25%40%3Ax"


class Mailbox:
    """What a mail server took: envelopes' recipients and messages as a mail program reads them."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[str], EmailMessage]] = []
        self.raw: list[bytes] = []
        self.refused: set[str] = set()

    # the names, and the arguments, are aiosmtpd's
    async def handle_RCPT(self, *given: Any) -> str:  # noqa: N802
        envelope, address = given[2], given[3]
        if address in self.refused:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, *given: Any) -> str:  # noqa: N802
        envelope = given[2]
        assert isinstance(envelope.content, bytes)
        self.raw.append(envelope.content)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append((list(envelope.rcpt_tos), message))
        return "250 OK"

    def to(self, address: str) -> list[EmailMessage]:
        """Messages for one address, oldest first."""
        return [message for recipients, message in self.taken if recipients == [address]]


def text_of(message: EmailMessage) -> str:
    """A message's plain text."""
    body = message.get_body(("plain",))
    assert isinstance(body, EmailMessage)
    return str(body.get_content())


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mail_server(port: int | None = None) -> Iterator[tuple[str, Mailbox]]:
    """A mail server that takes nothing without the password; yields the channel's address and what came."""
    box = Mailbox()

    def allowed(*given: Any) -> AuthResult:
        login = given[-1]
        good = isinstance(login, LoginPassword) and (login.login, login.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=False)  # so the server says 535 itself

    port = port or free_port()
    controller = Controller(box, "127.0.0.1", port, authenticator=allowed, auth_required=True, auth_require_tls=False)
    controller.start()
    try:
        yield mail_address(port), box
    finally:
        controller.stop()


def mail_address(port: int) -> str:
    """The channel's address of a mail server on ``port``."""
    return f"mailto://{USER}:{QUOTED}@127.0.0.1:{port}?from=sop@example.go.id&to={{to}}"


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server that takes JSON; yields the channel's address and what came."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # http.server's name
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"json://{USER}:{QUOTED}@127.0.0.1:{server.server_port}/sop", taken
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def name_notices(site: CaseSite, channels: dict[str, str], people: dict[str, dict[str, Any]]) -> None:
    """Describe channels and people in sop.yml, and have the root holder sign."""
    describe_notices(site.root, channels, people)
    site.retrust(lambda file: file)


def describe_notices(root: Path, channels: dict[str, str], people: dict[str, dict[str, Any]]) -> None:
    """Write channels (name → address, which goes into a secret file) and people into sop.yml; nobody has signed them yet."""
    (root / "secrets").mkdir(exist_ok=True, mode=0o700)
    for name, url in channels.items():
        path = root / "secrets" / f"kanal-{name}"
        path.write_text(f"{url}\n", encoding="utf-8")
        path.chmod(0o600)
    described = {name: {"url": {"file": f"secrets/kanal-{name}"}} for name in channels}
    path = root / "sop.yml"
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("notices: ")]
    kept.append(f"notices: {json.dumps({'channels': described, 'people': people})}")
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
