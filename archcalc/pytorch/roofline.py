"""A network on the roofline: for every layer what the machine's ceilings allow, and what a real pass achieves of it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import torch

from archcalc import units
from archcalc.analysis import Row
from archcalc.errors import InputError, MissingPackageError
from archcalc.pytorch import timing
from archcalc.pytorch.ceilings import Machine, machine
from archcalc.pytorch.devices import described
from archcalc.pytorch.room import require_numbers, require_room
from archcalc.pytorch.stopwatch import TimedNetwork, dtype_named, require_seconds, time_networks
from archcalc.pytorch.subject import Settings
from archcalc.pytorch.timing import Part, Progress
from archcalc.roofline import UNIT, Limit, per_byte, traffic
from archcalc.table import Cell, Column, Table
from archcalc.targets import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from archcalc.plots.canvas import Plot

SCHEMA = "archcalc.roofline/1"

STYLES = {"compute": ("#0072b2", "o"), "memory": ("#d55e00", "s"), "launch": ("#009e73", "^")}
"""Colour (of Okabe & Ito's palette, as in other plots) and marker of layers by what bounds them."""

MOST_NAMED = 5
"""Layers named in a drawing: those that take longest."""


@dataclass(frozen=True)
class Line:
    """A timed layer, or what a pass does besides its layers: its work, the least time for it, the time it took."""

    name: str
    kind: str | None
    macs: int
    bytes: int
    limit: Limit
    seconds: float
    iqr: float | None

    @property
    def intensity(self) -> float | None:
        """MACs a byte; None where nothing moves."""
        value = per_byte(self.macs, self.bytes)
        return None if value is None else float(value)

    @property
    def attainable(self) -> float | None:
        """MACs a second in the least time; None without MACs."""
        return self.macs / self.limit.seconds if self.macs else None

    @property
    def achieved(self) -> float | None:
        """MACs a second in the measured time; None without MACs."""
        return self.macs / self.seconds if self.macs and self.seconds > 0 else None

    @property
    def share(self) -> float | None:
        """The least time as a part of the measured one; None where there is nothing to do."""
        return self.limit.seconds / self.seconds if self.limit.by and self.seconds > 0 else None


@dataclass(frozen=True)
class Roofline:
    """A timed network under the ceilings of the machine it was timed on."""

    timed: TimedNetwork
    machine: Machine

    @property
    def dtype(self) -> str:
        """Of weights and activations."""
        return str(self.machine.environment["dtype"])

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every timed layer."""
        return tuple(
            self._line(one.name, one.kind, one.rows, one.times.median, one.times.iqr) for one in self.timed.layers
        )

    @property
    def between(self) -> Line:
        """What the watched pass does besides its timed layers: functions that are in no layer, Python, the watching."""
        rows = outside(self.timed)
        return self._line("between layers", None, rows, self.timed.outside.median, None)

    @property
    def watched(self) -> float:
        """Median seconds of a pass in which every layer is timed."""
        return watched(self.timed).median

    @property
    def in_layers(self) -> float:
        """What the layers take of the watched pass, in seconds."""
        return self.watched - self.timed.outside.median

    @property
    def total(self) -> Line:
        """The watched pass."""
        rows = self.timed.report.rows
        return self._line("whole pass", None, rows, self.watched, watched(self.timed).iqr)

    def _line(self, name: str, kind: str | None, rows: tuple[Row, ...], seconds: float, iqr: float | None) -> Line:
        nbytes = sum(traffic(row, self.dtype).bytes for row in rows)
        limit = self.machine.ceilings.limit_of(rows, self.dtype)
        return Line(name, kind, sum(row.macs for row in rows), nbytes, limit, seconds, iqr)

    def table(self) -> Table:
        """A line for each layer, what is between them, the whole pass; the sum of the layers against both passes."""
        headers = ("MACs", "bytes", UNIT, "attainable GMAC/s", "achieved GMAC/s", "time", "IQR", "share of ceiling")
        columns = (Column("layer", "left"), Column("kind", "left"), *map(Column, headers), Column("bound by", "left"))
        report = self.timed.report
        title = f"{report.title}, {self.dtype}"
        total = (*_cells(self.total)[:-1], None)
        rows = tuple(map(_cells, (*self.lines, self.between)))
        return Table(title, columns, rows, total, (_BOUND, self.gap, _ceilings(self.machine)))

    @property
    def gap(self) -> str:
        """The sum of the layers against the pass they were timed in, and that pass against one without timers."""
        whole = self.timed.whole.median
        return (
            f"The layers take {units.seconds(self.in_layers)}, {units.percent(self.in_layers / self.watched)} of the "
            f"pass they are timed in; what is between layers is the rest. A pass without timers takes "
            f"{units.seconds(whole)} (IQR {units.seconds(self.timed.whole.iqr)})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Every number as plain data, schema archcalc.roofline/1."""
        return {
            "schema": SCHEMA,
            "network": self.timed.report.network.name,
            "input": list(self.timed.report.input),
            "environment": dict(self.timed.environment),
            "ceilings": self.machine.to_dict(),
            "whole_pass_s": self.timed.whole.median,
            "whole_pass_iqr_s": self.timed.whole.iqr,
            "layers": [_record(line) for line in self.lines],
            "between": _record(self.between),
            "total": _record(self.total),
        }


_BOUND = (
    "Bound by the ceiling that takes longest. A small share: something else holds the layer up, such as operations "
    "that are no MACs. One above 100%: the ceiling does not hold there, as for data that are in a cache."
)


def roofline(
    target: Target,
    *,
    device: torch.device,
    dtype: str = "float32",
    threads: int | None = None,
    again: bool = False,
    seconds: float = 1.0,
    progress: Progress = lambda step, share: None,
) -> Roofline:
    """Time the target's layers on a device and set them under its ceilings, measured now if none are kept or `again`.

    Raises what `time_network` raises, and InputError before anything is allocated where memory is too small.
    """
    kind = dtype_named(dtype)
    require_seconds(seconds)
    report = target.report()
    require_numbers(report)
    require_room(report, device, dtype)
    with timing.threads(torch.get_num_threads() if threads is None else threads):
        found = machine(device, kind, again=again, progress=Part(progress, 0, 2))
        settings = Settings(device, dtype)
        (timed,) = time_networks([target], settings, layers=True, seconds=seconds, progress=Part(progress, 1, 2))
        return Roofline(timed, found)


def watched(timed: TimedNetwork) -> timing.Timing:
    """Times of the passes in which layers were timed. Raises InputError where none were."""
    if timed.watched is None:
        raise InputError("the layers of this network were not timed")
    return timed.watched


def outside(timed: TimedNetwork) -> tuple[Row, ...]:
    """Rows that are in no timed layer."""
    inside = {row.name for one in timed.layers for row in one.rows}
    return tuple(row for row in timed.report if row.name not in inside)


def signed(seconds: float) -> str:
    """A duration that may be negative."""
    return units.seconds(seconds) if seconds >= 0 else f"−{units.seconds(-seconds)}"


def _cells(line: Line) -> tuple[Cell, ...]:
    return (
        line.name,
        line.kind,
        line.macs,
        line.bytes,
        _rounded(line.intensity),
        _rounded(None if line.attainable is None else line.attainable / 1e9),
        _rounded(None if line.achieved is None else line.achieved / 1e9),
        signed(line.seconds),
        None if line.iqr is None else units.seconds(line.iqr),
        None if line.share is None else units.percent(line.share),
        line.limit.by,
    )


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:,.2f}"


def _record(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "kind": line.kind,
        "macs": line.macs,
        "bytes": line.bytes,
        "least_s": line.limit.seconds,
        "bound": line.limit.by,
        "median_s": line.seconds,
        "iqr_s": line.iqr,
        "share": line.share,
    }


def _ceilings(found: Machine) -> str:
    best, facts = found.ceilings, found.environment
    rates = f"{best.macs_per_second / 1e9:,.1f} GMAC/s, {best.bytes_per_second / 1e9:,.1f} GB/s"
    return (
        f"Ceilings measured on {facts['device']} ({described(facts)}): {rates}, {units.seconds(best.launch)} a launch."
    )


def drawn(result: Roofline, format: Literal["svg", "png"]) -> bytes:
    """The drawing as a file's content. Raises MissingPackageError."""
    return _canvas().rendered(draw(result), format)  # type: ignore[no-any-return]


def draw(result: Roofline) -> Plot:
    """The roof, and a point for each layer with MACs, its area by the time it takes. Raises MissingPackageError."""
    with _canvas().settings():
        figure: Plot = _canvas().Plot(8, 5)
        figure.set_layout_engine("constrained")
        _roof(result, figure.subplots())
    return figure


def _roof(result: Roofline, axes: Axes) -> None:
    ceilings = result.machine.ceilings
    points = [(line, line.intensity, line.achieved / 1e9) for line in result.lines if line.intensity and line.achieved]
    ends = [ceilings.ridge, *(x for _, x, _ in points)]
    corners = [min(ends) / 2, ceilings.ridge, max(ends) * 2]
    roof = [min(ceilings.macs_per_second, x * ceilings.bytes_per_second) / 1e9 for x in corners]
    axes.loglog(corners, roof, color="black", label="ceilings")
    longest = max((line.seconds for line, _, _ in points), default=1.0)
    for bound, (color, marker) in STYLES.items():
        shown = [(x, y, 20 + 200 * line.seconds / longest) for line, x, y in points if line.limit.by == bound]
        if shown:
            xs, ys, areas = zip(*shown, strict=True)
            axes.scatter(xs, ys, areas, color=color, marker=marker, alpha=0.6)
            axes.scatter([], [], 40, color=color, marker=marker, alpha=0.6, label=f"bound by {bound}")
    for name, x, y in _named(points):
        text = axes.annotate(name, (x, y), xytext=(0, 11), textcoords="offset points", ha="center", fontsize=9)
        text.set_bbox({"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1})
    facts, report = result.machine.environment, result.timed.report
    axes.set_title(f"{report.title}\n{facts['device_name']}, {result.dtype}")
    axes.set_xlabel("arithmetic intensity, MACs a byte")
    axes.set_ylabel("achieved, GMAC/s")
    axes.grid(visible=True, alpha=0.3)
    few = import_module("matplotlib.ticker").LogFormatter
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(few())  # none where the decades are many
    axes.legend(loc="lower right")


def _named(points: list[tuple[Line, float, float]]) -> list[tuple[str, float, float]]:
    """The layers that take longest, but for those whose names would lie over one another."""
    named: list[tuple[str, float, float]] = []
    for line, x, y in sorted(points, key=lambda point: -point[0].seconds):
        apart = all(not 0.2 < x / other < 5 or not 0.8 < y / height < 1.25 for _, other, height in named)
        if apart and len(named) < MOST_NAMED:
            named.append((line.name, x, y))
    return named


def require_matplotlib() -> None:
    """Raise MissingPackageError where there is none."""
    _canvas()


def _canvas() -> Any:
    try:
        return import_module("archcalc.plots.canvas")
    except ModuleNotFoundError as error:
        raise MissingPackageError('drawing needs matplotlib: pip install "archcalc[plot]"') from error
