# SPDX-License-Identifier: Apache-2.0
"""A restore approved to another place, made to go to a third; one approved beside the live data, made to replace it."""

from __future__ import annotations

from typing import Any

from sopctl import fsio
from tests.support.case_site import CaseSite, Paper
from tests.unit.attacks.forging import (
    DECIDE,
    REQUEST,
    Attack,
    Papers,
    Spoil,
    Table,
    after,
    asked,
    body,
    decided,
    disposed,
    forge,
)

PLAN = 3
COPY, OTHER = "/srv/app/salinan.db", "/srv/app/lain.db"


def beside(target: str = COPY) -> Spoil:
    """A restore of antrean that was asked for and approved to another place."""

    def prepare(site: CaseSite) -> None:
        asked(site, to=[target])
        disposed(site)
        decided(site)

    return prepare


def in_place(site: CaseSite) -> None:
    """A restore of antrean that was asked for and approved in place."""
    asked(site, in_place=True)
    disposed(site)
    decided(site)


def _target(**values: Any) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[DECIDE].body["body"]["approval"]["targets"][0].update(values)

    return change


def _asks(**values: Any) -> Papers:
    """The request says something else, and the decision names this request: only the targets were not looked at anew."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        said = papers[REQUEST].body["body"]
        said.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del said[key]
        digest = fsio.sha256_bytes(fsio.canonical_json(papers[REQUEST].body))
        papers[DECIDE].body["body"]["approval"]["request"] = digest

    return change


def _to(place: Any, server: Any = "srv01") -> dict[str, Any]:
    return {"antrean": {"server": server, "place": place}}


def _moved(site: CaseSite) -> None:
    site.change_yaml("register/datasets/antrean.yml", server="srv02")


def _another_machine(site: CaseSite) -> None:
    site.change_yaml("register/servers/srv02.yml", machine_id="3" * 32)


def _another_host_key(site: CaseSite) -> None:
    site.change_yaml("register/servers/srv02.yml", ssh_host_key="ssh-ed25519 AAAA")


def _plan(**values: Any) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[PLAN].body["body"].update(values)

    return change


def _planned(**values: Any) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[PLAN].body["body"]["targets"][0].update(values)

    return change


#: what a planner may choose in an SOP that plans after it has decided
chosen_in_place: Spoil = forge(_plan(in_place=True), _planned(in_place=True))


def _elsewhere(*spoils: Spoil, reason: str, target: str = COPY) -> Attack:
    return Attack(after(beside(target), *spoils), reason)


ATTACKS: Table = {
    "approved to a third place": _elsewhere(
        forge(_target(place=OTHER)), reason=f"antrean: place was approved as {OTHER}, now is {COPY}"
    ),
    "approved to a third server": _elsewhere(
        forge(_target(server="srv02")), reason="antrean: server was approved as srv02, now is srv01"
    ),
    "approved from a third server's repository": _elsewhere(
        forge(_target(to={"server": "srv01", "place": COPY, "source": "srv02"})), reason="antrean: to was approved as"
    ),
    "target changed in the request": _elsewhere(
        forge(body(REQUEST, to=_to(OTHER))), reason="the approval is of another request (its bytes differ)"
    ),
    "target changed in the request, decision rebound": _elsewhere(
        forge(_asks(to=_to(OTHER))), reason=f"antrean: place was approved as {COPY}, now is {OTHER}"
    ),
    "server changed in the request, decision rebound": _elsewhere(
        forge(_asks(to=_to(COPY, "srv02"))), reason="antrean: machine_id was approved as"
    ),
    "target dropped, so that live data would be replaced": _elsewhere(
        forge(_asks(to=None)), reason="antrean: to was approved as"
    ),
    "target added after an approval to replace": Attack(
        forge(_asks(to=_to(COPY))), "antrean: place was approved as /srv/app/antrean.db"
    ),
    "target climbs out of its folder": _elsewhere(
        forge(_asks(to=_to("/srv/app/../../etc/cron.d/x"))), reason="restores to a place that"
    ),
    "target has a second line": _elsewhere(forge(_asks(to=_to(f"{COPY}\n"))), reason="restores to a place that"),
    "target is relative": _elsewhere(forge(_asks(to=_to("salinan.db"))), reason="restores to a place that"),
    "target is a list": _elsewhere(forge(_asks(to=_to([COPY]))), reason="restores to a place that names no target"),
    "target's server is a list": _elsewhere(
        forge(_asks(to=_to(COPY, ["srv01"]))), reason="does not say for each dataset where to"
    ),
    "target of another dataset": _elsewhere(
        forge(_asks(to={"berkas": {"server": "srv01", "place": COPY}})), reason="does not say for each dataset where to"
    ),
    "target is a folder of the system": _elsewhere(
        forge(_asks(to=_to("/etc/cron.d/x"))), reason="is a folder of the operating system"
    ),
    "target is the live data": _elsewhere(
        forge(_asks(to=_to("/srv/app/antrean.db"))), reason="is where dataset antrean lives"
    ),
    "target is in another dataset": _elsewhere(
        forge(_asks(to=_to("/srv/berkas/x.db"))), reason="is where dataset berkas lives"
    ),
    "target is what another restore kept": _elsewhere(
        forge(_asks(to=_to("/srv/app/antrean.db__before_rst20260001"))), reason="are those that restores give"
    ),
    "target on a server nobody registered": _elsewhere(
        forge(_asks(to=_to(COPY, "srv09"))), reason="the server is not in the asset register"
    ),
    "target's machine exchanged": _elsewhere(
        _another_machine, reason="antrean: machine_id was approved as", target=f"srv02:{COPY}"
    ),
    "target's host key exchanged": _elsewhere(
        _another_host_key, reason="antrean: ssh_host_key was approved as", target=f"srv02:{COPY}"
    ),
    "target's machine exchanged, unsigned": _elsewhere(
        _another_machine, reason="register/servers/srv02.yml is not as its keeper signed it", target=f"srv02:{COPY}"
    ),
    "dataset moved under an approved target": _elsewhere(
        _moved, reason="antrean: to was approved as", target=f"srv02:{COPY}"
    ),
    "in place by the approval alone": Attack(
        forge(_target(in_place=True)), "antrean: in_place was approved as True, now is False"
    ),
    "in place after the approval": Attack(
        forge(_asks(in_place=True)), "antrean: in_place was approved as False, now is True"
    ),
    "in place taken out after the approval": Attack(
        after(in_place, forge(_asks(in_place=None))), "antrean: in_place was approved as True, now is False"
    ),
    "in place by a word": Attack(forge(_asks(in_place="ya")), "says 'in_place' in another way than true"),
    "in place and elsewhere": _elsewhere(forge(_asks(in_place=True)), reason="does not go with the rest"),
    "plan in place, its targets not": Attack(
        forge(_plan(in_place=True)), "the plan is another: antrean: in_place was approved as False, now is True",
        "pengelola", "kaltim",
    ),
    "plan's targets in place, the plan not": Attack(
        forge(_planned(in_place=True)), "the plan is another: antrean: in_place was approved as True, now is False",
        "pengelola", "kaltim",
    ),
    "plan in place to another machine": Attack(
        forge(_plan(in_place=True), _planned(in_place=True, machine_id="9" * 32)),
        "the plan is another: antrean: machine_id was approved as", "pengelola", "kaltim",
    ),
}  # fmt: skip
