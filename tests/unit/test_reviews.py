# SPDX-License-Identifier: Apache-2.0
"""The yearly review: what it opens and shuts, who may sign it, and what a forged, altered or lost one comes to."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sopctl import approval, assets, clock, completeness, forms, fsio, keeping, reviewing, reviews, signing, targeting
from sopctl.errors import GateRefused, UsageError
from sopctl.ledger import Ledger
from sopctl.models import Json
from sopctl.reviewing import Signed
from sopctl.reviews import Last, Reviewed
from tests.support.case_site import CaseSite

KEEPER = "pengurus"
OLD = {"at": "2020-01-01", "by": "kabid"}


@pytest.fixture
def old(site: CaseSite) -> CaseSite:
    """Both servers' entries say that they were reviewed in 2020; the site's policy blocks."""
    for server in ("srv01", "srv02"):
        site.change_yaml(f"register/servers/{server}.yml", reviewed=OLD)
    site.edit("sop.yml", "asset_review: warn", "asset_review: block")
    keeping.sign_index(site.session, KEEPER, None)
    return site


def reasons(site: CaseSite) -> list[str]:
    """Why the case's restore of srv01 may not run, as far as the register goes."""
    session = site.session
    plan = targeting.case_plan(session, session.case(site.case))
    return [reason for reason in approval.targets(session.context(), plan) if "review" in reason]


def review(site: CaseSite, *names: str, by: str = KEEPER, **options: Any) -> Signed:
    return reviewing.review(site.session, names, by, None, everything=not names, **options)


def test_a_review_opens_what_was_shut(old: CaseSite) -> None:
    assert reasons(old) == ["the register's review of srv01 is overdue (last 2020-01-01)"]
    review(old, "srv02")
    assert len(reasons(old)) == 1
    signed = review(old, "srv01")
    assert reasons(old) == []
    assert assets.overdue(old.session) == []
    assert (signed.record / f"data/review/{signed.document.id}.json").read_bytes() == signed.path.read_bytes()
    assert not completeness.missing(old.session, old.session.ledger.lines()) or all(
        one.rule != "review-altered" for one in completeness.missing(old.session, old.session.ledger.lines())
    )


def test_the_berita_acara_says_what_was_found(old: CaseSite) -> None:
    review(old, "srv02")
    signed = review(old, "srv01", result="tidak-sesuai", remarks="nomor seri <lain>")
    page = (signed.record / "data/form.html").read_text(encoding="utf-8")
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    for want in (
        "Berita Acara Peninjauan Register Aset", "tidak sesuai", "nomor seri <lain>", "0 dari 1 entri sesuai",
        "1 dari 2 server dalam register ditinjau", "peninjauan sebelumnya 1 Januari 2020", signed.document.servers["srv01"].entry,
        fsio.sha256_bytes(signed.path.read_bytes()), "Pengurus Barang", "Peninjau",
    ):  # fmt: skip
        assert want in text, want
    form = forms.form_from_json(fsio.parse_json_strict((signed.record / "data/form.json").read_bytes(), "form.json"))
    assert forms.render_html(form) == page


def test_one_review_of_all(old: CaseSite) -> None:
    assert set(review(old, by="kabid").document.servers) == {"srv01", "srv02"}
    assert assets.overdue(old.session) == []


def test_what_was_found_wrong_shuts_again(old: CaseSite) -> None:
    review(old)
    review(old, "srv01", result="tidak-sesuai", remarks="nomor seri lain")
    [reason] = reasons(old)
    assert "tidak-sesuai, TNJ-" in reason
    assert assets.overdue(old.session) == ["srv01"]
    review(old, "srv01")
    assert reasons(old) == []


def test_where_the_policy_warns_nothing_is_shut(old: CaseSite) -> None:
    old.edit("sop.yml", "asset_review: block", "asset_review: warn")
    assert reasons(old) == []
    session = old.session
    plan = targeting.case_plan(session, session.case(old.case))
    assert approval.review_reasons(session.context(), plan)  # what is said instead


def test_the_ssh_review_is_checked_by_ssh_keygen(old: CaseSite) -> None:
    signed = review(old)
    data = signed.path.read_bytes()
    signature = signed.path.with_name(signed.path.name + ".sig").read_bytes()
    assert signing.verify(data, signature, "sop-register")


@pytest.mark.parametrize("person", ["pemohon", "pelaksana", "robot"])
def test_who_may_not_review(old: CaseSite, person: str) -> None:
    before = old.ledger.path.read_bytes()
    with pytest.raises(GateRefused):
        review(old, by=person)
    assert old.ledger.path.read_bytes() == before
    assert not (old.root / reviews.FOLDER).exists()


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (["srv09"], {}),
        (["srv01"], {"result": "tidak-sesuai"}),
        (["srv01"], {"result": "tidak-sesuai", "remarks": "  "}),
        (["srv01"], {"remarks": "x" * 2001}),
        (["srv01"], {"remarks": "a\x1b[2J"}),
    ],
)
def test_what_is_no_review(old: CaseSite, names: list[str], options: Json) -> None:
    with pytest.raises(UsageError):
        review(old, *names, **options)
    assert not (old.root / reviews.FOLDER).exists()


def test_names_and_all_together_are_refused(old: CaseSite) -> None:
    for names, everything in ((["srv01"], True), ([], False)):
        with pytest.raises(UsageError, match="say what is reviewed"):
            reviewing.review(old.session, names, KEEPER, None, everything=everything)


def test_an_entry_that_its_keeper_has_not_signed_is_not_reviewed(old: CaseSite) -> None:
    old.change_yaml("register/servers/srv01.yml", location="lain")
    with pytest.raises(GateRefused, match="not as its keeper signed it"):
        review(old, "srv01")
    assert not (old.root / reviews.FOLDER).exists()


# attacks -------------------------------------------------------------------------------------------------------------


def put(site: CaseSite, change: Callable[[Json], None], key: str, received: str | None = None) -> None:
    """A review of srv01 as an attacker writes it: signed with ``key``, and received by the ledger."""
    server = next(one for one in assets.everything(site.session) if one.server.id == "srv01")
    body: Json = {
        "schema": "sop-review/v1",
        "site": site.session.site.config.site,
        "id": "TNJ-2026-0001",
        "at": clock.now(),
        "actor": {"person": KEEPER, "role": "pengurus-aset"},
        "servers": {"srv01": {"entry": server.entry, "facts": None, "result": "sesuai", "remarks": ""}},
    }
    change(body)
    data = fsio.canonical_json(body)
    path, signature_path = reviews.paths(site.root, "TNJ-2026-0001")
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    signature_path.write_bytes(signing.sign(data, "sop-register", site.keys / key))
    digests = {"document": fsio.sha256_bytes(data), "signature": fsio.sha256_bytes(signature_path.read_bytes())}
    ledger = Ledger(site.ledger.path, clock=lambda: clock.parse(received)) if received else site.ledger
    ledger.append(reviews.LEDGER_KIND, "TNJ-2026-0001", digests)


def nothing(_: Json) -> None:
    """Leave the document as it is."""


def test_the_forger_makes_good_ones_too(old: CaseSite) -> None:
    put(old, nothing, KEEPER)
    assert reasons(old) == []


@pytest.mark.parametrize(
    ("change", "key", "why"),
    [
        (nothing, "pelaksana", "is pelaksana's, not pengurus's"),
        (lambda body: body.update(site="00000000-0000-4000-8000-000000000000"), KEEPER, "another site"),
        (lambda body: body.update(id="TNJ-2026-0002"), KEEPER, "another site or number"),
        (lambda body: body.update(actor={"person": "pelaksana", "role": "pelaksana"}), "pelaksana", "reviews nothing"),
        (lambda body: body.update(actor={"person": "pelaksana", "role": "kabid"}), "pelaksana", "kabid"),
        (lambda body: body.update(actor={"person": "robot", "role": "pengurus-aset"}), "robot", "no person"),
        (lambda body: body.update(actor={"person": "nobody", "role": "pengurus-aset"}), KEEPER, "no person"),
        (lambda body: body.update(at="2999-01-01T00:00:00Z"), KEEPER, "was received at"),
        (lambda body: body.update(at="yesterday"), KEEPER, "is not a time"),
        (lambda body: body.update(more=1), KEEPER, "more"),
        (lambda body: body["servers"]["srv01"].update(result="bagus"), KEEPER, "Invalid enum"),
        (lambda body: body.update(at="2001-01-01T00:00:00Z"), KEEPER, ""),
    ],
)
def test_a_forged_review_opens_nothing(old: CaseSite, change: Callable[[Json], None], key: str, why: str) -> None:
    put(old, change, key)
    found = reasons(old)
    assert any("overdue" in reason for reason in found)
    assert any("review TNJ-2026-0001 cannot be believed" in reason and why in reason for reason in found), found


@pytest.mark.parametrize("spoil", ["document", "signature", "gone", "link"])
def test_a_finding_cannot_be_made_unsaid(old: CaseSite, spoil: str) -> None:
    """Who removes or alters the review that found an entry wrong does not get the older, better one back."""
    review(old)
    signed = review(old, "srv01", result="tidak-sesuai", remarks="bukan server ini")
    path, signature = reviews.paths(old.root, signed.document.id)
    if spoil == "document":
        path.write_bytes(path.read_bytes().replace(b"tidak-sesuai", b"sesuai"))
    elif spoil == "signature":
        signature.write_bytes(reviews.paths(old.root, "TNJ-2026-0001")[1].read_bytes())
    else:
        path.unlink()
        if spoil == "link":
            path.symlink_to(reviews.paths(old.root, "TNJ-2026-0001")[0])
    assert any("cannot be believed" in reason for reason in reasons(old))
    lines = old.session.ledger.lines()
    assert "review-altered" in {
        one.rule for one in completeness.missing(old.session, lines) if one.severity == "broken"
    }


def test_a_review_that_was_never_received_counts_for_nothing(old: CaseSite) -> None:
    put(old, nothing, KEEPER)
    lines = old.ledger.path.read_bytes().splitlines(keepends=True)
    old.ledger.path.write_bytes(b"".join(lines[:-1]))
    assert len(reasons(old)) == 1
    assert review(old, "srv02").document.id == "TNJ-2026-0002"  # the number of the one left behind is not used again


# what is shown -------------------------------------------------------------------------------------------------------


def test_a_change_after_the_review_is_shown(old: CaseSite) -> None:
    review(old)
    shown = {one.server.id: one for one in assets.everything(old.session)}
    assert shown["srv01"].changed == []
    old.change_yaml("register/servers/srv01.yml", location="Ruang baru")
    keeping.sign_index(old.session, KEEPER, None)
    shown = {one.server.id: one for one in assets.everything(old.session)}
    assert (shown["srv01"].changed, shown["srv02"].changed) == (["entry"], [])
    assert not shown["srv01"].overdue
    assert "the entry changed since the review" in "; ".join(assets.soon(shown["srv01"], clock.now()[:10]))


def last(result: str, at: str) -> Last:
    return Last("TNJ-2026-0001", "pengurus", f"{at}T08:00:00Z", Reviewed("sha256:" + "0" * 64, None, result))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("signed", "claimed", "until"),
    [
        (None, None, None),
        (None, "2026-01-01", "2027-01-02"),
        (last("sesuai", "2026-06-01"), None, "2027-06-02"),
        (last("sesuai", "2026-06-01"), "2026-07-01", "2027-07-02"),
        (last("tidak-sesuai", "2026-06-01"), "2026-05-01", None),
        (last("tidak-sesuai", "2026-06-01"), "2026-06-01", None),
        (last("tidak-sesuai", "2026-06-01"), "2026-06-02", "2027-06-03"),
    ],
)
def test_until_when_a_review_holds(signed: Last | None, claimed: str | None, until: str | None) -> None:
    assert reviews.due(signed, claimed) == until


def test_five_thousand_entries_fit_into_one_document(old: CaseSite) -> None:
    said = Reviewed("sha256:" + "a" * 64, "sha256:" + "b" * 64, "sesuai", "")
    document = review(old).document
    many = {f"server-{number:05d}": said for number in range(5000)}
    assert len(reviews.document_bytes(msgspec.structs.replace(document, servers=many))) < reviews.MOST
