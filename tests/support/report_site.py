# SPDX-License-Identifier: Apache-2.0
"""A site with months behind it, sealed by the real code: what came of each is made up, every key and digest is real.

``hostile`` texts stand wherever people or hosts can write: names that are markup, that turn text round, that a spreadsheet
would run, that never end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sopctl import archive, cli, clock, fsio
from sopctl.session import Session
from tests.support.case_site import CaseSite

Json = dict[str, Any]

MARKUP = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\"><svg onload=window.hacked=1>"
TURNED = "laporan\u202egpj.exe\u2066\u200b\u061c\u0007"
ENDLESS = "A" * 4000
FORMULAS = ('=HYPERLINK("http://example.invalid/","klik")', "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1")
TEMPLATE = "{{ 7*7 }}{% for x in range(9) %}{{ x }}{% endfor %}"
HOSTILE = (MARKUP, TURNED, ENDLESS, *FORMULAS, TEMPLATE)


def seal(
    session: Session, record: str, at: str, files: Mapping[str, object], *, what: str = "", by: str = "pelaksana"
) -> Path:
    """Seal a run's record in the folder of ``at``'s month, with the trust that is in force; what is no bytes is JSON."""
    signer = session.signer(by, None)
    content: dict[str, bytes | Path] = {
        name: value if isinstance(value, bytes) else json.dumps(value).encode() for name, value in files.items()
    }
    content |= {
        "trust/trust.yml": session.trust.data,
        "trust/trust.yml.sig": session.trust.signature,
        "trust/allowed_signers": session.trust.allowed_signers().encode(),
    }
    moment: datetime = clock.parse(at)
    bag = archive.seal_record(
        session.site.archive,
        record,
        "run",
        content,
        {"External-Description": what, "Sop-Operator": by},
        sign=lambda data: session.sign(data, "sop-record", signer),
        at=moment,
    )
    session.ledger.append("record", record, {"tagmanifest": fsio.sha256_file(bag / "tagmanifest-sha256.txt")})
    return bag


def backup(
    session: Session,
    number: int,
    at: str,
    dataset: str = "antrean",
    *,
    proof: bool | None = True,
    result: str = "berhasil",
    seconds: int = 90,
    more: Mapping[str, object] | None = None,
    **changed: Any,
) -> Path:
    """A scheduled backup that ran at ``at``. ``proof``: it was proven, refuted (False), or not looked at (None)."""
    record, snapshot = f"BKP-{at[:4]}-{number:04d}-01", f"{number:064x}"
    done = clock.plus(at, seconds=seconds)
    evidence: list[Json] = []
    if not result.startswith("gagal"):
        evidence.append(
            {
                "kind": "backup", "host": "srv01", "dataset": dataset, "name": f"cadangan_{number}", "period": at[:7],
                "snapshot": snapshot, "manifest_snapshot": "b2" * 32, "bytes": 4096 * number, "sha256": "e5" * 32,
                "started": at, "finished": done, "failed": False, **changed,
            }
        )  # fmt: skip
        if proof is not None:
            evidence.append(
                {
                    "kind": "verify", "dataset": dataset, "snapshot": snapshot, "ok": proof, "depth": "restore",
                    "started": done, "finished": clock.plus(done, seconds=2 * seconds), "tables": {},
                }
            )  # fmt: skip
    form = {"header": {"result": result}, "rows": [{"dataset": dataset, "result": result}]}
    ran = {"started": at, "finished": clock.plus(done, seconds=2 * seconds), "check": False}
    files: dict[str, object] = {"evidence.json": evidence, "form.json": form, "run/result.json": ran, **(more or {})}
    return seal(session, record, at, files, what=f"backup {record[:13]}")


def order(site: CaseSite, since: str, every: str = "P1M") -> bytes:
    """A standing order of both datasets, as a backup's record would hold it."""
    value = json.loads((site.root / "schedule.yml").read_text(encoding="utf-8"))
    value["valid"]["since"] = since
    value["entries"] = [{"dataset": dataset, "every": every} for dataset in ("antrean", "berkas")]
    return json.dumps(value).encode()


def year(site: CaseSite) -> None:
    """2025 as it may have been: verified, stored, failed and missing months, the order in force since January."""
    session = site.session
    backup(session, 1, "2025-01-15T01:00:00Z", more={"schedule.yml": order(site, "2024-12-31T17:00:00Z")})
    backup(session, 2, "2025-02-15T01:00:00Z", seconds=130)
    backup(session, 3, "2025-03-15T01:00:00Z", proof=None)
    backup(session, 4, "2025-04-15T01:00:00Z", result="gagal")
    backup(session, 5, "2025-05-15T01:00:00Z", proof=False)
    backup(session, 6, "2025-06-15T01:00:00Z", seconds=200)
    backup(session, 7, "2025-06-15T03:00:00Z", "berkas", seconds=20)


def _register(site: CaseSite, file: str, **values: Any) -> None:
    path = site.root / "register" / file
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def hostile(site: CaseSite) -> None:
    """Records, a case, and a register that say hostile things, all rightly sealed and signed."""
    session = site.session
    for at, text in enumerate(HOSTILE):
        form = {"header": {"result": text}, "rows": [{"dataset": text, "result": f"gagal {text}"}]}
        backup(session, 20 + at, f"2025-08-{at + 1:02d}T01:00:00Z", more={"form.json": form}, name=text)
    page = f"<!DOCTYPE html><title>x</title>{MARKUP}<meta http-equiv=refresh content='0;url=http://example.invalid/'>"
    backup(session, 40, "2025-08-20T01:00:00Z", more={"form.html": page.encode()})
    backup(session, 41, "2025-08-21T01:00:00Z", dataset=MARKUP, more={"form.html": page.encode()})
    words = ["-C", str(site.root), "case", "withdraw", site.case, "--reason", f"{MARKUP} {TURNED}", "--as", "pemohon"]
    assert cli.run(words) == 0
    _register(
        site,
        "servers/srv01.yml",
        name=MARKUP,
        holder=TURNED,
        location=ENDLESS,
        owner_unit=FORMULAS[0],
        kib_b={"nama": MARKUP, "merk": FORMULAS[3]},
    )
    _register(site, "datasets/antrean.yml", name=MARKUP, owner_unit=FORMULAS[1])
    site.edit("sop.yml", "nama: ", f"nama: {json.dumps(MARKUP)} #")
