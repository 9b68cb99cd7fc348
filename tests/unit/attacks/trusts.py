# SPDX-License-Identifier: Apache-2.0
"""The trust and its root: edited, put back, signed by somebody else, or made to say what cannot be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace as changed

from sopctl import bootstrap, clock, signing, trust
from sopctl.models import Person, TrustFile
from sopctl.site import Site
from tests.support.case_site import CaseSite
from tests.unit.attacks.forging import (
    Attack,
    Spoil,
    Table,
    gone,
    person,
    public,
    rewrite,
    roles,
    swap,
    trusted_by_hand,
)

KABID = "kabid"


def _rename(new: str) -> Callable[[TrustFile], TrustFile]:
    return person(KABID, lambda one: changed(one, id=new))


def _nips(*nips: str) -> Callable[[TrustFile], TrustFile]:
    """The first people get these NIPs."""

    def change(file: TrustFile) -> TrustFile:
        people = [changed(one, nip=nip) for one, nip in zip(file.people, nips, strict=False)]
        return changed(file, people=[*people, *file.people[len(people) :]])

    return change


def _key_of_another(file: TrustFile) -> TrustFile:
    keys = {one.id: one.keys for one in file.people}
    return person(KABID, lambda one: changed(one, keys=[*one.keys, *keys["pelaksana"]]))(file)


def _twice(file: TrustFile) -> TrustFile:
    return changed(file, people=[*file.people, file.people[0]])


def _renamed_twin(file: TrustFile) -> TrustFile:
    """The operator under a second account with another key, and the same NIP spelled another way."""
    people = {one.id: one for one in file.people}
    twin: Person = changed(people[KABID], nip="1970 0101 199503 1 001")
    own = changed(people["pelaksana"], nip="197001011995031001")
    return changed(file, people=[*(one for one in file.people if one.id not in {KABID, "pelaksana"}), twin, own])


def _delegate(**values: str | None) -> Callable[[TrustFile], TrustFile]:
    return person(KABID, roles(**values))


def _older_put_back(site: CaseSite) -> None:
    """Trust, its signature and its history from before the last signature, all of them."""
    kept = {path: path.read_bytes() for path in (site.root / "trust").rglob("*") if path.is_file()}
    site.retrust(lambda file: file)
    assert site.session.trust.file.serial == 3  # seen once, so the ledger knows it
    for path in (site.root / "trust").rglob("*"):
        if path.is_file():
            path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)


def _other_of_the_same_serial(site: CaseSite) -> None:
    """Both are signed by the root holder; the first was in force."""
    kept = {path: path.read_bytes() for path in (site.root / "trust").rglob("*") if path.is_file()}
    site.retrust(lambda file: changed(file, code=["sha256:" + "c0" * 32]))
    assert site.session.trust.file.serial == 3
    for path in (site.root / "trust").rglob("*"):
        if path.is_file():
            path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)
    site.retrust(lambda file: file)


def _new_root(site: CaseSite) -> Path:
    key = site.root.parent / "root-2"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root", "-f", str(key)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return key


def _rolled_over(site: CaseSite) -> Path:
    new = _new_root(site)
    bootstrap.roll_over(Site(site.root), site.builder.root_key, new)
    return new


def _left_root_signs(site: CaseSite) -> None:
    """After the roll-over, the old root signs once more what it likes."""
    _rolled_over(site)
    trusted_by_hand()(site)


def _chain_removed(site: CaseSite) -> None:
    """The roll-over was seen; then its files are removed, so that the old root is in force again."""
    new = _rolled_over(site)
    bootstrap.sign_trust(Site(site.root), new, 366)
    assert site.session.trust
    for path in (site.root / "trust/roots").iterdir():
        path.unlink()
    (site.root / "trust/roots").rmdir()
    trusted_by_hand()(site)


def _chain_by_a_stranger(site: CaseSite) -> None:
    """A stranger puts a root of their own behind the pinned one; an official signs it."""
    stranger = _new_root(site)
    folder = site.root / "trust/roots"
    folder.mkdir()
    line = bootstrap.root_line(stranger.with_name("root-2.pub")).encode()
    (folder / "1.pub").write_bytes(line)
    (folder / "1.pub.sig").write_bytes(signing.sign(line, "sop-trust", site.keys / KABID))
    path = site.root / "trust/trust.yml"
    path.with_name("trust.yml.sig").write_bytes(signing.sign(path.read_bytes(), "sop-trust", stranger))


def _pin_by_environment(site: CaseSite) -> None:
    """/etc/sopctl/root names the true root; $SOPCTL_ROOT names a stranger's, who signed the trust."""
    stranger = _new_root(site)
    pin = site.root.parent / "pin"
    pin.write_text(Path(os.environ["SOPCTL_ROOT"]).read_text())
    trust.ROOT_PIN = pin  # put back by the fixture, which patched it
    forged = site.root.parent / "forged.allowed"
    forged.write_text(bootstrap.root_line(stranger.with_name("root-2.pub")))
    os.environ["SOPCTL_ROOT"] = str(forged)  # put back by the fixture, too
    path = site.root / "trust/trust.yml"
    path.with_name("trust.yml.sig").write_bytes(signing.sign(path.read_bytes(), "sop-trust", stranger))


def _pin_removed(site: CaseSite) -> None:
    os.environ["SOPCTL_ROOT"] = ""


def _edited(old: str, new: str) -> Spoil:
    return rewrite("trust/trust.yml", swap(old, new))


def _stranger_signs(site: CaseSite) -> None:
    stranger = _new_root(site)
    path = site.root / "trust/trust.yml"
    path.with_name("trust.yml.sig").write_bytes(signing.sign(path.read_bytes(), "sop-trust", stranger))


UNSIGNED = "the trust's signature is not valid"

ATTACKS: Table = {
    "trust unsigned": Attack(gone("trust/trust.yml.sig"), "the trust is not signed"),
    "trust gone": Attack(gone("trust/trust.yml"), "no such file"),
    "trust edited: a role more": Attack(_edited("role: pelaksana", "role: kabid"), UNSIGNED),
    "trust edited: a longer validity": Attack(_edited("valid_until: '2", "valid_until: '3"), UNSIGNED),
    "trust edited: an emergency allowed": Attack(_edited("break_glass: false", "break_glass: true"), UNSIGNED),
    "trust signed by an official": Attack(
        trusted_by_hand(key_name="kabid"), "signed by a key that is not the pinned root"
    ),
    "trust signed by a stranger": Attack(_stranger_signs, "signed by a key that is not the pinned root"),
    "trust signed as a document": Attack(trusted_by_hand(namespace="sop-document"), UNSIGNED),
    "trust expired": Attack(
        trusted_by_hand(lambda file: changed(file, valid_until=file.issued)), "the trust holds from"
    ),
    "trust not begun": Attack(
        trusted_by_hand(lambda file: changed(file, issued=clock.plus(file.issued, days=1))), "the trust holds from"
    ),
    "trust of another site": Attack(
        trusted_by_hand(lambda file: changed(file, site="11111111-2222-3333-4444-555555555555")),
        "the trust is of another",
    ),
    "trust older than the ledger knows": Attack(trusted_by_hand(serial=-1), "which was in force before"),
    "trust and its history put back": Attack(_older_put_back, "which was in force before"),
    "trust of the same serial": Attack(_other_of_the_same_serial, "this is not the trust of serial 3"),
    "person id is a pattern": Attack(trusted_by_hand(_rename("k*")), "id 'k*' is not allowed"),
    "person id is two": Attack(trusted_by_hand(_rename("kabid,kadis")), "id 'kabid,kadis' is not allowed"),
    "person id denies": Attack(trusted_by_hand(_rename("!kadis")), "id '!kadis' is not allowed"),
    "person id in look-alike letters": Attack(trusted_by_hand(_rename("k\u0430bid")), "is not allowed"),
    "person id of full width": Attack(trusted_by_hand(_rename("\uff4babid")), "is not allowed"),
    "person id with a new line": Attack(trusted_by_hand(_rename("kabid\n")), "is not allowed"),
    "person twice in the trust": Attack(trusted_by_hand(_twice), "stands there twice"),
    "one key under two persons": Attack(trusted_by_hand(_key_of_another), "one key under two persons"),
    "one NIP under two persons": Attack(trusted_by_hand(_nips("197001", "197001")), "one NIP under two persons"),
    "one NIP spelled in two ways": Attack(trusted_by_hand(_renamed_twin), "one NIP under two persons"),
    "one NIP in other digits": Attack(
        trusted_by_hand(_nips("197001", "\uff11\uff19\uff17\uff10\uff10\uff11")), "one NIP under two persons"
    ),
    "run key is a person's": Attack(
        lambda site: trusted_by_hand(lambda file: changed(file, run_keys=[public(site, KABID).key]))(site),
        "the run key is",
    ),
    "delegate for nobody we know": Attack(
        trusted_by_hand(_delegate(kind="plt", acting_for="siapa")), "is not in the trust"
    ),
    "delegate for themselves": Attack(
        trusted_by_hand(_delegate(kind="plt", acting_for=KABID)), "stands in for themselves"
    ),
    "delegate for ever": Attack(trusted_by_hand(_delegate(kind="plh", acting_for="kadis")), "is longer than 90 days"),
    "holder who acts for another": Attack(
        trusted_by_hand(_delegate(acting_for="kadis")), "held definitif and for kadis"
    ),
    "role that begins at no time": Attack(trusted_by_hand(_delegate(since="2026")), "is not a time"),
    "role that ends after the calendar": Attack(
        trusted_by_hand(_delegate(until="9999-99-99T00:00:00Z")), "is not a time"
    ),
    "trust names another profile digest": Attack(
        trusted_by_hand(lambda file: changed(file, profiles=dict.fromkeys(file.profiles, "sha256:" + "0" * 64))),
        "is not the one in the trust (its bytes differ)",
    ),
    "trust names no profile": Attack(
        trusted_by_hand(lambda file: changed(file, profiles={})), "is not the one in the trust (its bytes differ)"
    ),
    "trust lists other code": Attack(
        trusted_by_hand(lambda file: changed(file, code=["sha256:" + "9" * 64])), "is not in the trust's list"
    ),
    "trust shortens approvals afterwards": Attack(
        trusted_by_hand(lambda file: changed(file, policy=changed(file.policy, approval_days_max=1))),
        "longer than the 1 days",
    ),
    "root that was left signs": Attack(_left_root_signs, "has replaced"),
    "roll-over removed": Attack(_chain_removed, "root 1 of 1 is gone"),
    "root put in by a stranger": Attack(_chain_by_a_stranger, "does not begin at the pinned root"),
    "root pinned by the environment": Attack(_pin_by_environment, "signed by a key that is not the pinned root"),
    "root pin removed": Attack(_pin_removed, "no root key is pinned"),
}
