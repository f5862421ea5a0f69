"""Horizontal bars: a line for each layer or network, a panel for each quantity, all panels with the same lines."""

from __future__ import annotations

from typing import Any

from archcalc.plots.canvas import BAND, BOLD, COLOURS, FAINT, FONT, INK, TITLE, Plot, count_axis, settings
from archcalc.plots.numbers import Chart, Panel

_LINE = 0.19
"""Inches from one bar to the next: more than the height of their labels."""
_PANEL, _GAP, _MARGIN = 2.2, 0.3, 0.2
_HEAD, _FOOT = 0.75, 0.5
_HUES = {"cost": 0, "macs": 0, "params": 1, "weights": 1, "activations": 2, "time": 3}


def draw(chart: Chart) -> Plot:
    """The chart as a figure whose size follows from the number and length of its lines."""
    with settings():
        return _draw(chart)


def _draw(chart: Chart) -> Plot:
    probe = Plot(1, 1)
    names = max(probe.width_of(name) for name in chart.lines)
    panels = len(chart.panels)
    room = max(_PANEL, *(_width(probe, panel) for panel in chart.panels))
    width = 2 * _MARGIN + names + 0.1 + panels * room + (panels - 1) * _GAP
    width = max(width, 2 * _MARGIN + probe.width_of(chart.title, **TITLE))
    notes = [line for note in chart.notes for line in probe.wrapped(note, width - 2 * _MARGIN)]
    below = _FOOT + 0.15 * len(notes) + _MARGIN / 2
    high = _LINE * len(chart.lines)
    figure = Plot(width, below + high + _HEAD)

    figure.write(_MARGIN, below + high + 0.45, chart.title, **TITLE)
    for i, note in enumerate(notes):
        figure.write(_MARGIN, below - _FOOT - 0.15 * (i + 1), note, color=FAINT)
    left = _MARGIN + names + 0.1
    for i, panel in enumerate(chart.panels):
        _panel(figure, chart, panel, left + i * (room + _GAP), below, room, high, named=i == 0)
    return figure


def _width(probe: Plot, panel: Panel) -> float:
    """Inches that the words above and below a panel take."""
    above = probe.width_of(panel.header, **BOLD) + 0.1 + probe.width_of(panel.total)
    return max(above, probe.width_of(panel.meaning))


def _panel(
    figure: Plot, chart: Chart, panel: Panel, left: float, bottom: float, width: float, high: float, *, named: bool
) -> None:
    axes = figure.panel(left, bottom, width, high)
    lines = range(len(chart.lines))
    hue = COLOURS[_HUES.get(panel.quantity, 4)]
    known = [0 if value is None else value for value in panel.values]
    texts = [_text(panel, value) for value in panel.values]
    limit = _limit(known, [figure.width_of(text) for text in texts], width)

    axes.set_xlim(0, limit)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.barh(lines[1::2], limit, height=1, color=BAND, zorder=0, label="_bands")
    axes.barh(lines, known, height=0.72, color=hue, label=panel.quantity)
    for i, (value, text) in enumerate(zip(panel.values, texts, strict=True)):
        if text:
            style: dict[str, Any] = {"color": INK} if value is not None else {"color": COLOURS[5], "style": "italic"}
            axes.annotate(
                text,
                (known[i], i),
                xytext=(3, 0),
                textcoords="offset points",
                va="center_baseline",
                fontsize=FONT,
                **style,
            )
    axes.set_yticks(lines, chart.lines if named else [""] * len(lines))
    axes.tick_params(axis="y", length=0)
    count_axis(axes, seconds=panel.quantity == "time")
    axes.set_xlabel(panel.meaning, fontsize=FONT, color=FAINT)
    heading = figure.write(left, bottom + high + 0.1, panel.header, **BOLD)
    beside = float(figure.box(heading).width / figure.dpi) + 0.1
    figure.write(left + beside, bottom + high + 0.1, panel.total, color=FAINT)


def _text(panel: Panel, value: float | None) -> str:
    """What stands at the end of a bar; nothing for 0."""
    if value is None:
        return "uncounted"
    return panel.written(value) if value else ""


def _limit(values: list[float], texts: list[float], width: float) -> float:
    """The end of an axis on which every bar and the text at its end, so many inches wide, have room."""
    room = [width - text - 0.08 for text in texts]
    return max((value * width / inches for value, inches in zip(values, room, strict=True)), default=0) or 1
