# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.register and keeping: the keeper's one signature for all entries, sop.yml's settings, the run key, the policy."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable

import pytest
from msgspec.structs import replace as changed

from sopctl import bootstrap, cli, clock, fsio, keeping, people, register, signing
from sopctl.errors import ConfigError
from sopctl.models import RegisterIndex, TrustFile, TrustPolicy
from sopctl.profile import RESERVED, Profile
from sopctl.register import SignedRegister
from sopctl.settings import Policy
from sopctl.site import Site
from tests.support.case_site import CaseSite

ALL = ["datasets/antrean.yml", "datasets/berkas.yml", "servers/srv01.yml", "servers/srv02.yml"]


def sop(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), *words])


@pytest.fixture
def kept(site: CaseSite) -> CaseSite:
    """The base site; its register's keeper is pengurus, who has signed it once."""
    signed = register.load_register(site.root)
    assert signed
    assert signed.index.serial == 1
    return site


def reasons(site: CaseSite, *wanted: str, highest: int | None = None, now: str | None = None) -> list[str]:
    session = site.session
    lines = session.ledger.lines()
    return register.register_reasons(
        register.load_register(site.root),
        session.trust,
        session.site.config.site,
        now or clock.now(),
        register.entry_files(site.root),
        list(wanted) or ALL,
        register.highest_serial(lines) if highest is None else highest,
    )


def forge(site: CaseSite, /, key: str = "pengurus", namespace: str = "sop-register", **values: object) -> None:
    """An index signed by somebody, with ``values`` as they like it."""
    signed = register.load_register(site.root)
    assert signed
    index = changed(signed.index, **values)
    data = register.index_bytes(index)
    (site.root / register.INDEX).write_bytes(data)
    signature = signing.sign(data, namespace, site.keys / key)  # type: ignore[arg-type]
    (site.root / f"{register.INDEX}.sig").write_bytes(signature)


# --- signing ---------------------------------------------------------------------------------------------------------


def test_one_signature_for_all(kept: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert reasons(kept) == []
    signed = register.load_register(kept.root)
    assert signed
    assert (signed.index.serial, sorted(signed.index.entries)) == (1, ALL)
    path = kept.root / "register/servers/srv01.yml"
    assert signed.index.entries["servers/srv01.yml"] == fsio.sha256_bytes(path.read_bytes())
    line = next(line for line in kept.ledger.lines() if line.kind == "register")
    assert (line.ref, line.digests) == ("register/1", signed.digests)
    capsys.readouterr()
    assert sop(kept, "asset", "sign", "--as", "pengurus") == 0
    assert "nothing to sign" in capsys.readouterr().out
    assert sop(kept, "asset", "status", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["serial"], value["entries"], value["reasons"], value["new"]) == (1, 4, [], [])


def test_what_changed_is_told(kept: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    kept.change_yaml("register/datasets/antrean.yml", owner_unit="Bidang Lain")
    (kept.root / "register/datasets/berkas.yml").unlink()
    server = json.loads((kept.root / "register/servers/srv02.yml").read_text())
    new = kept.root / "register/servers/srv03.yml"
    new.write_text(json.dumps({**server, "id": "srv03", "inventory_hostname": "srv03"}))
    capsys.readouterr()
    assert sop(kept, "asset", "status") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "new      register/servers/srv03.yml",
        "changed  register/datasets/antrean.yml",
        "gone     register/datasets/berkas.yml",
    ]
    assert "register/datasets/antrean.yml is not as its keeper signed it" in said
    assert "register/servers/srv03.yml is not in the register's signed index" in said
    assert "register/datasets/berkas.yml is signed, but is gone" in said
    assert sop(kept, "asset", "sign", "--as", "pengurus", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["serial"], value["gone"]) == (2, ["register/datasets/berkas.yml"])
    assert reasons(kept, "servers/srv03.yml", "datasets/antrean.yml") == []
    assert sop(kept, "asset", "status") == 0
    assert "register serial 2" in capsys.readouterr().out


def test_only_its_keeper_signs(kept: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    kept.change_yaml("register/datasets/antrean.yml", owner_unit="Bidang Lain")
    before = (kept.root / register.INDEX).read_bytes()
    assert sop(kept, "asset", "sign", "--as", "kabid") == 10
    assert "signing the register is for pengurus-aset" in capsys.readouterr().err
    assert (kept.root / register.INDEX).read_bytes() == before


def test_what_cannot_be_read_is_not_signed(kept: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    kept.change_yaml("register/datasets/antrean.yml", ownerunit="Bidang Lain")
    assert sop(kept, "asset", "sign", "--as", "pengurus") == 2
    assert "ownerunit" in capsys.readouterr().err
    path = kept.root / "register/datasets/berkas.yml"
    path.rename(kept.root / "berkas.yml")
    path.symlink_to(kept.root / "berkas.yml")
    with pytest.raises(ConfigError, match="is a link"):
        register.entry_files(kept.root)
    path.unlink()
    (kept.root / "register/datasets/Berkas.yml").write_text("x")
    with pytest.raises(ConfigError, match="is not the name of an entry"):
        register.entry_files(kept.root)
    (kept.root / "register/datasets").rename(kept.root / "lain")
    (kept.root / "register/datasets").symlink_to(kept.root / "lain")
    with pytest.raises(ConfigError, match="is a link"):
        register.entry_files(kept.root)


def test_signing_broken_off_before_the_ledger(kept: CaseSite) -> None:
    """The keeper's index that the ledger has not seen holds; the next one goes on from it."""
    kept.change_yaml("register/datasets/antrean.yml", owner_unit="Bidang Lain")
    forge(kept, serial=2, entries=register.digests_of(register.entry_files(kept.root)))
    assert reasons(kept) == []
    kept.change_yaml("register/datasets/antrean.yml", owner_unit="Bidang Lagi")
    assert keeping.sign_index(kept.session, "pengurus", None).serial == 3


def test_a_strangers_serial_counts_for_nothing(kept: CaseSite) -> None:
    forge(kept, key="kabid", serial=999_999)
    assert keeping.sign_index(kept.session, "pengurus", None).serial == 2


def test_anybody_may_hold_a_reserved_role(site: CaseSite) -> None:
    for role in RESERVED:
        assert sop(site, "trust", "add", "kabid", "--role", role) == 0
    site.retrust(lambda file: file)
    believed = site.session.trust
    assert all(believed.has_role(believed.person("kabid"), role, clock.now()) for role in RESERVED)


# --- judging ---------------------------------------------------------------------------------------------------------


def _edited(site: CaseSite) -> None:
    site.change_yaml("register/datasets/antrean.yml", owner_unit="Bidang Lain")


def _reformatted(site: CaseSite) -> None:
    path = site.root / "register/servers/srv01.yml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def _added(site: CaseSite) -> None:
    path = site.root / "register/datasets/antrean.yml"
    path.rename(path.with_suffix(".yaml"))


def _no_index(site: CaseSite) -> None:
    (site.root / register.INDEX).unlink()


def _no_signature(site: CaseSite) -> None:
    (site.root / f"{register.INDEX}.sig").unlink()


def _index_edited(site: CaseSite) -> None:
    _edited(site)
    old = register.load_register(site.root)
    assert old
    new = fsio.sha256_file(site.root / "register/datasets/antrean.yml")
    site.edit(register.INDEX, old.index.entries["datasets/antrean.yml"], new)


def _ended(site: CaseSite) -> None:
    people.end(Site(site.root), "pengurus", "pengurus-aset", clock.now())
    site.retrust(lambda file: file)


def _revoked(site: CaseSite) -> None:
    people.revoke(Site(site.root), "pengurus", None, clock.now())
    site.retrust(lambda file: file)


def _service(site: CaseSite) -> None:
    def change(file: TrustFile) -> TrustFile:
        return changed(
            file, people=[changed(one, kind="service") if one.id == "pengurus" else one for one in file.people]
        )

    site.retrust(change)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_edited, "register/datasets/antrean.yml is not as its keeper signed it"),
        (_reformatted, "register/servers/srv01.yml is not as its keeper signed it"),
        (_added, "register/datasets/antrean.yml is gone"),
        (_no_index, "the register is not signed by its keeper (pengurus-aset): register/index.yml is missing"),
        (_no_signature, "register/index.yml is not signed by the register's keeper (pengurus-aset)"),
        (_index_edited, "the signature does not match the bytes"),
        (lambda site: forge(site, key="kabid"), "is kabid's, not pengurus's"),
        (lambda site: forge(site, namespace="sop-document"), "signed for namespace 'sop-document'"),
        (lambda site: forge(site, site="11111111-2222-3333-4444-555555555555"), "is of another site"),
        (lambda site: forge(site, issued="2999-01-01T00:00:00Z"), "was issued at 2999-01-01T00:00:00Z, now is"),
        (lambda site: forge(site, issued="2020-01-01T00:00:00Z"), "held for nobody at 2020"),
        (_ended, "nobody holds that role"),
        (_revoked, "was revoked from"),
        (_service, "nobody holds that role"),
    ],
)
def test_register_that_is_not_believed(spoil: Callable[[CaseSite], None], said: str, kept: CaseSite) -> None:
    spoil(kept)
    found = reasons(kept)
    assert len(found) == 1, found
    assert said in found[0]


def test_only_what_is_wanted_is_asked(kept: CaseSite) -> None:
    _edited(kept)
    assert reasons(kept, "datasets/berkas.yml", "servers/srv01.yml") == []
    assert reasons(kept, "datasets/lain.yml") == ["register/datasets/lain.yml is not in the register's signed index"]


def test_no_roll_back(kept: CaseSite) -> None:
    first = {name: (kept.root / name).read_bytes() for name in (register.INDEX, f"{register.INDEX}.sig")}
    before = (kept.root / "register/datasets/antrean.yml").read_bytes()
    _edited(kept)
    assert sop(kept, "asset", "sign", "--as", "pengurus") == 0
    for name, data in first.items():
        (kept.root / name).write_bytes(data)
    (kept.root / "register/datasets/antrean.yml").write_bytes(before)
    assert reasons(kept) == ["register/index.yml has serial 1, older than 2, which was in force before"]
    assert reasons(kept, highest=1) == []
    session = kept.session
    assert keeping.register_status(session).reasons == reasons(kept)


def test_one_serial_is_one_index(kept: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    """Two indexes of one serial, both the keeper's (two branches in git): the ledger knows which one it was."""
    _edited(kept)
    forge(kept, entries=register.digests_of(register.entry_files(kept.root)))
    assert reasons(kept) == []
    found = keeping.register_status(kept.session).reasons
    assert found == ["register/index.yml is not the one of serial 1 that was in force before"]
    assert sop(kept, "asset", "sign", "--as", "pengurus") == 0
    assert keeping.register_status(kept.session).reasons == []


@pytest.mark.parametrize(
    "entries",
    [
        {"../trust/trust.yml": "sha256:" + "0" * 64},
        {"servers/../../sop.yml": "sha256:" + "0" * 64},
        {"servers/SRV.yml": "sha256:" + "0" * 64},
        {"servers/srv01.yml": "md5:0"},
    ],
)
def test_index_with_strange_entries(entries: dict[str, str], kept: CaseSite) -> None:
    forge(kept, entries=entries)
    with pytest.raises(ConfigError, match="is not an entry with its digest"):
        register.load_register(kept.root)


def test_wanted_names_both_endings() -> None:
    files = ["servers/a1.yaml", "datasets/b1.yml"]
    assert register.wanted(files, ["a1", "c1"], ["b1"]) == ["servers/a1.yaml", "servers/c1.yml", "datasets/b1.yml"]


def test_reasons_are_pure(kept: CaseSite) -> None:
    """The bytes given are judged, not what lies there by then."""
    session, files = kept.session, register.entry_files(kept.root)
    signed = register.load_register(kept.root)
    assert isinstance(signed, SignedRegister)
    assert isinstance(signed.index, RegisterIndex)
    believed, site = session.trust, session.site.config.site
    _edited(kept)
    assert register.register_reasons(signed, believed, site, clock.now(), files, ALL, 1) == []


# --- sop.yml ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("timezone: Asia/Jakarta", "timezone: Asia/Makassar", "timezone"),
        ("inventory: inventory", "inventory: lain", "inventory"),
        ("archive: archive", "archive: lain", "archive"),
        ("vault-password}", "sandi-lain}", "vault"),
        ("{jenis}_{time}_{run}", "{jenis}_{time}", "naming"),
        ("schema: sop-site/v1", "schema: sop-site/v1\ncalendar: {holidays: ''}", "calendar"),
    ],
)
def test_setting_that_differs_is_named(old: str, new: str, key: str, site: CaseSite) -> None:
    file = site.session.trust.file
    site.edit("sop.yml", old, new)
    found = register.settings_reasons(file, Site(site.root).config)
    assert found == [f"sop.yml: {key} differs from what the trust was signed over"]
    site.retrust(lambda file: file)
    assert register.settings_reasons(site.session.trust.file, Site(site.root).config) == []


def test_the_drill_host_is_signed_where_there_is_one(site: CaseSite) -> None:
    """Whoever may edit sop.yml must not be able to send agency data to another server by it."""
    site.edit("sop.yml", "  verify: restore", "  verify: restore\n  drill: srv02")

    def reasons() -> list[str]:
        return register.settings_reasons(site.session.trust.file, Site(site.root).config)

    assert reasons() == ["sop.yml: policy.drill: the trust was signed without it; sign it anew: sopctl trust sign"]
    site.retrust(lambda file: file)
    assert reasons() == []
    for old, new in (("  drill: srv02", "  drill: srv01"), ("\n  drill: srv01", "")):
        site.edit("sop.yml", old, new)
        assert reasons() == ["sop.yml: policy.drill differs from what the trust was signed over"]


def test_channels_of_notices_are_signed_and_their_people_are_not(site: CaseSite) -> None:
    """Whoever may edit sop.yml must not be able to have forms sent elsewhere; who wants what changes daily."""
    line = (
        "notices: {channels: {surel: {url: {file: secrets/surel}}}, people: {kabid: {to: {surel: a@example.go.id}}}}\n"
    )
    with (site.root / "sop.yml").open("a", encoding="utf-8") as stream:
        stream.write(line)

    def reasons() -> list[str]:
        return register.settings_reasons(site.session.trust.file, Site(site.root).config)

    assert reasons() == ["sop.yml: notices.channels: the trust was signed without it; sign it anew: sopctl trust sign"]
    site.retrust(lambda file: file)
    assert reasons() == []
    site.edit("sop.yml", "kabid: {to: {surel: a@", "kadis: {to: {surel: b@")
    assert reasons() == []
    for old, new in (("secrets/surel", "secrets/lain"), ("channels: {surel: {url: {file: secrets/lain}}}, ", "")):
        site.edit("sop.yml", old, new)
        assert reasons() == ["sop.yml: notices.channels differs from what the trust was signed over"]


def test_other_keys_are_the_sites_own(site: CaseSite) -> None:
    file = site.session.trust.file
    site.edit("sop.yml", 'kota: ""', "kota: Trenggalek")
    site.edit("sop.yml", "approval_days: 7", "approval_days: 2")
    assert register.settings_reasons(file, Site(site.root).config) == []


def test_trust_that_says_nothing_of_settings(site: CaseSite) -> None:
    file = changed(site.session.trust.file, settings={})
    found = register.settings_reasons(file, Site(site.root).config)
    assert len(found) == len(register.SETTINGS)
    assert all("the trust says nothing of sop.yml; sign it anew" in reason for reason in found)
    more = changed(site.session.trust.file, settings={**site.session.trust.file.settings, "lain": "sha256:0"})
    assert "by another sopctl" in register.settings_reasons(more, Site(site.root).config)[0]


# --- the policy ------------------------------------------------------------------------------------------------------


@pytest.fixture
def profile(site: CaseSite) -> Profile:
    return changed(Site(site.root).profile.profile, preflight=[], authority={})


def test_neither_may_loosen(profile: Profile) -> None:
    loose = Policy(asset_review="warn", verify="read", sla="warn", approval_days=30)
    strict = Policy(asset_review="block", verify="restore", sla="block", approval_days=2)
    open_, closed = TrustPolicy(), TrustPolicy(asset_review="block", verify="restore", sla="block", approval_days_max=2)
    assert register.effective_policy(open_, profile, loose) == loose
    assert register.effective_policy(closed, profile, loose) == strict
    assert register.effective_policy(open_, profile, strict) == strict
    reviewed = changed(profile, preflight=["asset_review_current"])
    assert register.effective_policy(open_, reviewed, loose).asset_review == "block"
    assert register.effective_policy(open_, profile, changed(loose, keep_days=30)).keep_days == 30


def test_authority_must_be_in_both(profile: Profile) -> None:
    said = changed(profile, authority={"rahasia": ["kadis", "kabid"], "terbatas": ["kabid"]})
    site = Policy(authority={"rahasia": ["kadis", "pengurus"], "terbatas": ["kadis"], "terbuka": ["kabid"]})
    found = register.effective_policy(TrustPolicy(), said, site).authority
    assert found == {"rahasia": ["kadis"], "terbatas": [], "terbuka": ["kabid"]}


# --- settings and the run key ----------------------------------------------------------------------------------------


def test_trust_is_signed_over_settings_and_run_key(site: CaseSite) -> None:
    file = site.session.trust.file
    assert register.settings_reasons(file, Site(site.root).config) == []
    public = (site.root / "trust/run.pub").read_text()
    assert file.run_keys == [" ".join(public.split()[:2])]
    private = site.root / "secrets/run-key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert signing.verify(b"grant", signing.sign(b"grant", "sop-grant", private), "sop-grant") == file.run_keys[0]
    assert sorted(path.name for path in (site.root / "secrets").iterdir()) == ["run-key", "vault-password"]


def test_run_key_is_replaced(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    before = site.session.trust.file.run_keys
    assert sop(site, "trust", "run-key") == 2
    assert "--replace" in capsys.readouterr().err
    assert sop(site, "trust", "run-key", "--replace") == 0
    assert site.session.trust.file.run_keys == before, "until it is signed"
    bootstrap.sign_trust(Site(site.root), site.builder.root_key, 366)
    assert len(site.session.trust.file.run_keys) == 1
    assert site.session.trust.file.run_keys != before
    (site.root / "trust/run.pub").unlink()
    capsys.readouterr()
    assert sop(site, "trust", "sign", "--key", str(site.builder.root_key)) == 0
    assert "no trust/run.pub" in capsys.readouterr().err
    assert site.session.trust.file.run_keys == []
