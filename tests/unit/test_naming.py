# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.naming: by which rules names may be made, and that names made by them are safe, told apart and sorted."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sopctl import cli, clock, naming
from sopctl.errors import ConfigError
from sopctl.site import Site
from tests.support.case_site import CaseSite

DEFAULT = "{agency}_{server}_{dataset}_{jenis}_{time}_{run}"
WRONG = [
    ("{agency}_{hari}", "uses an unknown word"),
    ("{agency", "uses an unknown word"),
    ("{}", "uses an unknown word"),
    ("{agency.kode}", "uses an unknown word"),
    ("{agency[x]}", "uses an unknown word"),
    ("{agency}/{dataset}", "is not safe as a file name"),
    ("../{dataset}", "is not safe as a file name"),
    ("{dataset} {time}", "is not safe as a file name"),
    ("-{dataset}", "is not safe as a file name"),
    (".{dataset}", "is not safe as a file name"),
    ("", "is not safe as a file name"),
    ("{run:>200}", "is not safe as a file name"),
    ("{dataset}_{time}_" + "x" * 120, "is not safe as a file name"),
    ("{agency}_{time}_{run}", "has no {dataset}"),
    ("{agency}_{dataset}_{period}", "has no {time}"),
    ("{dataset}_{run}_{time}", "do not sort by time"),
    ("{dataset}_{period}_{time}", "do not sort by time"),  # of a requested backup that is its case
    ("{dataset}_{time:.8}", "cuts or changes {time}"),
    ("{dataset:.2}_{time}", "cuts or changes {dataset}"),
    ("{dataset!r}_{time}", "is not safe"),
    ("{dataset!s}_{time}", "cuts or changes {dataset}"),
    ("{server}-{dataset}_{time}", "nothing tells where {dataset} begins"),
    ("{dataset}{time}", "nothing tells where {time} begins"),
]


@pytest.mark.parametrize(("rule", "problem"), WRONG)
def test_wrong_rule_is_told_when_the_site_is_read(rule: str, problem: str, site: CaseSite) -> None:
    site.edit("sop.yml", f'naming: "{DEFAULT}"', f"naming: {json.dumps(rule)}")
    with pytest.raises(ConfigError) as caught:
        _ = Site(site.root).config
    assert problem in caught.value.message
    assert caught.value.where == f"{site.root / 'sop.yml'}:naming"


words = st.sampled_from(["agency", "server", "jenis", "dataset"])
later = st.sampled_from(list(naming.WORDS))
rules = st.tuples(
    st.lists(words, max_size=4), st.lists(later, max_size=4), st.sampled_from(["_", ".", "_-", "-_x"])
).map(lambda parts: parts[2].join(f"{{{word}}}" for word in [*parts[0], "dataset", "time", *parts[1]]))
ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}[a-z0-9]", fullmatch=True)
times = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)).map(lambda at: f"{at:%Y%m%dT%H%M%SZ}")


@given(rule=rules, server=ids, dataset=ids, first=times, second=times)
def test_names_by_a_rule_that_was_taken(rule: str, server: str, dataset: str, first: str, second: str) -> None:
    """Safe for every server and dataset; later ones sort later, whatever number their run has."""
    try:
        naming.check(rule, "diskominfo", "sop.yml:naming")
    except ConfigError as error:
        assume("is not safe" not in error.message)  # too long
        raise
    assume(first != second)
    words = {"agency": "diskominfo", "server": server, "dataset": dataset, "jenis": "bulanan", "period": "2026-11"}

    def name(time: str, run: str) -> str:
        return naming.name(rule, {**words, "time": time, "run": run}, "here")

    one, other = name(first, "bkp-2026-0009"), name(second, "bkp-2026-0001")
    assert (one < other) is (first < second)


@given(server=ids, dataset=ids, other=st.tuples(ids, ids), time=times)
def test_no_two_datasets_have_one_name(server: str, dataset: str, other: tuple[str, str], time: str) -> None:
    assume(other != (server, dataset))
    rest = {"agency": "diskominfo", "jenis": "bulanan", "period": "2026-11", "time": time, "run": "bkp-2026-0001"}

    def name(server: str, dataset: str) -> str:
        return naming.name(DEFAULT, {**rest, "server": server, "dataset": dataset}, "here")

    assert name(server, dataset) != name(*other)


def test_default_rule_is_taken() -> None:
    naming.check(DEFAULT, "diskominfo", "here")


# --- vault list ------------------------------------------------------------------------------------------------


def listed(site: CaseSite, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    capsys.readouterr()
    assert cli.run(["-C", str(site.root), "vault", "list", "--json", *words]) == 0
    return [row["name"] for row in json.loads(capsys.readouterr().out)]


def test_list_by_name_and_dataset(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(site, capsys) == ["cadangan_antrean", "cadangan_berkas"]
    assert listed(site, capsys, "--name", "*_antr?an") == ["cadangan_antrean"]
    assert listed(site, capsys, "--name", "*", "--dataset", "berkas") == ["cadangan_berkas"]
    assert cli.run(["-C", str(site.root), "vault", "list", "--name", "cadangan"]) == 2, "a pattern names the whole name"
    assert "no backup is named like 'cadangan'" in capsys.readouterr().err
    assert cli.run(["-C", str(site.root), "vault", "list", "--dataset", "lain"]) == 2


def test_list_for_people(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-C", str(site.root), "vault", "list"]) == 0
    said = capsys.readouterr().out
    assert "cadangan_antrean" in said
    assert "verified" in said
    now = clock.parse(clock.now()).astimezone(site.session.site.tz)
    assert f"{now:%Y-%m-%d}" in said
