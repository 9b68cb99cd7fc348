# SPDX-License-Identifier: Apache-2.0
"""For all tests: no compiled code beside the collection."""

from __future__ import annotations

import os
import sys

from hypothesis import settings

# sopctl refuses a collection with a __pycache__ in it, so neither this process nor its children may leave one.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

settings.register_profile("sopctl", derandomize=True, deadline=None)
settings.load_profile("sopctl")
