# SPDX-License-Identifier: Apache-2.0
"""The SOP's procedure table with its flow chart, as PermenPANRB 35/2012 draws it, on one page for the wall."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from sopctl import flowchart, procedure
from sopctl.flowchart import Edge, Node
from sopctl.profile import Flow, LoadedProfile, Profile, Step, successors

#: mm: what the page is wide, what a column of actors shall have, and what the other columns need at the least
PAGE, ACTOR, ACTOR_LEAST, CHART_MOST = 269.0, 30.0, 23.0, 117.0
TEXT_COLUMNS = {"no": 8.0, "kelengkapan": 26.0, "waktu": 15.0, "output": 26.0, "ket": 22.0}
WORDS = {"closed": "Selesai", "rejected": "Ditolak"}


def chart(profile: Profile, table: procedure.Procedure) -> list[flowchart.Row]:
    """The flow's symbols and arrows, one entry a row of the table."""
    flow = profile.flow(table.flow)
    nodes: list[Node] = []
    edges: list[Edge] = []
    for at, row in enumerate(table.rows):
        _draw_row(flow, at, row, nodes, edges)
    return flowchart.draw(nodes, edges, _percent(_weights(table)), len(table.rows))


def _weights(table: procedure.Procedure) -> list[float]:
    """How wide the actors' columns are to each other: symbols that name their actor need more."""
    return [1.4 if _shared(table, column) else 1.0 for column in range(len(table.columns))]


def _percent(parts: list[float]) -> list[float]:
    return [100 * part / sum(parts) for part in parts]


def _widths(table: procedure.Procedure) -> list[float]:
    """Widths of the page's columns in percent: number, activity, actors …, papers, time, output, remarks."""
    weights = _weights(table)
    unit = max(min(CHART_MOST, ACTOR * sum(weights)) / sum(weights), ACTOR_LEAST)
    others = [TEXT_COLUMNS[key] for key in ("kelengkapan", "waktu", "output", "ket")]
    activity = PAGE - TEXT_COLUMNS["no"] - sum(others) - unit * sum(weights)
    return _percent([TEXT_COLUMNS["no"], activity, *(unit * weight for weight in weights), *others])


def _shared(table: procedure.Procedure, column: int) -> bool:
    return any(actor.name for row in table.rows for actor in row.pelaksana if actor.column == column)


def _entry(step: Step) -> str:
    return f"{step.id}.{procedure.acting(step)[0]}"


def _draw_row(flow: Flow, at: int, row: procedure.Row, nodes: list[Node], edges: list[Edge]) -> None:
    step = flow.step(row.step)
    levels: Counter[int] = Counter()

    def add(key: str, column: int, shape: flowchart.Shape, label: str, name: str = "") -> str:
        nodes.append(Node(f"{step.id}.{key}", at, column, shape, label, name, levels[column]))
        levels[column] += 1
        return nodes[-1].id

    ways = successors(flow, step)
    acting = [actor for actor in row.pelaksana if actor.part != "told"]
    ends = bool(step.end) and not step.gate
    told = [actor for actor in row.pelaksana if actor.part == "told"]
    for actor in acting:
        last = actor is acting[-1]
        shape: flowchart.Shape = "process"
        if actor.part == "decides":
            shape = "decision"
        elif (at == 0 and actor is acting[0]) or (ends and last):
            shape = "terminator"
        add(actor.role, actor.column, shape, row.nomor or WORDS.get(step.end or "", ""), actor.name)
    for one, other in pairwise(acting):
        label = "Ya" if one.part == "decides" else ""
        edges.append(Edge(f"{step.id}.{one.role}", f"{step.id}.{other.role}", label))

    def leads(source: procedure.Actor, target: str, label: str = "") -> None:
        here = f"{step.id}.{source.role}"
        if target != "closed":
            edges.append(Edge(here, _entry(flow.step(target)), label))
        elif not ends:
            word = WORDS["rejected" if label == "Tidak" else "closed"]
            end = f"{step.id}.{word}"
            if not any(node.id == end for node in nodes):
                add(word, source.column, "terminator", word)
            edges.append(Edge(here, end, label))

    decider = next((actor for actor in acting if actor.part == "decides"), None)
    if decider:
        leads(acting[-1], ways["approve"], "Ya" if acting[-1] is decider else "")
        leads(decider, ways["reject"], "Tidak")
    else:
        leads(acting[-1], ways["next"])
    following = None if ways.get("next", "closed") == "closed" else flow.step(ways["next"])
    for side in (-1, 1):  # the nearest is told first, and the arrow goes on from there
        source, beside = f"{step.id}.{acting[-1].role}", acting[-1].column
        for actor in sorted(told, key=lambda actor: abs(actor.column - beside)):
            if (actor.column - beside) * side <= 0 and not (side == 1 and actor.column == beside):
                continue
            if following and following.act == "receive" and actor.role in following.by:
                continue  # the arrow to the next row tells them
            target = add(f"told-{actor.role}", actor.column, "notice", "info", actor.name)
            edges.append(Edge(source, target, dashed=True))
            source = target


def page(loaded: LoadedProfile) -> str:
    """The SOP as one HTML page that needs no network, A4 landscape in print."""
    import jinja2

    profile = loaded.profile
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sopctl", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["css"] = lambda text: "".join(
        c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in text
    )
    tables = []
    for table in procedure.procedures(profile):
        drawn = chart(profile, table)
        rows = list(zip(table.rows, drawn, flowchart.least_heights(drawn), strict=True))
        borders = [sum(_percent(_weights(table))[: column + 1]) for column in range(len(table.columns) - 1)]
        tables.append((table, rows, _widths(table), borders))
    return environment.get_template("profile.html.j2").render(
        profile=profile,
        digest=loaded.digest,
        identity=procedure.identity(profile),
        rules=procedure.rules(profile),
        tables=tables,
        mark=procedure.MARK,
        header={"form_title": profile.document.nama_sop, "number": profile.document.nomor_sop},
        orientation="landscape",
    )
