"""Draws lines and bars as SVG, with axes, units and a legend; no library needed.

A chart stands by itself on white. A page may paint it otherwise through its classes: ``paper``,
``grid``, ``axis``, and for each series ``s0``, ``s1`` and so on, whose marks take its ``color``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _HEIGHT = 640, 356
# Above the plot: the title, and a legend of at most two rows.
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 80, 52
_COLOURS = ("#0b62a4", "#c4501b", "#2f7d32", "#7b3fa0", "#8a6d00", "#b0245f")
_NUM_TICKS = 5
_LEGEND_CHAR_PX = 7
_LEGEND_MARK_PX = 34
_LEGEND_ROW_PX = 18
_BAR_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Series:
    """A named row of values, one for each place on the x axis."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn.

    Attributes:
        places: labels of the x axis, left to right, evenly spaced.
        x_label: what they are, with unit.
        y_label: what the values are, with unit.
    """

    title: str
    places: tuple[str, ...]
    x_label: str
    y_label: str
    series: tuple[Series, ...]


def draw_lines(chart: Chart) -> str:
    """Return an SVG element with a line for each series."""
    top = _axis_top(chart)
    marks = []
    for number, series in enumerate(chart.series):
        points = [(_x(chart, i), _y(value, top)) for i, value in enumerate(series.values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        marks.append(_open_group(number))
        marks.append(
            f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="2"/>'
        )
        for (x, y), place, value in zip(points, chart.places, series.values, strict=True):
            tip = f"<title>{escape(series.name)}, {escape(place)}: {value:.4g}</title>"
            marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4">{tip}</circle>')
        marks.append("</g>")
    return _frame(chart, top, marks)


def draw_bars(chart: Chart) -> str:
    """Return an SVG element with a group of bars at each place."""
    top = _axis_top(chart)
    group = _slot(chart) * _BAR_SHARE
    width = group / max(len(chart.series), 1)
    marks = []
    for number, series in enumerate(chart.series):
        for i, (place, value) in enumerate(zip(chart.places, series.values, strict=True)):
            x = _x(chart, i) - group / 2 + number * width
            y = _y(value, top)
            height = _y(0, top) - y
            tip = f"<title>{escape(series.name)}, {escape(place)}: {value:.4g}</title>"
            marks.append(
                f'{_open_group(number)}<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.92:.1f}"'
                f' height="{height:.1f}">{tip}</rect></g>'
            )
            marks.append(_text(x + width * 0.46, y - 4, f"{value:.3g}", size=10))
    return _frame(chart, top, marks)


def _frame(chart: Chart, top: float, marks: Sequence[str]) -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' width="{_WIDTH}" height="{_HEIGHT}" aria-label="{escape(chart.title)}"'
        ' font-family="system-ui, sans-serif" fill="#222">',
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 22, chart.title, size=15, anchor="start", weight="600"),
        *_legend(chart),
        *_y_axis(chart, top),
        *_x_axis(chart),
        *marks,
        "</svg>",
    ]
    return "\n".join(parts)


def _legend(chart: Chart) -> list[str]:
    parts = []
    x, y = float(_LEFT), 36
    for number, series in enumerate(chart.series):
        width = _LEGEND_MARK_PX + len(series.name) * _LEGEND_CHAR_PX
        if x > _LEFT and x + width > _WIDTH:
            x, y = float(_LEFT), y + _LEGEND_ROW_PX
        parts.append(f'{_open_group(number)}<rect x="{x:.1f}" y="{y}" width="12" height="12"/></g>')
        parts.append(_text(x + 17, y + 10, series.name, size=12, anchor="start"))
        x += width
    return parts


def _y_axis(chart: Chart, top: float) -> list[str]:
    parts = []
    for number in range(_NUM_TICKS + 1):
        value = top * number / _NUM_TICKS
        y = _y(value, top)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
            ' stroke="#ddd"/>'
        )
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.4g}", size=11, anchor="end"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    turn = f' transform="rotate(-90 18 {middle:.1f})"'
    parts.append(_text(18, middle, chart.y_label, size=12, more=turn))
    return parts


def _x_axis(chart: Chart) -> list[str]:
    base = _HEIGHT - _BOTTOM
    ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"'
    parts = [f'<line class="axis" {ends} stroke="#222"/>']
    for number, place in enumerate(chart.places):
        parts.append(_text(_x(chart, number), base + 18, place, size=11))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_text(middle, _HEIGHT - 12, chart.x_label, size=12))
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    anchor: str = "middle",
    weight: str = "400",
    more: str = "",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        f' font-weight="{weight}"{more}>{escape(text)}</text>'
    )


def _open_group(number: int) -> str:
    place = number % len(_COLOURS)
    return f'<g class="s{place}" color="{_COLOURS[place]}" fill="currentColor">'


def _axis_top(chart: Chart) -> float:
    """Return a round number that no value is above."""
    largest = max((value for series in chart.series for value in series.values), default=0.0)
    if largest <= 0:
        return 1.0
    step = 10.0 ** math.floor(math.log10(largest / _NUM_TICKS))
    factors = (1, 2, 2.5, 5, 10)
    return next(
        _NUM_TICKS * factor * step for factor in factors if _NUM_TICKS * factor * step >= largest
    )


def _slot(chart: Chart) -> float:
    return (_WIDTH - _LEFT - _RIGHT) / max(len(chart.places), 1)


def _x(chart: Chart, number: int) -> float:
    return _LEFT + _slot(chart) * (number + 0.5)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)
