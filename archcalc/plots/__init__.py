"""Plots: bars of what layers or networks cost, bubbles of networks; needs matplotlib, read when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archcalc import zoo
from archcalc.analysis import Report, analyze
from archcalc.errors import InputError, MissingPackageError
from archcalc.graph import Network
from archcalc.plots.numbers import layers_chart, totals_chart

if TYPE_CHECKING:
    from archcalc.plots.canvas import Plot
    from archcalc.plots.times import Timed

FORMATS = ("png", "svg", "pdf")


def plot(
    *targets: Network | Report,
    quantities: Sequence[str] | None = None,
    layers: str | None = None,
    depth: int | None = None,
    convention: str = "mac",
    all_rows: bool = False,
    times: Timed | None = None,
) -> Plot:
    """Bars by layer of one network, or of the totals of several; a panel for each quantity.

    Quantities are "cost" (what the convention counts), the counted columns of a report, and "time" where `times`
    are given: the file that `archcalc time --layers --output FILE` wrote, a record of it, or timed networks.
    `layers` keeps those that match a regular expression, `depth` folds them by block. Raises UnknownNameError,
    InputError, MissingPackageError.

    >>> from archcalc import zoo
    >>> plot(zoo.vgg19(), quantities=["cost", "params"]).savefig("vgg19.png")  # doctest: +SKIP
    """
    reports = [analyze(one) if isinstance(one, Network) else one for one in targets]
    if not reports:
        raise InputError("a plot takes a network or more")
    measured = [_times(report, times) for report in reports]
    if len(reports) > 1:
        if depth is not None or all_rows:
            raise InputError("of several networks the totals are drawn; depth and all rows are for the layers of one")
        chart = totals_chart(reports, quantities, layers=layers, convention=convention, times=measured)
    else:
        chart = layers_chart(
            reports[0],
            quantities,
            layers=layers,
            depth=depth,
            convention=convention,
            all_rows=all_rows,
            times=measured[0],
        )
    return _drawing("bar_chart").draw(chart)  # type: ignore[no-any-return]


def bubbles(
    *targets: Network | Report,
    quantities: Sequence[str] | None = None,
    convention: str = "mac",
    times: Timed | None = None,
) -> Plot:
    """A bubble for each network: how far right, how far up and how large by three quantities.

    By default cost, params and activations, or time where there are `times`. Families of the zoo have a colour each.
    Raises UnknownNameError, InputError, MissingPackageError.
    """
    reports = [analyze(one) if isinstance(one, Network) else one for one in targets]
    if not reports:
        raise InputError("a plot takes a network or more")
    without: list[str] = []
    if times is not None:
        reports, without = _with_times(reports, times)
    chosen = quantities or ("cost", "params", "activations" if times is None else "time")
    if len(chosen) != 3:
        raise InputError(f"bubbles show three quantities (right, up, area), not {len(chosen)}: {', '.join(chosen)}")
    measured = [_times(report, times) for report in reports]
    chart = totals_chart(reports, chosen, convention=convention, times=measured)
    if without:
        chart = replace(chart, notes=(*chart.notes, f"Left out, without a time: {', '.join(without)}."))
    return _drawing("bubble_chart").draw(chart, reports)  # type: ignore[no-any-return]


def zoo_networks() -> list[Network]:
    """The networks of the zoo that classify images: without perceptrons and single inception modules."""
    return [entry.build() for entry in zoo.ENTRIES.values() if entry.family not in ("Perceptron", "Inception")]


def format_of(file: Path) -> str:
    """The format that a file's suffix names. Raises InputError."""
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise InputError(f"cannot draw into {file.name}: its name must end in .{', .'.join(FORMATS)}")
    return suffix


def rendered(figure: Plot, format: str) -> bytes:
    """The figure as a file of this format holds it; the same bytes each time."""
    return _drawing("canvas").rendered(figure, format)  # type: ignore[no-any-return]


def _times(report: Report, timed: Timed | None) -> Any:
    return None if timed is None else import_module("archcalc.plots.times").times_of(report, timed)


def _with_times(reports: Sequence[Report], timed: Timed) -> tuple[list[Report], list[str]]:
    """The reports of networks that have times, and the names of those that have none."""
    known = import_module("archcalc.plots.times").networks(timed)
    left_out = [report.network.name for report in reports if report.network.name not in known]
    return [report for report in reports if report.network.name in known] or list(reports), left_out


def _drawing(module: str) -> Any:
    """A module that needs matplotlib. Raises MissingPackageError."""
    try:
        return import_module(f"archcalc.plots.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingPackageError('plots need matplotlib: pip install "archcalc[plot]"') from error
