# SPDX-License-Identifier: Apache-2.0
"""A case in memory: deeds of people become signed, chained, received documents, without a file or a process.

The world remembers what was done (:class:`Said`) beside the documents that came of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from sopctl import approval, fsio
from sopctl.case import SIDE_ACTS, Case, Filed, due_act
from sopctl.context import Context
from sopctl.examination import examine
from sopctl.ledger import LedgerLine
from sopctl.models import Actor, Dataset, Document, Review, Server, to_json
from sopctl.profile import LoadedProfile
from sopctl.settings import Policy
from tests.support.gate_people import (
    CAST,
    CODE,
    DATASETS,
    DAY,
    HOUR,
    NOON,
    OTHER,
    SITE,
    Somebody,
    loaded,
    people,
    sign,
    stamp,
    trust,
    work,
)

Json = dict[str, Any]
FLOWS = {"trenggalek": "restore", "kaltim": "backup_restore"}
ACTS = {
    "q": "request", "d": "dispose", "a": "decide", "n": "decide", "p": "plan", "x": "execute", "c": "confirm",
    "s": "confirm", "i": "inform", "r": "receive", "o": "attach", "t": "takeover", "g": "consent", "h": "consent",
    "w": "withdraw", "e": "emergency", "y": "ratify", "z": "ratify",
}  # fmt: skip
LETTERS = {"decide": "a", "confirm": "c", "ratify": "y"} | {
    act: letter for letter, act in ACTS.items() if letter in "qdpxirotwe"
}


@dataclass(frozen=True)
class Grant:
    """What an approval, an emergency or a plan binds. ``exact``: to these bytes, targets and this code."""

    since: int
    until: int
    exact: bool = True


@dataclass(frozen=True)
class Said:
    """One deed as it truly was. ``sound``: chained, of this case and site and SOP, its bytes as they were signed."""

    letter: str
    person: str
    role: str
    key: str
    at: int
    received: int | None
    sound: bool = True
    reason: bool = False
    requester: str = ""
    unit: str = ""
    specified: bool = True
    datasets: tuple[str, ...] = ()
    grant: Grant | None = None
    countersigns: bool = True


@dataclass(frozen=True)
class Move:
    """What somebody tries. ``letter`` ``.``: whatever is due; ``person`` ``.``: whoever rightly does it."""

    letter: str = "."
    person: str = "."
    twist: str = ""
    no: bool = False
    wait: int = 60
    reason: bool = False
    force: bool = False
    datasets: tuple[str, ...] = ("antrean",)


@dataclass
class World:
    """One case of one SOP. ``fault``: what is not as it should be when the gate is asked; ``lax``: an SOP that separates nobody."""

    sop: str
    glass: bool = True
    sla: Any = "warn"
    review: Any = "warn"
    authority: dict[str, list[str]] = field(default_factory=dict)
    lax: bool = False
    now: int = NOON
    said: list[Said] = field(default_factory=list)
    filed: list[Filed] = field(default_factory=list)
    lines: list[LedgerLine] = field(default_factory=list)
    fault: str = ""
    forced: bool = False

    @property
    def case(self) -> Case:
        """The case as it would be read."""
        profile = loaded(self.sop).profile
        flow = FLOWS[self.sop]
        filed = self.filed[:-1] if self.fault == "rolled back" else self.filed
        return Case("RST-2026-0001", Path("case"), flow, profile.flow(flow), list(filed), profile.break_glass)

    def context(self, now: int | None = None) -> Context:
        """The gate's view."""

        def wrong(fault: str) -> list[str]:
            return [fault] if self.fault == fault else []

        profile = loaded(self.sop)
        known = trust(self.sop, self.glass)
        if wrong("another SOP in the trust"):
            known = replace(known, file=msgspec.structs.replace(known.file, profiles={}))
        if self.lax:
            profile = LoadedProfile(msgspec.structs.replace(profile.profile, sod=[]), profile.digest, profile.path)
        server = Server(
            "sop-server/v1", "srv01", "srv01", machine_id="1" * 32, ssh_host_key="key",
            reviewed=None if self.fault == "not reviewed" else Review("2026-11-01", "pengurus"),
        )  # fmt: skip
        return Context(
            site=SITE,
            trust=known,
            profile=LoadedProfile(profile.profile, "sha256:" + "f" * 64, profile.path) if wrong("profile edited") else profile,
            lines=self.lines,
            servers={} if wrong("not registered") else {"srv01": server},
            datasets={
                name: Dataset("sop-dataset/v1", name, name, "files", "srv01", unit, kind, path=f"/srv/{name}")  # type: ignore[arg-type]
                for name, (unit, kind) in DATASETS.items()
            },
            policy=Policy(sla=self.sla, authority=self.authority, asset_review=self.review),
            work=work(),
            register=lambda _: wrong("register edited"),
            settings=lambda: wrong("settings edited"),
            code=lambda: "sha256:" + "9" * 64 if wrong("code edited") else CODE,
            now=stamp(self.now if now is None else now),
            tz_name="Asia/Jakarta",
        )  # fmt: skip

    def plan(self) -> Json:
        """What would run now."""
        asked = next((one for one in self.said if one.letter == "q"), None)
        machine = "2" * 32 if self.fault == "another machine" else "1" * 32
        items = [
            {
                "dataset": {"id": name, "engine": "files", "path": f"/srv/{name}"},
                "server": "srv01", "host": "srv01", "machine_id": machine, "ssh_host_key": "key", "services": [],
                "owner_unit": DATASETS[name][0], "classification": DATASETS[name][1],
                "snapshot": ("b" if self.fault == "another backup" else "a") * 64, "sha256": "e" * 64,
                "manifest_snapshot": "d" * 64,
            }
            for name in (asked.datasets if asked else ["antrean"])
        ]  # fmt: skip
        return {"items": items, "hosts": {"srv01": {"server": "srv01", "machine_id": machine, "ssh_host_key": "key"}}}

    def gate(self, person: str, role: str) -> list[str]:
        """What the gate says."""
        return approval.gate_case(self.context(), self.case, self.plan(), person, role)

    # --- deeds -------------------------------------------------------------------------------------------------

    def try_(self, move: Move) -> list[str]:
        """Do ``move`` as sopctl would: a document that is not good is not filed, unless a forger puts it there."""
        self.now += move.wait
        said, step = self._deed(move)
        filed = self._document(said, step, move.twist)
        reasons = examine(self.context(), replace(self.case, filed=[*self.filed, filed]), pending=True)
        if reasons and not move.force:
            return reasons
        self.forced = self.forced or bool(reasons)
        self.said.append(said)
        self.filed.append(filed)
        if said.received is not None:
            digests = {"document": filed.digest, "signature": filed.signature_digest}
            if move.twist == "edited":
                digests["document"] = "sha256:" + "0" * 64
            ref = f"{self.case.id}/{len(self.filed):02d}"
            self.lines.append(LedgerLine(len(self.lines) + 1, stamp(said.received), "document", ref, "", digests))
        return reasons

    def _deed(self, move: Move) -> tuple[Said, str]:
        case = self.case
        due = case.state.due
        letter = move.letter if move.letter != "." else LETTERS[due_act(due)] if due else "o"
        if move.no:
            letter = {"a": "n", "c": "s", "y": "z", "g": "h"}.get(letter, letter)
        act = ACTS[letter]
        fits = due is not None and due.act == act
        rows = [due] if fits and due else [step for step in case.flow.steps if step.act == act] or [case.flow.steps[-1]]
        step = "-" if act in SIDE_ACTS else rows[0].id
        person = move.person if move.person != "." else self._right(letter)
        me = people(self.sop)[person]
        at = self.now - (1200 if move.twist == "backdated" else 0)
        role = self._role(letter, me)
        if move.twist == "another role":
            decider, operator, _ = CAST[self.sop]
            role = operator if role == decider else decider
        asked = self.said[0] if self.said else None
        requester = "pemohon" if role == "loket" or move.twist == "for somebody" else person
        requester = CAST[self.sop][0] if move.twist == "for the decider" else requester
        span = {"long": 40 * DAY, "short": HOUR // 2}.get(move.twist, 4 * HOUR if letter == "e" else 5 * DAY)
        wrong = {"other targets", "nothing"} | ({"other code", "other request"} if letter in "ae" else set())
        exact = move.twist not in wrong
        return Said(
            letter=letter,
            person=person,
            role=role,
            key="meja" if move.twist == "another's key" else person,
            at=at,
            received=None if move.twist == "not received" else self.now,
            sound=move.twist not in UNSOUND | ({"other request"} if letter in "gh" else set()),
            reason=move.reason,
            requester=requester,
            unit=OTHER if move.twist == "for another unit" else people(self.sop)[requester].unit,
            specified=move.twist != "unspecified",
            datasets=move.datasets if letter in "qgh" or not asked else asked.datasets,
            grant=Grant(at, at + span, exact) if letter in "aep" else None,
            countersigns=move.twist != "countersigns nothing",
        ), step

    def _right(self, letter: str) -> str:
        decider, operator, others = CAST[self.sop]
        if letter == "e" and any(one.letter == "e" for one in self.said):
            return "kedua"
        by = {"a": decider, "n": decider, "y": decider, "z": decider, "q": "pemohon", "w": "pemohon", "r": "pemohon", "d": others[1],
              "c": others[-1], "s": others[-1], "g": "pemilik", "h": "pemilik"}  # fmt: skip
        return decider if letter == "i" and self.sop == "kaltim" else by.get(letter, operator)

    def _role(self, letter: str, me: Somebody) -> str:
        """The role somebody would sign with: the right one if they were ever given it."""
        right = self._right(letter)
        wanted = [held.role for held in people(self.sop)[right].roles] + (["loket"] if letter in "qrw" else [])
        return next((held.role for held in me.roles if held.role in wanted), me.roles[0].role)

    def _document(self, said: Said, step: str, twist: str) -> Filed:
        number = len(self.filed) + 1
        document = Document(
            schema="sop/document/v1",
            site=SITE[::-1] if twist == "another site" else SITE,
            case="RST-2026-0002" if twist == "another case" else "RST-2026-0001",
            seq=number,
            flow=FLOWS[self.sop],
            step="-" if twist == "no step" and step != "-" else "x9" if twist == "no step" else step,
            act=ACTS[said.letter],  # type: ignore[arg-type]
            actor=Actor(said.person, said.role),
            at=stamp(said.at),
            profile="kaltim@sha256:0" if twist == "another SOP" else loaded(self.sop).reference,
            prev="sha256:" + "0" * 64 if twist == "unchained" else self.filed[-1].link if self.filed else None,
            body=self._body(said, twist),
        )
        data = fsio.canonical_json(to_json(document))
        signature = sign(data, said.key, b"sop-record" if twist == "another purpose" else b"sop-document")
        if twist == "altered":
            data = data.replace(b'"late"', b'"Late"') if b'"late"' in data else data + b" "
        return Filed(Path(f"{number:02d}-{document.act}.json"), document, data, signature)

    def _body(self, said: Said, twist: str) -> Json:
        late = {"late": {"reason": "banyak permintaan"}} if said.reason else {}
        if said.letter == "q":
            listed = [
                {"dataset": name, "server": "srv01", "application": "web", "data": "tabel", "size": "1 GB"}
                for name in said.datasets
            ]
            body: Json = {"operation": "restore", "datasets": list(said.datasets), "point": "latest", "requester": said.requester,
                          "letter": {"number": "800/1", "file": "surat.pdf", "sha256": "sha256:" + "5" * 64},
                "unit": said.unit, "reason": "terhapus"}  # fmt: skip
            return body | late | ({"specification": listed} if said.specified else {})
        if said.letter == "o":
            return {"file": "lampiran.pdf", "sha256": "sha256:" + "6" * 64, "note": ""}
        if said.letter in "gh":
            return {
                "dataset": said.datasets[-1],
                "decision": "approve" if said.letter == "g" else "reject",
                "request": "sha256:0" if twist == "other request" or not self.filed else self.filed[0].digest,
            }
        yes: Json = {"decision": "approve" if said.letter in "acy" else "reject"} if said.letter in "ancsyz" else {}
        if not said.grant:
            return yes | late
        before = [one for one in self.filed if one.document.act == "emergency"]
        if said.letter == "e" and before:
            return {"reason": "mendesak", "countersigns": before[0].link if said.countersigns else "sha256:0"}
        targets = [approval.approval_target(item) for item in self.plan()["items"]]
        if twist == "other targets":
            targets[0] |= {"machine_id": "3" * 32}
        bound = {
            "request": "sha256:0" if twist == "other request" else self.filed[0].digest if self.filed else "",
            "targets": targets,
            "code": "sha256:0" if twist == "other code" else CODE,
            "valid_from": stamp(said.grant.since),
            "valid_until": stamp(said.grant.until),
        }
        if said.letter == "p":
            window = {"since": stamp(said.grant.since), "until": stamp(said.grant.until)}
            return ({} if twist == "nothing" else {"targets": targets, "window": window}) | late
        body = {} if twist == "nothing" else {"approval": bound}
        return yes | late | body | ({"reason": "mendesak"} if said.letter == "e" else {})


UNSOUND = {
    "another site",
    "another case",
    "no step",
    "another SOP",
    "unchained",
    "another purpose",
    "altered",
    "edited",
}
TWISTS = sorted(
    UNSOUND
    | {
        "another's key",
        "not received",
        "backdated",
        "another role",
        "for somebody",
        "for the decider",
        "for another unit",
        "unspecified",
    }
    | {"long", "short", "other targets", "other code", "other request", "nothing", "countersigns nothing"}
)
FAULTS = ["code edited", "another SOP in the trust", "settings edited", "register edited", "profile edited", "not registered", "not reviewed", "another machine",
          "another backup", "rolled back"]  # fmt: skip
