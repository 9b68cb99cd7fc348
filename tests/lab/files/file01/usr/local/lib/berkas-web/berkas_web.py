"""The lab's filing service: each letter that comes in is one plain file.

POST /berkas {"perihal": "…"} files a letter and answers its number once it lies on disk whole: written beside, synced,
renamed, the folder synced. GET /berkas says how many there are; GET /health answers 200 only when the folder takes a
file (one without a name, so the probe leaves no trace, not even a changed time).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from page import Page, Unavailable, serve


def written(folder: Path, number: int, content: bytes) -> None:
    """One file, whole or not at all, and durable."""
    fresh = folder / f".{number:08d}.baru"
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    fresh.rename(folder / f"{number:08d}.json")
    synced(folder)


def synced(folder: Path) -> None:
    """What was renamed in a folder is durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Filing(Page):
    application, collection = "berkas-web", "/berkas"
    root: Path
    lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where letters come in; looked up at every request, as the tree may be another one by now."""
        return self.root / "masuk"

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        subject = str(request["perihal"])
        text = {"perihal": subject, "sha256": hashlib.sha256(subject.encode()).hexdigest()}
        with self.lock:
            try:
                number = max(self._numbers(), default=0) + 1
                written(self.folder, number, json.dumps(text).encode())
            except OSError as error:
                raise Unavailable(f"files: {error}") from error
        return {"id": number}

    def count(self) -> int:
        try:
            return len(self._numbers())
        except OSError as error:
            raise Unavailable(f"files: {error}") from error

    def probe(self) -> None:
        try:
            handle = os.open(self.folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
            try:
                os.write(handle, b"denyut")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise Unavailable(f"files: {error}") from error

    def _numbers(self) -> list[int]:
        return [int(entry.name[:-5]) for entry in os.scandir(self.folder) if entry.name.endswith(".json")]


if __name__ == "__main__":
    Filing.root = Path(sys.argv[1])
    serve(Filing, "0.0.0.0", 8091)  # noqa: S104 - its users come over the network
