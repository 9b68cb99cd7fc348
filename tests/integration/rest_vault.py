"""A restic REST server for tests: small, with TLS and a password, and able to break at a chosen moment."""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, SECRET = "host1", "CANARY-rest-5c1e"


class RestVault(ThreadingHTTPServer):
    """``break_uploads``: how many uploads of data to cut off; ``status``: answer every upload of data with it; ``pace``:
    bytes a second that data takes, both ways together; 0: as fast as can be; ``append_only``: refuse to delete, but locks."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.break_uploads = 0
        self.status = 0
        self.pace = 0
        self.append_only = False
        self._line = threading.Lock()

    def take_time(self, count: int) -> None:
        """Take as long as ``count`` bytes of data take."""
        if self.pace:
            with self._line:
                time.sleep(count / self.pace)

    def handle_error(self, *_args: object) -> None:
        """Broken connections are what these tests make."""


class _Handler(BaseHTTPRequestHandler):
    server: RestVault
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _path(self) -> Path | None:
        given = self.headers.get("Authorization", "")
        if given != "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode():
            self._answer(401)
            return None
        return self.server.folder / self.path.split("?")[0].strip("/")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        if path.is_dir():
            self._answer(200, json.dumps([each.name for each in path.rglob("*") if each.is_file()]).encode())
        elif not path.is_file():
            self._answer(404)
        else:
            data = path.read_bytes()
            status = 200
            wanted = self.headers.get("Range")
            if wanted:
                first, _dash, last = wanted.removeprefix("bytes=").partition("-")
                status, data = 206, data[int(first) : int(last) + 1 if last else None]
            if "/data/" in self.path:
                self.server.take_time(len(data))
            self._answer(status, data)

    def do_POST(self) -> None:
        path = self._path()
        if path is None:
            return
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "create=true" in self.path:
            for name in ("data", "index", "keys", "locks", "snapshots"):
                (path / name).mkdir(parents=True, exist_ok=True)
            self._answer(200)
            return
        if "/data/" in self.path:
            self.server.take_time(len(data))
            if self.server.break_uploads > 0:
                self.server.break_uploads -= 1
                self.close_connection = True
                self.connection.close()
                return
            if self.server.status:
                self._answer(self.server.status)
                return
        path.write_bytes(data)
        self._answer(200)

    def do_DELETE(self) -> None:
        path = self._path()
        if path is not None and self.server.append_only and path.parent.name != "locks":
            self._answer(403)
        elif path is not None:
            path.unlink(missing_ok=True)
            self._answer(200)


def certificate(folder: Path) -> tuple[Path, str]:
    """A self-signed certificate for 127.0.0.1: (file of key and certificate, certificate as PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + pem)
    return path, pem.decode()


@contextmanager
def rest_vault(folder: Path) -> Iterator[tuple[RestVault, dict[str, str]]]:
    """A running server and the vault settings that reach it."""
    folder.mkdir()
    store = folder / "store"
    store.mkdir()
    file, pem = certificate(folder)
    server = RestVault(store)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    repository = f"rest:https://{USER}:{SECRET}@127.0.0.1:{server.server_address[1]}/srv1/"
    try:
        yield server, {"repository": repository, "password": "CANARY-vault-password-7f3a", "ca_pem": pem}
    finally:
        server.shutdown()
        server.server_close()
