"""Timed networks: real forward passes of a network's module, beside its counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from archcalc import units
from archcalc.analysis import Report, analyze
from archcalc.errors import InputError
from archcalc.extents import Shape
from archcalc.graph import Network
from archcalc.names import unknown
from archcalc.pytorch import timing
from archcalc.pytorch.build import build
from archcalc.pytorch.devices import environment, memory_guard
from archcalc.table import Cell, Column, Table

SCHEMA = "archcalc.time/1"
DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
}

TIMES = ("median", "IQR", "share")
PASS = ""
"""Name of the root module, whose time in a watched pass is that of the pass."""


@dataclass(frozen=True)
class TimedNetwork:
    """Measured passes of one network on one device, with the environment they depend on."""

    report: Report
    environment: Mapping[str, Any]
    channels_last: bool
    whole: timing.Timing
    layers: Mapping[str, timing.Timing]

    @property
    def batch(self) -> int:
        """Images in a pass."""
        return int(self.report.input[0])

    @property
    def gmacs_per_second(self) -> float:
        """Achieved multiply-accumulates a second at the median, in 10^9."""
        return float(self.report.total.macs / self.whole.median / 1e9)

    def layer_table(self) -> Table:
        """Time of every layer beside its MACs; what a pass takes besides its layers is a row of its own."""
        watched = self.layers[PASS].median
        rows: list[tuple[Cell, ...]] = []
        for row in self.report.rows:
            times = self.layers.get(row.name)
            if times is not None:
                rate = f"{row.macs / times.median / 1e9:.2f}" if row.macs else None
                rows.append((row.name, row.kind, row.macs, *_times(times, watched), rate))
        gap = watched - sum(times.median for name, times in self.layers.items() if name != PASS)
        rows.append(("between layers", None, None, _signed(gap), None, units.percent(gap / watched), None))
        macs = self.report.total.macs
        total = ("whole pass", None, macs, *_times(self.layers[PASS], watched), f"{macs / watched / 1e9:.2f}")
        columns = (Column("layer", "left"), Column("kind", "left"), *map(Column, ("MACs", *TIMES, "GMAC/s")))
        title = f"{self.report.network.name} on {units.shape(self.report.input)}, {self.environment['device_name']}"
        unwatched = units.seconds(self.whole.median)
        note = f"Every layer is timed within whole passes; a pass without the watching takes {unwatched}."
        return Table(title, columns, tuple(rows), total, (note,))

    def to_dict(self) -> dict[str, Any]:
        """Every sample in seconds, with the environment: schema archcalc.time/1."""
        return {
            "schema": SCHEMA,
            "network": self.report.network.name,
            "input": list(self.report.input),
            "environment": dict(self.environment),
            "channels_last": self.channels_last,
            "macs": self.report.total.macs,
            "median_s": self.whole.median,
            "iqr_s": self.whole.iqr,
            "images_per_s": self.whole.images_per_second(self.batch),
            "gmacs_per_s": self.gmacs_per_second,
            "seconds": list(self.whole.seconds),
            "layers": [
                {"name": name, "macs": self.report[name].macs, "median_s": times.median, "iqr_s": times.iqr}
                for name, times in self.layers.items()
                if name != PASS
            ],
        }


def time_network(
    network: Network,
    shape: Shape | None = None,
    *,
    make: Callable[[], nn.Module] | None = None,
    device: torch.device,
    dtype: str = "float32",
    channels_last: bool = False,
    threads: int | None = None,
    layers: bool = False,
    seconds: float = 1.0,
) -> TimedNetwork:
    """Time forward passes of the network's module on random input for at least `seconds`.

    The module is built from the network, or made by `make` where the network was traced from it.

    Raises InputError for a shape that is not of ints, a dtype or thread count that cannot be, memory that is too
    small; UnknownNameError for a dtype there is not.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if seconds <= 0:
        raise InputError(f"--seconds is {seconds}; it must be more than 0")
    report = analyze(network, shape)
    with nullcontext() if threads is None else timing.threads(threads), memory_guard(device):
        module = timing.prepare(
            build(network, report.input) if make is None else make(),
            device=device,
            dtype=DTYPES[dtype],
            channels_last=channels_last,
        )
        image = torch.rand(report.input, generator=torch.Generator().manual_seed(0)).to(device, DTYPES[dtype])
        if channels_last and image.ndim == 4:
            image = image.to(memory_format=torch.channels_last)
        try:
            whole = timing.time_forward(module, (image,), min_seconds=seconds)
        except NotImplementedError as error:
            raise InputError(f"{network.name} cannot run in {dtype} on {device}: {error}") from None
        modules = dict(module.named_modules())
        names = [PASS, *(row.name for row in report.rows if row.name in modules)] if layers else []
        parts = timing.time_layers(module, (image,), names, runs=max(10, min(100, whole.runs))) if layers else {}
        facts = environment(device, dtype=DTYPES[dtype], threads=torch.get_num_threads())
    return TimedNetwork(report, facts, channels_last, whole, parts)


def summary(results: Sequence[TimedNetwork]) -> Table:
    """One line for each network and device."""
    headers = ("batch", "MACs", "median", "IQR", "images/s", "GMAC/s", "runs")
    columns = (Column("network", "left"), Column("device", "left"), Column("dtype", "left"), *map(Column, headers))
    rows = tuple(
        (
            result.report.network.name,
            str(result.environment["device"]),
            str(result.environment["dtype"]) + (", channels last" if result.channels_last else ""),
            result.batch,
            result.report.total.macs,
            units.seconds(result.whole.median),
            units.seconds(result.whole.iqr),
            f"{result.whole.images_per_second(result.batch):.1f}",
            f"{result.gmacs_per_second:.1f}",
            result.whole.runs,
        )
        for result in results
    )
    machines = dict.fromkeys(
        f"{facts['device']}: {facts['device_name']}, {facts['threads']} CPU threads, torch {facts['torch']}"
        for facts in (result.environment for result in results)
    )
    return Table("forward passes", columns, rows, notes=tuple(machines))


def _times(times: timing.Timing, whole: float) -> tuple[str, str, str]:
    """Cells of the columns TIMES."""
    return units.seconds(times.median), units.seconds(times.iqr), units.percent(times.median / whole)


def _signed(seconds: float) -> str:
    return units.seconds(seconds) if seconds >= 0 else f"−{units.seconds(-seconds)}"
