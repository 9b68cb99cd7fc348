# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.models: a wrong key, anywhere, is named with file, line, path and the nearest key that exists."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sopctl import loading, models
from sopctl.errors import ConfigError
from sopctl.models import Dataset, Document, Record, Schedule, Server, TrustFile
from sopctl.profile import Profile, shipped
from sopctl.settings import SiteConfig

SITE = """\
schema: sop-site/v1
site: 7c1f
profile: trenggalek-060-017-2023
timezone: Asia/Jakarta
agency:
  kode: diskominfo
  nama: Dinas
vault:
  url: /srv/vault
  password:
    file: secrets/vault
policy:
  approval_days: 7
"""
SERVER = """\
schema: sop-server/v1
id: db01
inventory_hostname: db01
reviewed:
  at: 2026-05-04
  by: kabid
"""
DATASET = """\
schema: sop-dataset/v1
id: simpeg
name: Data pegawai
engine: postgresql
server: db01
owner_unit: BKD
classification: rahasia
database: simpeg
connection:
  port: 5432
services:
  - name: web
    server: web01
    health:
      url: http://web01/
"""
SCHEDULE = """\
schema: sop-schedule/v1
site: 7c1f
profile: trenggalek-060-017-2023
valid:
  since: 2026-01-01T00:00:00Z
  until: 2027-01-01T00:00:00Z
entries:
  - dataset: simpeg
    every: P1M
"""
TRUST = """\
schema: sop-trust/v1
site: 7c1f
serial: 1
prev: null
issued: 2026-01-01T00:00:00Z
valid_until: 2027-01-01T00:00:00Z
profiles: {}
people:
  - id: kabid
    jabatan: Kepala Bidang
    roles:
      - role: kabid
        since: 2026-01-01T00:00:00Z
        until: 2027-01-01T00:00:00Z
    keys:
      - key: ssh-ed25519 AAAA
        since: 2026-01-01T00:00:00Z
        until: 2027-01-01T00:00:00Z
"""
PROFILE = shipped()["trenggalek"].read_text(encoding="utf-8")
FILES: dict[str, tuple[type[Record], str]] = {
    "sop.yml": (SiteConfig, SITE),
    "db01.yml": (Server, SERVER),
    "simpeg.yml": (Dataset, DATASET),
    "schedule.yml": (Schedule, SCHEDULE),
    "trust.yml": (TrustFile, TRUST),
    "trenggalek-060-017-2023.yml": (Profile, PROFILE),
}


def problem(name: str, text: str) -> ConfigError:
    kind, _ = FILES[name]
    with pytest.raises(ConfigError) as caught:
        loading.from_yaml(kind, text.encode(), Path(name))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", FILES)
def test_good_file(name: str) -> None:
    kind, text = FILES[name]
    assert isinstance(loading.from_yaml(kind, text.encode(), Path(name)), kind)


#: file, line that is replaced, what by, place that the message names, the key that it offers
UNKNOWN = [
    ("sop.yml", "timezone: Asia/Jakarta", "timezone: Asia/Jakarta\ninventori: x", "sop.yml:5:inventori", "inventory"),
    ("sop.yml", "  kode: diskominfo", "  kode: diskominfo\n  namaa: x", "sop.yml:7:agency.namaa", "nama"),
    ("sop.yml", "    file: secrets/vault", "    fille: secrets/vault", "sop.yml:11:vault.password.fille", "file"),
    ("sop.yml", "  approval_days: 7", "  approval_day: 7", "sop.yml:13:policy.approval_day", "approval_days"),
    ("db01.yml", "id: db01", "id: db01\nmachineid: x", "db01.yml:3:machineid", "machine_id"),
    ("db01.yml", "  by: kabid", "  by: kabid\n  results: x", "db01.yml:7:reviewed.results", "result"),
    ("simpeg.yml", "owner_unit: BKD", "owner_unit: BKD\nclasification: x", "simpeg.yml:7:clasification", "classification"),
    ("simpeg.yml", "  port: 5432", "  prot: 5432", "simpeg.yml:10:connection.prot", "port"),
    ("simpeg.yml", "      url: http://web01/", "      uri: http://web01/", "simpeg.yml:15:services.0.health.uri", "url"),
    ("schedule.yml", "    every: P1M", "    evry: P1M", "schedule.yml:9:entries.0.evry", "every"),
    ("schedule.yml", "  until: 2027", "  untill: 2027", "schedule.yml:6:valid.untill", "until"),
    ("trust.yml", "serial: 1", "serial: 1\nvalid_untill: x", "trust.yml:4:valid_untill", "valid_until"),
    ("trust.yml", "      - role: kabid", "      - roles: kabid", "trust.yml:12:people.0.roles.0.roles", "role"),
    ("trust.yml", "      - key: ssh", "      - keys: ssh", "trust.yml:16:people.0.keys.0.keys", "key"),
    (
        "trenggalek-060-017-2023.yml",
        "        nomor: \"3\"",
        "        nommor: \"3\"",
        "trenggalek-060-017-2023.yml:51:flows.restore.steps.2.nommor",
        "nomor",
    ),
    (
        "trenggalek-060-017-2023.yml",
        "  pelaksana: {title: Pejabat",
        "  pelaksana: {titel: Pejabat",
        "trenggalek-060-017-2023.yml:29:roles.pelaksana.titel",
        "title",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "place", "near"), UNKNOWN)
def test_unknown_key(name: str, old: str, new: str, place: str, near: str) -> None:
    text = FILES[name][1]
    assert old in text
    error = problem(name, text.replace(old, new, 1))
    key = place.rpartition(":")[2].rpartition(".")[2]
    assert (error.message, error.hint) == (f"unknown key {key!r}", f"Did you mean {near!r}?")
    assert column_is_right(error.where, text.replace(old, new, 1)) == place


def column_is_right(where: str, text: str) -> str:
    """``where`` without its column, at which the key must stand."""
    file, line, column, keys = where.split(":", 3)
    assert text.splitlines()[int(line) - 1][int(column) - 1 :].startswith(keys.rpartition(".")[2])
    return f"{file}:{line}:{keys}"


def test_unlike_any_key_points_to_the_documentation() -> None:
    error = problem("sop.yml", SITE + "zzzzzzzz: 1\n")
    assert (error.where, error.message) == ("sop.yml:14:1:zzzzzzzz", "unknown key 'zzzzzzzz'")
    assert "docs/reference/site-files.md" in error.hint


@pytest.mark.parametrize(
    ("name", "line", "key"),
    [
        ("sop.yml", "timezone: Asia/Jakarta\n", "timezone"),
        ("sop.yml", "  url: /srv/vault\n", "url"),
        ("db01.yml", "inventory_hostname: db01\n", "inventory_hostname"),
        ("db01.yml", "  by: kabid\n", "by"),
        ("simpeg.yml", "engine: postgresql\n", "engine"),
        ("schedule.yml", "  until: 2027-01-01T00:00:00Z\n", "until"),
        ("trust.yml", "serial: 1\n", "serial"),
        ("trust.yml", "    jabatan: Kepala Bidang\n", "jabatan"),
    ],
)
def test_missing_key(name: str, line: str, key: str) -> None:
    text = FILES[name][1]
    assert line in text
    error = problem(name, text.replace(line, "", 1))
    assert error.message == f"key {key!r} is missing"
    assert error.where.startswith(name)


@pytest.mark.parametrize(
    ("name", "old", "new", "place", "why"),
    [
        ("sop.yml", "kode: diskominfo", "kode: 35", "sop.yml:6:agency.kode", "Expected `str`, got `int`"),
        ("sop.yml", "approval_days: 7", "approval_days: tujuh", "sop.yml:13:policy.approval_days", "Expected `int`"),
        ("sop.yml", "approval_days: 7", "approval_days: 0", "sop.yml:13:policy.approval_days", ">= 1"),
        ("sop.yml", "approval_days: 7", "approval_days: -7", "sop.yml:13:policy.approval_days", ">= 1"),
        (
            "sop.yml",
            "approval_days: 7",
            "asset_review: ya",
            "sop.yml:13:policy.asset_review",
            "Invalid enum value 'ya'",
        ),
        ("sop.yml", "schema: sop-site/v1", "schema: sop-site/v2", "sop.yml:1:schema", "Invalid enum value"),
        ("simpeg.yml", "  port: 5432", "  port: '5432'", "simpeg.yml:10:connection.port", "Expected `int | null`"),
        ("simpeg.yml", "classification: rahasia", "classification: sangat", "simpeg.yml:7:classification", "sangat"),
        ("schedule.yml", "every: P1M", "every: 1", "schedule.yml:9:entries.0.every", "Expected `str`"),
        ("trust.yml", "serial: 1", "serial: satu", "trust.yml:3:serial", "Expected `int`"),
        ("trust.yml", "profiles: {}", "profiles: {a: 1}", "trust.yml:7:profiles.a", "Expected `str`"),
        ("trust.yml", "profiles: {}", "profiles: {a: 1, b: 2}", "trust.yml:7:profiles", "Expected `str`"),
    ],
)
def test_wrong_type(name: str, old: str, new: str, place: str, why: str) -> None:
    text = FILES[name][1].replace(old, new, 1)
    error = problem(name, text)
    assert column_is_right(error.where, text) == place
    assert why in error.message


@pytest.mark.parametrize("text", ["[]", "kata", "null", "1"])
@pytest.mark.parametrize("name", FILES)
def test_not_a_mapping(name: str, text: str) -> None:
    assert problem(name, text).where == name


def test_documents_refuse_unknown_keys_too() -> None:
    with pytest.raises(ConfigError, match="unknown key 'extra'"):
        loading.load_json(Document, b'{"schema": "sop/document/v1", "extra": 1}', Path("01-request.json"))


@pytest.mark.parametrize("value", ["", "a", "A1", "a_b", "a b", "é1", "../x", "a" * 33, "ab\n"])
def test_not_an_id(value: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        loading.check_id(value, "x.yml:id")


@pytest.mark.parametrize("value", ["", "-x", "../x", "a/b", "A", "x" * 65, ".x", "x\n"])
def test_not_a_profile_id(value: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        loading.check_profile_id(value, "sop.yml:profile")


def test_what_we_write_we_read() -> None:
    for name, (kind, text) in FILES.items():
        record = loading.from_yaml(kind, text.encode(), Path(name))
        written = yaml.safe_dump(models.to_json(record), allow_unicode=True, sort_keys=False)
        assert loading.from_yaml(kind, written.encode(), Path(name)) == record, name
