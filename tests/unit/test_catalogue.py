# SPDX-License-Identifier: Apache-2.0
"""Whom the catalogue believes: a run's evidence comes from its hosts, and one that was taken over can say anything."""

from __future__ import annotations

import json

import pytest

from sopctl import archive, fsio, vault
from sopctl.models import Json
from sopctl.vault import CHECK, FORGET, Backup
from tests.support.case_site import CaseSite


def sealed(site: CaseSite, record: str, kind: str, evidence: Json) -> list[Backup]:
    """The catalogue after a record with this evidence was sealed and received."""
    data = (json.dumps([evidence]) + "\n").encode()
    bag = archive.seal_record(
        site.session.site.archive, record, kind, {"evidence.json": data}, {}, sign=lambda _data: b"signature\n"
    )
    digests = {"tagmanifest": fsio.sha256_file(bag / archive.TAGMANIFEST)}
    site.session.ledger.append("record", record, digests, unique=True)
    return vault.catalogue(site.session.site)


def of(site: CaseSite, kind: str) -> Json:
    """Evidence of maintenance that takes every backup out of use."""
    named = [{"dataset": each.dataset, "name": each.name, "snapshot": each.snapshot} for each in backups(site)]
    lists = {"missing": [], "damaged": named} if kind == CHECK else {"forgotten": named}
    return {"kind": kind, "server": "srv01", "finished": "2026-11-24T03:00:00Z", **lists}


def backups(site: CaseSite) -> list[Backup]:
    found = vault.catalogue(site.session.site)
    assert found
    return found


@pytest.mark.parametrize("kind", [CHECK, FORGET])
def test_a_host_does_not_take_backups_out_of_use(site: CaseSite, kind: str) -> None:
    before = backups(site)
    assert sealed(site, "BKP-2026-0099-01", "run", of(site, kind)) == before


@pytest.mark.parametrize("kind", [CHECK, FORGET])
def test_maintenance_does(site: CaseSite, kind: str) -> None:
    after = sealed(site, "VLT-2026-0001", "supplement", of(site, kind))
    assert all((each.flaw == "damaged", each.forgotten) == (kind == CHECK, kind == FORGET) for each in after)


def test_a_host_proves_nothing_of_another_dataset(site: CaseSite) -> None:
    [stored] = [each for each in backups(site) if each.dataset == "antrean"]
    said = {"kind": "verify", "dataset": "lain", "snapshot": stored.snapshot, "ok": True, "depth": "restore"}
    after = sealed(site, "BKP-2026-0099-01", "run", {**said, "finished": "2027-01-01T00:00:00Z"})
    assert stored in after
