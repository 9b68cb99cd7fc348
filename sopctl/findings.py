# SPDX-License-Identifier: Apache-2.0
"""What checking evidence finds: shared by the archive and the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["broken", "unchecked"]


@dataclass(frozen=True)
class Finding:
    """One thing wrong, or not decided, about a record or the ledger.

    ``broken`` means the evidence contradicts itself; ``unchecked`` that it could not be decided. Neither is "ok".
    """

    severity: Severity
    record: str  # record id, or "ledger"
    file: str  # path inside the record, or "ledger.jsonl:<line>"
    rule: str  # stable word for programs: "file-altered", "signature", "chain", …
    meaning: str  # one sentence for people

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.severity}: {self.record}/{self.file}: {self.meaning} [{self.rule}]"
