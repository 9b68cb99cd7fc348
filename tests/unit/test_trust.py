# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.trust: whose word the site believes, and that auditors with ssh-keygen alone believe the same."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from sopctl import bootstrap, clock, fsio, signing, trust
from sopctl.errors import ConfigError, GateRefused, UsageError
from sopctl.loading import from_yaml
from sopctl.models import Person, TrustFile
from sopctl.site import Site
from tests.support.case_site import CaseSite

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJIWyfOSA3sROIKmFvVvy3QQdHAXdNQLr/hIyJ4HqnHX"


def load(site: CaseSite, lowest: int = 0, now: str | None = None) -> trust.Trust:
    return trust.load_trust(site.root, Site(site.root).config.site, now or clock.now(), lowest)


def read(site: CaseSite) -> TrustFile:
    path = site.root / "trust/trust.yml"
    return from_yaml(TrustFile, path.read_bytes(), path)


# --- the pin ---------------------------------------------------------------------------------------------------------


def test_environment_serves_where_no_file_is(site: CaseSite) -> None:
    assert trust.root_pin().source == "$SOPCTL_ROOT"
    assert load(site).root_source == "$SOPCTL_ROOT"


def test_file_wins_over_environment(site: CaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = tmp_path / "root"
    pin.write_text(f'# root of the agency\n\nroot namespaces="sop-trust" {ED25519} kantor\n')
    monkeypatch.setattr(trust, "ROOT_PIN", pin)
    assert trust.root_pin() == trust.RootPin(frozenset({ED25519}), str(pin))
    with pytest.raises(GateRefused, match="signed by a key that is not the pinned root") as caught:
        load(site)
    assert str(pin) in caught.value.hint


def test_dangling_pin_is_not_an_absent_one(site: CaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment serves only where the file is absent, not where it cannot be read."""
    pin = tmp_path / "root"
    pin.symlink_to(tmp_path / "gone")
    monkeypatch.setattr(trust, "ROOT_PIN", pin)
    with pytest.raises(ConfigError, match="is a link"):
        trust.root_pin()


def test_no_pin_is_no_trust(site: CaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOPCTL_ROOT")
    with pytest.raises(ConfigError, match="no root key is pinned"):
        load(site)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (f"root cert-authority {ED25519}", "not an allowed_signers line"),
        (f'root cert-authority,namespaces="sop-trust" {ED25519}', "not an allowed_signers line"),
        (f'root valid-before="20200101" {ED25519}', "not an allowed_signers line"),
        (f'root namespaces="git" {ED25519}', "not an allowed_signers line"),
        ("root", "not an allowed_signers line"),
        ("root ssh-ed25519 AAAA", "not an acceptable public key"),
        ("# nothing", "holds no key"),
    ],
)
def test_pin_that_is_none(
    line: str, problem: str, site: CaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pin").write_text(line + "\n")
    monkeypatch.setenv("SOPCTL_ROOT", str(tmp_path / "pin"))
    with pytest.raises(ConfigError, match=problem) as caught:
        trust.root_pin()
    assert str(tmp_path / "pin") in caught.value.where


def test_two_roots_may_be_pinned(site: CaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a roll-over: old and new root side by side."""
    old = Path(site.builder.env["SOPCTL_ROOT"]).read_text()
    (tmp_path / "pin").write_text(f"root {ED25519}\n{old}")
    monkeypatch.setenv("SOPCTL_ROOT", str(tmp_path / "pin"))
    assert load(site).file.serial == 2


# --- the file --------------------------------------------------------------------------------------------------------


def _unsigned(site: CaseSite) -> None:
    (site.root / "trust/trust.yml.sig").unlink()


def _edited(site: CaseSite) -> None:
    site.edit("trust/trust.yml", "jabatan: Kepala Bidang Aptika", "jabatan: Kepala Bidang Lain")


def _by_another(site: CaseSite) -> None:
    path = site.root / "trust/trust.yml"
    signature = signing.sign(path.read_bytes(), "sop-trust", site.keys / "kabid")
    path.with_name("trust.yml.sig").write_bytes(signature)


def _for_another_purpose(site: CaseSite) -> None:
    path = site.root / "trust/trust.yml"
    signature = signing.sign(path.read_bytes(), "sop-document", site.builder.root_key)
    path.with_name("trust.yml.sig").write_bytes(signature)


def _of_another_site(site: CaseSite) -> None:
    site.retrust(lambda file: changed(file, site="11111111-2222-3333-4444-555555555555"))


def _over(site: CaseSite) -> None:
    bootstrap.sign_trust(Site(site.root), site.builder.root_key, -1)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_unsigned, "the trust is not signed"),
        (_edited, "the trust's signature is not valid: the signature does not match the bytes"),
        (_by_another, "the trust is signed by a key that is not the pinned root"),
        (_for_another_purpose, "signed for namespace 'sop-document', not 'sop-trust'"),
        (_of_another_site, "the trust is of another site"),
        (_over, "the trust holds from"),
    ],
)
def test_trust_that_is_not_believed(spoil: Callable[[CaseSite], None], reason: str, site: CaseSite) -> None:
    spoil(site)
    with pytest.raises(GateRefused) as caught:
        load(site)
    assert reason in caught.value.reasons[0]
    assert caught.value.where


def test_trust_from_the_future(site: CaseSite) -> None:
    with pytest.raises(GateRefused, match="the trust holds from"):
        load(site, now="2020-01-01T00:00:00Z")


def test_no_roll_back(site: CaseSite) -> None:
    serial = load(site).file.serial
    assert load(site, lowest=serial).file.serial == serial
    with pytest.raises(
        GateRefused, match=f"trust serial {serial} is older than {serial + 1}, which was in force before"
    ):
        load(site, lowest=serial + 1)


def test_ledger_remembers_the_serial(site: CaseSite) -> None:
    kept = _kept(site)
    site.retrust(lambda file: file)
    assert site.session.trust.file.serial == 3
    _put_back(site, kept)
    with pytest.raises(GateRefused, match="trust serial 2 is older than 3"):
        print(site.session.trust)


def _kept(site: CaseSite) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (site.root / "trust").rglob("*") if path.is_file()}


def _put_back(site: CaseSite, kept: dict[Path, bytes]) -> None:
    for path in (site.root / "trust").rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)


def test_one_serial_names_one_trust(site: CaseSite) -> None:
    """Two files of one serial, both signed by the root (two branches in git): the second is a roll-back, too."""
    kept = _kept(site)
    site.retrust(lambda file: changed(file, code=["sha256:" + "c0" * 32]))
    assert site.session.trust.file.serial == 3
    _put_back(site, kept)
    site.retrust(lambda file: file)
    with pytest.raises(GateRefused, match="this is not the trust of serial 3 that was in force before"):
        print(site.session.trust)


def test_chain_of_trusts(site: CaseSite) -> None:
    before = load(site)
    site.retrust(lambda file: file)
    assert load(site).file.prev == before.digest


def _twice(file: TrustFile, **values: object) -> TrustFile:
    return changed(file, people=[*file.people, changed(file.people[0], id="kembar", **values)])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_twice, "one key under two persons"),
        (lambda file: _with_nips(file, "19700101 199503 1 001", "197001011995031001"), "one NIP under two persons"),
        (lambda file: changed(file, people=[*file.people, file.people[0]]), "stands there twice"),
        (lambda file: _twice(file, keys=[], roles=[changed(file.people[0].roles[0], since="2026")]), "is not a time"),
        (lambda file: changed(file, people=[changed(file.people[0], id="K")]), "id 'K' is not allowed"),
        (lambda file: changed(file, valid_until="besok"), "is not a time"),
        (lambda file: _with_key(file, revoked="kemarin"), "is not a time"),
        (lambda file: changed(file, run_keys=["ssh-ed25519 AAAA"]), "not an acceptable public key"),
        (lambda file: changed(file, run_keys=[file.people[0].keys[0].key]), "the run key is "),
    ],
)
def test_file_that_contradicts_itself(change: Callable[[TrustFile], TrustFile], problem: str, site: CaseSite) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        trust.check_trust_file(change(read(site)), Path("trust/trust.yml"))
    assert caught.value.where.startswith("trust/trust.yml")


def _with_key(file: TrustFile, **values: str) -> TrustFile:
    person = file.people[0]
    return changed(file, people=[changed(person, keys=[changed(person.keys[0], **values)]), *file.people[1:]])


def _with_nips(file: TrustFile, *nips: str) -> TrustFile:
    people: list[Person] = [changed(person, nip=nip) for person, nip in zip(file.people, nips, strict=False)]
    return changed(file, people=people)


@pytest.mark.parametrize(
    "spelled",
    [
        "19700101.199503.1.001",
        "１９７００１０１１９９５０３１００１",
        "NIP 19700101 199503 1 001",
        "19700101-199503-1-001",
    ],
)
def test_nip_is_its_digits(spelled: str, site: CaseSite) -> None:
    with pytest.raises(ConfigError, match="one NIP under two persons"):
        trust.check_trust_file(_with_nips(read(site), "197001011995031001", spelled), Path("trust/trust.yml"))


def test_no_nip_is_nobodys(site: CaseSite) -> None:
    trust.check_trust_file(_with_nips(read(site), "-", "", "-"), Path("trust/trust.yml"))
    trust.check_trust_file(_with_nips(read(site), "3503010101700001", "197001011995031001"), Path("trust/trust.yml"))


@pytest.mark.parametrize(
    "person_id",
    [
        "каbid",
        "kabіd",
        "ｋabid",
        "kabid\u200b",
        "kabid\n",
        "kabid ",
        "Kabid",
        "k*",
        "kabid,kadis",
        "!kabid",
        "a" * 33,
        "k",
    ],
)
def test_ids_are_plain(person_id: str, site: CaseSite) -> None:
    """Look-alikes, and what an allowed_signers file would read as a pattern."""
    file = read(site)
    people = [changed(one, id=person_id) if one.id == "kabid" else one for one in file.people]
    with pytest.raises(ConfigError, match="is not allowed"):
        trust.check_trust_file(changed(file, people=people), Path("trust/trust.yml"))


def test_key_under_two_persons_is_refused_even_when_signed(site: CaseSite) -> None:
    """The root holder's own tool refuses it; a file made by hand is refused when it is read."""
    path = site.root / "trust/trust.yml"
    file = read(site)
    data = fsio.canonical_json(_json(_twice(file)))
    path.write_bytes(data)
    path.with_name("trust.yml.sig").write_bytes(signing.sign(data, "sop-trust", site.builder.root_key))
    with pytest.raises(ConfigError, match="one key under two persons"):
        load(site)


def _json(file: TrustFile) -> object:
    from sopctl.models import to_json

    return to_json(file)


# --- what it says ----------------------------------------------------------------------------------------------------


def test_reasons_name_person_role_and_time(site: CaseSite) -> None:
    believed, now = load(site), clock.now()
    data = b"isi\n"
    signature = signing.sign(data, "sop-document", site.keys / "kabid")

    def reasons(person: str, role: str, at: str = now) -> list[str]:
        return believed.reasons(data, signature, "sop-document", person, [role], [at])

    assert reasons("kabid", "kabid") == []
    assert reasons("kabid", "kadis") == [f"kabid did not hold kadis at {now}"]
    assert "is kabid's, not kadis's" in reasons("kadis", "kadis")[0]
    assert "held for nobody at 2020" in reasons("kabid", "kabid", "2020-01-01T00:00:00Z")[0]
    assert "is not in the trust" in reasons("hantu", "kabid")[0]
    assert "is not valid" in believed.reasons(data + b" ", signature, "sop-document", "kabid", ["kabid"], [now])[0]


def test_unknown_person_names_the_known(site: CaseSite) -> None:
    with pytest.raises(UsageError, match="person 'siapa' is not in the trust") as caught:
        load(site).person("siapa")
    assert "kabid" in caught.value.hint


def test_allowed_signers_serve_ssh_keygen(site: CaseSite, tmp_path: Path) -> None:
    """The file beside the trust, and ours made now, let ssh-keygen alone check a document; only what we believe."""
    believed = load(site)
    written = (site.root / "trust/allowed_signers").read_text()
    assert written == believed.allowed_signers()
    document = next(site.folder.glob("03-*.json"))
    signature = document.with_name(document.name + ".sig")

    def verify(person: str, namespace: str, allowed: str = written) -> int:
        (tmp_path / "allowed_signers").write_text(allowed)
        command = ["ssh-keygen", "-Y", "verify", "-n", namespace, "-s", str(signature)]
        command += ["-f", str(tmp_path / "allowed_signers"), "-I", person]
        return subprocess.run(command, input=document.read_bytes(), capture_output=True, check=False).returncode

    assert verify("kabid", "sop-document") == 0
    assert verify("kadis", "sop-document") != 0
    assert verify("kabid", "sop-trust") != 0
    later = replace(believed, file=changed(believed.file, people=[_from(one, 2999) for one in believed.file.people]))
    assert verify("kabid", "sop-document", later.allowed_signers()) != 0


def test_allowed_signers_are_written_and_never_read(site: CaseSite) -> None:
    path = site.root / "trust/allowed_signers"
    public = (site.keys / "pelaksana.pub").read_text().split()
    path.write_text(f"* {public[0]} {public[1]}\n")
    believed = load(site)
    signature = signing.sign(b"isi", "sop-document", site.keys / "pelaksana")
    now = clock.now()
    assert (
        "is pelaksana's, not kabid's"
        in believed.reasons(b"isi", signature, "sop-document", "kabid", ["kabid"], [now])[0]
    )
    path.unlink()
    assert load(site).digest == believed.digest


def _from(person: Person, year: int) -> Person:
    return changed(person, keys=[changed(key, since=f"{year}-01-01T00:00:00Z") for key in person.keys])
