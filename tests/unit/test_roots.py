# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.roots, trust and bootstrap: one root key follows another, and the one that was left stays left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sopctl import bootstrap, cli, clock, history, signing, trust
from sopctl.errors import GateRefused, SopctlError
from sopctl.signing import Namespace
from sopctl.site import Site
from tests.support.case_site import CaseSite


def load(site: CaseSite, known_roots: int = 0) -> trust.Trust:
    return trust.load_trust(site.root, Site(site.root).config.site, clock.now(), 0, known_roots)


def sop(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), *words])


def resign(site: CaseSite, key: Path) -> None:
    bootstrap.sign_trust(Site(site.root), key, 366)


def new_key(folder: Path, name: str) -> Path:
    bootstrap.make_key(folder / name, name, False)
    return folder / name


@pytest.fixture
def rolled(site: CaseSite, tmp_path: Path) -> Path:
    """A site whose root was rolled over and whose trust the new root has signed; returns the new root key."""
    new = new_key(tmp_path, "akar-baru")
    bootstrap.roll_over(Site(site.root), site.builder.root_key, new)
    with pytest.raises(GateRefused, match="signed by a root that root 1 has replaced"):
        load(site)
    resign(site, new)
    return new


def test_roll_over(site: CaseSite, rolled: Path) -> None:
    believed = load(site, known_roots=1)
    assert believed.file.serial == 3
    assert [link.ref for link in believed.roots.links] == ["root/1"]
    assert believed.roots.unseen({}) == list(believed.roots.links)
    assert believed.roots.unseen({"root/1": believed.roots.links[0].root}) == []
    assert len(trust.roots(site.root).keys()) == 2
    with pytest.raises(GateRefused, match="signed by a root that root 1 has replaced"):
        resign(site, site.builder.root_key)
    assert load(site).digest == believed.digest, "and nothing was written"
    steps, findings = history.walk(site.root, believed, {})
    assert findings == []
    assert steps[2].changes[0].startswith("root key SHA256:")


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


def _put(site: CaseSite, number: int, key: Path, by: Path, text: str = "", namespace: Namespace = "sop-trust") -> None:
    path = site.root / f"trust/roots/{number}.pub"
    path.write_text(text or bootstrap.root_line(Path(f"{key}.pub")))
    path.with_name(path.name + ".sig").write_bytes(signing.sign(path.read_bytes(), namespace, by))


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


def test_session_enters_the_root_into_the_ledger(site: CaseSite, rolled: Path) -> None:
    """And so the files of the chain can be taken away no more, not even with an older trust that fits."""
    assert site.session.trust.file.serial == 3
    assert [line.ref for line in site.ledger.lines() if line.kind == "root"] == ["root/1"]
    _fall_back(site, rolled)
    with pytest.raises(GateRefused, match="root 1 of 1 is gone"):
        print(site.session.trust)
