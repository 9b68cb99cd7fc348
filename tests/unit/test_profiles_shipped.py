# SPDX-License-Identifier: Apache-2.0
"""The shipped SOPs word for word, the published schema, and the documentation's own profile."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from sopctl import cli, fsio, procedure, yamls
from sopctl.models import Record
from sopctl.profile import load_profile, shipped
from sopctl.profile_schema import MEANING, json_schema
from tests.tools import profile_schema

ROOT = Path(__file__).parents[2]
HOW_TO = (ROOT / "docs/how-to/write-a-profile.md").read_text(encoding="utf-8")
PROFILES = sorted(set(shipped().values()))
#: the tables as the agencies issued them: number, text, time
KALTIM = [
    (
        "1",
        "OPD Mengajukan surat permohonan Back-up / Restore database server di Diskominfo Prov. Kaltim, dengan memberikan daftar spesifikasi server / aplikasi/dan data-data lainnya yang akan di back-up dan di Restore",
        None,
    ),
    (
        "2",
        "Administrator Memverifikasi dan mendisposisikan ke Pengawas Infrastruktur TIK dilanjutkan kepada Tim Personil data Center (Pengelola & Pemeriksa TIK) untuk proses Back-up / Restore database",
        "PT15M",
    ),
    (
        "3",
        "Pengelola TIK Merencanakan pelaksanaan Back-up / Restore Database server sesuai ketersediaan kapasitas dan Menginformasikan kepada pemohon",
        "PT1H",
    ),
    ("4", "Pengelola TIK Melaksanakan proses Back-up / Restore Database sesuai perencanaan", "P1D"),
    ("5", "Pemeriksa TIK Mengkonfirmasi hasil pelaksanaan proses Back-up/ Restore Database", "PT15M"),
]
TRENGGALEK = [
    ("1", "Membuat surat dan mengisi formulir permintaan restore data"),
    ("2", "Mendisposisi permintaan restore data kepada Kabid Aptika"),
    (
        "3",
        "Melakukan verifikasi jenis dan kewenangan data: - Jika disetujui, maka lanjut tahap selanjutnya - Jika tidak, maka permintaan ditolak",
    ),
    ("4", "Mematikan web service yang ada di server sehingga tidak ada transaksi"),
    ("5", "Membuat proses restore data pada data terbaru"),
    ("6", "Mengaktifkan kembali web service pada server"),
    ("6", "Menginformasikan status kerusakan kepada Pemohon"),
    ("7", "Menerima informasi status aduan kerusakan data"),
    ("1", "Melakukan back up sesuai dengan jadwal yang telah ditetapkan"),
    ("2", "Memastikan proses back up berhasil dilakukan"),
    ("3", "Memberi nama back up sesuai dengan ketentuan"),
    ("4", "Mengamankan hasil backup"),
    ("5", "Mengisi formulir pelaksanaan back up"),
    ("6", "Menerima dan memeriksa formulir back up"),
]


def test_kaltim_word_for_word() -> None:
    flow = load_profile(shipped()["kaltim"]).profile.flow("backup_restore")
    assert [(step.nomor, step.text, step.sla) for step in flow.steps if not step.source] == KALTIM
    assert [step.id for step in flow.steps if step.source] == ["k2r"], "the SOP has no row for a rejection"


def test_trenggalek_word_for_word() -> None:
    flows = load_profile(shipped()["trenggalek"]).profile.flows
    assert [(step.nomor, step.text) for flow in flows.values() for step in flow.steps] == TRENGGALEK
    assert {step.sla for flow in flows.values() for step in flow.steps} == {"P1D"}


def test_kaltim_keeps_apart_who_must_be() -> None:
    profile = load_profile(shipped()["kaltim"]).profile
    assert {frozenset(rule.differ) for rule in profile.sod} >= {
        frozenset({"pengelola", "pemeriksa"}),
        frozenset({"pemohon", "administrator"}),
        frozenset({"administrator", "pengelola"}),
    }
    assert all(rule.source == "inferred" for rule in profile.sod)
    assert profile.flow("backup_restore").variants == ["backup", "restore"]
    assert (profile.flow_for("backup"), profile.flow_for("restore"), profile.schedule_flow()) == (
        "backup_restore",
        "backup_restore",
        None,
    )


@pytest.mark.parametrize(
    ("name", "by", "ratify"), [("kaltim", "pengelola", "administrator"), ("trenggalek", "pelaksana", "kabid")]
)
def test_emergencies_are_our_reading(name: str, by: str, ratify: str) -> None:
    glass = load_profile(shipped()[name]).profile.break_glass
    assert glass is not None
    assert (glass.by, glass.hours, glass.ratify, glass.source) == ([by], 4, ratify, "inferred")


@pytest.mark.parametrize("name", ["kaltim", "trenggalek"])
def test_a_site_begins_with_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    assert cli.run(["init", str(site), "--profile", name]) == 0
    capsys.readouterr()
    assert cli.run(["-C", str(site), "profile", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["profile"] == shipped()[name].stem
    assert shown["digest"] == fsio.sha256_bytes((site / f"profiles/{shown['profile']}.yml").read_bytes())


# the schema ----------------------------------------------------------------------------------------------------


def _errors(value: Any) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with ansible-lint")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def _read(path: Path) -> Any:
    return yamls.parse_yaml_strict(path.read_bytes(), str(path))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_shipped_profiles_hold_to_the_schema(path: Path) -> None:
    assert _errors(_read(path)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda value: value.update(flow={}), "'flow' was unexpected"),
        (lambda value: value["flows"]["restore"]["steps"][0].update(oleh=["pemohon"]), "'oleh' was unexpected"),
        (lambda value: value["flows"]["restore"]["steps"][0].update(act="approve"), "'approve' is not one of"),
        (lambda value: value["flows"]["restore"]["steps"][0].pop("text"), "'text' is a required property"),
        (lambda value: value.update(schema="sop-profile/v2"), "'sop-profile/v1' was expected"),
        (lambda value: value["break_glass"].update(hours=100), "not valid under any"),
        (lambda value: value["records"]["surat"].update(must_have=["tanda_tangan"]), "'tanda_tangan' is not one of"),
        (lambda value: value["flows"]["restore"]["steps"][3]["run"].update(restore=["reboot"]), "'reboot' is not one"),
        (lambda value: value.update(authority={"internal": ["kabid"]}), "'internal' is not one of"),
    ],
)
def test_a_broken_profile_does_not(change: Any, problem: str) -> None:
    value = _read(shipped()["trenggalek"])
    change(value)
    assert any(problem in message for message in _errors(value)), _errors(value)


def test_every_key_has_its_meaning() -> None:
    definitions = json_schema()["$defs"]
    assert {name: list(one["properties"]) for name, one in definitions.items()}.keys() == MEANING.keys()
    for name, one in definitions.items():
        assert set(one["properties"]) == set(MEANING[name]), name
        assert one["additionalProperties"] is False, name
        assert issubclass(getattr(__import__("sopctl.profile", fromlist=[name]), name), Record)


def test_schema_and_reference_are_generated(capsys: pytest.CaptureFixture[str]) -> None:
    hint = "run: python -m tests.tools.profile_schema"
    assert profile_schema.SCHEMA.read_text(encoding="utf-8") == profile_schema.schema_text(), hint
    page = profile_schema.PAGE.read_text(encoding="utf-8")
    assert page == profile_schema.page_text(page), hint
    assert cli.run(["profile", "schema"]) == 0
    assert capsys.readouterr().out == profile_schema.schema_text()


# the how-to ----------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The how-to's YAML, in a folder of its own that is the current one."""
    blocks = re.findall(r"```yaml\n(.*?)```", HOW_TO, re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "contoh-001-2026.yml"
    path.write_text(blocks[0], encoding="utf-8")
    return path


def _consoles() -> list[tuple[list[str], str]]:
    """Commands that the how-to shows with what they say."""
    blocks = re.findall(r"```console\n(.*?)```", HOW_TO, re.DOTALL)
    shown = [block.partition("\n") for block in blocks if block.count("$ ") == 1]
    return [(shlex.split(command)[2:], said) for command, _, said in shown]


def test_how_to_check_says_what_is_shown(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (good, said_good), (bad, said_bad) = _consoles()
    assert cli.run(good) == 0
    out, err = capsys.readouterr()
    assert re.sub("sha256:[0-9a-f]+", "sha256:…", out + err) == said_good
    text = example.read_text(encoding="utf-8")
    example.write_text(text.replace("approve: p3,", "approve: p33,"), encoding="utf-8")
    assert cli.run(bad) == 2
    assert capsys.readouterr().err == said_bad


def test_how_to_profile_goes_into_a_site(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Step 7 as it stands: the profile is in force once the root key has signed it."""
    site, key = tmp_path / "site", tmp_path / "root"
    monkeypatch.setenv("SOPCTL_ROOT", f"{key}.allowed")
    assert cli.run(["trust", "init", "--root-key", str(key), "--no-passphrase"]) == 0
    assert cli.run(["init", str(site), "--profile", "trenggalek"]) == 0
    (site / "profiles" / example.name).write_bytes(example.read_bytes())
    for file, old, new in (
        ("sop.yml", r"^profile: \S+", "profile: contoh-001-2026"),
        ("trust/trust.yml", r"^profiles:\n.*?(?=^\S)", 'profiles: {contoh-001-2026: ""}\n'),
    ):
        text = (site / file).read_text(encoding="utf-8")
        changed, count = re.subn(old, new, text, count=1, flags=re.MULTILINE | re.DOTALL)
        assert count == 1
        (site / file).write_text(changed, encoding="utf-8")
    at = ["-C", str(site)]
    assert cli.run([*at, "trust", "add", "operator", "--role", "operator", "--jabatan", "Pranata Komputer"]) == 0
    assert cli.run([*at, "trust", "sign", "--key", str(key)]) == 0
    trust = (site / "trust/trust.yml").read_text(encoding="utf-8")
    assert f"contoh-001-2026: {fsio.sha256_bytes(example.read_bytes())}" in trust
    capsys.readouterr()
    assert cli.run([*at, "profile", "show"]) == 0
    assert "Memulihkan data" in capsys.readouterr().out


def test_how_to_draws_what_its_table_says(example: Path) -> None:
    table = procedure.procedure(load_profile(example).profile, "pemulihan")
    rows = re.findall(r"^\| (\d) \| (.*?) \|", HOW_TO, re.MULTILINE)
    assert [(row.nomor, row.kegiatan) for row in table.rows if not row.inferred] == rows
    assert table.columns == ["OPD", "Kepala Seksi", "Operator"]
