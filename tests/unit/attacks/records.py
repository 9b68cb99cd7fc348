# SPDX-License-Identifier: Apache-2.0
"""What stands beside the case: the register and its index, sop.yml, the profile, the archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace as changed

from sopctl import clock, register, signing
from sopctl.loading import from_yaml
from sopctl.models import RegisterIndex
from sopctl.signing import Namespace
from tests.support.case_site import CaseSite
from tests.unit.attacks.forging import Attack, Spoil, Table, gone, person, rewrite, roles, swap

INDEX = "register/index.yml"
DATASET, SERVER = "register/datasets/antrean.yml", "register/servers/srv01.yml"


def _index(
    change: Callable[[RegisterIndex], RegisterIndex] = lambda index: index,
    key: str = "pengurus",
    namespace: Namespace = "sop-register",
) -> Spoil:
    """The index changed by hand and signed with ``key``."""

    def spoil(site: CaseSite) -> None:
        path = site.root / INDEX
        index = change(from_yaml(RegisterIndex, path.read_bytes(), path))
        data = register.index_bytes(index)
        path.write_bytes(data)
        path.with_name("index.yml.sig").write_bytes(signing.sign(data, namespace, site.keys / key))

    return spoil


def _next(**values: Any) -> Spoil:
    return _index(lambda index: changed(index, serial=index.serial + 1, **values))


def _without_antrean(index: RegisterIndex) -> RegisterIndex:
    kept = {name: digest for name, digest in index.entries.items() if "antrean" not in name}
    return changed(index, serial=index.serial + 1, entries=kept)


def _edit(name: str, **values: Any) -> Spoil:
    return lambda site: site.change_yaml(name, **values)


def _edited_and_signed_by(key: str) -> Spoil:
    """An entry is changed, and somebody signs the register anew."""

    def spoil(site: CaseSite) -> None:
        site.change_yaml(DATASET, max_downtime="PT9M")
        digest = register.digests_of({"datasets/antrean.yml": (site.root / DATASET).read_bytes()})
        _index(lambda index: changed(index, serial=index.serial + 1, entries={**index.entries, **digest}), key)(site)

    return spoil


def _index_rolled_back(site: CaseSite) -> None:
    """An older index that the keeper did sign, with the entry as it was then."""
    kept = {site.root / name: (site.root / name).read_bytes() for name in (DATASET, INDEX, f"{INDEX}.sig")}
    site.change_yaml(DATASET, max_downtime="PT10M")
    site.builder.root, before = site.root, site.builder.root
    try:
        site.builder.sign_register()
    finally:
        site.builder.root = before
    for path, data in kept.items():
        path.write_bytes(data)


def _keeper_left(site: CaseSite) -> None:
    ended = clock.plus(clock.now(), seconds=-1)
    site.retrust(person("pengurus", roles(until=ended)))


def _in_two_files(site: CaseSite) -> None:
    (site.root / DATASET).with_suffix(".yaml").write_bytes((site.root / DATASET).read_bytes())


def _other_name(site: CaseSite) -> None:
    (site.root / DATASET).rename((site.root / DATASET).with_suffix(".yaml"))


def _record_gone(site: CaseSite) -> None:
    import shutil

    shutil.rmtree(next((site.root / "archive/records").glob("*/*/BKP-2020-0001-01")))


def _unverified_now(site: CaseSite) -> None:
    path = next((site.root / "archive/records").glob("*/*/BKP-2020-0001-01/data/evidence.json"))
    evidence = json.loads(path.read_bytes())
    evidence[0]["snapshot"] = "9" * 64
    path.write_text(json.dumps(evidence))


def _archive_elsewhere(site: CaseSite) -> None:
    """A second archive, in which nothing was ever received."""
    (site.root / "arsip").mkdir()
    site.edit("sop.yml", "archive: archive", "archive: arsip")


def _profile_named_otherwise(site: CaseSite) -> None:
    path = site.root / "profiles/trenggalek-060-017-2023.yml"
    text = path.read_text(encoding="utf-8").replace("id: trenggalek-060-017-2023", "id: longgar").replace("sod:\n", "")
    text = text.replace("  - {differ: [pelaksana, kabid], source: inferred}\n", "")
    text = text.replace("  - {differ: [pemohon, kabid], source: inferred}\n", "")
    (site.root / "profiles/longgar.yml").write_text(text, encoding="utf-8")
    site.edit("sop.yml", "profile: trenggalek-060-017-2023", "profile: longgar")


def _setting(old: str, new: str) -> Spoil:
    return lambda site: site.edit("sop.yml", old, new)


def _append(text: str) -> Spoil:
    return rewrite("sop.yml", lambda before: before + text.encode())


ATTACKS: Table = {
    "register entry edited": Attack(_edit(DATASET, max_downtime="PT9H"), "datasets/antrean.yml is not as its keeper"),
    "register: owner changed": Attack(_edit(DATASET, owner_unit="Bidang Lain"), "belongs to Bidang Lain"),
    "register: classification lowered": Attack(
        _edit(DATASET, classification="terbuka"), "datasets/antrean.yml is not as its keeper signed it"
    ),
    "register: review dated now": Attack(
        _edit(SERVER, reviewed={"at": "2026-11-22", "by": "pelaksana"}), "servers/srv01.yml is not as its keeper"
    ),
    "register: services taken off": Attack(_edit(DATASET, services=[]), "datasets/antrean.yml is not as its keeper"),
    "register: server gone": Attack(gone(SERVER), "is not in the asset register"),
    "register: dataset gone": Attack(gone(DATASET), "dataset antrean is not in the register"),
    "register: dataset in two files": Attack(_in_two_files, "register entries end in .yml"),
    "register: entry under another ending": Attack(_other_name, "register entries end in .yml"),
    "register: entry without machine id": Attack(_edit(SERVER, machine_id=None), "has no machine_id"),
    "register index gone": Attack(gone(INDEX), "the register is not signed by its keeper"),
    "register index unsigned": Attack(gone(f"{INDEX}.sig"), "is not signed by the register's keeper"),
    "register index signed by the operator": Attack(_edited_and_signed_by("pelaksana"), "is not one of pengurus-aset"),
    "register index signed by the decider": Attack(_edited_and_signed_by("kabid"), "is not one of pengurus-aset"),
    "register index signed by the root": Attack(_edited_and_signed_by("root"), "is not one of pengurus-aset"),
    "register index signed as a document": Attack(_index(namespace="sop-document"), "is not one of pengurus-aset"),
    "register index of another site": Attack(_next(site="11111111-2222-3333-4444-555555555555"), "is of another site"),
    "register index of an older serial": Attack(_index_rolled_back, "which was in force before"),
    "register index of the same serial": Attack(
        _index(lambda index: changed(index, issued=clock.plus(index.issued, seconds=-1))),
        "is not the one of serial 1 that was in force before",
    ),
    "register index issued tomorrow": Attack(_next(issued=clock.plus(clock.now(), days=1)), "was issued at"),
    "register index without the dataset": Attack(_index(_without_antrean), "is not in the register's signed index"),
    "register index edited": Attack(rewrite(INDEX, swap("serial: 1", "serial: 2")), "is not one of pengurus-aset"),
    "register index names a path": Attack(
        _next(entries={"../sop.yml": "sha256:" + "0" * 64}), "is not an entry with its digest"
    ),
    "register's keeper left": Attack(_keeper_left, "is not one of pengurus-aset"),
    "sop.yml: another vault": Attack(_setting("/vault/{server}", "/gudang/{server}"), "sop.yml: vault differs"),
    "sop.yml: another vault password": Attack(
        _setting("{file: secrets/vault-password}", "{command: [cat, /tmp/x]}"), "sop.yml: vault differs"
    ),
    "sop.yml: another time zone": Attack(_setting("Asia/Jakarta ", "Asia/Jayapura "), "sop.yml: timezone differs"),
    "sop.yml: another calendar": Attack(_append('calendar: {holidays: ""}\n'), "sop.yml: calendar differs"),
    "sop.yml: another inventory": Attack(
        _setting("inventory: inventory", "inventory: register"), "sop.yml: inventory differs"
    ),
    "sop.yml: other names": Attack(_setting('naming: "{agency}_', 'naming: "x_{agency}_'), "sop.yml: naming differs"),
    "sop.yml: another archive": Attack(_archive_elsewhere, "was never received by sopctl in this form"),
    "sop.yml: another profile": Attack(_profile_named_otherwise, "profile longgar is not the one in the trust"),
    "sop.yml: another site": Attack(
        lambda site: site.edit("sop.yml", site.builder.uuid, "11111111-2222-3333-4444-555555555555"),
        "the trust is of another site",
    ),
    "sop.yml: nobody may approve such data": Attack(
        _setting("  approval_days: 7", "  authority: {terbatas: [kadis]}\n  approval_days: 7"),
        "nobody may approve it, kabid may not",
    ),
    "profile: separation taken out": Attack(
        rewrite(
            "profiles/trenggalek-060-017-2023.yml", swap("  - {differ: [pelaksana, kabid], source: inferred}\n", "")
        ),
        "is not the one in the trust (its bytes differ)",
    ),
    "profile: another decider": Attack(
        rewrite("profiles/trenggalek-060-017-2023.yml", swap("gate: {decide: kabid", "gate: {decide: pelaksana")),
        "is not the one in the trust (its bytes differ)",
    ),
    "profile gone": Attack(gone("profiles/trenggalek-060-017-2023.yml"), "is not there"),
    "record of the backup gone": Attack(_record_gone, "is in no record"),
    "record of the backup names another": Attack(_unverified_now, "is not what was sealed"),
}
