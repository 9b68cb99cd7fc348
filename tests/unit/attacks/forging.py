# SPDX-License-Identifier: Apache-2.0
"""The tools of whoever forges an approval: keys of their own, an editor, and what the root holder could be made to sign."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from msgspec.structs import replace as changed

from sopctl import beside, fsio, requesting, signing, workflow
from sopctl.case import Case
from sopctl.loading import from_yaml
from sopctl.models import Key, Person, TrustFile, to_json
from sopctl.signing import Namespace
from tests.support.case_site import CaseSite, Paper
from tests.support.site_builder import UNIT

Spoil = Callable[[CaseSite], None]
Papers = Callable[[CaseSite, list[Paper]], None]
REQUEST, DISPOSE, DECIDE = 0, 1, 2
EARLY, LATE = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


@dataclass(frozen=True)
class Attack:
    """What is done to an approved case, and what the refusal must say. ``person`` then types ``case execute``."""

    spoil: Spoil
    reason: str
    person: str = "pelaksana"
    base: Literal["site", "kaltim"] = "site"


Table = dict[str, Attack]


# documents ----------------------------------------------------------------------------------------------------------


def forge(*changes: Papers) -> Spoil:
    """The case written anew with these changes: chained, signed and received, so that nothing else is wrong with it."""

    def spoil(site: CaseSite) -> None:
        papers = site.papers()
        for change in changes:
            change(site, papers)
        site.refile(papers)

    return spoil


def body(at: int, **values: Any) -> Papers:
    """Keys of a document's body."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[at].body["body"].update(values)

    return change


def without(at: int, key: str) -> Papers:
    """A document's body lacks a key."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        del papers[at].body["body"][key]

    return change


def head(at: int, **values: Any) -> Papers:
    """Keys of a document outside its body."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[at].body.update(values)

    return change


def by(at: int, person: str, role: str, key: str | None = None) -> Papers:
    """Somebody else acts, with their own key unless another is named."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[at].body["actor"] = {"person": person, "role": role}
        papers[at].key = key or person

    return change


def key(at: int, name: str) -> Papers:
    """Signed with another key."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[at].key = name

    return change


def namespace(at: int, word: Namespace) -> Papers:
    """Signed for another purpose."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[at].namespace = word

    return change


def data(at: int, change_bytes: Callable[[bytes], bytes]) -> Papers:
    """A document with other bytes, rightly signed over them and received."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[at].data = lambda value: change_bytes(fsio.canonical_json(value))

    return change


def signature(at: int, change_bytes: Callable[[bytes], bytes]) -> Papers:
    """A document with another signature beside it, received so."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[at].signature = change_bytes

    return change


def extra(act: str, person: str, role: str, step: str = "-", at: int | None = None, **values: Any) -> Papers:
    """One document more, behind all others or at ``at``; the numbers behind it go up."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        place = len(papers) if at is None else at
        made = json.loads(json.dumps(papers[-1].body))
        made.update(step=step, act=act, actor={"person": person, "role": role}, body=values)
        papers.insert(place, Paper(made, person, papers[-1].received))
        for number, paper in enumerate(papers, 1):
            paper.body["seq"] = number

    return change


# files --------------------------------------------------------------------------------------------------------------


def rewrite(name: str, change_bytes: Callable[[bytes], bytes]) -> Spoil:
    """A file of the site (CASE stands for the case's folder) with other bytes, as an editor leaves it."""

    def spoil(site: CaseSite) -> None:
        path = place(site, name)
        path.write_bytes(change_bytes(path.read_bytes()))

    return spoil


def link(name: str) -> Spoil:
    """A file or folder of the site replaced by a symbolic link to itself elsewhere."""

    def spoil(site: CaseSite) -> None:
        path = place(site, name)
        target = site.root.parent / f"elsewhere-{path.name}"
        path.rename(target)
        path.symlink_to(target)

    return spoil


def gone(name: str) -> Spoil:
    """A file of the site removed."""
    return lambda site: place(site, name).unlink()


def place(site: CaseSite, name: str) -> Path:
    return site.folder / name.removeprefix("CASE/") if name.startswith("CASE/") else site.root / name


def swap(old: str, new: str) -> Callable[[bytes], bytes]:
    """Text replaced once; it must be there."""

    def change(before: bytes) -> bytes:
        assert old.encode() in before, f"{old!r} is not there"
        return before.replace(old.encode(), new.encode(), 1)

    return change


def crlf(before: bytes) -> bytes:
    """What git does to a file whose .gitattributes was taken away."""
    return before.replace(b"\n", b"\r\n")


def utf16(before: bytes) -> bytes:
    return before.decode().encode("utf-16")


def bom(before: bytes) -> bytes:
    return b"\xef\xbb\xbf" + before


# trust --------------------------------------------------------------------------------------------------------------


def retrusted(change: Callable[[TrustFile], TrustFile]) -> Spoil:
    """The root holder signs a changed trust with sopctl."""
    return lambda site: site.retrust(change)


def trusted_by_hand(
    change: Callable[[TrustFile], TrustFile] = lambda file: file,
    change_bytes: Callable[[bytes], bytes] = bytes,
    *,
    key_name: str = "root",
    namespace: Namespace = "sop-trust",
    serial: int = 1,
) -> Spoil:
    """A trust that sopctl would not sign, signed with ssh-keygen by whoever holds ``key_name``."""

    def spoil(site: CaseSite) -> None:
        path = site.root / "trust/trust.yml"
        before = from_yaml(TrustFile, path.read_bytes(), path)
        after = change(changed(before, serial=before.serial + serial))
        written = change_bytes(yaml.safe_dump(to_json(after), sort_keys=False, allow_unicode=True, width=200).encode())
        path.write_bytes(written)
        path.with_name("trust.yml.sig").write_bytes(signing.sign(written, namespace, site.keys / key_name))

    return spoil


def person(person_id: str, change: Callable[[Person], Person]) -> Callable[[TrustFile], TrustFile]:
    """One person of the trust changed."""
    return lambda file: changed(file, people=[change(one) if one.id == person_id else one for one in file.people])


def keys(**values: Any) -> Callable[[Person], Person]:
    """Every key of a person changed."""
    return lambda one: changed(one, keys=[changed(each, **values) for each in one.keys])


def roles(**values: Any) -> Callable[[Person], Person]:
    """Every role of a person changed."""
    return lambda one: changed(one, roles=[changed(each, **values) for each in one.roles])


def everybody_early(file: TrustFile) -> TrustFile:
    """Roles and keys hold since long ago, so that documents may be dated back."""
    return changed(file, people=[roles(since=EARLY)(keys(since=EARLY)(one)) for one in file.people])


def public(site: CaseSite, name: str) -> Key:
    """The public half of a key as the trust wants it."""
    return Key(" ".join((site.keys / f"{name}.pub").read_text().split()[:2]), EARLY, LATE)


# other cases --------------------------------------------------------------------------------------------------------


def asked(site: CaseSite, signer: str = "pemohon", **values: Any) -> Case:
    """A new request in the site, which becomes the case under attack."""
    given = {
        "operation": "restore",
        "datasets": ["antrean"],
        "unit": UNIT,
        "letter": site.builder.letter(),
        "letter_number": "1",
        "reason": "data terhapus",
        **values,
    }
    case = requesting.request(site.session, requesting.Asked(**given), signer, None)
    site.case = case.id
    return case


def disposed(site: CaseSite) -> None:
    workflow.act(site.session, site.case, "dispose", "kadis", None, lambda *_: {"to": "kabid", "note": ""})


def decided(site: CaseSite) -> None:
    workflow.act(site.session, site.case, "decide", "kabid", None, workflow.decision(site.session, True, "sesuai"))


def emergency(site: CaseSite) -> None:
    """A case whose glass was broken by two operators, rightly."""
    site.retrust(lambda file: changed(file, policy=changed(file.policy, break_glass=True)))
    asked(site)
    beside.emergency(site.session, site.case, "pelayanan berhenti", "pelaksana", None)
    beside.emergency(site.session, site.case, "setuju", "rangkap", None)


def lend(site: CaseSite) -> None:
    """Another unit asks for antrean, whose owner's official is the kadis."""

    def change(one: Person) -> Person:
        if one.id == "pemohon":
            return changed(one, unit="Bidang Lain")
        owner = changed(one.roles[0], role="pemilik-data")
        return changed(one, roles=[*one.roles, owner], unit=UNIT) if one.id == "kadis" else one

    site.retrust(lambda file: changed(file, people=[change(one) for one in file.people]))
    asked(site, unit="Bidang Lain")


def lent(site: CaseSite) -> None:
    """Its owner's official consents, and the request is approved."""
    lend(site)
    beside.consent(site.session, site.case, "antrean", True, "boleh", "kadis", None)
    disposed(site)
    decided(site)


def at_desk(site: CaseSite) -> None:
    """A request that the receiving desk entered for the person who asks."""
    site.retrust(person("kadis", lambda one: changed(one, roles=[*one.roles, changed(one.roles[0], role="loket")])))
    asked(site, "kadis", requester="pemohon")
    disposed(site)
    decided(site)


def after(prepare: Spoil, *then: Spoil) -> Spoil:
    """First another true case, then what is done to it."""

    def spoil(site: CaseSite) -> None:
        for step in (prepare, *then):
            step(site)

    return spoil


def twin(site: CaseSite, number: int) -> CaseSite:
    """The same site seen with another case."""
    return replace(site, case=f"{site.case[:-4]}{number:04d}")
