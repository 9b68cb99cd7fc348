# SPDX-License-Identifier: Apache-2.0
"""Whose signature it is: keys, roles, persons, purposes."""

from __future__ import annotations

import shutil

from msgspec.structs import replace as changed

from sopctl import clock, signing
from tests.support.case_site import CaseSite, Paper
from tests.unit.attacks.forging import (
    DECIDE,
    DISPOSE,
    REQUEST,
    Attack,
    Table,
    body,
    by,
    crlf,
    everybody_early,
    forge,
    gone,
    key,
    keys,
    namespace,
    person,
    public,
    rewrite,
    roles,
    signature,
    swap,
)

LOOKALIKE = "k\u0430bid"  # Cyrillic а


def _received_late(site: CaseSite, papers: list[Paper]) -> None:
    """Decided five minutes ago says the document; the key was revoked since, and only then was it received."""
    before = clock.plus(papers[DECIDE].body["at"], minutes=-5)
    papers[DECIDE].body["at"] = before
    papers[DECIDE].body["body"]["approval"]["valid_from"] = before
    revoked = clock.plus(before, minutes=2)
    site.retrust(lambda file: person("kabid", keys(revoked=revoked))(everybody_early(file)))


def _revoked_before(site: CaseSite, papers: list[Paper]) -> None:
    revoked = clock.plus(papers[DECIDE].body["at"], hours=-1)
    site.retrust(lambda file: person("kabid", keys(revoked=revoked))(everybody_early(file)))


def _key_expired(site: CaseSite, papers: list[Paper]) -> None:
    ended = clock.plus(papers[DECIDE].body["at"], hours=-1)
    site.retrust(lambda file: person("kabid", keys(until=ended))(everybody_early(file)))


def _role_ended_before_it_was_received(site: CaseSite, papers: list[Paper]) -> None:
    before = clock.plus(papers[DECIDE].body["at"], minutes=-5)
    papers[DECIDE].body["at"] = before
    ended = clock.plus(before, minutes=2)
    site.retrust(lambda file: person("kabid", roles(until=ended))(everybody_early(file)))


def _role_later(site: CaseSite, papers: list[Paper]) -> None:
    later = clock.plus(papers[DECIDE].body["at"], minutes=1)
    site.retrust(person("kabid", roles(since=later)))


def _key_came_between(site: CaseSite, papers: list[Paper]) -> None:
    """The key holds when the document is received, but not yet when it says it was made."""
    before = clock.plus(papers[DECIDE].body["at"], minutes=-5)
    papers[DECIDE].body["at"] = before
    since = clock.plus(before, minutes=2)
    site.retrust(lambda file: person("kabid", keys(since=since))(everybody_early(file)))


def _another_documents(site: CaseSite, papers: list[Paper]) -> None:
    other = (site.folder / "02-dispose.json.sig").read_bytes()
    papers[DECIDE].signature = lambda _: other


def _replayed_approval(site: CaseSite) -> None:
    """The approval of yesterday's case, word by word and with its signature, in today's folder."""
    old = [(path.name, path.read_bytes()) for path in site.folder.glob("03-*")]
    from tests.unit.attacks.forging import asked, disposed

    asked(site)
    disposed(site)
    for name, data in old:
        (site.folder / name).write_bytes(data)


def _replayed_and_entered(site: CaseSite) -> None:
    """The same, entered into the ledger too, as the machine's administrator could."""
    from sopctl import fsio

    _replayed_approval(site)
    data, signed = ((site.folder / f"03-decide.json{end}").read_bytes() for end in ("", ".sig"))
    digests = {"document": fsio.sha256_bytes(data), "signature": fsio.sha256_bytes(signed)}
    site.ledger.append("document", f"{site.case}/03", digests)


def _signed_again(site: CaseSite) -> None:
    """The decider changes a decision that was received, and signs it again."""
    path = site.folder / "03-decide.json"
    data = path.read_bytes().replace(b"sesuai", b"sesua1")
    path.write_bytes(data)
    path.with_name("03-decide.json.sig").write_bytes(signing.sign(data, "sop-document", site.keys / "kabid"))


def _signers_edited(site: CaseSite, papers: list[Paper]) -> None:
    shutil.copy(site.keys / "root", site.keys / "palsu")
    line = public(site, "root").key
    with (site.root / "trust/allowed_signers").open("a") as stream:
        stream.write(f'kabid namespaces="sop-document" {line}\n')
    papers[DECIDE].key = "palsu"


def _signers_wildcard(site: CaseSite, papers: list[Paper]) -> None:
    (site.root / "trust/allowed_signers").write_text(f"* cert-authority {public(site, 'pelaksana').key}\n")
    papers[DECIDE].key = "pelaksana"


def _run_key(site: CaseSite, papers: list[Paper]) -> None:
    papers[DECIDE].key = str(site.root / "secrets/run-key")


def _other_role_of_the_same_person(site: CaseSite, papers: list[Paper]) -> None:
    """The decider's role is given to the head of the agency, who disposed, after the decision was made."""
    later = clock.plus(papers[DECIDE].body["at"], minutes=1)
    site.retrust(
        person("kadis", lambda one: changed(one, roles=[*one.roles, changed(one.roles[0], role="kabid", since=later)]))
    )
    by(DECIDE, "kadis", "kabid")(site, papers)


ATTACKS: Table = {
    "signature removed": Attack(gone("CASE/03-decide.json.sig"), "is not signed"),
    "signature empty": Attack(forge(signature(DECIDE, lambda _: b"")), "signature of kabid is not valid"),
    "signature is text": Attack(forge(signature(DECIDE, lambda _: b"disetujui\n")), "signature of kabid is not valid"),
    "signature cut off": Attack(forge(signature(DECIDE, lambda one: one[:-40])), "signature of kabid is not valid"),
    "signature with a letter changed": Attack(
        forge(signature(DECIDE, swap("AAAA", "AAAB"))), "signature of kabid is not"
    ),
    "signature of another document": Attack(forge(_another_documents), "signature of kabid is not valid"),
    "signature of the request removed": Attack(gone("CASE/01-request.json.sig"), "is not signed"),
    "signature twice in one file": Attack(forge(signature(DECIDE, lambda one: one + one)), "signature of kabid is not"),
    "signature converted by git": Attack(rewrite("CASE/03-decide.json.sig", crlf), "03-decide.json was never received"),
    "signed with the root key": Attack(forge(key(DECIDE, "root")), "held for nobody at"),
    "signed with the site's run key": Attack(forge(_run_key), "held for nobody at"),
    "signed by the operator for the decider": Attack(forge(key(DECIDE, "pelaksana")), "is pelaksana's, not kabid's"),
    "signed by a service": Attack(forge(by(DECIDE, "robot", "kabid")), "a service identity"),
    "signed by the keeper of the register": Attack(
        forge(by(DECIDE, "pengurus", "kabid")), "pengurus did not hold kabid"
    ),
    "signed as keeper of the register": Attack(
        forge(by(DECIDE, "pengurus", "pengurus-aset")), "step r3 is for kabid, not pengurus-aset"
    ),
    "disposition signed by the decider": Attack(
        forge(by(DISPOSE, "kabid", "kabid")), "step r2 is for kadis, not kabid"
    ),
    "request signed by the operator": Attack(
        forge(by(REQUEST, "pelaksana", "pelaksana")), "names pemohon as requester, but pelaksana signed it"
    ),
    "request signed by the operator in their own name": Attack(
        forge(by(REQUEST, "pelaksana", "pelaksana"), body(REQUEST, requester="pelaksana", unit="")),
        "step r1 is for pemohon or loket, not pelaksana",
    ),
    "signed for the trust": Attack(forge(namespace(DECIDE, "sop-trust")), "signed for namespace 'sop-trust'"),
    "signed for the schedule": Attack(forge(namespace(DECIDE, "sop-schedule")), "signed for namespace 'sop-schedule'"),
    "signed for a grant": Attack(forge(namespace(REQUEST, "sop-grant")), "signed for namespace 'sop-grant'"),
    "signed for the register": Attack(forge(namespace(DISPOSE, "sop-register")), "signed for namespace 'sop-register'"),
    "person is a pattern": Attack(forge(by(DECIDE, "k*", "kabid", "kabid")), "person 'k*' is not in the trust"),
    "person is any": Attack(forge(by(DECIDE, "*", "kabid", "kabid")), "person '*' is not in the trust"),
    "person is a list": Attack(forge(by(DECIDE, "kabid,kadis", "kabid", "kabid")), "person 'kabid,kadis' is not in"),
    "person in look-alike letters": Attack(forge(by(DECIDE, LOOKALIKE, "kabid", "kabid")), "is not in the trust"),
    "person in capitals": Attack(forge(by(DECIDE, "KABID", "kabid", "kabid")), "person 'KABID' is not in the trust"),
    "person with a space behind": Attack(forge(by(DECIDE, "kabid ", "kabid", "kabid")), "person 'kabid ' is not in"),
    "person with a zero-width letter": Attack(
        forge(by(DECIDE, "kabid\u200b", "kabid", "kabid")), "is not in the trust"
    ),
    "person with a NUL": Attack(forge(by(DECIDE, "kabid\0x", "kabid", "kabid")), "is not in the trust"),
    "person is nobody": Attack(forge(by(DECIDE, "", "kabid", "kabid")), "person '' is not in the trust"),
    "role in look-alike letters": Attack(forge(by(DECIDE, "kabid", LOOKALIKE)), "step r3 is for kabid, not"),
    "key revoked, decision dated back": Attack(forge(_received_late), "of kabid was revoked from"),
    "key revoked an hour before": Attack(forge(_revoked_before), "of kabid was revoked from"),
    "key expired": Attack(forge(_key_expired), "held for nobody at"),
    "key began between making and receiving": Attack(forge(_key_came_between), "held for nobody at"),
    "role ended between making and receiving": Attack(
        forge(_role_ended_before_it_was_received), "kabid did not hold kabid at"
    ),
    "role begins later": Attack(forge(_role_later), "kabid did not hold kabid at"),
    "role given afterwards": Attack(forge(_other_role_of_the_same_person), "kadis did not hold kabid at"),
    "signed again by its author after a change": Attack(_signed_again, "03-decide.json was never received"),
    "approval of another case put in": Attack(_replayed_approval, "03-decide.json is document 3 of RST-"),
    "approval of another case put in and entered": Attack(
        _replayed_and_entered, "03-decide.json is document 3 of RST-"
    ),
    "allowed_signers names another key": Attack(forge(_signers_edited), "held for nobody at"),
    "allowed_signers lets everybody in": Attack(forge(_signers_wildcard), "is pelaksana's, not kabid's"),
}
