# SPDX-License-Identifier: Apache-2.0
"""Flow charts in a table: where symbols stand and where arrows go, for rows of unknown height and columns of any width.

Pure geometry: nothing here knows an SOP. A row of the table is drawn on its own, in percent of its width and height, so that
the arrows meet whatever heights the texts beside them give the rows, and a page break between two rows harms nothing.
Arrows run along lanes: in each column one through the middle and one at either side of the symbols, in each row likewise.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Shape = Literal["terminator", "process", "decision", "notice"]
Point = tuple[int, int]  # lanes: (x, y), three of each a column and a level; the middle one of three holds symbols
Step = tuple[int, int]  # one lane further: (±1, 0) or (0, ±1)
DOWN, RIGHT, LEFT, UP = (0, 1), (1, 0), (-1, 0), (0, -1)
LANES_X, LANES_Y = (0.06, 0.5, 0.94), (0.1, 0.5, 0.9)  # parts of a column's width, of a level's height
WIDTH, HEIGHT = 30.0, 24.0  # mm a column and a level about have: weighs ways against each other, draws nothing
BEND, CROSS, TOUCH, OVERLAP, FROM_BELOW, FROM_SIDE = 12.0, 15.0, 120.0, 600.0, 30.0, 3.0
#: half width and half height of a symbol in px; one that also names its actor needs room for that
SIZES: dict[Shape, tuple[int, int]] = {
    "terminator": (24, 13),
    "process": (24, 14),
    "decision": (32, 23),
    "notice": (20, 9),
}
NAMED_SIZES: dict[Shape, tuple[int, int]] = SIZES | {"terminator": (42, 17), "process": (42, 17), "decision": (52, 31)}


@dataclass(frozen=True)
class Node:
    """A symbol: its row and column in the table, and its level where a row has several in one column."""

    id: str
    row: int
    column: int
    shape: Shape
    label: str = ""
    name: str = ""  # the actor, where the column is shared
    level: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Half width and half height, px."""
        return (NAMED_SIZES if self.name else SIZES)[self.shape]


@dataclass(frozen=True)
class Edge:
    """An arrow from one symbol to another; ``label`` stands where it leaves."""

    source: str
    target: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Line:
    """A piece of an arrow inside one row, in percent."""

    x1: float
    y1: float
    x2: float
    y2: float
    dashed: bool


@dataclass(frozen=True)
class Mark:
    """Something drawn at (x, y) percent, (dx, dy) px beside it: an arrow's head (its direction in ``turn``) or a label."""

    x: float
    y: float
    dx: int
    dy: int
    turn: int = 0  # degrees clockwise from pointing right
    text: str = ""
    anchor: str = "middle"


@dataclass
class Row:
    """One row of the chart: lines lie below symbols, heads and labels above."""

    levels: int
    lines: list[Line] = field(default_factory=list)
    symbols: list[tuple[float, float, Node]] = field(default_factory=list)
    heads: list[Mark] = field(default_factory=list)
    labels: list[Mark] = field(default_factory=list)


def lost(first: str, ways: Mapping[str, Mapping[str, str]], end: str = "closed") -> tuple[list[str], list[str]]:
    """Names that cannot be reached from ``first``, and names from which ``end`` cannot be; ``ways``: name → its ways on."""
    reached, ahead = {first}, [first]
    while ahead:
        new = {target for target in ways[ahead.pop()].values() if target != end} - reached
        reached |= new
        ahead += new
    ending = {end}
    while more := {name for name, targets in ways.items() if ending & set(targets.values())} - ending:
        ending |= more
    return [name for name in ways if name not in reached], [name for name in ways if name not in ending]


def draw(nodes: list[Node], edges: list[Edge], widths: list[float], rows: int) -> list[Row]:
    """The chart's rows. ``widths``: the columns' in percent of the chart's. KeyError when an edge names no node."""
    chart = _Chart(nodes, widths, rows)
    known = {node.id: node for node in nodes}

    def distance(edge: Edge) -> tuple[bool, int]:
        source, target = known[edge.source], known[edge.target]
        return edge.dashed, abs(source.row - target.row) + abs(source.column - target.column)

    for edge in sorted(edges, key=distance):  # the short ones run straight, the long ones go round them
        chart.connect(edge, known[edge.source], known[edge.target])
    return chart.rows


class _Chart:
    def __init__(self, nodes: list[Node], widths: list[float], rows: int) -> None:
        levels = [1 + max((node.level for node in nodes if node.row == row), default=0) for row in range(rows)]
        self.rows = [Row(count) for count in levels]
        self._first = [sum(levels[:row]) for row in range(rows)]
        self._lanes = (3 * len(widths), 3 * sum(levels))
        lefts = [sum(widths[:column]) for column in range(len(widths))]
        self._x = [left + width * part for left, width in zip(lefts, widths, strict=True) for part in LANES_X]
        self._y = [
            (row, 100 * (level + part) / count)
            for row, count in enumerate(levels)
            for level in range(count)
            for part in LANES_Y
        ]
        self._taken = {self._at(node) for node in nodes}
        self._used: dict[frozenset[Point], set[str]] = defaultdict(set)  # stretch between two lanes → whose arrows
        self._bends: dict[Point, set[str]] = defaultdict(set)
        self._through: dict[Point, set[str]] = defaultdict(set)
        for node in nodes:
            x, y = self._at(node)
            self.rows[node.row].symbols.append((self._x[x], self._y[y][1], node))

    def _at(self, node: Node) -> Point:
        return 3 * node.column + 1, 3 * (self._first[node.row] + node.level) + 1

    def connect(self, edge: Edge, source: Node, target: Node) -> None:
        """Find the way and draw it."""
        way = self._way(self._at(source), self._at(target), edge.target)
        corners = [way[0], *(b for a, b, c in zip(way, way[1:], way[2:], strict=False) if _step(a, b) != _step(b, c))]
        for a, b in pairwise(way):
            self._used[frozenset((a, b))].add(edge.target)
        for point in way[1:-1]:
            (self._bends if point in corners else self._through)[point].add(edge.target)
        corners.append(way[-1])
        for a, b in pairwise(corners):
            for row, line in self._pieces(a, b, edge.dashed):
                self.rows[row].lines.append(line)
        self._decorate(edge, source, target, _step(way[0], way[1]), _step(way[-2], way[-1]))

    def _way(self, start: Point, goal: Point, target: str) -> list[Point]:
        """Cheapest way along the lanes (Dijkstra over place and direction)."""
        queue: list[tuple[float, int, Point, Step, tuple[Point, ...]]] = [(0.0, 0, start, (0, 0), (start,))]
        seen: set[tuple[Point, Step]] = set()
        count = 0
        while queue:
            cost, _, here, came, way = heapq.heappop(queue)
            if here == goal:
                return list(way)
            if (here, came) in seen:
                continue
            seen.add((here, came))
            for step in (DOWN, RIGHT, LEFT, UP):
                there = (here[0] + step[0], here[1] + step[1])
                if not (0 <= there[0] < self._lanes[0] and 0 <= there[1] < self._lanes[1]):
                    continue
                if (there in self._taken and there != goal) or (step[0] + came[0], step[1] + came[1]) == (0, 0):
                    continue
                count += 1  # keeps equal costs in the order they were found: the same chart every time
                price = cost + self._price(here, there, came, step, target, there == goal)
                heapq.heappush(queue, (price, count, there, step, (*way, there)))
        raise AssertionError("lanes beside the symbols are never all taken")

    def _price(self, here: Point, there: Point, came: Step, step: Step, target: str, last: bool) -> float:
        price = self._length(here, there)
        first = came == (0, 0)
        others = self._used[frozenset((here, there))] - {target}
        price += OVERLAP * len(others)
        if not first and came != step:
            price += BEND + TOUCH * len((self._bends[here] | self._through[here]) - {target})
        elif not first:
            price += TOUCH * len(self._bends[here] - {target}) + CROSS * len(self._through[here] - {target})
        if step == UP and (first or last):
            price += FROM_BELOW  # an SOP is read downwards: up is for ways back
        if last and step[0]:
            price += FROM_SIDE
        return price

    def _length(self, a: Point, b: Point) -> float:
        if a[1] == b[1]:
            return abs(self._x[a[0]] - self._x[b[0]]) / 100 * WIDTH * self._lanes[0] / 3
        low, high = sorted((a[1], b[1]))
        parts = [low // 3 + LANES_Y[low % 3], high // 3 + LANES_Y[high % 3]]
        return (parts[1] - parts[0]) * HEIGHT

    def _pieces(self, a: Point, b: Point, dashed: bool) -> Iterator[tuple[int, Line]]:
        """The straight line from ``a`` to ``b``, cut at the borders of the rows."""
        (x1, x2), ((row1, y1), (row2, y2)) = (self._x[a[0]], self._x[b[0]]), (self._y[a[1]], self._y[b[1]])
        if (row1, y1) > (row2, y2):
            row1, y1, row2, y2 = row2, y2, row1, y1
        for row in range(row1, row2 + 1):
            yield row, Line(x1, y1 if row == row1 else 0, x2, y2 if row == row2 else 100, dashed)

    def _decorate(self, edge: Edge, source: Node, target: Node, leaves: Step, enters: Step) -> None:
        x, y = self._at(target)
        half = target.size
        turn = {RIGHT: 0, DOWN: 90, LEFT: 180, UP: 270}[enters]
        head = Mark(self._x[x], self._y[y][1], -enters[0] * half[0], -enters[1] * half[1], turn)
        heads = self.rows[target.row].heads
        if head not in heads:
            heads.append(head)
        if edge.label:
            x, y = self._at(source)
            half = source.size
            if leaves[0]:  # in the corner that the diamond leaves free, above its tip
                dx, dy, anchor = leaves[0] * (half[0] + 5), -7 * half[1] // 10, "end" if leaves == RIGHT else "start"
            else:
                dx, dy, anchor = 5, leaves[1] * (half[1] + (9 if leaves == DOWN else 2)), "start"
            self.rows[source.row].labels.append(Mark(self._x[x], self._y[y][1], dx, dy, text=edge.label, anchor=anchor))


def _step(a: Point, b: Point) -> Step:
    return b[0] - a[0], b[1] - a[1]


def least_heights(rows: Iterable[Row]) -> list[int]:
    """The least height of each row in px, so that its symbols and their labels have room."""
    heights = []
    for row in rows:
        needs = [2 * node.size[1] + (44 if node.shape == "decision" else 30) for _, _, node in row.symbols]
        heights.append(row.levels * max(needs, default=0))
    return heights
