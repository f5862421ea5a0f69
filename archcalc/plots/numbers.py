"""What a plot shows, before it is drawn: lines and panels, their numbers read off a report's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from archcalc import units
from archcalc.analysis import Report, Row
from archcalc.columns import COUNTS, OPERATIONS, Folded, fold, matching, names, tabulate
from archcalc.conventions import convention as convention_named
from archcalc.errors import InputError
from archcalc.names import unknown
from archcalc.plots.times import Times
from archcalc.table import Cell

DEFAULT = ("cost", "params", "activations")
MOST_LINES = 60
"""More lines are folded by block, unless something else is asked for."""
MOST_DRAWN = 400

QUANTITIES = ("cost", *COUNTS, *OPERATIONS, "time")
"""What can be drawn: the counted columns of `archcalc show`, and measured time."""


@dataclass(frozen=True)
class Panel:
    """One quantity: its name, what it counts, a number for each line (None: no rule), the total."""

    quantity: str
    header: str
    meaning: str
    values: tuple[float | None, ...]
    total: str = ""

    def written(self, value: float, digits: int = 3) -> str:
        """A value with its prefix or unit."""
        if self.quantity == "time":
            return units.seconds(value)
        return units.si(value, digits=digits)


@dataclass(frozen=True)
class Chart:
    """Lines by name, panels that share them, and what is to be said below."""

    title: str
    lines: tuple[str, ...]
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()


def layers_chart(
    report: Report,
    quantities: Sequence[str] | None = None,
    *,
    layers: str | None = None,
    depth: int | None = None,
    convention: str = "mac",
    all_rows: bool = False,
    times: Times | None = None,
) -> Chart:
    """The layers of a network, a line each, or the blocks that `depth` folds.

    Layers that are 0 in every panel are left out, and a long network is folded by block as far as it needs, unless
    `all_rows`; notes say so. Raises UnknownNameError, InputError.
    """
    chosen = _chosen(quantities, timed=times is not None)
    _check_times(report, times, chosen)

    def chart(level: int | None) -> Chart:
        made = _layers(report, chosen, layers, level, convention, times if "time" in chosen else None)
        return made if all_rows else _without_zeros(made, report, layers, level)

    result = chart(depth)
    if depth is None and not all_rows and len(result.lines) > MOST_LINES:
        deepest = max(len(row.node.blocks) for row in report)
        for level in range(deepest, 0, -1):
            folded = chart(level)
            if len(folded.lines) < len(result.lines):
                note = f"Folded by block, {level} deep (--depth, --layers and --all choose otherwise)."
                result = replace(folded, notes=(note, *folded.notes))
            if len(result.lines) <= MOST_LINES:
                break
    if len(result.lines) > MOST_DRAWN:
        raise InputError(
            f"{report.network.name} has {len(result.lines)} layers to draw, more than {MOST_DRAWN}; "
            "fold them with --depth 1, or choose some with --layers"
        )
    return result


def totals_chart(
    reports: Sequence[Report],
    quantities: Sequence[str] | None = None,
    *,
    layers: str | None = None,
    convention: str = "mac",
    times: Sequence[Times | None] = (),
) -> Chart:
    """The totals of several networks, a line each. Raises UnknownNameError, InputError."""
    times = times or [None] * len(reports)
    chosen = _chosen(quantities, timed=any(times))
    columns: list[list[float]] = []
    notes: list[str] = []
    for report, timed in zip(reports, times, strict=True):
        counted = [name for name in chosen if name != "time"]
        table = tabulate(report, ["layer", *counted], layers=layers, convention=convention, all_rows=True)
        assert table.total is not None
        found = dict(zip(counted, table.total[1:], strict=True))
        columns.append([_seconds(report, timed) if name == "time" else _whole(report, found[name]) for name in chosen])
        notes += [f"{report.network.name}: {note}" for note in table.notes]
    if "time" in chosen:
        notes.append(f"Medians of passes on {' and '.join(dict.fromkeys(one.device for one in times if one))}.")
    shapes = {report.given for report in reports}
    labels = [
        report.network.name if len(shapes) == 1 else f"{report.network.name}, {report.given}" for report in reports
    ]
    panels = tuple(
        Panel(name, *_headings(name, convention), tuple(column[i] for column in columns))
        for i, name in enumerate(chosen)
    )
    title = f"{len(reports)} networks" + (f" on {shapes.pop()}" if len(shapes) == 1 else "")
    return Chart(title, tuple(labels), panels, tuple(notes))


def _layers(
    report: Report,
    chosen: Sequence[str],
    layers: str | None,
    depth: int | None,
    convention: str,
    times: Times | None,
) -> Chart:
    counted = [name for name in chosen if name != "time"]
    table = tabulate(report, ["layer", *counted], layers=layers, depth=depth, convention=convention, all_rows=True)
    panels = []
    for name in chosen:
        headings = _headings(name, convention)
        if name == "time":
            assert times is not None
            lines = fold(matching(report, layers), depth)
            seconds = [_time(line.rows if isinstance(line, Folded) else [line], times) for line in lines]
            panels.append(Panel(name, *headings, tuple(seconds), f"total {units.seconds(sum(seconds))}"))
            continue
        column = 1 + counted.index(name)
        assert table.total is not None
        values = tuple(None if row[column] == "uncounted" else _whole(report, row[column]) for row in table.rows)
        total = f"{table.total[0]} {units.si(table.total[column])}"
        panels.append(Panel(name, *headings, values, total))
    notes = table.notes if times is None else (*table.notes, times.note)
    return Chart(table.title, tuple(str(row[0]) for row in table.rows), tuple(panels), notes)


def _without_zeros(chart: Chart, report: Report, layers: str | None, depth: int | None) -> Chart:
    kept = [i for i in range(len(chart.lines)) if any(panel.values[i] != 0 for panel in chart.panels)]
    if len(kept) == len(chart.lines):
        return chart
    lines = fold(matching(report, layers), depth)
    left = Counter(
        "block" if isinstance(line, Folded) else line.kind for i, line in enumerate(lines) if i not in set(kept)
    )
    note = f"Left out, 0 in every panel: {', '.join(f'{count} {kind}' for kind, count in left.items())}."
    panels = tuple(replace(panel, values=tuple(panel.values[i] for i in kept)) for panel in chart.panels)
    return replace(chart, lines=tuple(chart.lines[i] for i in kept), panels=panels, notes=(*chart.notes, note))


def _chosen(quantities: Sequence[str] | None, *, timed: bool) -> tuple[str, ...]:
    if quantities is None:
        return (*DEFAULT, "time") if timed else DEFAULT
    for name in quantities:
        if name not in QUANTITIES:
            raise unknown("quantity", name, QUANTITIES)
    if not quantities:
        raise InputError(f"no quantities; choose from {', '.join(QUANTITIES)}")
    if "time" in quantities and not timed:
        raise InputError(
            "time is measured: write it with `archcalc time NET --layers --output FILE`, then give --time FILE"
        )
    return tuple(dict.fromkeys(quantities))


def _headings(name: str, convention: str) -> tuple[str, str]:
    """A quantity's header and what it counts."""
    if name == "time":
        return "time", "median of forward passes"
    if name == "cost":
        rule = convention_named(convention)
        return rule.header, "multiply-accumulates" if rule.name == "mac" else f"as {rule.name} counts"
    rule = convention_named(convention)
    if name == "params" and rule.param_causes:
        return "params", f"as {rule.name} counts"
    return (COUNTS[name][0] if name in COUNTS else OPERATIONS[name]), names()[name]


def _whole(report: Report, cell: Cell) -> int:
    number = units.exact(cell)
    if number is None:
        raise InputError(
            f"{report.title} costs {units.count(cell)}; a plot takes an input of numbers, such as --input 3x224x224"
        )
    return number


def _check_times(report: Report, times: Times | None, chosen: Sequence[str]) -> None:
    if times is None or "time" not in chosen:
        return
    if not times.layers:
        raise InputError(f"only whole passes of {report.network.name} were timed; time its layers with --layers")
    known = {row.name for row in report}
    strange = [name for name in times.layers if name not in known]
    if strange:
        raise InputError(f"a time is given for {strange[0]}, which is no layer of {report.network.name}")


def _time(rows: Sequence[Row], times: Times) -> float:
    return sum(times.layers.get(row.name, 0.0) for row in rows)


def _seconds(report: Report, times: Times | None) -> float:
    if times is None:
        raise InputError(f"there are no times of {report.network.name}")
    return times.whole
