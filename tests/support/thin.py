# SPDX-License-Identifier: Apache-2.0
"""Long matrices: `make test` takes every n-th of their cases, `make test-long` all of them."""

from __future__ import annotations

import os

WHOLE = "SOPTEST_WHOLE"


def stride(usual: int) -> int:
    """How far it is from one case to the next: ``usual``, or 1 where the whole matrix is asked for."""
    return 1 if os.environ.get(WHOLE) else usual
