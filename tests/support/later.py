# SPDX-License-Identifier: Apache-2.0
"""sopctl some days from now: a keep time of days can be over in a test of seconds. The hosts' clocks stay as they are.

[sys.executable, "tests/support/later.py", "8", "-C", site, "case", "clean", …]

A moment ("2026-11-30T16:59:30Z") in place of the days is where its clock begins.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from sopctl import archive, clock, ledger


def shifted(days: float) -> type[datetime]:
    """``datetime`` whose now is ``days`` from now."""

    class Later(datetime):
        """The clock of another day."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            """That moment."""
            moment = datetime.now(tz) + timedelta(days=days)
            return cls.fromtimestamp(moment.timestamp(), tz)

    return Later


@contextmanager
def later(days: float) -> Iterator[None]:
    """This process, ``days`` from now."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (archive, clock, ledger):
            patch.setattr(module, "datetime", shifted(days))
        yield


if __name__ == "__main__":
    from sopctl.cli import main

    when = sys.argv[1]
    away = (datetime.fromisoformat(when) - datetime.now(UTC)) / timedelta(days=1) if when.endswith("Z") else int(when)
    with later(away):
        main(sys.argv[2:])
