"""Timed networks: real forward passes of a network's module, beside its counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from archcalc import units
from archcalc.analysis import Report, Row, analyze
from archcalc.errors import ArchcalcError, CheckError, InputError
from archcalc.names import unknown
from archcalc.pytorch import timing
from archcalc.pytorch.build import build, whole_shape
from archcalc.pytorch.devices import environment, memory_guard
from archcalc.pytorch.load import to_run
from archcalc.pytorch.observe import home, observe
from archcalc.table import Cell, Column, Table
from archcalc.targets import Target

SCHEMA = "archcalc.time/1"
DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
}

TIMES = ("median", "IQR", "share")
PASS = ""
"""Name of the root module, whose time in a watched pass is that of the pass."""


@dataclass(frozen=True)
class TimedLayer:
    """A leaf module in a pass, its calls added up, and the rows that say what they cost."""

    name: str
    kind: str
    rows: tuple[Row, ...]
    times: timing.Timing

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all calls."""
        return sum(row.macs for row in self.rows)


@dataclass(frozen=True)
class TimedNetwork:
    """Measured passes of one network on one device, with the environment they depend on."""

    report: Report
    batch: int  # images in a pass
    environment: Mapping[str, Any]
    channels_last: bool
    whole: timing.Timing
    watched: timing.Timing | None = None  # passes in which every layer was timed, if any
    layers: tuple[TimedLayer, ...] = ()

    @property
    def gmacs_per_second(self) -> float:
        """Achieved multiply-accumulates a second at the median, in 10^9."""
        return float(self.report.total.macs / self.whole.median / 1e9)

    def layer_table(self) -> Table:
        """Time of every layer beside its MACs; what a pass takes besides its layers is a row of its own."""
        if self.watched is None:
            raise InputError("the layers of this network were not timed")
        watched = self.watched.median
        rows: list[tuple[Cell, ...]] = []
        for one in self.layers:
            rate = f"{one.macs / one.times.median / 1e9:.2f}" if one.macs else None
            rows.append((one.name, one.kind, one.macs, *_times(one.times, watched), rate))
        gap = watched - sum(one.times.median for one in self.layers)
        rows.append(("between layers", None, None, _signed(gap), None, units.percent(gap / watched), None))
        macs = self.report.total.macs
        total = ("whole pass", None, macs, *_times(self.watched, watched), f"{macs / watched / 1e9:.2f}")
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
                {"name": one.name, "macs": one.macs, "median_s": one.times.median, "iqr_s": one.times.iqr}
                for one in self.layers
            ],
        }


def time_network(
    target: Target,
    *,
    device: torch.device,
    dtype: str = "float32",
    channels_last: bool = False,
    threads: int | None = None,
    layers: bool = False,
    seconds: float = 1.0,
) -> TimedNetwork:
    """Time forward passes of the target's module on random input for at least `seconds`.

    The module is built from the network, or is the one that the network was traced from.

    Raises InputError for a shape that is not of ints, a dtype or thread count that cannot be, memory that is too
    small; UnknownNameError for a dtype there is not; CheckError where the module fails.
    """
    kind = dtype_named(dtype)
    require_seconds(seconds)
    network, make = target.network, target.make
    report = analyze(network, None if target.shape is None else whole_shape(network, target.shape))
    with nullcontext() if threads is None else timing.threads(threads), memory_guard(device):
        module = timing.prepare(
            build(network, report.input) if make is None else make(),
            device=device,
            dtype=kind,
            channels_last=channels_last,
        )
        inputs, keywords = to_run(target.arguments, device, kind, channels_last=channels_last)
        parts = _parts(report, module) if layers else {}
        try:
            whole = timing.time_forward(module, inputs, keywords=keywords, min_seconds=seconds)
            runs = max(10, min(100, whole.runs))
            names = list({PASS: None, **parts}) if layers else []
            times = timing.time_layers(module, inputs, names, keywords=keywords, runs=runs) if layers else {}
        except NotImplementedError as error:
            raise InputError(f"{network.name} cannot run in {dtype} on {device}: {error}") from None
        except (ArchcalcError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            observe(module, *inputs, **keywords)  # says where it fails
            raise CheckError(f"{network.name} failed with {type(error).__name__}: {error}") from error
        facts = environment(device, dtype=kind, threads=torch.get_num_threads())
    batch = next((int(one.shape[0]) for one in target.arguments if one.batched), 1)
    timed = tuple(TimedLayer(path or network.name, *parts[path], times[path]) for path in parts if path in times)
    return TimedNetwork(report, batch, facts, channels_last, whole, times.get(PASS), timed)


def require_seconds(seconds: float) -> None:
    """Raise InputError where the least time to measure is none."""
    if seconds <= 0:
        raise InputError(f"--seconds is {seconds}; it must be more than 0")


def dtype_named(name: str) -> torch.dtype:
    """The dtype of this name. Raises UnknownNameError."""
    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    return DTYPES[name]


def _parts(report: Report, module: nn.Module) -> dict[str, tuple[str, tuple[Row, ...]]]:
    """Kind and rows of every leaf module that rows say something of, in the order of their first rows."""
    kinds = {path: type(one).__name__ for path, one in module.named_modules() if not any(True for _ in one.children())}
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in report:
        path = home(row, module)[0]
        if path in kinds:
            rows[path].append(row)
    return {path: (kinds[path], tuple(held)) for path, held in rows.items()}


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
