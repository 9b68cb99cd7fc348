# SPDX-License-Identifier: Apache-2.0
"""The gate against a short restatement of the rules, over random sequences of acts by random people, in both SOPs.

:func:`may_execute` and what it calls are written from the SOPs' tables and DESIGN §4. They know what was *done*
(:class:`Said`) and no document; the gate knows documents and nothing else. Both must say the same at every moment.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sopctl import signing
from tests.support.gate_people import CAST, DATASETS, DAY, HOUR, people
from tests.support.gate_world import FAULTS, TWISTS, Move, Said, World

# --- the rules, restated: one letter an act ---------------------------------------------------------------------------
# q request, d dispose, a approve, n reject, p plan, x execute, c confirm, s send back, i inform, r receive; beside them:
# o attach, t take over, g/h the owner consents or refuses, w withdraw, e emergency, y/z ratify or censure.
# What was approved or planned may be approved or planned anew while execution is due.
ORDER, AGAIN = {"trenggalek": "qda", "kaltim": "qadp"}, {"trenggalek": "a*", "kaltim": "[ap]*(xs[ap]*)*"}
BY = {
    "trenggalek": {"qwr": "pemohon loket", "d": "kadis", "anyz": "kabid", "xite": "pelaksana"},
    "kaltim": {
        "qw": "pemohon loket",
        "anyzi": "administrator",
        "d": "pengawas",
        "pxte": "pengelola",
        "cs": "pemeriksa",
    },
}
APART = {"trenggalek": ["pelaksana kabid", "pemohon kabid"],
         "kaltim": ["pemohon administrator", "administrator pengelola", "pengelola pemeriksa"]}  # fmt: skip
HOURS: dict[str, dict[str, float]] = {"trenggalek": {"daxir": 24, "n": 24}, "kaltim": {"andcs": 0.25, "p": 1, "x": 24}}
RESERVED = "loket pemilik-data pengurus-aset"


def of(table: dict[str, str], letter: str) -> list[str]:
    return next((roles.split() for letters, roles in table.items() if letter in letters), [])


def holds(sop: str, person: str, role: str, *times: int) -> bool:
    return all(
        any(one.role == role and one.since <= at <= one.until for one in people(sop)[person].roles) for at in times
    )


def humans(sop: str, person: str, role: str) -> set[str]:
    behind = {person, *(one.stands_for for one in people(sop)[person].roles if one.role == role and one.stands_for)}
    return {people(sop)[one].nip.replace(" ", "") or one for one in behind}


def believed(world: World, one: Said) -> bool:
    me, sop = people(world.sop)[one.person], world.sop
    if not one.sound or one.received is None or abs(one.received - one.at) > 600 or me.kind != "person":
        return False
    everybody = " ".join([*BY[sop].values(), RESERVED]).split()
    allowed = everybody if one.letter == "o" else ["pemilik-data"] if one.letter in "gh" else of(BY[sop], one.letter)
    key_good = all(
        me.key_since <= at <= me.key_until and (me.revoked is None or at < me.revoked) for at in (one.at, one.received)
    )
    asked = one.letter != "q" or (one.unit == people(sop)[one.requester].unit and (one.specified or sop != "kaltim")
                                  and (one.role == "loket" or one.requester == one.person))  # fmt: skip
    owner = one.letter not in "gh" or me.unit == DATASETS[one.datasets[-1]][0]
    return one.key == one.person and key_good and holds(sop, one.person, one.role, one.at, one.received) and one.role in allowed and asked and owner  # fmt: skip


def in_order(sop: str, said: list[Said]) -> bool:
    word = "".join(one.letter for one in said if one.letter not in "otgh")
    word = re.sub("e([dap]*)e[yz]", r"\1", word)  # an emergency that was judged before anything came of it
    head, *tail = word.split("e")
    before = head + "".join(tail[:1])
    if said[0].letter != "q":
        return False
    if len(tail) == 2:  # an emergency goes before approval, once in a case; censured, it carries nothing more
        anew = "".join({*before} & {*"ap"}) or "-"
        after = rf"(xs)*|(xs)*(xys|xsy)[{anew}]*(xs[{anew}]*)*" if sop == "kaltim" else ""
        once = sum(one.letter == "e" for one in said) == 2
        return (
            once
            and bool(re.fullmatch(ORDER[sop] + "[ap]*", before) or ORDER[sop].startswith(before))
            and bool(re.fullmatch(after, tail[1]))
        )
    return bool(re.fullmatch(ORDER[sop] + AGAIN[sop], head + "".join(tail))) and not (tail and "x" in head)


def apart(sop: str, said: list[Said], lax: bool) -> bool:
    by: dict[str, set[str]] = defaultdict(set)
    for one in said:
        if one.letter == "q":  # who asks, and who enters it for them
            by["pemohon"] |= humans(sop, one.requester, "pemohon") | humans(sop, one.person, "pemohon")
        if one.role not in RESERVED and one.letter != "t":
            for what in (one.role, "did" if one.letter in "xe" else "judged" if one.letter in "ancsyz" else ""):
                by[what] |= humans(sop, one.person, one.role)
    glass = [humans(sop, one.person, one.role) for one in said if one.letter == "e"]
    pairs = [] if lax else APART[sop]
    different = [(by[first], by[second]) for first, second in map(str.split, [*pairs, "did judged"])]
    return not any(first & second for first, second in [*different, *combinations(glass, 2)])


def owners_agree(world: World, said: list[Said]) -> bool:
    yes: set[str] = set()
    for one in said:
        yes = yes | {one.datasets[-1]} if one.letter == "g" else yes - {one.datasets[-1]} if one.letter == "h" else yes
        for unit, kind, name in ((*DATASETS[name], name) for name in said[0].datasets if one.letter == "a"):
            if one.role not in world.authority.get(kind, [one.role]) or (unit != said[0].unit and name not in yes):
                return False
    word = "".join(one.letter for one in said if one.letter not in "otgh")
    broken = re.sub("e([dap]*)e[yz]", "", word).count("e") == 2  # an emergency asks no owner
    return bool(broken or all(DATASETS[name][0] == said[0].unit or name in yes for name in said[0].datasets))


def in_time(world: World) -> bool:
    """Asked of what sopctl accepted: an act after its time says why, where the policy wants to know."""
    row = [one for one in world.said if one.letter not in "otghweyz"]
    for number, one in enumerate(row[1:], 1):
        one_row = row[number - 1].letter + one.letter == "ad"  # deciding and passing on: Kaltim's row 2
        last = row[number - 2 if one_row else number - 1]
        what = "x" if one.letter in "ap" and last.letter in "apsx" else one.letter  # anew, while execution is due
        hours = one.letter not in "nir" and next(
            (hours for letters, hours in HOURS[world.sop].items() if what in letters), 0
        )
        if hours and (one.received or 0) - (last.received or 0) > hours * HOUR and not one.reason:
            return bool(world.sla == "warn")
    return True


def granted(world: World, said: list[Said]) -> bool:
    broken = [one for one in said if one.letter == "e"]
    open_ = len(broken) == 2 and not re.search("e[^ex]*e[^x]*[yz]", "".join(one.letter for one in said))
    if open_ and not (world.glass and broken[1].countersigns):
        return False
    binding = (
        broken[:1] if open_ else [one for what in "ap" for one in [one for one in said if one.letter == what][-1:]]
    )
    longest = 4 * HOUR if open_ else 30 * DAY
    return all(  # each that binds
        one.grant.exact and one.grant.since <= world.now <= one.grant.until
        and (one.letter == "p" or one.grant.until - one.at <= longest) for one in binding if one.grant
    )  # fmt: skip


def may_execute(world: World, person: str, role: str) -> bool:
    said = world.said
    mine = Said("x", person, role, person, world.now, world.now)
    return bool(
        (not world.fault or (world.fault == "not reviewed" and world.review == "warn"))
        and said and all(believed(world, one) for one in said) and in_order(world.sop, said)
        and role in of(BY[world.sop], "x") and holds(world.sop, person, role, world.now)
        and people(world.sop)[person].kind == "person" and apart(world.sop, [*said, mine], world.lax)
        and owners_agree(world, said) and granted(world, said)
    )  # fmt: skip


# --- random cases -----------------------------------------------------------------------------------------------------


SCRIPTS = {
    "trenggalek": ["qdaxir", "qdaxir", "qgdax", "qdnir", "qeexyir", "qdeexizr", "qedax", "qotda", "qghgda"],
    "kaltim": [
        "qadpxc",
        "qadpxsxsx",
        "qgadpx",
        "qni",
        "qeexsyx",
        "qadpeexszx",
        "qeadpxs",
        "qaotdp",
        "qghgadp",
        "qadppxspx",
    ],
}
SOME = st.sampled_from([("antrean",), ("antrean",), ("keuangan",), ("antrean", "keuangan")])
WAIT = st.sampled_from([60, 60, 600, 1200, 2 * HOUR, 5 * HOUR, DAY + 60, 6 * DAY])


def moves(sop: str) -> st.SearchStrategy[list[Move]]:
    """A case as it should go, with up to three things said otherwise, by others, at other times, twice or not at all."""
    letter = st.one_of(st.none(), st.none(), st.sampled_from("qdapxcsirotgghweeyz"))
    person = st.sampled_from([None] * 8 + ["kembar", "rangkap"] + sorted(people(sop)))
    twist = st.one_of(st.just(""), st.sampled_from(TWISTS))
    change = st.fixed_dictionaries({"letter": letter, "person": person, "twist": twist, "wait": WAIT, "reason": st.booleans(), "force": st.booleans()})  # fmt: skip
    edit = st.tuples(st.integers(0, 8), st.sampled_from(["put", "put", "change", "change", "drop"]), change)
    several = st.sampled_from(["rangkap", "kembar", "wakil", "pengganti"])
    one_human = st.tuples(several, st.sets(st.sampled_from("qadpxcseiy"), min_size=2, max_size=3))
    edits = st.lists(edit, max_size=3)
    return st.builds(_edited, st.sampled_from(SCRIPTS[sop]), SOME, edits, st.one_of(st.none(), st.none(), one_human))


def _edited(
    script: str,
    datasets: tuple[str, ...],
    edits: list[tuple[int, str, dict[str, Any]]],
    one_human: tuple[str, set[str]] | None,
) -> list[Move]:
    who, letters = one_human or (".", set())
    found = [Move(letter, who if letter in letters else ".", datasets=datasets) for letter in script]
    for place, how, change in edits:
        at = place % len(found)
        if how == "drop" and len(found) > 1:
            del found[at]
        else:
            made = replace(found[at], **{key: value for key, value in change.items() if value is not None})
            found[at : at + (how == "change")] = [made]
    return found


def worlds(sop: str) -> st.SearchStrategy[World]:
    decider = CAST[sop][0]
    authority = st.sampled_from([{}, {}, {"rahasia": []}, {"terbatas": [decider], "rahasia": [decider]}])
    policy = st.sampled_from(["warn", "warn", "block"])
    return st.builds(World, sop=st.just(sop), lax=st.sampled_from([False, False, True]), glass=st.sampled_from([True, True, False]), sla=policy, review=policy, authority=authority)  # fmt: skip


#: no shrinking: the edits of a script are short already, and shrinking takes minutes
PHASES = [Phase.explicit, Phase.generate]
EXAMPLES = 250


def agree(world: World, person: str, role: str) -> bool:
    """Ask both; whether they allow it."""
    reasons, allowed = world.gate(person, role), may_execute(world, person, role)
    word = "".join(one.letter for one in world.said)
    assert (reasons == []) == allowed, f"{word} by {person}: rules {allowed}, gate {reasons}\n{world.said}"
    assert world.forced or in_time(world), f"{word} was not in time\n{world.said}"
    return allowed


@pytest.mark.parametrize("sop", ["trenggalek", "kaltim"])
def test_gate_and_rules_agree(sop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # the gate reads every document anew at each question; the same signature over the same bytes is computed once
    monkeypatch.setattr(signing, "verify", cache(signing.verify))
    seen: Counter[str] = Counter()
    operator = CAST[sop][1]
    askers = st.lists(st.sampled_from(sorted(people(sop))), min_size=1)

    @settings(max_examples=EXAMPLES, phases=PHASES)
    @given(worlds(sop), moves(sop), askers, st.sampled_from(FAULTS))
    def check(world: World, tried: list[Move], others: list[str], fault: str) -> None:
        for number, move in enumerate(tried):
            world.try_(move)
            for person in (operator, "kedua", others[number % len(others)]):
                if agree(world, person, operator):
                    seen["".join(one.letter for one in world.said if one.letter not in "otgh")] += 1
        world.fault = fault
        agree(world, "kedua", operator)

    check()
    # without cases that may be executed, the agreement would be worth nothing
    assert seen[ORDER[sop]] >= 50, seen


# --- one deviation at a time, all of them -------------------------------------------------------------------------------

OURS, THEIRS = ("antrean",), ("keuangan",)
STRAIGHT = {
    "trenggalek": [("qda", OURS), ("qda", THEIRS), ("qgda", THEIRS), ("qee", OURS)],
    "kaltim": [("qadp", OURS), ("qadp", THEIRS), ("qgadp", THEIRS), ("qadpxs", OURS), ("qee", OURS)],
}


def deviations(sop: str) -> Iterator[list[Move]]:
    """Cases that go straight to an execution but for one thing said otherwise, by another, later, in between; or not."""
    for script, datasets in STRAIGHT[sop]:
        straight = [Move(letter, datasets=datasets, force=True) for letter in script]
        yield straight
        yield from ([replace(straight[0], letter=new), *straight] for new in "oe")
        yield [replace(straight[0], person="meja", twist="for the decider"), *straight[1:]]
        for at, move in enumerate(straight):
            changes: list[dict[str, Any]] = [{"twist": twist} for twist in TWISTS]
            changes += [{"person": person} for person in people(sop)] + [
                {"wait": wait} for wait in (HOUR // 2, DAY + 60)
            ]
            yield from ([*straight[:at], replace(move, **change), *straight[at + 1 :]] for change in changes)
            yield straight[:at] + straight[at + 1 :]
            yield from ([*straight[: at + 1], replace(move, letter=new), *straight[at + 1 :]] for new in "qdapxnhwe")
        for who, (first, second) in product(("rangkap", "kembar", "wakil", "pengganti"), combinations(script, 2)):
            yield [replace(move, person=who) if move.letter in (first, second) else move for move in straight]


@pytest.mark.parametrize("sop", ["trenggalek", "kaltim"])
def test_every_single_deviation(sop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "verify", cache(signing.verify))
    operator, allowed = CAST[sop][1], 0
    for moves_made in deviations(sop):
        for lax in (False, True) if any(move.person != "." for move in moves_made) else (False,):
            world = World(sop, sla="block", review="block", lax=lax)
            for move in moves_made:
                world.try_(move)
            allowed += agree(world, operator, operator) + agree(world, "kedua", operator)
            world.now += HOUR
            agree(world, "kedua", operator)
    assert allowed > 50


@pytest.mark.parametrize("sop", ["trenggalek", "kaltim"])
def test_straight_case_in_every_other_world(sop: str) -> None:
    """What is not in the documents: who asks, what was edited, the trust's and the site's policy, the time."""
    operator = CAST[sop][1]
    authorities: list[dict[str, list[str]]] = [{"rahasia": [], "terbatas": []}, {"rahasia": [CAST[sop][0]]}]
    worlds_of: list[dict[str, Any]] = [{}, {"glass": False}, *({"authority": each} for each in authorities)]
    for script, datasets in STRAIGHT[sop]:
        for changed in worlds_of:
            world = World(sop, review="block", **changed)
            for letter in script:
                world.try_(Move(letter, datasets=datasets, force=True))
            for person, role in product(people(sop), (operator, CAST[sop][0])):
                agree(world, person, role)
            for fault in FAULTS:
                agree(replace(world, fault=fault), operator, operator)
                agree(replace(world, fault=fault, review="warn"), operator, operator)
            for wait in (3 * HOUR, 6 * HOUR, 4 * DAY, 6 * DAY):
                agree(replace(world, now=world.now + wait), operator, operator)
