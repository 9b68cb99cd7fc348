# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.monitoring: what Prometheus and Nagios are told of a site, and that nothing is changed by asking."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sopctl import cli, clock, locks, monitoring, standing, vault
from sopctl.monitoring import State, Watched
from tests.support.case_site import CaseSite

PERFORMANCE = re.compile(r"[a-z]+=\d+(;\d*){0,2}")


def ask(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), *words])


def measures(text: str) -> dict[tuple[str, str], float]:
    """(name without its prefix, label's value) → value, as Prometheus' own parser reads it."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            [label] = list(sample.labels.values()) or [""]
            found[(sample.name.removeprefix("sopctl_"), label)] = sample.value
    return found


def test_metrics(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in site.root.rglob("*") if path.is_file()}
    assert ask(site, "metrics") == 0
    printed = capsys.readouterr().out
    found = measures(printed)
    [antrean] = [each for each in standing.schedule_status(site.session) if each.entry.dataset == "antrean"]
    assert antrean.done
    assert found["backup_verified_timestamp_seconds", "antrean"] == clock.parse(antrean.done.started).timestamp()
    assert found["backup_size_bytes", "antrean"] == antrean.done.bytes
    for name, value in (("verified", 1), ("due", 0), ("overdue", 0), ("missed_periods", 0), ("duration_seconds", 0)):
        assert found[f"backup_{name}", "antrean"] == value, name
    assert found["order_holds", ""] == 1
    assert found["ends_timestamp_seconds", "trust"] > found["looked_timestamp_seconds", ""]
    assert ask(site, "metrics", "--to", str(tmp_path / "sopctl.prom")) == 0
    written = measures((tmp_path / "sopctl.prom").read_text(encoding="utf-8"))
    assert set(written) == set(found)
    assert (tmp_path / "sopctl.prom").stat().st_mode & 0o777 == 0o644
    assert {path: path.stat().st_mtime_ns for path in site.root.rglob("*") if path.is_file()} == before
    assert ask(site, "metrics", "--to", str(tmp_path / "lain/sopctl.prom")) == 2
    capsys.readouterr()
    assert ask(site, "metrics", "--json") == 0
    told = {
        (each["name"].removeprefix("sopctl_"), *each["labels"].values()) for each in json.loads(capsys.readouterr().out)
    }
    assert told == {tuple(filter(None, key)) for key in found}


def test_what_was_never_verified(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    """No time of nothing: an absent measure is what Prometheus alarms on, and `backup_verified` says it too."""
    shutil.rmtree(site.root / "archive/records")
    assert ask(site, "metrics") == 0
    found = measures(capsys.readouterr().out)
    assert ("backup_verified_timestamp_seconds", "antrean") not in found
    assert (found["backup_verified", "antrean"], found["backup_due", "antrean"]) == (0, 1)


def watched(site: CaseSite) -> Watched:
    """The site, with what is wrong with the test's site taken away."""
    return replace(monitoring.watch(site.session), reviews=[], ends={}, unconfirmed=[], broken=[], stale=[], order=[])


def test_all_is_well(site: CaseSite) -> None:
    state, line = monitoring.nagios(watched(site))
    assert state is State.OK
    words, numbers = line.split(" | ")
    assert words == "SOPCTL OK - 2 of 2 datasets have a verified backup"
    assert all(PERFORMANCE.fullmatch(each) for each in numbers.split()), numbers


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({"order": ["nobody | signed it"]}, State.CRITICAL, "the standing order does not hold (nobody / signed it)"),
        ({"broken": ["RST-2026-0001"]}, State.CRITICAL, "RST-2026-0001 cannot be believed"),
        ({"ends": {"trust": "2026-11-20T00:00:00Z"}}, State.CRITICAL, "the trust ended on 2026-11-20"),
        ({"ends": {"trust": "2026-12-20T00:00:00Z"}}, State.WARNING, "the trust ends on 2026-12-20"),
        ({"ends": {"order": "2026-12-20T00:00:00Z"}}, State.WARNING, "the standing order ends on 2026-12-20"),
        ({"ends": {"order": "2027-12-20T00:00:00Z"}}, State.OK, ""),
        ({"unconfirmed": [{"case": "BKP-2026-0001", "left": -1}]}, State.WARNING, "the form of BKP-2026-0001 waits"),
        ({"unconfirmed": [{"case": "BKP-2026-0001", "left": 60}]}, State.OK, ""),
        ({"unconfirmed": [{"case": "BKP-2026-0001", "left": None}]}, State.OK, ""),
        ({"reviews": ["srv01"]}, State.WARNING, "the yearly review of srv01 is due"),
        ({"undelivered": 2}, State.WARNING, "2 notices could not be delivered"),
        ({"undelivered": None}, State.OK, ""),
        ({"stale": ["dataset-antrean"]}, State.WARNING, "lock dataset-antrean was left by a command that died"),
    ],
)
def test_what_is_not_well(change: dict[str, object], state: State, words: str, site: CaseSite) -> None:
    looked = replace(watched(site), at="2026-11-24T00:00:00Z", **change)  # type: ignore[arg-type]  # by field name
    told, line = monitoring.nagios(looked)
    assert told is state
    assert words in line
    assert line.count("|") == 1
    assert "\n" not in line


def test_overdue_is_critical_and_comes_first(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(site.root / "archive/records")
    site.change_yaml("schedule.yml", valid={"since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"})
    standing.sign_schedule(site.session, "kabid", str(site.keys / "kabid"))
    with locks.held(site.session.site.state, ["dataset-antrean"], "pelaksana"):
        assert ask(site, "check") == 2
    said = capsys.readouterr().out
    assert said.startswith("SOPCTL CRITICAL - antrean is overdue (last verified: never); berkas is overdue")
    assert "overdue=2;;0" in said
    assert said.count("\n") == 1
    assert ask(site, "metrics") == 0
    found = measures(capsys.readouterr().out)
    assert found["backup_overdue", "antrean"] == 1
    assert found["backup_missed_periods", "antrean"] >= 10


def test_what_cannot_be_read_is_unknown(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    (site.root / "trust/trust.yml.sig").unlink()
    assert ask(site, "check") == 3
    assert capsys.readouterr().out.startswith("SOPCTL UNKNOWN - ")
    assert ask(site, "check", "--json") == 3
    assert json.loads(capsys.readouterr().out)["state"] == "UNKNOWN"
    assert cli.run(["-C", "/nowhere", "check"]) == 3


def test_whatever_goes_wrong_is_unknown(
    site: CaseSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what is no error of ours: exit 1 would be a WARNING."""

    def unreadable(_site: object) -> None:
        raise PermissionError(13, "Permission denied", "archive")

    monkeypatch.setattr(vault, "catalogue", unreadable)
    assert ask(site, "check") == 3
    assert capsys.readouterr().out.startswith("SOPCTL UNKNOWN - [Errno 13] Permission denied")


def test_trust_that_has_ended_is_critical_and_still_measured(
    site: CaseSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    later = clock.plus(site.session.trust.file.valid_until, days=1)
    lines = len(site.ledger.lines())
    monkeypatch.setattr(clock, "now", lambda: later)
    assert ask(site, "check") == 2
    assert "the trust ended on" in capsys.readouterr().out
    assert ask(site, "metrics") == 0
    assert measures(capsys.readouterr().out)["ends_timestamp_seconds", "trust"] < clock.parse(later).timestamp()
    assert len(site.ledger.lines()) == lines


def test_safety_backup_is_not_the_newest_and_a_retired_dataset_is_not_watched(
    site: CaseSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = vault.catalogue(site.session.site)
    [antrean] = [backup for backup in found if backup.dataset == "antrean"]
    more = [replace(antrean, name="s", period="rst-2026-0001-safety"), replace(antrean, dataset="pensiun")]
    monkeypatch.setattr(vault, "catalogue", lambda _site: [*found, *more])
    newest = monitoring.watch(site.session).newest
    assert newest["antrean"] == antrean
    assert "pensiun" not in newest


def test_order_that_no_longer_holds(site: CaseSite) -> None:
    (site.root / "schedule.yml.sig").unlink()
    state, line = monitoring.nagios(monitoring.watch(site.session))
    assert state is State.CRITICAL
    assert "the standing order does not hold (the schedule is not signed by kabid)" in line
    (site.root / "schedule.yml").unlink()
    assert "there is no schedule" in monitoring.nagios(monitoring.watch(site.session))[1]
