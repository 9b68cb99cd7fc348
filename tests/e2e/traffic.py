# SPDX-License-Identifier: Apache-2.0
"""A user of one of the lab's applications who goes on writing while a restore runs, and remembers every answer."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

CREATED = 201


def personnel(number: int) -> dict[str, Any]:
    """A row of the personnel application; ``nilai`` tells it from all others."""
    return {"pegawai": 1 + number % 100, "jenis": "penulis", "nilai": number}


@dataclass(frozen=True)
class Answer:
    """One POST: when it was sent and answered (seconds of the epoch), with what status, and the row's id if it was kept.

    Ids begin anew where old data comes back; ``number``, which lies in the row, is the writer's own and never does.
    """

    sent: float
    answered: float
    status: int  # 0: no answer, so nobody can say whether it was kept
    row: int | None
    number: int


@dataclass
class Writer:
    """``with Writer(url) as writer: …``: posts rows until the block ends, numbered from ``first`` + 1.

    ``body`` makes the row of a number for the application at ``url``.
    """

    url: str
    pause: float = 0.03
    body: Callable[[int], dict[str, Any]] = personnel
    first: int = 0
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
        number = self.first
        while not self._stop.is_set():
            number += 1
            sent = time.time()
            status, row = self._post(number)
            self.answers.append(Answer(sent, time.time(), status, row, number))
            self._stop.wait(self.pause)

    def _post(self, number: int) -> tuple[int, int | None]:
        body = json.dumps(self.body(number)).encode()
        request = urllib.request.Request(self.url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310  # the lab's own address
        try:
            with urllib.request.urlopen(request, timeout=3) as answer:  # noqa: S310  # the lab's own address
                return int(answer.status), int(json.load(answer)["id"])
        except urllib.error.HTTPError as error:
            return int(error.code), None
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
            return 0, None
