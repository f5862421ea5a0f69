"""Bubbles: networks by three quantities, right and up on logarithmic axes and by area, coloured by family."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import cos, floor, log10, radians, sin, sqrt
from typing import Any, NamedTuple

from archcalc import zoo
from archcalc.analysis import Report
from archcalc.errors import InputError
from archcalc.plots.canvas import COLOURS, FAINT, FONT, INK, TITLE, Plot, log_axes, settings, tick
from archcalc.plots.numbers import Chart, Panel

_WIDE, _HIGH = 8.2, 5.4
_LEFT, _HEAD, _FOOT, _MARGIN = 0.85, 0.55, 0.55, 0.2
_SIDE = 2.0
"""Inches for the legend."""
_LARGEST = 0.28
"""Inches from the centre of the largest bubble to its edge."""
_DOT, _AIR, _HEIGHT = 0.04, 0.015, 0.12
"""Inches: half of a centre's dot; between names; the height of a name."""
_MARKERS = "os^"
"""Of centres: a family's look is a colour and one of these."""
_OTHERS = "other"


class Bubble(NamedTuple):
    """A network: its name, its family, where its centre is, and how large it is."""

    name: str
    family: str
    x: float
    y: float
    area: float


def draw(chart: Chart, reports: Sequence[Report]) -> Plot:
    """A bubble for each line of a chart of three panels. Raises InputError where none can be drawn."""
    with settings():
        return _draw(chart, reports)


def _draw(chart: Chart, reports: Sequence[Report]) -> Plot:
    bubbles, notes = _bubbles(chart, reports)
    looks = _looks([bubble.family for bubble in bubbles])
    right, up, size = chart.panels
    width = _LEFT + _WIDE + _SIDE
    lines = [line for note in notes for line in Plot(1, 1).wrapped(note, width - 2 * _MARGIN)]
    below = _FOOT + 0.15 * len(lines) + _MARGIN / 2
    figure = Plot(width, below + _HIGH + _HEAD)
    figure.write(_MARGIN, below + _HIGH + 0.25, f"{len(bubbles)} networks", **TITLE)
    for i, line in enumerate(lines):
        figure.write(_MARGIN, below - _FOOT - 0.15 * (i + 1), line, color=FAINT)

    axes = figure.panel(_LEFT, below, _WIDE, _HIGH)
    axes.set_xlim(*_limits([bubble.x for bubble in bubbles], _WIDE))
    axes.set_ylim(*_limits([bubble.y for bubble in bubbles], _HIGH))
    log_axes(axes, right.quantity == "time", up.quantity == "time")
    axes.set_xlabel(_label(right), fontsize=FONT + 1, color=INK)
    axes.set_ylabel(_label(up), fontsize=FONT + 1, color=INK)
    most = max(bubble.area for bubble in bubbles)
    if not most:
        raise InputError(f"all networks have 0 {size.header}, which their area is to show")
    for bubble in sorted(bubbles, key=lambda one: -one.area):
        points, colour = _points(bubble.area / most), looks[bubble.family]["color"]
        axes.scatter([bubble.x], [bubble.y], points, color=colour, alpha=0.3, linewidth=0, label=bubble.name)
    for family, look in looks.items():
        members = [bubble for bubble in bubbles if bubble.family == family]
        axes.scatter([one.x for one in members], [one.y for one in members], 14, linewidth=0, zorder=3, **look)
    _name(figure, axes, bubbles, most, _Box(_LEFT, below, _LEFT + _WIDE, below + _HIGH))
    _legend(figure, looks, size, most, below)
    return figure


def _bubbles(chart: Chart, reports: Sequence[Report]) -> tuple[list[Bubble], list[str]]:
    """What can be drawn on logarithmic axes, and the notes, which name what cannot. Raises InputError for none."""
    found, zeros = [], []
    names = [report.network.name for report in reports]
    lines = names if len(set(names)) == len(names) else chart.lines
    for i, report in enumerate(reports):
        x, y, area = (panel.values[i] or 0 for panel in chart.panels)
        entry = zoo.ENTRIES.get(report.network.name)
        if x > 0 and y > 0:
            found.append(Bubble(lines[i], entry.family if entry else _OTHERS, x, y, area))
        else:
            zeros.append(lines[i])
    axes = " or ".join(panel.header for panel in chart.panels[:2])
    if not found:
        raise InputError(f"no network to draw: all have 0 {axes}, which are on logarithmic axes")
    return found, [*chart.notes, *([f"Left out, with 0 {axes}: {', '.join(zeros)}."] if zeros else [])]


def _looks(families: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each family; where colours are used up the next marker follows."""
    return {
        family: {"color": COLOURS[i % len(COLOURS)], "marker": _MARKERS[i // len(COLOURS) % len(_MARKERS)]}
        for i, family in enumerate(dict.fromkeys(families))
    }


def _points(share: float) -> float:
    """Matplotlib's size of a circle, its diameter in points squared, whose area is this share of the largest one's."""
    return share * (2 * _LARGEST * 72) ** 2


def _limits(values: Sequence[float], inches: float) -> tuple[float, float]:
    """Ends of a logarithmic axis with room for bubbles that lie at the least and the largest value."""
    low, high = log10(min(values)), log10(max(values))
    decades = max(high - low, 1)
    middle, half = (low + high) / 2, decades / 2 * inches / (inches - 2 * (_LARGEST + 0.1))
    return float(10 ** (middle - half)), float(10 ** (middle + half))


def _label(panel: Panel) -> str:
    return panel.header if panel.quantity in ("cost", "macs") else f"{panel.header}: {panel.meaning}"


class _Box(NamedTuple):
    """A rectangle of a figure, in inches."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: _Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.top <= other.bottom or other.top <= self.bottom)

    def holds(self, points: Iterable[tuple[float, float]]) -> bool:
        return any(self.left < x < self.right and self.bottom < y < self.top for x, y in points)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    def within(self, other: _Box) -> bool:
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )


def _name(figure: Plot, axes: Any, bubbles: Sequence[Bubble], most: float, frame: _Box) -> None:
    """Write each name where it covers no other name and no centre, as near to its bubble as there is room.

    A name further away has a line to its centre; one for which there is no room is left out.
    """
    centres = [axes.transData.transform((one.x, one.y)) / figure.dpi for one in bubbles]
    dots = [_Box(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in centres]
    names: list[_Box] = []
    for bubble, (x, y) in sorted(zip(bubbles, centres, strict=True), key=lambda pair: -pair[0].area):
        width = figure.width_of(bubble.name)
        radius = sqrt(bubble.area / most) * _LARGEST
        for far, box in _places(x, y, radius, width):
            end = box.nearest(x, y)
            way = [(x + (end[0] - x) * i / 8, y + (end[1] - y) * i / 8) for i in range(1, 8)] if far else []
            free = not any(box.overlaps(other) for other in (*dots, *names))
            if free and box.within(frame) and not any(name.holds(way) for name in names):
                names.append(box)
                figure.write(box.left + _AIR, box.bottom + _AIR, bubble.name, va="bottom", zorder=5)
                if far:
                    _lead(figure, axes, (x, y), end)
                break


def _places(x: float, y: float, radius: float, width: float) -> Iterator[tuple[bool, _Box]]:
    """Where a name of this width may stand around a centre, nearest first; whether it needs a line to the centre."""
    half_w, half_h = width / 2 + _AIR, _HEIGHT / 2 + _AIR
    for ring in (_DOT, max(radius, _DOT), radius + 0.1, radius + 0.2):
        for degrees in (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240):
            across, up = cos(radians(degrees)), sin(radians(degrees))
            middle_x = x + across * ring + (half_w if across > 0.1 else -half_w if across < -0.1 else 0)
            middle_y = y + up * (ring + half_h)
            box = _Box(middle_x - half_w, middle_y - half_h, middle_x + half_w, middle_y + half_h)
            yield ring > _DOT, box


def _lead(figure: Plot, axes: Any, *ends: tuple[float, float]) -> None:
    """A thin line between two places of the figure."""
    points = axes.transData.inverted().transform([(x * figure.dpi, y * figure.dpi) for x, y in ends])
    axes.plot(points[:, 0], points[:, 1], color=FAINT, linewidth=0.5, zorder=2)


def _legend(figure: Plot, looks: Mapping[str, Mapping[str, Any]], size: Panel, most: float, below: float) -> None:
    """Beside the axes: the families, and how large a bubble stands for how much."""
    left, line = _LEFT + _WIDE + 0.3, below + _HIGH - 0.1
    side = figure.panel(left, below, _SIDE - 0.3, _HIGH)
    side.set_axis_off()
    side.set_xlim(0, _SIDE - 0.3)
    side.set_ylim(below, below + _HIGH)
    for family, look in looks.items():
        side.scatter([0.1], [line], 30, linewidth=0, clip_on=False, **look)
        figure.write(left + 0.25, line, family, va="center")
        line -= 0.2
    line -= 0.2
    figure.write(left, line, f"area: {size.header}", va="center")
    for amount in _round(most):
        radius = sqrt(amount / most) * _LARGEST
        line -= max(radius, 0.1) + 0.05
        side.scatter([_LARGEST], [line], _points(amount / most), color=FAINT, alpha=0.5, linewidth=0, clip_on=False)
        figure.write(left + 2 * _LARGEST + 0.1, line, tick(amount, seconds=size.quantity == "time"), va="center")
        line -= max(radius, 0.1) + 0.05


def _round(most: float) -> list[float]:
    """A round amount that is no more than the largest, and a fifth and a twentieth of about that.

    >>> _round(37_000_000)
    [20000000.0, 5000000.0, 1000000.0]
    """
    rounds = [
        digit * 10.0**power for power in range(floor(log10(most)) - 2, floor(log10(most)) + 1) for digit in (1, 2, 5)
    ]
    fitting = [amount for amount in rounds if amount <= most]
    return [fitting[-1], fitting[-3], fitting[-5]]
