# SPDX-License-Identifier: Apache-2.0
"""A user of the lab's web application who goes on writing while a restore runs, and remembers every answer."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from types import TracebackType

CREATED = 201


@dataclass(frozen=True)
class Answer:
    """One POST: when it was sent and answered (seconds of the epoch), with what status, and the row's id if it was kept."""

    sent: float
    answered: float
    status: int  # 0: no answer, so nobody can say whether it was kept
    row: int | None


@dataclass
class Writer:
    """``with Writer(url) as writer: …``: posts rows of kind ``penulis`` until the block ends."""

    url: str
    pause: float = 0.03
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def kept(self) -> list[Answer]:
        """The acknowledged ones, in order."""
        return [answer for answer in self.answers if answer.status == CREATED]

    @property
    def refused(self) -> int:
        """How many were not."""
        return len(self.answers) - len(self.kept)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            sent = time.time()
            status, row = self._post(number)
            self.answers.append(Answer(sent, time.time(), status, row))
            self._stop.wait(self.pause)

    def _post(self, number: int) -> tuple[int, int | None]:
        body = json.dumps({"pegawai": 1 + number % 100, "jenis": "penulis", "nilai": number}).encode()
        request = urllib.request.Request(self.url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310  # the lab's own address
        try:
            with urllib.request.urlopen(request, timeout=3) as answer:  # noqa: S310  # the lab's own address
                return int(answer.status), int(json.load(answer)["id"])
        except urllib.error.HTTPError as error:
            return int(error.code), None
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
            return 0, None
