# SPDX-License-Identifier: Apache-2.0
"""A site with one approved restore, cheap enough to be spoilt by a test: nothing is connected to, every key is real.

The backup that the approval names stands in a sealed record, as the catalogue wants it; no restic has seen it.
:meth:`CaseSite.refile` writes the case anew from :class:`Paper`, signed and chained and entered into the ledger as the
test says, so that a forged case has one fault and no other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sopctl import approval, archive, bootstrap, clock, content, fsio, requesting, signing, targeting, trust, workflow
from sopctl.case import Case
from sopctl.ledger import Ledger
from sopctl.loading import from_yaml
from sopctl.models import TrustFile
from sopctl.session import Session
from sopctl.signing import Namespace
from sopctl.site import Site
from tests.support.site_builder import UNIT, SiteBuilder

Json = dict[str, Any]
SNAPSHOT, MANIFEST = "a1" * 32, "b2" * 32
CODE = "sha256:" + "c0" * 32
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJIWyfOSA3sROIKmFvVvy3QQdHAXdNQLr/hIyJ4HqnHX"
SERVICE: Json = {
    "name": "web",
    "server": "srv01",
    "manager": "command",
    "start": ["/srv/app/start"],
    "stop": ["/srv/app/stop"],
    "status": ["/srv/app/status"],
}


@dataclass
class Paper:
    """One document to be written. ``received`` is the ledger's time (None: the ledger does not know it).

    ``data`` makes the bytes that are signed, ``signature`` what lies beside them of the true signature.
    ``countersigns``: place (from 0) of the emergency's first document, whose link this one's body names.
    """

    body: Json
    key: str
    received: str | None
    namespace: Namespace = "sop-document"
    linked: bool = True
    number: int | None = None  # in the file's name, where it is not the document's own
    data: Callable[[Json], bytes] = fsio.canonical_json
    signature: Callable[[bytes], bytes] = bytes
    countersigns: int | None = None


@dataclass
class CaseSite:
    """A copy of the base site: ``root``, its approved ``case``, and everybody's ``keys``."""

    root: Path
    keys: Path
    case: str
    builder: SiteBuilder = field(repr=False)

    @property
    def session(self) -> Session:
        """A new session, as the next command would have it."""
        return Session(Site(self.root))

    @property
    def ledger(self) -> Ledger:
        """The ledger as it lies."""
        return Ledger(self.root / "archive/ledger.jsonl")

    @property
    def folder(self) -> Path:
        """The case's folder."""
        return self.root / "cases" / self.case.split("-")[1] / self.case

    def copy(self, root: Path) -> CaseSite:
        """The same site somewhere else."""
        shutil.copytree(self.root, root, symlinks=True)
        return replace(self, root=root)

    # forging --------------------------------------------------------------------------------------------------

    def papers(self) -> list[Paper]:
        """The case's documents, each with its rightful signer's key and time of reception."""
        lines = {line.ref: line.at for line in self.ledger.lines() if line.kind == "document"}
        found = []
        for path in sorted(self.folder.glob("*.json")):
            body = json.loads(path.read_bytes())
            found.append(Paper(body, body["actor"]["person"], lines[f"{self.case}/{body['seq']:02d}"]))
        return found

    def refile(self, papers: list[Paper]) -> None:
        """Write the case from ``papers``: chained, signed, received; what was there is gone, the ledger is new."""
        for path in [*self.folder.glob("*.json"), *self.folder.glob("*.json.sig")]:
            path.unlink()
        entries: list[tuple[str, str, dict[str, str]]] = []
        prev: str | None = None
        links: list[str] = []
        for paper in papers:
            if paper.linked:
                paper.body["prev"] = prev
            if paper.countersigns is not None:
                paper.body["body"]["countersigns"] = links[paper.countersigns]
            data = paper.data(paper.body)
            signature = paper.signature(signing.sign(data, paper.namespace, self.keys / paper.key))
            name = f"{paper.number or paper.body['seq']:02d}-{paper.body['act']}.json"
            (self.folder / name).write_bytes(data)
            (self.folder / f"{name}.sig").write_bytes(signature)
            prev = fsio.sha256_bytes(data + signature)
            links.append(prev)
            if paper.received:
                digests = {"document": fsio.sha256_bytes(data), "signature": fsio.sha256_bytes(signature)}
                entries.append((paper.received, f"{self.case}/{paper.body['seq']:02d}", digests))
        self._relist(entries)

    def _relist(self, entries: list[tuple[str, str, dict[str, str]]]) -> None:
        """A whole and well-chained ledger that says ``entries`` of this case and the old lines of everything else."""
        old = [line for line in self.ledger.lines() if not line.ref.startswith(f"{self.case}/")]
        first = min([line.at for line in old] + [entry[0] for entry in entries])
        self.ledger.path.unlink()
        for line in old:
            self._ledger_at(first).append(line.kind, line.ref, dict(line.digests), serial=line.serial)
        for at, ref, digests in sorted(entries, key=lambda entry: entry[0]):
            self._ledger_at(at).append("document", ref, digests)

    def _ledger_at(self, at: str) -> Ledger:
        moment = clock.parse(at)

        def then() -> datetime:
            return moment

        return Ledger(self.ledger.path, clock=then)

    def retrust(self, change: Callable[[TrustFile], TrustFile], forget: Collection[str] = ()) -> None:
        """The root holder changes the trust and signs it; whoever vanishes from it is named in ``forget``."""
        path = self.root / "trust/trust.yml"
        signature = path.with_name("trust.yml.sig")
        before = from_yaml(TrustFile, path.read_bytes(), path)
        bootstrap.write_trust(self.root, change(before))
        signature.write_bytes(b"")  # there was one: the new file's prev is the old one's digest
        bootstrap.sign_trust(Site(self.root), self.builder.root_key, 366, forget=forget)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the site."""
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} does not say {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def change_yaml(self, name: str, **values: Any) -> None:
        """Set keys of a register file (JSON, as SiteBuilder writes it)."""
        path = self.root / name
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def seal_backup(
    session: Session,
    dataset: str,
    record: str = "BKP-2020-0001-01",
    *,
    by: str = "pelaksana",
    proof: bool = True,
    **changed: Any,
) -> Path:
    """Seal a record (``by`` signs it) that speaks of one backup of ``dataset`` (with its ``proof``), and enter it into the ledger."""
    now = clock.plus(clock.now(), seconds=-60)
    stored: Json = {
        "kind": "backup", "host": "srv01", "dataset": dataset, "name": f"cadangan_{dataset}", "period": now[:7],
        "snapshot": SNAPSHOT if dataset == "antrean" else "d4" * 32, "manifest_snapshot": MANIFEST, "bytes": 4096,
        "sha256": "e5" * 32, "started": now, "finished": now, "failed": False,
        **changed,
    }  # fmt: skip
    proven = {"kind": "verify", "dataset": dataset, "snapshot": stored["snapshot"], "ok": True, "depth": "restore",
              "finished": now, "tables": {"antrean": {"rows": 2, "checksum": "x"}}}  # fmt: skip
    signer = session.signer(by, None)
    bag = archive.seal_record(
        session.site.archive,
        record,
        "run",
        {"evidence.json": json.dumps([stored, proven] if proof else [stored]).encode(), "form.json": b"{}"},
        {"Sop-Case": record[:13]},
        sign=lambda data: session.sign(data, "sop-record", signer),
    )
    session.ledger.append("record", record, {"tagmanifest": fsio.sha256_file(bag / "tagmanifest-sha256.txt")})
    return bag


def approved_case(session: Session, letter: Path, *datasets: str) -> str:
    """Request, disposition and approval in this process; returns the case's id."""
    asked = requesting.Asked(
        operation="restore",
        datasets=list(datasets),
        unit=UNIT,
        letter=letter,
        letter_number="800/12/2026",
        reason="data terhapus",
    )
    case = requesting.request(session, asked, "pemohon", None)
    workflow.act(session, case.id, "dispose", "kadis", None, lambda *_: {"to": "kabid", "note": ""})
    workflow.act(session, case.id, "decide", "kabid", None, workflow.decision(session, True, "sesuai"))
    return case.id


def build(folder: Path) -> CaseSite:
    """The base site: two servers, datasets antrean (with a web service) and berkas, schedule, backups, one approval."""
    builder = SiteBuilder(folder)
    for person, roles, options in (
        ("rangkap", ["pemohon", "kabid", "pelaksana"], ["--unit", UNIT]),
        ("robot", ["pelaksana"], ["--service"]),
    ):
        builder.person(person, roles, "Staf", sign=False, options=options)
    builder.sign_trust()
    builder.server("srv01", machine_id="1" * 32, ssh_host_key=HOST_KEY)
    builder.server("srv02", machine_id="2" * 32)
    builder.dataset("antrean", engine="sqlite", server="srv01", path="/srv/app/antrean.db", services=[SERVICE])
    builder.dataset("berkas", engine="files", server="srv01", path="/srv/berkas")
    builder.schedule()
    with at_home(builder):
        session = Session(Site(builder.root))
        seal_backup(session, "antrean")
        seal_backup(session, "berkas", "BKP-2020-0002-01")
        case = approved_case(session, builder.letter(), "antrean")
    return CaseSite(builder.root, builder.keys, case, builder)


def build_kaltim(folder: Path) -> CaseSite:
    """A site under Kaltim's SOP with one restore that was asked for, decided, passed on and planned."""
    builder = SiteBuilder(folder, profile="kaltim")
    builder.server("srv01", machine_id="1" * 32, ssh_host_key=HOST_KEY)
    builder.dataset("antrean", engine="sqlite", server="srv01", path="/srv/app/antrean.db", services=[SERVICE])
    builder.sign_register()
    listed = folder / "spesifikasi.yml"
    line = {"dataset": "antrean", "server": "srv01", "application": "antrean", "data": "antrean.db", "size": "4 kB"}
    listed.write_text(json.dumps({"schema": "sop-specification/v1", "items": [line]}), encoding="utf-8")
    with at_home(builder):
        session = Session(Site(builder.root))
        seal_backup(session, "antrean", by="pengelola")
        asked = requesting.Asked(
            operation="restore",
            datasets=["antrean"],
            unit=UNIT,
            letter=builder.letter(),
            letter_number="800/12/2026",
            reason="data terhapus",
            specification=listed,
        )
        case = requesting.request(session, asked, "pemohon", None)
        decision = workflow.decision(session, True, "sesuai")
        workflow.act(session, case.id, "decide", "administrator", None, decision)
        workflow.act(session, case.id, "dispose", "pengawas", None, lambda *_: {"to": "pengelola", "note": ""})
        workflow.act(session, case.id, "plan", "pengelola", None, lambda case, _: _plan(session, case))
    return CaseSite(builder.root, builder.keys, case.id, builder)


def _plan(session: Session, case: Case) -> Json:
    """What ``case plan`` writes, without looking at hosts that do not exist."""
    now = clock.now()
    items = targeting.case_plan(session, case)["items"]
    window = {"since": now, "until": clock.plus(now, hours=4)}
    looked = {"capacity": [], "on_duty": [], "risk": "", "services": {}, "informs": []}
    return {"targets": [approval.approval_target(item) for item in items], "window": window, **looked}


def refused(site: CaseSite, capsys: pytest.CaptureFixture[str], person: str = "pelaksana") -> tuple[int, list[str]]:
    """Exit code and reasons of ``sopctl case execute``; nothing may have been begun."""
    from sopctl import cli

    capsys.readouterr()
    records = set((site.root / "archive/records").glob("*/*/*"))
    words = ["-C", str(site.root), "case", "execute", site.case, "--as", person, "--json"]
    code = cli.run(words)
    said = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert said["exit"] == code
    assert [line for line in site.ledger.lines() if line.kind == "run-started"] == []
    assert not list((site.root / ".state/runs").glob("*"))
    assert set((site.root / "archive/records").glob("*/*/*")) == records
    return code, list(said["reasons"])


@contextmanager
def at_home(builder: SiteBuilder) -> Iterator[pytest.MonkeyPatch]:
    """This process as the site's people have it: their keys, their root, nobody else's environment, a fixed code."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SOPCTL_AS", "SOPCTL_KEY", "SOPCTL_SITE", "SSH_AUTH_SOCK"):
            patch.delenv(name, raising=False)
        for name in ("HOME", "SOPCTL_KEYS", "SOPCTL_ROOT"):
            patch.setenv(name, builder.env[name])
        patch.setattr(trust, "ROOT_PIN", builder.folder / "no-pin")
        patch.setattr(content, "code_digest", lambda: CODE)
        yield patch
