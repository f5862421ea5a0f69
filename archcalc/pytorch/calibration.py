"""Calibration: a fixed grid of single layers, timed once on a machine; a forecast's factors are fitted on them.

Channels and sizes are such that no layer of the zoo's networks is among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache as once
from typing import Any

import torch
from torch import Tensor, nn

from archcalc import cache, layers, units
from archcalc.analysis import Row, analyze
from archcalc.extents import Shape
from archcalc.graph import Builder
from archcalc.layers import Layer
from archcalc.pytorch import timing
from archcalc.pytorch.build import build
from archcalc.pytorch.devices import environment, lacking, memory_guard, require_dtype
from archcalc.pytorch.observe import random
from archcalc.pytorch.timing import Part, Progress, Share

SCHEMA = "archcalc.calibration/2"

ROUNDS = 10
"""Passes through the whole grid: between two runs of a layer its weights have left the caches."""


@dataclass(frozen=True)
class Calibrated:
    """A layer of the grid on an input, and the median of its seconds."""

    layer: Layer
    shape: Shape
    seconds: float

    @property
    def row(self) -> Row:
        """What the layer costs."""
        return row_of(self.layer, self.shape)


def calibration(
    device: torch.device, dtype: torch.dtype, *, again: bool = False, progress: Progress = lambda step, share: None
) -> tuple[Calibrated, ...]:
    """The grid's layers with the threads torch has now, as kept, or timed where nothing is kept, or again.

    Raises InputError for a dtype the device lacks or too little memory.
    """
    require_dtype(device, dtype)
    facts = environment(device, dtype=dtype, threads=torch.get_num_threads())
    kept = None if again else _read(facts)
    if kept is not None:
        return kept
    step = f"calibration: {len(GRID)} layers on {device}"
    progress(step, 0)
    measured = measure(device, dtype, progress=Part(progress, 0, 1).of(step))
    record = {
        "schema": SCHEMA,
        "environment": facts,
        "layers": [{"layer": label(one.layer, one.shape), "median_s": one.seconds} for one in measured],
    }
    cache.save(record)
    return measured


def measure(
    device: torch.device,
    dtype: torch.dtype,
    grid: tuple[tuple[Layer, Shape], ...] = (),
    rounds: int = ROUNDS,
    progress: Share = lambda share: None,
) -> tuple[Calibrated, ...]:
    """Time every layer of a grid, by default `GRID`, in passes through all of them. Raises InputError."""
    chosen = grid or GRID
    with memory_guard(device):
        module = _Grid(chosen)
        timing.prepare(module, device=device, dtype=dtype)
        module.inputs = [random(shape, device).to(dtype) for _, shape in chosen]
        names = [f"second.{i}.{_NAME}" for i in range(len(chosen))]
        try:
            times = timing.time_layers(module, (), names, runs=rounds, progress=progress)
        except NotImplementedError as error:
            raise lacking("a layer of the calibration", dtype, device, error) from None
    return tuple(
        Calibrated(layer, shape, times[name].median) for name, (layer, shape) in zip(names, chosen, strict=True)
    )


def label(layer: Layer, shape: Shape) -> str:
    """A layer and its input as text."""
    return f"{layer!r} on {units.shape(shape)}"


@once
def row_of(layer: Layer, shape: Shape) -> Row:
    """The row of a layer of the grid."""
    return analyze(_network(layer, shape).network())[_NAME]


_NAME = "layer"


def _network(layer: Layer, shape: Shape) -> Builder:
    """The layer after one that writes its input, so that this is where it would be in a network's pass."""
    network = Builder("calibration", shape)
    before = network.last
    network.add(layers.ReLU(), "before")
    two = layer.inputs is None
    network.add(layer, _NAME, after=(network.last, before) if two else network.last)
    return network


class _Grid(nn.Module):
    """Two networks for each layer, with weights of their own, run in turn.

    The first brings the layer's code into the caches and not the weights of the second, which is the one that is timed:
    in a network, layers follow others of their kind.
    """

    inputs: list[Tensor]

    def __init__(self, grid: tuple[tuple[Layer, Shape], ...]) -> None:
        super().__init__()
        networks = [_network(layer, shape).network() for layer, shape in grid]
        shapes = [shape for _, shape in grid]
        self.first, self.second = (nn.ModuleList(map(build, networks, shapes)) for _ in range(2))

    def forward(self) -> None:
        """Run them all."""
        for first, second, given in zip(self.first, self.second, self.inputs, strict=True):
            first(given)
            second(given)


def _read(facts: dict[str, object]) -> tuple[Calibrated, ...] | None:
    """What was kept; None where it is not this grid, whole."""
    record: dict[str, Any] = cache.load(SCHEMA, facts) or {}
    try:
        kept = {one["layer"]: float(one["median_s"]) for one in record["layers"]}
        found = tuple(Calibrated(layer, shape, kept[label(layer, shape)]) for layer, shape in GRID)
    except (LookupError, TypeError, ValueError):
        return None
    return found if all(one.seconds > 0 for one in found) else None


def _image(channels: int, size: int, batch: int = 1) -> Shape:
    return (batch, channels, size, size)


def _grid() -> Iterator[tuple[Layer, Shape]]:
    for K, kernel, stride, x in (
        (48, 3, 1, _image(3, 160)),
        (48, 7, 2, _image(3, 160)),
        (40, 5, 2, _image(3, 200, 2)),
        (24, 3, 1, _image(24, 10)),
        (24, 3, 1, _image(24, 80)),
        (48, 3, 1, _image(24, 160)),
        (48, 5, 1, _image(48, 20)),
        (80, 3, 1, _image(80, 40)),
        (80, 3, 1, _image(80, 80)),
        (160, 3, 2, _image(80, 40)),
        (160, 3, 1, _image(160, 20)),
        (160, 3, 1, _image(160, 20, 4)),
        (320, 3, 1, _image(160, 40)),
        (320, 3, 1, _image(320, 10)),
        (320, 3, 1, _image(320, 20)),
        (320, 3, 2, _image(320, 20)),
        (640, 3, 1, _image(640, 10)),
        (640, 3, 1, _image(640, 5, 8)),
        (8, 5, 1, _image(1, 20)),
    ):
        yield layers.Conv2d(K, kernel, stride=stride, padding=kernel // 2), x
    for K, stride, x in (
        (20, 1, _image(20, 10)),
        (144, 1, _image(24, 80)),
        (24, 1, _image(144, 80)),
        (320, 1, _image(80, 40)),
        (80, 1, _image(320, 40)),
        (640, 1, _image(160, 20)),
        (160, 1, _image(640, 20)),
        (1280, 1, _image(320, 10)),
        (320, 1, _image(1280, 10)),
        (640, 2, _image(320, 20)),
        (160, 1, _image(640, 10, 8)),
    ):
        yield layers.Conv2d(K, 1, stride=stride, bias=False), x
    for stride, x in (
        (1, _image(24, 160)),
        (1, _image(48, 80)),
        (2, _image(144, 80)),
        (1, _image(240, 40)),
        (1, _image(480, 20)),
        (1, _image(960, 10)),
        (1, _image(240, 20, 8)),
    ):
        yield layers.Conv2d(x[1], 3, stride=stride, padding=1, groups=x[1], bias=False), x
    for K, kernel, groups, x in (
        (80, 3, 2, _image(80, 40)),
        (240, 5, 2, _image(80, 30)),
        (320, 3, 2, _image(320, 10)),
        (160, 3, 32, _image(160, 20)),
        (320, 3, 32, _image(320, 20)),
        (160, 3, 32, _image(160, 40, 2)),
    ):
        yield layers.Conv2d(K, kernel, padding=kernel // 2, groups=groups), x
    for K, kernel, x in ((48, 2, _image(80, 20)), (80, 4, _image(160, 10)), (24, 4, _image(48, 40))):
        yield layers.ConvTranspose2d(K, kernel, stride=2, padding=(kernel - 2) // 2), x
    for K, given in (
        (80, (1, 60)),
        (10, (1, 320)),
        (1000, (1, 2000)),
        (3000, (1, 3000)),
        (3000, (8, 3000)),
        (3000, (1, 10000)),
        (1000, (32, 320)),
        (2560, (1, 150, 640)),
        (640, (1, 150, 2560)),
    ):
        yield layers.Linear(K), given
    for heads, given in ((5, (1, 50, 320)), (10, (1, 150, 640)), (5, (4, 100, 320)), (15, (1, 250, 960))):
        yield layers.MultiheadAttention(heads, batch_first=True), given
    for kind, width, given in (
        (layers.RNN, 150, (1, 30, 100)),
        (layers.LSTM, 150, (1, 30, 100)),
        (layers.LSTM, 500, (8, 60, 300)),
        (layers.GRU, 150, (1, 30, 100)),
        (layers.GRU, 500, (8, 60, 300)),
    ):
        yield kind(width, batch_first=True), given
    for x in (_image(24, 10), _image(320, 20), _image(80, 40), _image(48, 160), _image(160, 80), _image(320, 20, 8)):
        yield layers.ReLU(), x
        yield layers.ReLU(inplace=True), x
        yield layers.Add(), x
        yield layers.BatchNorm2d(), x
        yield layers.Concat(), x
        yield layers.MaxPool2d(3, 2), x
        yield layers.MaxPool2d(2), x
        yield layers.AvgPool2d(2), x
        yield layers.AdaptiveAvgPool2d(1), x
        yield layers.Flatten(), x
        yield layers.Dropout(), x
    for x in (_image(24, 10), _image(80, 40), _image(160, 40)):
        yield layers.MaxPool2d(3, 1, padding=1), x
        yield layers.Tanh(), x
        yield layers.LocalResponseNorm(5), x
    for given in ((1, 50, 320), (1, 150, 640), (8, 150, 640)):
        yield layers.LayerNorm(given[-1:]), given
        yield layers.GELU(), given
        yield layers.Softmax(-1), given


GRID = tuple(_grid())
"""Layers and the shapes of their inputs."""
