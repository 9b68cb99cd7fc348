# SPDX-License-Identifier: Apache-2.0
"""The gate against a short restatement of the rules, over random sequences of acts by random people, in both SOPs.

``may_execute`` and what it calls are written from the SOPs' tables and DESIGN §4. They read what was *done*
(:class:`Said`), never a document; the gate reads nothing but documents. Both must say the same, either way, at any time.
The world that turns deeds into signed documents is ``tests/support/gate_world.py``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import event, given, seed, settings
from hypothesis import strategies as st

from tests.support.gate_world import DATASETS, HOUR, PEOPLE, Move, Said, World

# --- the rules, restated ---------------------------------------------------------------------------------------------
# One letter an act: q request, d dispose, a approve, n reject, p plan, x execute, c confirm, s send back, i inform,
# r receive; beside them: o attach or take over, g/h the owner consents or refuses, w withdraw, e emergency, y/z ratify.
UNTIL_EXECUTION, AGAIN = {"trenggalek": "qda", "kaltim": "qadp"}, {"trenggalek": "", "kaltim": "(xs)*"}
BY = {
    "trenggalek": {"q": "pemohon loket", "d": "kadis", "an": "kabid", "xiwe": "pelaksana", "r": "pemohon loket", "yz": "kabid"},
    "kaltim": {"q": "pemohon loket", "an": "administrator", "d": "pengawas", "pxe": "pengelola", "cs": "pemeriksa",
               "i": "administrator", "yz": "administrator"},
}  # fmt: skip
DIFFER = {
    "trenggalek": ["pelaksana kabid", "pemohon kabid"],
    "kaltim": ["pemohon administrator", "administrator pengelola", "pengelola pemeriksa"],
}
LIMIT = {"trenggalek": dict.fromkeys("danxir", 24 * HOUR), "kaltim": {**dict.fromkeys("adncs", HOUR // 4), "p": HOUR, "x": 24 * HOUR}}  # fmt: skip
