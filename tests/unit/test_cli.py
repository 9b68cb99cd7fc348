# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.cli: help everywhere, one line an error, documented exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sopctl import cli
from sopctl.cli import main_group
from sopctl.errors import ExitCode
from tests.support.case_site import CaseSite


def commands(group: click.Group = main_group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands())
#: the demo tells a story; every command that it shows has --json itself
LEAVES = [name for name, command in ALL.items() if not isinstance(command, click.Group) and name != "demo"]


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_says_what_it_is_for(name: str) -> None:
    command = ALL[name]
    assert command.help, f"{name} has no help"
    assert command.help.splitlines()[0].endswith((".", ":")), command.help.splitlines()[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name} has no help"


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in ALL[name].params)


@pytest.mark.parametrize("name", ["", *ALL])
def test_help_is_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*name.split(), "--help"]) == 0
    assert "Usage: sopctl" in capsys.readouterr().out


def test_exit_codes_are_documented() -> None:
    assert main_group.help is not None
    told = " ".join(main_group.help.split())
    for code in ExitCode:
        assert f"{int(code)} " in told, f"exit code {code} is not in sopctl --help"


# --- errors ----------------------------------------------------------------------------------------------------------


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.run(words)
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return code, said.err


def one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code, said = run(words, capsys)
    assert said.count("\n") == 1, said
    return code, said


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["case", "show", "RST-2026-0999"], 2, "case RST-2026-0999 does not exist"),
        (["case", "show", "x"], 2, "'x' is not a case id"),
        (["case", "execute", "CASE", "--as", "kadis"], 10, "execution (step 4) is for pelaksana"),
        (["case", "execute", "CASE"], 2, "who acts?"),
        (["case", "execute", "CASE", "--as", "pelaksana", "--key", "/nonexistent"], 2, "the key file does not exist"),
        (["case", "execute", "CASE", "--as", "kabid\x1b[31m"], 2, "\\x1b"),
        (["case", "decide", "CASE", "--reason", "x", "--as", "kabid"], 2, "say which"),
        (["case", "decide", "CASE", "--approve", "--reject", "--reason", "x", "--as", "kabid"], 2, "say which"),
        (["case", "decide", "CASE", "--approve", "--as", "kabid"], 2, "Missing option '--reason'"),
        (["case", "request", "hapus"], 2, "'hapus' is not one of"),
        (["case", "show"], 2, "Missing argument 'CASE'"),
        (["case", "hapus"], 2, "No such command 'hapus'"),
        (["case", "list", "--warna"], 2, "No such option"),
        (["hapus"], 2, "No such command 'hapus'"),
        (["record", "show", "X"], 2, "record 'X' does not exist"),
        (["record", "verify", "X"], 2, "record 'X' does not exist"),
        (["record", "verify", "--archive", "/nonexistent"], 2, "the archive does not exist"),
        (["schedule", "run", "--as", "pelaksana"], 2, "Give --due"),
        (["schedule", "run", "--dataset", "simpeg", "--as", "pelaksana"], 2, "dataset 'simpeg' is not in the register"),
        (["trust", "add", "x", "--role", "kabid", "--jabatan", "y"], 2, "id 'x' is not allowed"),
        (["trust", "add", "baru", "--role", "raja", "--jabatan", "y"], 2, "role 'raja' is not in the profile"),
        (["trust", "add", "baru", "--role", "kabid", "--jabatan", "y", "--key", "/none"], 2, "does not exist"),
        (["trust", "add", "baru", "--role", "kabid", "--jabatan", "y", "--days", "99999999"], 2, "--days"),
        (["trust", "add", "baru", "--role", "kabid", "--jabatan", "y", "--days", "-1"], 2, "--days"),
        (["trust", "sign", "--key", "/nonexistent"], 2, "the root key does not exist"),
        (["trust", "sign", "--key", "ROOT", "--days", "99999999"], 2, "--days"),
        (["init", "SITE", "--profile", "trenggalek"], 2, "the folder is not empty"),
        (["init", "NEW", "--profile", "jakarta"], 2, "profile 'jakarta' is unknown"),
    ],
)
def test_every_error_is_one_line(
    words: list[str], code: int, expected: str, site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "CASE": site.case,
        "SITE": str(site.root),
        "NEW": str(tmp_path / "new"),
        "ROOT": str(site.builder.root_key),
    }
    got, said = one_line(["-C", str(site.root), *(places.get(word, word) for word in words)], capsys)
    assert (got, expected in said) == (code, True), said
    assert said.startswith("sopctl: ")


def test_errors_as_json(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["case", "execute", site.case, "--as", "kadis", "--json"], ["--json", "case", "show", "x"]):
        code, said = one_line(["-C", str(site.root), *words], capsys)
        assert json.loads(said)["exit"] == code
    code, said = one_line(["-C", str(site.root), "case", "hapus", "--json"], capsys)
    assert json.loads(said)["exit"] == code == 2


def test_no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOPCTL_SITE", raising=False)
    code, said = one_line(["case", "list"], capsys)
    assert (code, "no site found" in said) == (2, True)
    code, said = one_line(["-C", str(tmp_path), "case", "list"], capsys)
    assert (code, "not a site" in said) == (2, True)


def test_what_nobody_foresaw_is_one_line_too(
    site: CaseSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("dua\nbaris")

    monkeypatch.setattr("sopctl.overview.waiting", broken)
    code, said = one_line(["-C", str(site.root), "next"], capsys)
    assert (code, "unexpected ZeroDivisionError: dua baris" in said) == (1, True)
    monkeypatch.setenv("SOPCTL_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.run(["-C", str(site.root), "next"])


def test_system_errors_name_the_file(
    site: CaseSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/srv/x")

    monkeypatch.setattr("sopctl.overview.waiting", broken)
    assert one_line(["-C", str(site.root), "next"], capsys) == (
        1,
        "sopctl: error: failed: /srv/x: Permission denied\n",
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_interrupted(
    error: type[BaseException], site: CaseSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("sopctl.overview.waiting", broken)
    assert run(["-C", str(site.root), "next"], capsys)[0] == 130


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["case", "list"],
        ["case", "next"],
        ["next"],
        ["record", "list"],
        ["schedule", "status"],
        ["trust", "verify"],
        ["paths"],
        ["record", "verify"],
        ["record", "show", "BKP-2020-0001-01"],
        ["case", "show", "CASE"],
    ],
)
def test_results_for_people_and_programs(words: list[str], site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    words = [site.case if word == "CASE" else word for word in words]
    assert cli.run(["-C", str(site.root), *words]) == 0
    assert capsys.readouterr().out.strip()
    for places in (["-C", str(site.root), *words, "--json"], ["--json", "-C", str(site.root), *words]):
        assert cli.run(places) == 0
        json.loads(capsys.readouterr().out)


def test_overdue(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.edit(
        "schedule.yml", json.loads((site.root / "schedule.yml").read_text())["valid"]["since"], "2020-01-01T00:00:00Z"
    )
    assert cli.run(["-C", str(site.root), "schedule", "status"]) == 31


def test_doctor_names_what_is_bad(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    (site.root / "trust/trust.yml.sig").unlink()
    assert cli.run(["-C", str(site.root), "doctor"]) == 2
    assert "BAD  trust: refused" in capsys.readouterr().out
