"""Forecast: the time of a pass predicted from counts, bytes and the machine's ceilings, beside the measured one.

A layer's time is a·launch + b·work/rate + c·bytes/bandwidth, with factors of its family: work is its MACs, or all of
its operations where it has none. The factors are fitted on a fixed grid of single layers (`calibration.py`), never on
the networks they are judged by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any, TypeAlias

import torch
from torch import Tensor

from archcalc import layers, units
from archcalc.analysis import Report, Row
from archcalc.layers import Layer
from archcalc.layers.base import ints
from archcalc.pytorch import timing
from archcalc.pytorch.calibration import Calibrated, calibration
from archcalc.pytorch.ceilings import Machine, machine
from archcalc.pytorch.devices import described
from archcalc.pytorch.roofline import outside, signed
from archcalc.pytorch.room import require_numbers, require_room
from archcalc.pytorch.stopwatch import TimedNetwork, dtype_named, require_seconds, time_networks
from archcalc.pytorch.subject import Settings
from archcalc.pytorch.timing import Part, Progress
from archcalc.roofline import Ceilings, computed, traffic
from archcalc.table import Cell, Column, Table
from archcalc.targets import Target

SCHEMA = "archcalc.forecast/1"

Features: TypeAlias = tuple[float, float, float]
"""Seconds by the ceilings alone: of a launch, of the work, of the bytes."""

_TRANSCENDENTAL = {"exp", "log", "tanh", "erf", "pow", "sin"}


def family(row: Row) -> str:
    """The family whose factors hold for a layer.

    >>> from archcalc import analyze, zoo
    >>> [family(analyze(zoo.vgg19())[name]) for name in ("conv1_1", "relu1_1", "pool1", "fc6")]
    ['convolution', 'elementwise', 'max pooling', 'linear']
    """
    layer, ledger = computed(row), row.ledger
    if ledger.get("mac"):
        return _multiplying(layer, row)
    if not traffic(row).bytes:
        return "view"
    if not ledger:
        return "copy"
    if "Pool" in layer.kind:
        return "max pooling" if "cmp" in ledger else "average pooling"
    if "pow" in ledger:
        return "response normalisation"
    if _TRANSCENDENTAL & ledger.keys():
        return "transcendental"
    if "Norm" in layer.kind:
        return "normalisation by data" if "sqrt" in ledger else "normalisation"
    return "elementwise"


def _multiplying(layer: Layer, row: Row) -> str:
    if isinstance(layer, layers.MultiheadAttention):
        return "attention"
    if isinstance(layer, layers.RNN | layers.LSTM | layers.GRU):
        return "recurrent"
    if "Conv" not in layer.kind:
        return "linear"
    if "Transpose" in layer.kind:
        return "transposed convolution"
    groups = int(getattr(layer, "groups", 1))
    if groups > 1:
        return "depthwise convolution" if groups == row.inputs[0][1] else "grouped convolution"
    kernel = ints(layer.kernel_size)  # type: ignore[attr-defined]
    return "pointwise convolution" if set(kernel) == {1} else "convolution"


def features(row: Row, ceilings: Ceilings, dtype: str) -> Features:
    """Seconds of a launch, of a layer's MACs (or other operations, where it has none), and of its bytes."""
    work = row.macs or sum(row.ledger.values())
    return ceilings.launch, work / ceilings.macs_per_second, traffic(row, dtype).bytes / ceilings.bytes_per_second


@dataclass(frozen=True)
class Family:
    """Factors of a family, how many layers they were fitted on, and the median of the absolute errors there."""

    factors: Features
    layers: int
    error: float


@dataclass(frozen=True)
class Model:
    """Factors of every family, for one dtype under one machine's ceilings."""

    ceilings: Ceilings
    dtype: str
    families: Mapping[str, Family]

    def seconds(self, row: Row) -> float:
        """The time of a layer; none for what is only there, such as an input."""
        if not row.sources:
            return 0.0
        factors = self.families[family(row)].factors
        return sum(a * x for a, x in zip(factors, features(row, self.ceilings, self.dtype), strict=True))

    def table(self) -> Table:
        """Every family with its factors and the error on the grid it was fitted on."""
        columns = Column("family", "left"), *map(Column, ("of launch", "of work", "of bytes", "layers", "median error"))
        rows = [
            (name, *(f"{factor:.2f}" for factor in one.factors), one.layers, units.percent(one.error))
            for name, one in self.families.items()
        ]
        return Table("a layer's time in times by the ceilings", columns, tuple(rows))


def fitted(calibrated: Iterable[Calibrated], ceilings: Ceilings, dtype: str) -> Model:
    """The model with the factors that `fit` gives each family."""
    samples: dict[str, list[tuple[Features, float]]] = defaultdict(list)
    for one in calibrated:
        samples[family(one.row)].append((features(one.row, ceilings, dtype), one.seconds))
    return Model(ceilings, dtype, {name: fit(points) for name, points in sorted(samples.items())})


def fit(points: Sequence[tuple[Features, float]]) -> Family:
    """Factors of at least 0 for which the squares of log(predicted/measured) sum to least.

    Found by least squares that are weighted anew until predictions stay (Holland & Welsch 1977); twice too much is
    as bad as half.

    >>> fit([((1.0, 2.0, 0.0), 5.0), ((1.0, 4.0, 0.0), 9.0)]).factors  # 1·launch + 2·work
    (1.0, 2.0, 0.0)
    """
    x = torch.tensor([given for given, _ in points], dtype=torch.float64)
    t = torch.tensor([seconds for _, seconds in points], dtype=torch.float64)
    weights, best, least = 1 / t**2, torch.zeros(3, dtype=torch.float64), float("inf")
    for _ in range(STEPS):
        factors = _nonnegative(x, t, weights)
        predicted = x @ factors
        logs = (predicted / t).log()
        squares = float(logs.square().sum())
        if squares < least:
            best, least = factors, squares
        same = (predicted - t).abs() <= 1e-9 * t
        weights = torch.where(same, 1 / t**2, logs / (predicted * (predicted - t)))
    errors = ((x @ best) / t - 1).abs().tolist()
    a, b, c = (round(float(factor), 9) for factor in best)
    return Family((a, b, c), len(points), median(errors))


STEPS = 30
"""Of reweighting."""


def _nonnegative(x: Tensor, t: Tensor, weights: Tensor) -> Tensor:
    """Factors of at least 0 with the least weighted squares: of three factors every choice of zeros can be tried."""
    root = weights.sqrt()
    rows, wanted = x * root[:, None], t * root
    best, least = torch.zeros(3, dtype=torch.float64), float("inf")
    used = [i for i in range(3) if x[:, i].any()]
    for chosen in (list(some) for size in range(1, len(used) + 1) for some in combinations(used, size)):
        solution = torch.linalg.lstsq(rows[:, chosen], wanted, driver="gelsd").solution
        squares = float((rows[:, chosen] @ solution - wanted).square().sum())
        if bool((solution >= 0).all()) and squares < least:
            best, least = torch.zeros(3, dtype=torch.float64), squares
            best[chosen] = solution
    return best


@dataclass(frozen=True)
class Line:
    """A layer, or what a pass does besides its layers: the time predicted, and the one measured if any."""

    name: str
    kind: str | None
    macs: int
    bytes: int
    predicted: float
    measured: float | None = None

    @property
    def error(self) -> float | None:
        """predicted/measured − 1."""
        return None if self.measured is None or self.measured <= 0 else self.predicted / self.measured - 1


@dataclass(frozen=True)
class Forecast:
    """A network's predicted pass, beside a measured one if there is one."""

    report: Report
    machine: Machine
    model: Model
    timed: TimedNetwork | None = None

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every timed layer, and what is outside of them; every layer where nothing was timed."""
        if self.timed is None:
            return tuple(self._line(row.name, row.kind, (row,)) for row in self.report if row.sources)
        timed = [self._line(one.name, one.kind, one.rows, one.times.median) for one in self.timed.layers]
        return (*timed, self._line("between layers", None, outside(self.timed), self.timed.outside.median))

    @property
    def total(self) -> Line:
        """The whole pass, measured without timers on its layers."""
        measured = None if self.timed is None else self.timed.whole.median
        return self._line("whole pass", None, self.report.rows, measured)

    def _line(self, name: str, kind: str | None, rows: Sequence[Row], measured: float | None = None) -> Line:
        nbytes = sum(traffic(row, self.model.dtype).bytes for row in rows)
        return Line(name, kind, sum(row.macs for row in rows), nbytes, sum(map(self.model.seconds, rows)), measured)

    @property
    def layer_errors(self) -> tuple[float, ...]:
        """Absolute errors of the timed layers that take at least a hundredth of the pass."""
        least = 0.01 * sum(line.measured or 0.0 for line in self.lines)
        long = [line for line in self.lines if line.kind is not None and (line.measured or 0.0) >= least]
        return tuple(abs(line.error) for line in long if line.error is not None)

    def table(self) -> Table:
        """A line for each layer, what is between them, and the whole pass."""
        headers = ["MACs", "bytes", "predicted"] + ([] if self.timed is None else ["measured", "error"])
        columns = (Column("layer", "left"), Column("kind", "left"), *map(Column, headers))
        lines = [self._cells(line) for line in self.lines]
        title = f"{self.report.title}, {self.model.dtype}"
        return Table(title, columns, tuple(lines), self._cells(self.total), tuple(self._notes()))

    def _cells(self, line: Line) -> tuple[Cell, ...]:
        cells: tuple[Cell, ...] = (line.name, line.kind, line.macs, line.bytes, units.seconds(line.predicted))
        if self.timed is None:
            return cells
        shown = line.error is not None and line.name != "between layers"
        measured = None if line.measured is None else signed(line.measured)
        return (*cells, measured, percent(line.error) if shown and line.error is not None else None)

    def _notes(self) -> Iterable[str]:
        facts = self.machine.environment
        fitted_on = sum(one.layers for one in self.model.families.values())
        yield (
            f"Predicted from counts, bytes and the ceilings of {facts['device']} ({described(facts)}); "
            f"factors fitted on {fitted_on} single layers."
        )
        if self.layer_errors:
            half = units.percent(median(self.layer_errors))
            yield f"Of layers that take 1% of the pass or more, half are off by {half} or less."
            yield "Layers are measured in passes with timers, the whole pass without."

    def to_dict(self) -> dict[str, Any]:
        """Every number as plain data, schema archcalc.forecast/1."""
        return {
            "schema": SCHEMA,
            "network": self.report.network.name,
            "input": list(self.report.input),
            "environment": dict(self.machine.environment),
            "ceilings": self.machine.to_dict(),
            "model": {
                name: {"factors": list(one.factors), "layers": one.layers, "median_error": one.error}
                for name, one in self.model.families.items()
            },
            "layers": [_record(line) for line in self.lines],
            "total": _record(self.total),
            "median_layer_error": median(self.layer_errors) if self.layer_errors else None,
        }


def forecast(
    target: Target,
    *,
    device: torch.device,
    dtype: str = "float32",
    threads: int | None = None,
    again: bool = False,
    compare: bool = True,
    seconds: float = 1.0,
    progress: Progress = lambda step, share: None,
) -> Forecast:
    """Predict the target's pass; with `compare` also measure it.

    Ceilings and calibration are measured where none are kept, or `again`. Raises what `time_network` raises, and
    InputError before anything is allocated where the pass is to be measured and memory is too small for it.
    """
    kind = dtype_named(dtype)
    require_seconds(seconds)
    report = target.report()
    require_numbers(report)
    if compare:
        require_room(report, device, dtype)
    with timing.threads(torch.get_num_threads() if threads is None else threads):
        first, second, third = (Part(progress, i, 2 + compare) for i in range(3))
        found = machine(device, kind, again=again, progress=first)
        model = fitted(calibration(device, kind, again=again, progress=second), found.ceilings, dtype)
        if not compare:
            return Forecast(report, found, model)
        settings = Settings(device, dtype)
        (timed,) = time_networks([target], settings, layers=True, seconds=seconds, progress=third)
    return Forecast(timed.report, found, model, timed)


def percent(error: float) -> str:
    """A relative error with its sign."""
    return f"+{units.percent(error)}" if error > 0 else units.percent(error)


def _record(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "kind": line.kind,
        "macs": line.macs,
        "bytes": line.bytes,
        "predicted_s": line.predicted,
        "median_s": line.measured,
        "error": line.error,
    }
