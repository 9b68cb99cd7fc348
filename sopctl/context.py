# SPDX-License-Identifier: Apache-2.0
"""What the gate looks at besides the case and the plan, as one value."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sopctl.case import SIDE_ACTS, Case, Filed
from sopctl.ledger import LedgerLine
from sopctl.models import Dataset, Document, Server
from sopctl.profile import LoadedProfile
from sopctl.reviews import Reviews
from sopctl.settings import Policy
from sopctl.trust import Trust
from sopctl.worktime import WorkTime

#: kind of the ledger's line about a paper that was printed to be signed
PAPER = "paper"


@dataclass(frozen=True)
class Context:
    """Everything the gate looks at besides the case and the plan. ``policy`` is the stricter of trust, SOP and site."""

    site: str
    trust: Trust
    profile: LoadedProfile
    lines: list[LedgerLine]
    servers: Mapping[str, Server]
    datasets: Mapping[str, Dataset]
    policy: Policy
    work: WorkTime
    #: why entries of the register (``servers/db01.yml``) are not what their keeper signed
    register: Callable[[list[str]], list[str]]
    #: why sop.yml is not what the trust was signed over
    settings: Callable[[], list[str]]
    code: Callable[[], str]  # digest of the code that would run; raises GateRefused when it cannot be believed
    now: str
    tz_name: str
    #: signed reviews of the register's entries
    reviews: Reviews = field(default_factory=Reviews)


def key_digest(key: str) -> str:
    """How the ledger names a key (``type base64``) without naming its person."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def document_ref(case_id: str, seq: int) -> str:
    """How the ledger names a document."""
    return f"{case_id}/{seq:02d}"


def paper_ref(case_id: str, seq: int) -> str:
    """How the ledger names a paper that was printed for a document to be signed on."""
    return f"{case_id}/{seq:02d}-{PAPER}"


def papers_of(lines: list[LedgerLine], case_id: str, document: Document, digest: str) -> set[str]:
    """Digests of the papers that sopctl printed for exactly this document, by the ledger."""
    ref = paper_ref(case_id, document.seq)
    mine = (line for line in lines if line.kind == PAPER and line.ref == ref and line.digests.get("document") == digest)
    return {line.digests.get("paper", "") for line in mine}


def received_at(context: Context, case: Case, filed: Filed) -> str | None:
    """When the ledger says sopctl accepted exactly these bytes; None when it does not say so."""
    ref = document_ref(case.id, filed.document.seq)
    for line in context.lines:
        if line.kind == "document" and line.ref == ref:
            same = (
                line.digests.get("document") == filed.digest and line.digests.get("signature") == filed.signature_digest
            )
            return line.at if same else None
    return None


def deadline(context: Context, case: Case, done: int) -> tuple[str, str] | None:
    """(since, until) of the step that is due behind the first ``done`` documents; None where the SOP gives no time."""
    before = case.with_filed(case.filed[:done])
    due, last = before.state.due, _last_step(before)
    if due is None or due.sla is None or last is None:
        return None
    if due.id == last.document.step and due.act == "dispose":  # passing an approval on: still the same row of the table
        last = _last_step(case.with_filed(case.filed[: case.filed.index(last)])) or last
    since = received_at(context, case, last) or last.document.at
    return since, context.work.deadline(since, due.sla)


def _last_step(case: Case) -> Filed | None:
    return next((filed for filed in reversed(case.filed) if filed.document.act not in SIDE_ACTS), None)
