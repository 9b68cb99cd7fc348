# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.trust, roots, history, people and bootstrap: people and keys come and go, and so does the root."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from sopctl import bootstrap, cli, clock, history, people, register, signing, trust
from sopctl.errors import ConfigError, GateRefused, SopctlError, UsageError
from sopctl.loading import from_yaml
from sopctl.models import RoleHolding, TrustFile
from sopctl.site import Site
from tests.support.case_site import CaseSite

OLD = "2020-01-01T00:00:00Z"
FAR = "2999-01-01T00:00:00Z"


def load(site: CaseSite, known_roots: int = 0) -> trust.Trust:
    return trust.load_trust(site.root, Site(site.root).config.site, clock.now(), 0, known_roots)


def read(site: CaseSite) -> TrustFile:
    path = site.root / "trust/trust.yml"
    return from_yaml(TrustFile, path.read_bytes(), path)


def sop(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), *words])


def resign(site: CaseSite, key: Path | None = None, **more: object) -> None:
    bootstrap.sign_trust(Site(site.root), key or site.builder.root_key, 366, **more)  # type: ignore[arg-type]


def new_key(folder: Path, name: str) -> Path:
    bootstrap.make_key(folder / name, name, False)
    return folder / name


def reasons(believed: trust.Trust, site: CaseSite, person: str, *times: str) -> list[str]:
    signature = signing.sign(b"isi", "sop-document", site.keys / person)
    return believed.reasons(b"isi", signature, "sop-document", person, [person], list(times))


# --- revocation ------------------------------------------------------------------------------------------------------


def test_revoked_key_counts_for_what_was_received_before(site: CaseSite, tmp_path: Path) -> None:
    believed = load(site)
    begun = believed.person("kabid").keys[0].since
    moment = clock.plus(begun, hours=2)
    people.revoke(Site(site.root), "kabid", None, moment)
    with pytest.raises(GateRefused, match="the trust is not signed"):
        load(site)
    resign(site)
    believed = load(site)
    mark = signing.fingerprint((site.keys / "kabid.pub").read_text())
    before, after = clock.plus(moment, seconds=-1), moment
    said = [f"key {mark} of kabid was revoked from {moment} on"]
    assert reasons(believed, site, "kabid", begun, before) == []
    assert reasons(believed, site, "kabid", after) == said
    assert reasons(believed, site, "kabid", before, after) == said, "the document's own time does not help"
    assert reasons(believed, site, "kadis", after) == []
    assert believed.key_holder(believed.person("kabid").keys[0].key, after) is None


def test_ssh_keygen_knows_the_revocation(site: CaseSite, tmp_path: Path) -> None:
    """allowed_signers alone judges the second before and the second of the revocation as we do."""
    begun = load(site).person("kabid").keys[0].since
    moment = clock.plus(begun, hours=2)
    people.revoke(Site(site.root), "kabid", None, moment)
    resign(site)
    signature = tmp_path / "isi.sig"
    signature.write_bytes(signing.sign(b"isi", "sop-document", site.keys / "kabid"))

    def verify(at: str) -> int:
        command = ["ssh-keygen", "-Y", "verify", "-n", "sop-document", "-I", "kabid", "-s", str(signature)]
        command += [
            "-f",
            str(site.root / "trust/allowed_signers"),
            "-O",
            f"verify-time={at.translate(str.maketrans('', '', '-:T'))}",
        ]
        return subprocess.run(command, input=b"isi", capture_output=True, check=False).returncode

    assert verify(clock.plus(moment, seconds=-1)) == 0
    assert verify(moment) != 0
    people.revoke(Site(site.root), "kabid", None, OLD)
    resign(site)
    assert "kabid" not in [line.split()[0] for line in (site.root / "trust/allowed_signers").read_text().splitlines()]


def test_revocation_is_of_the_key_not_of_an_entry(site: CaseSite) -> None:
    """A second entry of the same key, still unrevoked, does not bring it back."""

    def twice(file: TrustFile) -> TrustFile:
        kabid = next(one for one in file.people if one.id == "kabid")
        keys = [kabid.keys[0], changed(kabid.keys[0], revoked=clock.now())]
        return changed(file, people=[changed(one, keys=keys) if one is kabid else one for one in file.people])

    site.retrust(twice)
    assert "was revoked" in reasons(load(site), site, "kabid", clock.now())[0]


def test_revoke_by_fingerprint(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = new_key(tmp_path, "kedua")
    assert sop(site, "trust", "add", "kabid", "--role", "kabid", "--key", f"{other}.pub") == 0
    mark = signing.fingerprint(Path(f"{other}.pub").read_text())
    assert sop(site, "trust", "revoke", "kabid", "--key", "SHA256:lain") == 2
    assert mark in capsys.readouterr().err
    assert sop(site, "trust", "revoke", "kabid", "--key", mark) == 0
    assert f"key {mark} of kabid is revoked from" in capsys.readouterr().out
    assert [bool(key.revoked) for key in next(one for one in read(site).people if one.id == "kabid").keys] == [
        False,
        True,
    ]
    assert sop(site, "trust", "revoke", "kabid", "--key", mark, "--from", FAR) == 2
    assert "are revoked already" in capsys.readouterr().err
    assert sop(site, "trust", "add", "kabid", "--role", "kabid", "--key", f"{other}.pub") == 2
    assert "was revoked from" in capsys.readouterr().err
    assert sop(site, "trust", "revoke", "hantu") == 2
    assert sop(site, "trust", "revoke", "kabid", "--from", "besok") == 2


def test_end_of_a_role(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    moment = clock.plus(load(site).person("rangkap").roles[0].since, hours=1)
    assert sop(site, "trust", "end", "rangkap", "--role", "kabid", "--from", moment, "--json") == 0
    assert json.loads(capsys.readouterr().out)["changes"] == [
        f"rangkap holds kabid until {clock.plus(moment, seconds=-1)}"
    ]
    resign(site)
    believed = load(site)
    person = believed.person("rangkap")
    assert believed.has_role(person, "kabid", clock.plus(moment, seconds=-1))
    assert not believed.has_role(person, "kabid", moment)
    assert believed.has_role(person, "pelaksana", moment)
    assert sop(site, "trust", "end", "rangkap", "--role", "kabid", "--from", moment) == 2
    assert sop(site, "trust", "end", "rangkap") == 0
    resign(site)
    believed = load(site)
    assert not any(believed.has_role(believed.person("rangkap"), role, clock.now()) for role in ("kabid", "pelaksana"))
    assert sop(site, "trust", "add", "rangkap", "--role", "kabid") == 0, "and comes back"
    resign(site)
    believed = load(site)
    assert believed.has_role(believed.person("rangkap"), "kabid", clock.now())
    assert len(believed.person("rangkap").roles) == 4, "the ended one stays"


def test_add_again_prolongs(site: CaseSite) -> None:
    before = next(one for one in read(site).people if one.id == "kabid")
    assert (
        sop(site, "trust", "add", "kabid", "--role", "kabid", "--key", str(site.keys / "kabid.pub"), "--days", "900")
        == 0
    )
    after = next(one for one in read(site).people if one.id == "kabid")
    assert (len(after.roles), len(after.keys), after.jabatan) == (1, 1, before.jabatan)
    assert after.roles[0].until > before.roles[0].until
    assert after.keys[0].until > before.keys[0].until
    assert sop(site, "trust", "add", "baru", "--role", "kabid") == 2, "a new person has a position"


def test_reserved_roles(site: CaseSite) -> None:
    for role in ("loket", "pemilik-data", "pengurus-aset"):
        assert sop(site, "trust", "add", "kabid", "--role", role) == 0
    resign(site)
    assert load(site).has_role(load(site).person("kabid"), "pengurus-aset", clock.now())


# --- nobody is taken out ---------------------------------------------------------------------------------------------


def _without(name: str) -> Callable[[TrustFile], TrustFile]:
    return lambda file: changed(file, people=[one for one in file.people if one.id != name])


def _write(site: CaseSite, change: Callable[[TrustFile], TrustFile]) -> None:
    bootstrap.write_trust(site.root, change(read(site)))


def test_a_person_cannot_vanish(site: CaseSite) -> None:
    serial = read(site).serial
    _write(site, _without("robot"))
    with pytest.raises(UsageError, match="person 'robot' of serial 2 is gone") as caught:
        resign(site)
    assert "trust end robot" in caught.value.hint
    assert read(site).serial == serial
    with pytest.raises(UsageError, match="person 'hantu' was not in the trust"):
        resign(site, forget=["hantu"])
    resign(site, forget=["robot"])
    assert "robot" not in [one.id for one in load(site).file.people]


def test_a_key_cannot_vanish(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = signing.public_line(signing.key_blob(Path(f"{new_key(tmp_path, 'kedua')}.pub").read_text(), "test"))

    def exchanged(file: TrustFile) -> TrustFile:
        kabid = next(one for one in file.people if one.id == "kabid")
        keys = [changed(kabid.keys[0], key=other)]
        return changed(file, people=[changed(one, keys=keys) if one is kabid else one for one in file.people])

    _write(site, exchanged)
    assert sop(site, "trust", "sign", "--key", str(site.builder.root_key)) == 2
    mark = signing.fingerprint((site.keys / "kabid.pub").read_text())
    assert f"trust revoke kabid --key {mark}" in capsys.readouterr().err
    assert sop(site, "trust", "sign", "--key", str(site.builder.root_key), "--forget-person", "kabid") == 0


# --- history ---------------------------------------------------------------------------------------------------------


def walked(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = sop(site, "trust", "verify", "--json")
    return code, json.loads(capsys.readouterr().out)


def rules(value: dict[str, object]) -> list[str]:
    assert isinstance(value["findings"], list)
    return [f"{one['file']} {one['rule']}" for one in value["findings"]]


def test_verify_tells_what_each_serial_changed(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    moment = clock.plus(clock.now(), hours=1)
    people.revoke(Site(site.root), "robot", None, moment)
    people.end(Site(site.root), "robot", None, moment)
    _write(site, lambda file: changed(file, policy=changed(file.policy, break_glass=True)))
    site.edit("sop.yml", "Asia/Jakarta", "Asia/Makassar")
    resign(site)
    resign(site)
    code, value = walked(site, capsys)
    assert (code, rules(value)) == (0, [])
    steps = value["history"]
    assert isinstance(steps, list)
    assert [step["serial"] for step in steps] == [1, 2, 3, 4]
    assert "kabid: added, Kepala Bidang Aptika" in steps[0]["changes"]
    assert "rangkap: added, Staf" in steps[1]["changes"]
    mark = signing.fingerprint((site.keys / "robot.pub").read_text())
    ends = [line for line in steps[2]["changes"] if line.startswith("robot: role pelaksana ends ")]
    assert len(ends) == 1
    rest = [line for line in steps[2]["changes"] if line not in ends]
    assert rest[:2] == [f"robot: key {mark} revoked from {moment} on", "policy break_glass: false → true"]
    assert [line.split(":")[0] for line in rest[2:]] == ["sop.yml timezone"]
    assert steps[3]["changes"] == []
    assert value["serial"] == 4
    assert sop(site, "trust", "verify") == 0
    assert "nothing changed: renewed" in capsys.readouterr().out


def _gone(site: CaseSite) -> None:
    (site.root / "trust/history/1.yml").unlink()


def _spoilt(site: CaseSite) -> None:
    site.edit("trust/history/1.yml", "Kepala Bidang Aptika", "Kepala Bidang Lain")


def _by_another(site: CaseSite) -> None:
    path = site.root / "trust/history/1.yml"
    path.with_name("1.yml.sig").write_bytes(signing.sign(path.read_bytes(), "sop-trust", site.keys / "kabid"))


def _other_first(site: CaseSite) -> None:
    """The root signed another serial 1 (another branch), which the second does not follow."""
    path = site.root / "trust/history/1.yml"
    path.write_text(path.read_text().replace("Kepala Bidang Aptika", "Kepala Bidang Lain"))
    path.with_name("1.yml.sig").write_bytes(signing.sign(path.read_bytes(), "sop-trust", site.builder.root_key))


def _swapped(site: CaseSite) -> None:
    for end in ("yml", "yml.sig"):
        shutil.copy(site.root / f"trust/history/2.{end}", site.root / f"trust/history/1.{end}")


@pytest.mark.parametrize(
    ("spoil", "code", "found"),
    [
        (_gone, 0, ["trust/history/1.yml version-missing"]),
        (_spoilt, 30, ["trust/history/1.yml version-signature"]),
        (_by_another, 30, ["trust/history/1.yml version-signature"]),
        (_swapped, 30, ["trust/history/1.yml version-signature"]),
        (_other_first, 30, ["trust/history/1.yml version-other", "trust/history/2.yml version-chain"]),
    ],
)
def test_history_that_does_not_hold(
    spoil: Callable[[CaseSite], None], code: int, found: list[str], site: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(site)
    got, value = walked(site, capsys)
    assert (got, rules(value)) == (code, found)


def test_ledger_knows_what_was_in_force(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    resign(site)
    assert site.session.trust.file.serial == 3
    site.retrust(lambda file: file)
    assert site.session.trust.file.serial == 4
    steps, findings = history.walk(site.root, load(site), {3: "sha256:" + "0" * 64})
    assert len(steps) == 4
    assert [finding.rule for finding in findings] == ["version-other"]


def test_signing_broken_off_is_made_good(site: CaseSite) -> None:
    """The version in force is kept even when the command died before it kept it."""
    for end in ("yml", "yml.sig"):
        (site.root / f"trust/history/2.{end}").unlink()
    people.end(Site(site.root), "robot", None, None)
    assert history.serials(site.root) == [1, 2]
    resign(site)
    assert load(site).file.serial == 3
    assert load(site).file.prev == history.read_version(site.root, 2, load(site).roots).digest


def test_nothing_is_signed_over_a_gap(site: CaseSite) -> None:
    people.end(Site(site.root), "robot", None, None)
    shutil.rmtree(site.root / "trust/history")
    with pytest.raises(ConfigError, match="says serial 2, but the newest signed version that is kept is none"):
        resign(site)


def test_older_trust_is_not_signed_on(site: CaseSite) -> None:
    with pytest.raises(GateRefused, match="trust serial 2 is older than 7"):
        resign(site, seen=7)


# --- delegates -------------------------------------------------------------------------------------------------------


def test_delegate_stands_for_two(site: CaseSite) -> None:
    now = clock.now()
    until = clock.plus(now, days=30)
    words = ["trust", "add", "rangkap", "--role", "kadis", "--kind", "plh", "--acting-for", "kadis", "--until", until]
    assert sop(site, *words) == 0
    assert (
        sop(
            site,
            "trust",
            "add",
            "robot",
            "--role",
            "kadis",
            "--kind",
            "plt",
            "--acting-for",
            "rangkap",
            "--until",
            until,
        )
        == 0
    )
    resign(site)
    believed = load(site)
    later = clock.plus(until, seconds=1)
    assert believed.persons_behind("rangkap", "kadis", until) == {"rangkap", "kadis"}
    assert believed.persons_behind("robot", "kadis", until) == {"robot", "rangkap", "kadis"}
    assert believed.persons_behind("rangkap", "kadis", later) == {"rangkap"}
    assert believed.persons_behind("rangkap", "kabid", until) == {"rangkap"}
    assert believed.persons_behind("hantu", "kabid", until) == {"hantu"}
    assert believed.has_role(believed.person("rangkap"), "kadis", until)
    assert not believed.has_role(believed.person("rangkap"), "kadis", later)
    assert [believed.delegate_mark(one, "kadis", until) for one in ("kadis", "rangkap", "robot")] == [
        "",
        "Plh.",
        "Plt.",
    ]
    assert believed.delegate_mark(believed.person("rangkap"), "kadis", later) == ""


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--kind", "plt"], "a plt has an end"),
        (["--kind", "plt", "--until", "2999-01-01T00:00:00Z"], "is longer than 366 days"),
        (["--kind", "plh", "--from", OLD, "--until", "2020-04-01T00:00:00Z"], "is longer than 90 days"),
        (["--kind", "plh", "--from", OLD, "--until", "2020-02-01T00:00:00Z", "--acting-for", "rangkap"], "themselves"),
        (["--kind", "plh", "--from", OLD, "--until", "2020-02-01T00:00:00Z", "--acting-for", "hantu"], "'hantu', whom"),
        (["--acting-for", "kadis"], "is held definitif and for kadis"),
        (["--until", OLD], "before it begins"),
        (["--until", "akhir tahun"], "is not a time"),
    ],
)
def test_delegate_that_is_none(
    words: list[str], problem: str, site: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read(site)
    assert sop(site, "trust", "add", "rangkap", "--role", "kadis", *words) == 2
    assert problem in capsys.readouterr().err
    assert read(site) == before


def test_two_may_hold_one_role(site: CaseSite) -> None:
    file = read(site)
    kadis = next(one for one in file.people if one.id == "kadis")
    held = RoleHolding("kabid", kadis.roles[0].since, kadis.roles[0].until)
    trust.check_trust_file(
        changed(file, people=[changed(one, roles=[*one.roles, held]) for one in file.people]), Path("trust.yml")
    )


# --- the root --------------------------------------------------------------------------------------------------------


@pytest.fixture
def rolled(site: CaseSite, tmp_path: Path) -> Path:
    """A site whose root was rolled over and whose trust the new root has signed; returns the new root key."""
    new = new_key(tmp_path, "akar-baru")
    bootstrap.roll_over(Site(site.root), site.builder.root_key, new)
    with pytest.raises(GateRefused, match="signed by a root that root 1 has replaced"):
        load(site)
    resign(site, new)
    return new


def test_roll_over(site: CaseSite, rolled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    believed = load(site, known_roots=1)
    assert believed.file.serial == 3
    assert [link.ref for link in believed.roots.links] == ["root/1"]
    assert believed.roots.unseen({}) == list(believed.roots.links)
    assert believed.roots.unseen({"root/1": believed.roots.links[0].root}) == []
    assert len(trust.roots(site.root).keys()) == 2
    with pytest.raises(GateRefused, match="signed by a root that root 1 has replaced"):
        resign(site)
    assert load(site).digest == believed.digest, "and nothing was written"
    code, value = walked(site, capsys)
    assert (code, rules(value)) == (0, [])
    assert isinstance(value["history"], list)
    assert value["history"][2]["changes"][0].startswith("root key SHA256:")


def test_twice_over_and_by_command(site: CaseSite, rolled: Path, tmp_path: Path) -> None:
    third = new_key(tmp_path, "akar-ketiga")
    words = ["trust", "roll-over", "--old-root-key", str(rolled), "--new-root-key"]
    assert sop(site, *words, str(third)) == 0
    assert sop(site, "trust", "sign", "--key", str(rolled)) == 10
    assert sop(site, "trust", "sign", "--key", str(third)) == 0
    assert load(site, known_roots=2).file.serial == 4
    assert sop(site, *words, str(tmp_path / "tidak-ada")) == 2
    assert sop(site, *words, str(site.builder.root_key)) == 2, "a root that was left"
    assert sop(site, *words, str(site.keys / "kabid")) == 2, "a person's key"
    assert sop(site, *words, str(new_key(tmp_path, "akar-keempat"))) == 10, "signed by a root that was left"
    assert sorted(path.name for path in (site.root / "trust/roots").iterdir()) == [
        "1.pub",
        "1.pub.sig",
        "2.pub",
        "2.pub.sig",
    ]


def test_new_root_may_be_pinned(site: CaseSite, rolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone: then it does not vouch for the old one. Beside the old one: both verify what they signed."""
    line = bootstrap.root_line(Path(f"{rolled}.pub"))
    (tmp_path / "pin").write_text(line)
    old = trust.root_pin().keys
    monkeypatch.setenv("SOPCTL_ROOT", str(tmp_path / "pin"))
    assert load(site, known_roots=1).file.serial == 3
    assert not old & trust.roots(site.root).keys()
    (tmp_path / "pin").write_text(line + Path(site.builder.env["SOPCTL_ROOT"]).read_text())
    assert old < trust.roots(site.root).keys()
    assert load(site).file.serial == 3
    assert not old & trust.roots(site.root).in_force()


def test_lost_root_is_followed_by_the_pin(
    site: CaseSite, rolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the newest root key is lost, a further pinned key signs; what the others signed still verifies."""
    other = new_key(tmp_path, "akar-lain")
    pin = Path(site.builder.env["SOPCTL_ROOT"]).read_text() + bootstrap.root_line(Path(f"{other}.pub"))
    (tmp_path / "pin").write_text(pin)
    monkeypatch.setenv("SOPCTL_ROOT", str(tmp_path / "pin"))
    resign(site, other)
    assert load(site, known_roots=1).file.serial == 4
    assert len(trust.roots(site.root).keys()) == 3
    assert history.walk(site.root, load(site), {})[1] == []


def test_stolen_root_is_left_by_the_pin(
    site: CaseSite, rolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the newest root is in a thief's hands, a further pinned key says who follows."""
    pinned, following = new_key(tmp_path, "akar-lain"), new_key(tmp_path, "akar-sesudahnya")
    with pytest.raises(GateRefused, match="the new root is signed by a key that is not the pinned root"):
        bootstrap.roll_over(Site(site.root), pinned, following)
    pin = Path(site.builder.env["SOPCTL_ROOT"]).read_text() + bootstrap.root_line(Path(f"{pinned}.pub"))
    (tmp_path / "pin").write_text(pin)
    monkeypatch.setenv("SOPCTL_ROOT", str(tmp_path / "pin"))
    bootstrap.roll_over(Site(site.root), pinned, following)
    with pytest.raises(GateRefused, match="has replaced"):
        resign(site, rolled)
    resign(site, following)
    assert load(site, known_roots=2).file.serial == 4
    assert history.walk(site.root, load(site), {})[1] == []
    monkeypatch.setenv("SOPCTL_ROOT", site.builder.env["SOPCTL_ROOT"])
    with pytest.raises(GateRefused, match="root 2 is not signed by root 1"):
        load(site)


def test_old_root_signs_no_more(site: CaseSite, rolled: Path) -> None:
    """A thief of the old key signs a trust of the next serial: refused, however it is put there."""
    path = site.root / "trust/trust.yml"
    data = path.read_bytes().replace(b"serial: 3", b"serial: 4")
    path.write_bytes(data)
    path.with_name("trust.yml.sig").write_bytes(signing.sign(data, "sop-trust", site.builder.root_key))
    with pytest.raises(GateRefused, match="signed by a root that root 1 has replaced"):
        load(site)


def test_history_knows_the_old_root(site: CaseSite, rolled: Path) -> None:
    """A version that the old root signed behind one of the new root's."""
    resign(site, rolled)
    resign(site, rolled)
    kept = site.root / "trust/history/4.yml"
    kept.with_name("4.yml.sig").write_bytes(signing.sign(kept.read_bytes(), "sop-trust", site.builder.root_key))
    _, findings = history.walk(site.root, load(site), {})
    assert [(finding.file, finding.rule) for finding in findings] == [("trust/history/4.yml", "version-root")]


def _fall_back(site: CaseSite, _: Path) -> None:
    shutil.rmtree(site.root / "trust/roots")
    for end in ("yml", "yml.sig"):
        shutil.copy(site.root / f"trust/history/2.{end}", site.root / f"trust/trust.{end}")


def _no_signature(site: CaseSite, _: Path) -> None:
    (site.root / "trust/roots/1.pub.sig").unlink()


def _stray(site: CaseSite, _: Path) -> None:
    (site.root / "trust/roots/catatan.txt").write_text("x")


def _stray_signature(site: CaseSite, _: Path) -> None:
    (site.root / "trust/roots/2.pub.sig").write_text("x")


def _gap(site: CaseSite, _: Path) -> None:
    for end in ("pub", "pub.sig"):
        shutil.copy(site.root / f"trust/roots/1.{end}", site.root / f"trust/roots/3.{end}")


def _link(site: CaseSite, _: Path) -> None:
    path = site.root / "trust/roots/1.pub"
    path.rename(site.root / "1.pub")
    path.symlink_to(site.root / "1.pub")


def _folder_link(site: CaseSite, _: Path) -> None:
    path = site.root / "trust/roots"
    path.rename(site.root / "roots")
    path.symlink_to(site.root / "roots")


def _edited(site: CaseSite, new: Path) -> None:
    site.edit("trust/roots/1.pub", "root ", "root2 ")


def _put(site: CaseSite, number: int, key: Path, by: Path, text: str = "", namespace: str = "sop-trust") -> None:
    path = site.root / f"trust/roots/{number}.pub"
    path.write_text(text or bootstrap.root_line(Path(f"{key}.pub")))
    path.with_name(path.name + ".sig").write_bytes(signing.sign(path.read_bytes(), namespace, by))  # type: ignore[arg-type]


def _by_nobody(site: CaseSite, _: Path) -> None:
    _put(site, 1, site.keys / "kabid", site.keys / "kabid")


def _second_by_first(site: CaseSite, _: Path) -> None:
    _put(site, 2, site.keys / "kabid", site.builder.root_key)


def _other_namespace(site: CaseSite, new: Path) -> None:
    _put(site, 1, new, site.builder.root_key, namespace="sop-document")


def _back_again(site: CaseSite, new: Path) -> None:
    _put(site, 2, site.builder.root_key, new)


def _two_keys(site: CaseSite, new: Path) -> None:
    lines = bootstrap.root_line(Path(f"{new}.pub")) + bootstrap.root_line(site.keys / "kabid.pub")
    _put(site, 1, new, site.builder.root_key, lines)


@pytest.mark.parametrize(
    ("spoil", "problem", "file"),
    [
        (_fall_back, "root 1 of 1 is gone", "1.pub"),
        (_no_signature, "no such file", "1.pub.sig"),
        (_stray, "does not belong to the chain of roots", "catatan.txt"),
        (_stray_signature, "does not belong to the chain of roots", "2.pub.sig"),
        (_gap, "does not belong to the chain of roots", "3.pub"),
        (_link, "is a link", "1.pub"),
        (_folder_link, "is not a folder", "roots"),
        (_edited, "root 1's signature is not valid", "1.pub.sig"),
        (_by_nobody, "root 1 was a root before", "1.pub"),
        (_second_by_first, "root 2 is not signed by root 1", "2.pub.sig"),
        (_other_namespace, "signed for namespace 'sop-document'", "1.pub.sig"),
        (_back_again, "root 2 was a root before", "2.pub"),
        (_two_keys, "holds more than one key", "1.pub"),
    ],
)
def test_chain_that_does_not_hold(
    spoil: Callable[[CaseSite, Path], None], problem: str, file: str, site: CaseSite, rolled: Path
) -> None:
    spoil(site, rolled)
    with pytest.raises(SopctlError) as caught:
        load(site, known_roots=1)
    assert problem in caught.value.message
    assert caught.value.where.endswith(file)


def test_chain_of_another_root(site: CaseSite, rolled: Path, tmp_path: Path) -> None:
    """A chain that begins with a key that nobody pinned."""
    first, second = new_key(tmp_path, "satu"), new_key(tmp_path, "dua")
    _put(site, 1, second, first)
    with pytest.raises(GateRefused, match="does not begin at the pinned root"):
        load(site)


def test_ledger_knows_the_root(site: CaseSite, rolled: Path, tmp_path: Path) -> None:
    """Who stole the old root key cannot have another root follow it, nor take the files away."""
    known = {"root/1": load(site).roots.links[0].root}
    thief = new_key(tmp_path, "maling")
    _put(site, 1, thief, site.builder.root_key)
    with pytest.raises(GateRefused, match="root/1 is not the one that was in force before"):
        trust.roots(site.root).unseen(known)
    shutil.rmtree(site.root / "trust/roots")
    with pytest.raises(GateRefused, match="root/1 is gone"):
        trust.roots(site.root).unseen(known)


# --- settings and the run key ----------------------------------------------------------------------------------------


def test_trust_is_signed_over_settings_and_run_key(site: CaseSite) -> None:
    file = load(site).file
    assert register.settings_reasons(file, Site(site.root).config) == []
    public = (site.root / "trust/run.pub").read_text()
    assert file.run_keys == [" ".join(public.split()[:2])]
    private = site.root / "secrets/run-key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert signing.verify(b"grant", signing.sign(b"grant", "sop-grant", private), "sop-grant") == file.run_keys[0]
    assert sorted(path.name for path in (site.root / "secrets").iterdir()) == ["run-key", "vault-password"]


def test_run_key_is_replaced(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    before = load(site).file.run_keys
    assert sop(site, "trust", "run-key") == 2
    assert "--replace" in capsys.readouterr().err
    assert sop(site, "trust", "run-key", "--replace") == 0
    assert load(site).file.run_keys == before, "until it is signed"
    resign(site)
    assert len(load(site).file.run_keys) == 1
    assert load(site).file.run_keys != before
    (site.root / "trust/run.pub").unlink()
    capsys.readouterr()
    assert sop(site, "trust", "sign", "--key", str(site.builder.root_key)) == 0
    assert "no trust/run.pub" in capsys.readouterr().err
    assert load(site).file.run_keys == []
