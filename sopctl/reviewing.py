# SPDX-License-Identifier: Apache-2.0
"""``asset review``: a person signs what they found of register entries, as those entries and the facts lie now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sopctl import assets, clock, filing, forms, fsio, reviews
from sopctl.asset_blanks import ReviewRow
from sopctl.assets import Asset
from sopctl.errors import GateRefused, UsageError
from sopctl.models import Actor, Json
from sopctl.profile import KEEPER
from sopctl.register import REVIEW
from sopctl.reviews import BAD, GOOD, ReviewDocument, Reviewed
from sopctl.sealing import seal_maintenance
from sopctl.session import Session, Signer


@dataclass(frozen=True)
class Signed:
    """A review that was received: its document, and the record that holds it with what was reviewed."""

    document: ReviewDocument
    path: Path
    record: Path


def review(
    session: Session,
    names: Sequence[str],
    person: str | None,
    key: str | None,
    *,
    everything: bool,
    result: str = GOOD,
    remarks: str = "",
) -> Signed:
    """Sign the review of the servers ``names``, or of all. An entry that its keeper has not signed is not reviewed.

    UsageError for a name that is not registered or a finding without remarks, GateRefused for who may not review.
    """
    session.read_what_decides()
    if everything == bool(names):
        raise UsageError("say what is reviewed", where="SERVER/--all", hint="Name servers, or give --all.")
    if result == BAD and not remarks.strip():
        raise UsageError("what is wrong with it?", where="--remarks", hint="Say it: it stands on the form.")
    if len(remarks) > 2000 or not remarks.replace("\n", " ").isprintable():
        raise UsageError("is not plain text of at most 2000 characters", where="--remarks")
    signer = session.signer(person, key)
    role = session.role(signer.person, reviews.roles(session.site.profile.profile), "reviewing the register")
    if signer.person.kind == "service":
        raise GateRefused(f"{signer.person.id} is a service identity: people review the register")
    chosen = _chosen(session, names)
    context = session.context()
    entries = [f"servers/{asset.server.id}.yml" for asset in chosen]
    if reasons := [*context.settings(), *context.register(entries), *context.reviews.problems]:
        raise GateRefused(reasons, where="register", hint="Nothing was signed.")
    found = {
        asset.server.id: Reviewed(asset.entry, asset.digest, "sesuai" if result == GOOD else "tidak-sesuai", remarks)
        for asset in chosen
    }
    document = ReviewDocument(
        schema="sop-review/v1",
        site=session.site.config.site,
        id=_number(session),
        at=clock.now(),
        actor=Actor(person=signer.person.id, role=role),
        servers=found,
    )
    return _file(session, document, chosen, signer)


def _chosen(session: Session, names: Sequence[str]) -> list[Asset]:
    every = assets.everything(session)
    if not every:
        raise UsageError("no server is registered", where="register/servers", hint="Register one first.")
    by_name = {name: asset for asset in every for name in (asset.server.inventory_hostname, asset.server.id)}
    for name in names:
        if name not in by_name:
            raise UsageError(
                f"server {name!r} is not in the asset register",
                where="register/servers",
                hint=f"Registered: {', '.join(asset.server.id for asset in every[:20])}.",
            )
    chosen = {by_name[name].server.id for name in names}
    return [asset for asset in every if not names or asset.server.id in chosen]


def _number(session: Session) -> str:
    """The next number of this year; one whose files a killed command left behind is passed over."""
    begin = f"{REVIEW}{clock.parse(clock.now()).astimezone(session.site.tz):%Y}-"
    taken = {line.ref for line in session.ledger.lines() if line.ref.startswith(begin)}
    taken |= {path.name.partition(".")[0] for path in (session.site.root / reviews.FOLDER).glob(f"{begin}*.json*")}
    highest = max((int(name[len(begin) : len(begin) + 4]) for name in taken), default=0)
    return f"{begin}{highest + 1:04d}"


def _file(session: Session, document: ReviewDocument, chosen: Sequence[Asset], signer: Signer) -> Signed:
    """Sign, write, have the ledger receive, seal."""
    data = reviews.document_bytes(document)
    signature = session.sign(data, "sop-register", signer)
    path, signature_path = reviews.paths(session.site.root, document.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    fsio.write_atomic(signature_path, signature)
    fsio.write_atomic(path, data, exclusive=True)
    digests = {"document": fsio.sha256_bytes(data), "signature": fsio.sha256_bytes(signature)}
    session.ledger.append(reviews.LEDGER_KIND, document.id, digests, unique=True)
    form = _form(session, document, chosen, signer, data)
    evidence = [{"kind": "review", "review": document.id, "server": asset.server.id} for asset in chosen]
    files = {
        f"review/{path.name}": data,
        f"review/{signature_path.name}": signature,
        "form.json": fsio.canonical_json(forms.form_json(form)),
        "form.html": forms.render_html(form, session.site.templates).encode(),
        "evidence.json": (json.dumps(evidence, indent=1, sort_keys=True) + "\n").encode(),
        **{
            f"register/servers/{asset.server.id}.yml": session.site.register_bytes[f"servers/{asset.server.id}.yml"]
            for asset in chosen
        },
    }
    said = f"review of the asset register: {len(chosen)} servers"
    return Signed(document, path, seal_maintenance(session, document.id, files, signer, said))


def _form(
    session: Session, document: ReviewDocument, chosen: Sequence[Asset], signer: Signer, data: bytes
) -> forms.ReviewForm:
    """The *Berita Acara*; what was reviewed before, and what changed since, stands with each entry."""
    good = sum(said.result == GOOD for said in document.servers.values())
    result = "berhasil" if good == len(chosen) else "sebagian" if good else "gagal"
    title = "Berita Acara Peninjauan Register Aset"
    head = filing.header(session, title, document.id, document.id, "tinjauan", result, inferred=True)
    return forms.ReviewForm(
        letterhead=filing.letterhead(session),
        header=head,
        rows=tuple(_row(asset, document.servers[asset.server.id]) for asset in chosen),
        registered=len(session.site.servers),
        reviewer=filing.official(session, document.actor.role, signer.person, document.at),
        keeper=filing.official(session, KEEPER),
        until=clock.plus(document.at, days=reviews.DAYS)[:10],
        document=f"{document.id}.json {fsio.sha256_bytes(data)}",
    )


def _row(asset: Asset, said: Reviewed) -> ReviewRow:
    machine = asset.facts.facts.machine if asset.facts else None
    system = asset.facts.facts.system if asset.facts else None
    card = asset.server.kib_b
    return ReviewRow(
        server=asset.server.id,
        name=asset.server.name,
        hostname=asset.server.inventory_hostname,
        kode_barang=str(card.get("kode_barang") or ""),
        machine=str(card.get("merk_type") or "")
        or (" ".join(filter(None, (machine.maker, machine.model))) if machine else ""),
        serial=str(card.get("nomor_pabrik") or "") or (machine.serial or "" if machine else ""),
        system=(system.name or "") if system else "",
        location=asset.server.location,
        holder=asset.server.holder,
        result=said.result,
        entry=said.entry,
        facts=said.facts,
        remark=said.remarks,
        previous=asset.reviewed[0],
        changed=tuple(asset.changed),
    )


def signed_json(signed: Signed) -> Json:
    """Plain JSON value of a review."""
    return {
        "review": signed.document.id,
        "document": str(signed.path),
        "record": str(signed.record),
        "servers": {server: said.result for server, said in signed.document.servers.items()},
    }
