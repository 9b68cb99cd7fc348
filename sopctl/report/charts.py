# SPDX-License-Identifier: Apache-2.0
"""Charts as numbers: where a template draws lines and dots. Nothing here knows SVG or words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 140
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 12, 24  # room for the axes' words
#: steps of a scale in seconds that people read well
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


@dataclass(frozen=True)
class Point:
    """A measure: ``at`` in seconds of any epoch, ``value`` in seconds, ``label`` for who points at it."""

    at: int
    value: int
    label: str


@dataclass(frozen=True)
class Dot:
    """A point in the drawing's units."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Chart:
    """``line``: the points of a polyline; ``ticks``: (y, seconds); ``limit``: y of the time allowed, None without one."""

    dots: tuple[Dot, ...]
    line: str
    ticks: tuple[tuple[float, int], ...]
    limit: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    base: int = HEIGHT - BOTTOM


def chart(points: Sequence[Point], limit: int | None = None) -> Chart:
    """The points over time, from zero up; ``limit`` is drawn where it lies within reach (under four times the largest)."""
    points = sorted(points, key=lambda point: point.at)
    largest = max((point.value for point in points), default=0)
    shown = limit if limit is not None and limit <= 4 * max(largest, 1) else None
    step = _step(max(largest, shown or 0, 1))
    top = -(-max(largest, shown or 0, 1) // step) * step
    first, last = (points[0].at, points[-1].at) if points else (0, 0)

    def x(at: int) -> float:
        share = (at - first) / (last - first) if last > first else 0.5
        return round(LEFT + 8 + share * (WIDTH - RIGHT - LEFT - 16), 1)

    def y(value: int) -> float:
        return round(HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP), 1)

    dots = tuple(Dot(x(point.at), y(point.value), point.label) for point in points)
    return Chart(
        dots=dots,
        line=" ".join(f"{dot.x},{dot.y}" for dot in dots),
        ticks=tuple((y(value), value) for value in range(0, top + 1, step)),
        limit=None if shown is None else y(shown),
    )


def _step(largest: int) -> int:
    """A step of the scale that makes two to four of it."""
    for step in _STEPS:
        if step * 4 >= largest:
            return step
    days = -(-largest // (4 * 86400))
    return days * 86400
