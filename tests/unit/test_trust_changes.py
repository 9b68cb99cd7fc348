# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.trust, roots, history, people and bootstrap: people and keys come and go, and so does the root."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from sopctl import bootstrap, cli, clock, history, people, signing, trust
from sopctl.errors import ConfigError, GateRefused, UsageError
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
