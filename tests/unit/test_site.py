# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.site: finding a site, and a register and secrets that say what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sopctl import cli, fsio, plan, register
from sopctl import site as sites
from sopctl.access import secrets
from sopctl.errors import ConfigError, SopctlError, UsageError
from sopctl.models import SecretRef, to_json
from sopctl.site import Site, find_site
from tests.support.case_site import SERVICE, CaseSite


def registered(site: CaseSite) -> None:
    """Everything that a command reads of a site."""
    found = Site(site.root)
    _ = (found.tz, found.profile, found.servers, found.datasets)
    found.schedule()


def dataset(**values: Any) -> Callable[[CaseSite], None]:
    return lambda site: site.change_yaml("register/datasets/antrean.yml", **values)


def server(**values: Any) -> Callable[[CaseSite], None]:
    return lambda site: site.change_yaml("register/servers/srv01.yml", **values)


def schedule(**values: Any) -> Callable[[CaseSite], None]:
    return lambda site: site.change_yaml("schedule.yml", **values)


def settings(old: str, new: str) -> Callable[[CaseSite], None]:
    return lambda site: site.edit("sop.yml", old, new)


CHECK = {"name": "isi", "query": "SELECT count(*) FROM antrean", "expect": "200"}


def _named_twice(site: CaseSite) -> None:
    path = site.root / "register/datasets/antrean.yml"
    path.with_suffix(".yaml").write_bytes(path.read_bytes())


WRONG: list[tuple[Callable[[CaseSite], None], str, str]] = [
    (settings("Asia/Jakarta", "Asia/Trenggalek"), "sop.yml:timezone", "time zone 'Asia/Trenggalek' is unknown"),
    (settings("profile: trenggalek-060-017-2023", "profile: lain"), "sop.yml:profile", "profile 'lain' is not there"),
    (settings("profile: trenggalek-060", "profile: ../trenggalek-060"), "sop.yml:profile", "is not allowed"),
    (dataset(engine="oracle"), "antrean.yml:engine", "engine 'oracle' is unknown"),
    (dataset(path="srv/app"), "antrean.yml:path", "is not a plain absolute path below a folder"),
    (dataset(path="/srv/../etc/x"), "antrean.yml:path", "is not a plain absolute path below a folder"),
    (dataset(path="/srv/app/"), "antrean.yml:path", "is not a plain absolute path below a folder"),
    (dataset(path="/srv"), "antrean.yml:path", "is not a plain absolute path below a folder"),
    (dataset(path=None), "antrean.yml:path", "engine sqlite needs 'path'"),
    (dataset(engine="postgresql", path=None), "antrean.yml:database", "engine postgresql needs 'database'"),
    (dataset(connection={"port": 5432}), "antrean.yml:connection", "engine sqlite takes no connection"),
    (dataset(server="srv09"), "antrean.yml:server", "server 'srv09' is not in the asset register"),
    (dataset(drill="srv09"), "antrean.yml:drill", "server 'srv09' is not in the asset register"),
    (settings("  verify: restore", "  drill: srv09"), "sop.yml:policy.drill", "server 'srv09' is not in the asset"),
    (dataset(services=[{**SERVICE, "server": "srv09"}]), "antrean.yml:services.web", "server 'srv09' is not in"),
    (dataset(services=[{**SERVICE, "manager": "systemd"}]), "antrean.yml:services.web", "needs 'unit'"),
    (dataset(services=[{**SERVICE, "stop": None}]), "antrean.yml:services.web", "needs 'start', 'stop' and 'status'"),
    (dataset(services=[SERVICE, SERVICE]), "antrean.yml:services.web", "stands there twice"),
    (dataset(max_downtime="30 menit"), "antrean.yml:max_downtime", "is not a duration"),
    (dataset(checks=[CHECK, CHECK]), "antrean.yml:checks[1]", "check 'isi' stands there twice"),
    (dataset(checks=[{**CHECK, "query": "SELECT 1; DROP TABLE t"}]), "antrean.yml:checks[1].query", "must be one line"),
    (dataset(checks=[{**CHECK, "query": "SELECT 1 \\! id"}]), "antrean.yml:checks[1].query", "without backslash"),
    (dataset(checks=[{**CHECK, "query": "SELECT 1\nFROM t"}]), "antrean.yml:checks[1].query", "must be one line"),
    (dataset(engine="files", checks=[CHECK]), "antrean.yml:checks", "engine files takes no checks"),
    (dataset(id="lain"), "antrean.yml:id", "id 'lain' differs from the file's name"),
    (dataset(id="Antrean"), "antrean.yml:id", "id 'Antrean' is not allowed"),
    (_named_twice, "antrean.yaml", "register entries end in .yml"),
    (server(inventory_hostname="srv02"), "register/servers", "'srv02' stands in two entries (srv01, srv02)"),
    (server(reviewed={"at": "kemarin", "by": "kabid"}), "srv01.yml:reviewed.at", "'kemarin' is not a date"),
    (server(id="srv1"), "srv01.yml:id", "id 'srv1' differs from the file's name"),
    (schedule(entries=[{"dataset": "lain"}]), "schedule.yml:entries", "dataset 'lain' is not in the register"),
    (
        schedule(entries=[{"dataset": "antrean", "every": "P1D"}, {"dataset": "antrean"}]),
        "schedule.yml:entries",
        "dataset 'antrean' stands there twice",
    ),
    (
        schedule(entries=[{"dataset": "antrean", "every": "bulanan"}]),
        "schedule.yml:entries[1].every",
        "'bulanan' is neither a period nor a cron expression",
    ),
    (
        schedule(entries=[{"dataset": "antrean", "every": "0 3 1 1 *"}]),
        "schedule.yml:entries[1].every",
        "antrean is backed up less often than the SOP asks (0 3 1 1 *; P1M)",
    ),
    (
        schedule(entries=[{"dataset": "antrean", "jenis": "bulanan penuh"}]),
        "schedule.yml:entries[1].jenis",
        "is not safe as a file name",
    ),
    (
        schedule(entries=[{"dataset": "antrean", "every": "P1D", "window": {"hours": "22:00-04:00", "days": ["sat"]}}]),
        "schedule.yml:entries[1]",
        "the window of antrean is closed in some of its periods (P1D; 22:00-04:00 on sat)",
    ),
    (schedule(window={"hours": "22-04"}), "schedule.yml:window.hours", "'22-04' is no window"),
    (
        schedule(entries=[{"dataset": "antrean", "window": {"hours": "22:00-04:00", "days": ["sabtu"]}}]),
        "schedule.yml:entries[1].window.days",
        "are not the days of a window",
    ),
    (
        schedule(valid={"since": "2026", "until": "9999"}),
        "schedule.yml:valid.since",
        "'2026' is not a time",
    ),
]


def test_a_large_register_is_read_by_others_alike(site: CaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """In portions, by other processes: the same entries in the same order, and the same words about the first wrong one."""
    entry = json.loads((site.root / "register/servers/srv01.yml").read_text(encoding="utf-8"))
    for number in range(40):
        name = f"srv-{number:03}"
        path = site.root / f"register/servers/{name}.yml"
        path.write_text(json.dumps({**entry, "id": name, "inventory_hostname": name}), encoding="utf-8")
    here = Site(site.root)
    assert len(here.servers) > 40
    monkeypatch.setattr(sites, "MANY", 0)
    monkeypatch.setattr(sites, "PORTION", 3)
    there = Site(site.root)
    assert (list(there.servers.items()), there.register_bytes) == (list(here.servers.items()), here.register_bytes)
    for number in (7, 21):
        (site.root / f"register/servers/srv-{number:03}.yml").write_text("id: [", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        _ = Site(site.root).servers
    assert "srv-007.yml:1:" in caught.value.where


@pytest.mark.parametrize(("spoil", "place", "problem"), WRONG)
def test_wrong_register(
    spoil: Callable[[CaseSite], None], place: str, problem: str, site: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(site)
    spoil(site)
    with pytest.raises(ConfigError) as caught:
        registered(site)
    assert problem in caught.value.message
    assert place in caught.value.where
    capsys.readouterr()
    code = cli.run(["-C", str(site.root), "schedule", "run", "--due", "--as", "pelaksana"])
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1), said
    assert problem in said


def test_unknown_dataset_names_the_known(site: CaseSite) -> None:
    with pytest.raises(UsageError, match="dataset 'simpeg' is not in the register") as caught:
        Site(site.root).dataset("simpeg")
    assert caught.value.hint == "Registered: antrean, berkas."


def test_server_without_identity_is_no_target(site: CaseSite) -> None:
    site.change_yaml("register/servers/srv01.yml", machine_id=None)
    with pytest.raises(ConfigError, match="has no machine_id") as caught:
        plan.host_of(Site(site.root), "srv01")
    assert caught.value.where == "register/servers/srv01.yml:machine_id"


def test_linked_register_file_is_refused(site: CaseSite) -> None:
    path = site.root / "register/servers/srv01.yml"
    path.rename(site.root / "elsewhere.yml")
    path.symlink_to(site.root / "elsewhere.yml")
    with pytest.raises(ConfigError, match="is a link"):
        registered(site)


# --- finding it ------------------------------------------------------------------------------------------------------


def test_find(site: CaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = site.root / "cases/2026"
    monkeypatch.chdir(deep if deep.is_dir() else site.root / "cases")
    assert find_site() == site.root
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no site found"):
        find_site()
    monkeypatch.setenv("SOPCTL_SITE", str(site.root))
    assert find_site() == site.root
    with pytest.raises(UsageError, match="not a site: it has no sop") as caught:
        find_site(str(tmp_path))
    assert caught.value.where == f"-C {tmp_path}"
    monkeypatch.setenv("SOPCTL_SITE", str(tmp_path))
    with pytest.raises(UsageError, match="not a site"):
        find_site()
    assert find_site(str(site.root)) == site.root


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(site: CaseSite) -> Path:
    path = site.root / "secrets/db"
    path.write_text("rahasia sekali\n")
    path.chmod(0o600)
    return path


def ask(site: CaseSite, ref: SecretRef, **words: str) -> str | None:
    return Site(site.root).secret(ref, "register/datasets/simpeg.yml:connection.password", words)


def test_secret_of_a_file_and_of_a_command(site: CaseSite, secret: Path) -> None:
    assert ask(site, SecretRef(file="secrets/db")) == "rahasia sekali"
    assert ask(site, SecretRef(file="secrets/{server}"), server="db") == "rahasia sekali"
    assert ask(site, SecretRef(command=["cat", "secrets/{server}"]), server="db") == "rahasia sekali"
    assert Site(site.root).secret(None, "x") is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_secret_open_to_others(mode: int, site: CaseSite, secret: Path) -> None:
    secret.chmod(mode)
    with pytest.raises(ConfigError, match="secret file is open to others") as caught:
        ask(site, SecretRef(file="secrets/db"))
    assert caught.value.hint == f"chmod 600 {secret}"


@pytest.mark.parametrize(
    ("ref", "problem"),
    [
        (SecretRef(), "a secret needs 'file' or 'command'"),
        (SecretRef(file="secrets/none"), "no such file"),
        (SecretRef(file="secrets/empty"), "the secret is empty"),
        (SecretRef(file="secrets/{host}"), "uses an unknown word"),
        (SecretRef(file="secrets/{"), "uses an unknown word"),
        (SecretRef(command=["cat", "{host}"]), "uses an unknown word"),
        (SecretRef(command=["no-such-program"]), "secret command cannot start"),
        (SecretRef(command=["false"]), "secret command exited 1"),
        (SecretRef(command=["true"]), "the secret is empty"),
    ],
)
def test_secret_that_is_none(ref: SecretRef, problem: str, site: CaseSite, secret: Path) -> None:
    (secret.parent / "empty").write_text("\n")
    (secret.parent / "empty").chmod(0o600)
    with pytest.raises(SopctlError, match=problem) as caught:
        ask(site, ref)
    assert isinstance(caught.value, ConfigError)
    assert "rahasia" not in str(caught.value)


# --- the vault's address ---------------------------------------------------------------------------------------------


def vault(site: CaseSite, **values: Any) -> None:
    text = (site.root / "sop.yml").read_text(encoding="utf-8")
    at = text.index("vault:")
    end = text.index("# Words:")
    lines = {"url": "rest:https://vault01:8000/{server}/", "password": {"file": "secrets/vault-password"}, **values}
    (site.root / "sop.yml").write_text(f"{text[:at]}vault: {json.dumps(lines)}\n{text[end:]}", encoding="utf-8")


def test_vault_address_holds_user_and_password(site: CaseSite, secret: Path) -> None:
    secret.write_text("p@ss/w:rd%?\n")
    vault(site, user="{server}", user_password={"file": "secrets/db"})
    session = site.session
    access = session.vault_access("srv01")
    assert access["repository"] == "rest:https://srv01:p%40ss%2Fw%3Ard%25%3F@vault01:8000/srv01/"
    plan_: Any = {"items": [{"server": "srv01", "dataset": {"id": "antrean"}}]}
    redactor = session.redactor(plan_)
    for text in ("p@ss/w:rd%?", access["repository"], access["password"]):
        assert redactor.finds(text.encode()), text


def test_vault_address_below_the_site(site: CaseSite) -> None:
    vault(site, url="vault/{server}")
    assert site.session.vault_access("srv01")["repository"] == str(site.root / "vault/srv01")


@pytest.mark.parametrize(
    ("values", "problem", "place"),
    [
        ({"url": "/srv/{host}"}, "uses an unknown word", "sop.yml:vault.url"),
        ({"url": "/srv/{"}, "uses an unknown word", "sop.yml:vault.url"),
        ({"user": "{host}"}, "uses an unknown word", "sop.yml:vault.user"),
        ({"user": "sop"}, "needs 'user_password'", "sop.yml:vault.user"),
        ({"ca_file": "trust/none.pem"}, "no such file", "trust/none.pem"),
    ],
)
def test_vault_that_cannot_be_addressed(values: dict[str, Any], problem: str, place: str, site: CaseSite) -> None:
    vault(site, **values)
    with pytest.raises(ConfigError, match=problem) as caught:
        site.session.vault_access("srv01")
    assert place in caught.value.where


DOOR = {
    "host": "vault01",
    "user": "sop-vault-door",
    "key": {"file": "secrets/door"},
    "host_key": "ssh-ed25519 AAAA",
    "secret": {"file": "secrets/vault-password"},
}


def test_door_beside_a_lasting_password(site: CaseSite, secret: Path) -> None:
    vault(site, user="{server}", user_password={"file": "secrets/db"}, door=DOOR)
    with pytest.raises(ConfigError, match="exclude each other") as caught:
        site.session.vault_access("srv01")
    assert caught.value.where.endswith("sop.yml:vault.door")


@pytest.mark.parametrize("changed", [{"lease": 59}, {"lease": 3601}, {"port": 0}, {"password": "x"}])
def test_door_as_it_cannot_be(changed: dict[str, Any], site: CaseSite) -> None:
    vault(site, user="{server}", door={**DOOR, **changed})
    with pytest.raises(ConfigError, match=r"lease|port|password"):
        site.session.vault_access("srv01")


def test_keys_that_came_later_change_no_digest_where_they_are_not_set(site: CaseSite) -> None:
    """A trust that was signed before there were doors and copies holds on."""
    config = site.session.site.config
    first = ("url", "password", "user", "user_password", "ca_file", "media", "server", "path")
    values = {key: to_json(config.vault)[key] for key in first}
    assert register.settings_digests(config)["vault"] == fsio.sha256_bytes(fsio.canonical_json(values))


def test_a_user_in_the_address_is_no_secret(site: CaseSite) -> None:
    """Taken for one, `root` would be cut out of every record, or stop the run as too short."""
    vault(site, url="sftp://root@127.0.0.1:2222//srv/{server}")
    access = site.session.vault_access("srv01")
    assert secrets(access) == {access["password"]}


def test_trust_is_signed_over_the_door(site: CaseSite) -> None:
    """Each of its keys decides who could let servers in; a site without one has the digest that it had."""
    seen = set()
    for door in (None, DOOR, {**DOOR, "host_key": "ssh-ed25519 BBBB"}, {**DOOR, "lease": 60}):
        vault(site, user="{server}", **({"door": door} if door else {}))
        seen.add(register.settings_digests(site.session.site.config)["vault"])
    assert len(seen) == 4
