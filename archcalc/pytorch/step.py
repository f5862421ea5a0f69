"""Training steps: forward, backward and optimizer of a network's module timed apart, beside the counts of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from archcalc import units
from archcalc.analysis import Report
from archcalc.backward import backward_macs, graded
from archcalc.errors import InputError
from archcalc.names import unknown
from archcalc.pytorch.devices import described, generators_kept, memory_guard
from archcalc.pytorch.observe import tensors
from archcalc.pytorch.subject import Settings, Subject, explained, rate, require_seconds, subject
from archcalc.pytorch.timing import Part, Progress, Timing, clock_of, interleaved
from archcalc.table import Cell, Column, Table
from archcalc.targets import Target

SCHEMA = "archcalc.step/1"

OPTIMIZERS: Mapping[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.0),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.0, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.0),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.0),
}
"""Optimizers with a learning rate of 0: the work is the same, and weights stay so that steps are alike."""

PARTS = ("forward", "backward", "optimizer")


@dataclass(frozen=True)
class TimedStep:
    """Training steps of one network on one device; a sample of each part, and of the whole, comes from one step."""

    report: Report
    batch: int
    environment: Mapping[str, Any]
    label: str
    optimizer: str
    whole: Timing
    parts: Mapping[str, Timing]

    @property
    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of forward and backward; an optimizer has none that is counted."""
        known = graded(self.report)
        backward = sum(int(backward_macs(row, known)) for row in self.report)
        return {"forward": int(self.report.total.macs), "backward": backward}

    @property
    def ratios(self) -> tuple[float | None, float, float]:
        """Backward over forward: MACs; time, step by step; the interquartile range of that."""
        macs = self.macs
        counted = macs["backward"] / macs["forward"] if macs["forward"] else None
        return counted, *self.parts["backward"].ratio_to(self.parts["forward"])

    def to_dict(self) -> dict[str, Any]:
        """Every number as plain data, schema archcalc.step/1."""
        counted, measured, spread = self.ratios
        return {
            "schema": SCHEMA,
            "network": self.report.network.name,
            "input": list(self.report.input),
            "environment": dict(self.environment),
            "settings": self.label,
            "optimizer": self.optimizer,
            "median_s": self.whole.median,
            "iqr_s": self.whole.iqr,
            "images_per_s": self.whole.images_per_second(self.batch),
            "steps": self.whole.runs,
            "parts": [
                {"name": name, "macs": self.macs.get(name), "median_s": one.median, "iqr_s": one.iqr}
                for name, one in self.parts.items()
            ],
            "backward_to_forward": {"macs": counted, "time": measured, "time_iqr": spread},
        }


def time_steps(
    targets: Sequence[Target],
    settings: Settings,
    *,
    optimizer: str = "sgd",
    seconds: float = 1.0,
    progress: Progress = lambda step, share: None,
) -> tuple[TimedStep, ...]:
    """Time training steps of the targets' modules, one network after another, each for at least `seconds`.

    A step runs a copy of the module in training mode on random input; the gradient that backward starts with is of
    ones, so that there is no loss. Raises InputError for memory that is too small, a module that has nothing to train;
    what `time_networks` raises.
    """
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    settings.check()
    require_seconds(seconds)
    results: list[TimedStep] = []
    for target in targets:
        step = f"{target.network.name} on {settings.device}: training steps"
        share = Part(progress, len(results), len(targets)).of(step)
        share(0)
        with settings.applied(), memory_guard(settings.device):
            results.append(_timed(target, settings, optimizer, seconds, share))
    return tuple(results)


def _timed(
    target: Target, settings: Settings, optimizer: str, seconds: float, share: Callable[[float], None]
) -> TimedStep:
    """One network's steps. What memory holds is in this frame, which the guard around it clears."""
    one = subject(target, settings, optimizer)
    if not any(parameter.requires_grad for parameter in one.module.parameters()):
        raise InputError(f"{one.name} has no parameter to train")
    with generators_kept(settings.device), explained(one):
        step = _Step(one, optimizer)
        (whole,) = interleaved([step], settings.device, min_seconds=seconds, shortest=0, progress=share)
        parts = {
            name: Timing(tuple(step.clock.seconds(marks[i], marks[i + 1]) for marks in step.marks[-whole.runs :]))
            for i, name in enumerate(PARTS)
        }
    return TimedStep(one.report, one.batch, settings.facts, settings.label, optimizer, whole, parts)


class _Step:
    """One training step a call, with a mark before and after each part."""

    def __init__(self, one: Subject, optimizer: str) -> None:
        self.name = one.name
        self.forward = one.forward()
        self.optimizer = OPTIMIZERS[optimizer]([one for one in one.module.parameters() if one.requires_grad])
        self.clock = clock_of(one.settings.device)
        self.marks: list[tuple[Any, ...]] = []

    def __call__(self) -> None:
        start = self.clock.mark()
        outputs = [x for x in tensors(self.forward()) if x.requires_grad]
        if not outputs:
            raise InputError(f"{self.name} puts out nothing that has a gradient, so that no step can be made")
        middle = self.clock.mark()
        torch.autograd.backward(outputs, [_ones(x) for x in outputs])
        late = self.clock.mark()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.marks.append((start, middle, late, self.clock.mark()))


def _ones(x: Tensor) -> Tensor:
    """A gradient of ones, that takes no memory of its own."""
    return torch.ones((), device=x.device, dtype=x.dtype).expand_as(x)


def summary(results: Sequence[TimedStep]) -> Table:
    """A line for each part of a step, and for the step; backward over forward, counted and measured, in the notes."""
    several = len({(one.report.network.name, str(one.environment["device"])) for one in results}) > 1
    headers = ("MACs", "median", "IQR", "share", "GMAC/s", rate(one.report for one in results))
    columns = (*([Column("network", "left")] * several), Column("part", "left"), *map(Column, headers))
    rows = [cells[not several :] for one in results for cells in _cells(one)]
    machines = [f"{one.environment['device']}: {described(one.environment)}" for one in results]
    notes = [note for one, machine in zip(results, machines, strict=True) for note in (_ratio(one), machine)]
    first = results[0]
    title = f"training steps, {first.optimizer}, {first.label}"
    if not several:
        title = f"{first.report.title}, {title}"
    return Table(title, columns, tuple(rows), notes=tuple(dict.fromkeys((*notes, _WHAT))))


_WHAT = (
    "Training mode; backward starts with a gradient of ones, without a loss; the optimizer's time includes "
    "letting the gradients go."
)


def _cells(one: TimedStep) -> list[tuple[Cell, ...]]:
    name, macs, step = one.report.network.name, one.macs, one.whole.median
    total = sum(macs.values())
    rows: list[tuple[Cell, ...]] = []
    for part, times in one.parts.items():
        rows.append((name, part, *_line(macs.get(part), times, step), None))
    images = f"{one.whole.images_per_second(one.batch):.1f}"
    return [*rows, (name, "step", *_line(total, one.whole, step), images)]


def _line(macs: int | None, times: Timing, step: float) -> tuple[Cell, ...]:
    rate = f"{macs / times.median / 1e9:.2f}" if macs else None
    return macs, units.seconds(times.median), units.seconds(times.iqr), units.percent(times.median / step), rate


def _ratio(one: TimedStep) -> str:
    counted, measured, spread = one.ratios
    macs = "no MACs" if counted is None else f"{units.ratio(counted)} of forward's MACs"
    return (
        f"{one.report.network.name}: backward is {macs} counted, and takes {units.ratio(measured)} of forward's time "
        f"measured (IQR {units.ratio(spread)}, step by step)."
    )
