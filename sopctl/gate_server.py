# SPDX-License-Identifier: Apache-2.0
"""The gate's door for the play: a socket of the live sopctl that the action plugins ask.

The socket lies in a folder of mode 0700; one JSON line in, one JSON line out. Answers carry secrets, so they go to
nobody but the asking plugin, never into Ansible's variables.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
#: the kind of message that asks nothing
PROGRESS = "progress"
MAX_QUESTION = 8 * 1024 * 1024


class GateServer:
    """Serves ``answer`` on a Unix socket below ``folder`` until closed. Use as a context manager.

    ``hear`` gets what is no question: how far a task has come. It grants nothing and keeps no question waiting.
    """

    def __init__(
        self,
        folder: Path,
        answer: Callable[[dict[str, Any]], Answer],
        hear: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.path = folder / "gate"
        self._answer = answer
        self._hear = hear
        self._hearing = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o600)
        self._socket.listen(64)
        self._thread = threading.Thread(target=self._serve, name="sop-gate", daemon=True)
        self._lock = threading.Lock()

    def __enter__(self) -> GateServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        finally:
            self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            try:
                peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if peer[1] != os.geteuid():
                    return
                connection.settimeout(60)
                question = self._read(connection)
                if question.get("kind") == PROGRESS:
                    connection.sendall(b"{}\n")  # first: who tells us does not wait until it is shown
                    self._hear_it(question)
                    return
                with self._lock:
                    answer = self._answer(question)
            except Exception as error:  # a question that cannot be decided is refused, whatever went wrong
                answer = {"allowed": False, "reasons": [f"the gate could not decide ({type(error).__name__}: {error})"]}
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                return

    def _hear_it(self, message: dict[str, Any]) -> None:
        """Pass it on, unless an earlier one is still being shown: the next comes soon."""
        if self._hear is None or not self._hearing.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(Exception):  # it is for the eye alone and must never break a run
                self._hear(message)
        finally:
            self._hearing.release()

    def _read(self, connection: socket.socket) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n"):
            piece = connection.recv(65536)
            if not piece or len(data) > MAX_QUESTION:
                raise ValueError("the question is cut short or too long")
            data += piece
        question: dict[str, Any] = json.loads(data)
        return question
