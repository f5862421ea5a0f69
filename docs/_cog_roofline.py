"""Cog blocks about the roofline: bytes that follow from counts, the grid of calibration, results that were measured."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

from _cog_results import machine, results

from archcalc import units
from archcalc.table import Cell, Column, Table

__all__ = ["calibration_grid", "forecasts", "rooflines"]


def calibration_grid() -> None:
    """Families of layers, and how many layers of the grid each is fitted on."""
    from archcalc.pytorch.calibration import GRID, row_of
    from archcalc.pytorch.forecast import family

    counts = Counter(family(row_of(layer, shape)) for layer, shape in GRID)
    example = {family(row_of(layer, shape)): (layer, shape) for layer, shape in reversed(GRID)}
    rows = [
        (name, count, example[name][0].kind, units.shape(example[name][1])) for name, count in sorted(counts.items())
    ]
    headers = ("family", "layers", "the first", "on")
    columns = tuple(Column(header, "right" if header == "layers" else "left") for header in headers)
    print(Table("", columns, tuple(rows)).to_markdown(), end="")


def rooflines() -> None:
    """Every results file of `archcalc roofline`, a line for each network, machine by machine."""
    headers = ("network", "input", "dtype", "MACs a byte", "attainable GMAC/s", "achieved GMAC/s", "share of ceiling")
    _machines("roofline", headers, _roofline_cells)


def forecasts() -> None:
    """Every results file of benchmarks/forecast.py, a line for each network."""
    headers = ("network", "input", "dtype", "predicted", "measured", "error", "median error of a layer")
    _machines("forecast", headers, _forecast_cells)


def _roofline_cells(one: dict[str, Any]) -> tuple[Cell, ...]:
    total = one["total"]
    return (
        f"{total['macs'] / total['bytes']:.2f}",
        f"{total['macs'] / total['least_s'] / 1e9:.1f}",
        f"{total['macs'] / total['median_s'] / 1e9:.1f}",
        units.percent(total["share"]),
    )


def _forecast_cells(one: dict[str, Any]) -> tuple[Cell, ...]:
    from archcalc.pytorch.forecast import percent

    total, layers = one["total"], one["median_layer_error"]
    return (
        units.seconds(total["predicted_s"]),
        units.seconds(total["median_s"]),
        percent(total["error"]),
        None if layers is None else units.percent(layers),
    )


def _machines(kind: str, headers: tuple[str, ...], cells: Any) -> None:
    machines: dict[str, list[dict[str, Any]]] = {}
    for record in chain.from_iterable(results(kind)):
        machines.setdefault(machine(record["environment"]), []).append(record)
    for told, records in machines.items():
        print(f"{told}\n")
        rows = [
            (one["network"], units.shape(one["input"]), one["environment"]["dtype"], *cells(one)) for one in records
        ]
        columns = tuple(Column(header, "left" if i < 3 else "right") for i, header in enumerate(headers))
        print(Table("", columns, tuple(rows)).to_markdown())
    if not machines:
        print("None yet.")
