"""Networks as wide, and on images as large, as a multiplier says (Howard et al. 2017, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import lcm
from typing import Any

from archcalc.analysis import Row, analyze
from archcalc.errors import InputError, ShapeError, SpecError
from archcalc.extents import Shape, as_shape
from archcalc.graph import Network, Node
from archcalc.layers import Input, Layer, Linear, PadChannels
from archcalc.layers.resample import scaled
from archcalc.rewrite.changes import CONVOLUTIONS, TRANSPOSED, classifiers, unshared

_ADAPTING = ("BatchNorm", "InstanceNorm", "GroupNorm", "PReLU")
"""Kinds with parameters that take any number of channels."""


def width(network: Network, factor: float) -> Network:
    """Every layer FACTOR times as wide, but for the last one, which has one output for each class.

    Widths are rounded to the nearest multiple of the number of groups there are; a depthwise convolution stays one
    (Howard et al. 2017, section 3.3). Raises SpecError for a layer whose width is of a kind that cannot be scaled.
    """
    _positive("factor", factor)
    report = analyze(network)
    unshared(report.rows)
    kept = classifiers(report)
    divisor = lcm(*(g for row in report for g in [getattr(row.node.layer, "groups", 1)] if not _depthwise(row)))

    def wide(channels: int) -> int:
        return max(int(channels * Fraction(factor).limit_denominator(10**6) / divisor + Fraction(1, 2)), 1) * divisor

    nodes: list[Node] = []
    shapes: dict[str, Shape] = {}
    for row in report:
        inputs = tuple(shapes[name] for name in row.node.inputs)
        layer = row.node.layer if row.name in kept else _widened(row, inputs, wide)
        try:
            shapes[row.name] = layer.output(*inputs)
        except ShapeError as error:
            raise ShapeError(f"{row.name} ({row.kind}) in a network {factor:g} times as wide: {error}") from None
        nodes.append(replace(row.node, layer=layer, held=()))
    if all(new.layer == row.node.layer for new, row in zip(nodes, report, strict=True)):
        raise SpecError(f"{network.name}: no layer would have another width with width={factor:g}")
    return replace(network, name=f"{network.name}+width={factor:g}", nodes=tuple(nodes))


def resolution(network: Network, factor: float) -> Network:
    """The image FACTOR times as high and as wide, rounded down."""
    _positive("factor", factor)
    nodes, found = [], False
    for node in network:
        shape = node.layer.output() if isinstance(node.layer, Input) else ()
        if len(shape) > 3:
            found = True
            sides = tuple(scaled(side, factor) for side in shape[2:])
            if any(type(side) is int and side < 1 for side in sides):
                raise SpecError(f"{network.name}: resolution={factor:g} leaves nothing of an image of {shape[2:]}")
            node = replace(node, layer=Input((*shape[:2], *sides)))
        nodes.append(node)
    if not found:
        raise SpecError(f"{network.name}: resolution applies to images, and no input is one")
    return replace(network, name=f"{network.name}+resolution={factor:g}", nodes=tuple(nodes))


def on_input(network: Network, shape: Shape) -> Network:
    """The network with another shape of its one input."""
    given = as_shape(shape)
    nodes = (replace(node, layer=Input(given)) if isinstance(node.layer, Input) else node for node in network)
    return replace(network, nodes=tuple(nodes))


def _depthwise(row: Row) -> bool:
    layer: Any = row.node.layer
    grouped = isinstance(layer, CONVOLUTIONS + TRANSPOSED)
    return grouped and layer.groups > 1 and bool(layer.groups == row.inputs[0][1])


def _widened(row: Row, inputs: tuple[Shape, ...], wide: Callable[[int], int]) -> Layer:
    layer: Any = row.node.layer
    if isinstance(layer, CONVOLUTIONS + TRANSPOSED):
        if _depthwise(row):
            channels = inputs[0][1]
            return replace(layer, groups=channels, out_channels=layer.out_channels // layer.groups * channels)
        return replace(layer, out_channels=wide(layer.out_channels))
    if isinstance(layer, Linear):
        return replace(layer, out_features=wide(layer.out_features))
    if isinstance(layer, PadChannels):
        return replace(layer, channels=max(wide(row.output[1]) - inputs[0][1], 1))
    if row.params and not layer.kind.startswith(_ADAPTING):
        raise SpecError(f"{row.name}: the width of {layer.kind} cannot be scaled")
    return row.node.layer


def _positive(name: str, factor: float) -> None:
    if type(factor) not in (int, float) or not 0 < factor <= 1000:
        raise InputError(f"{name} is {factor!r}; it must be a number above 0, at most 1000")
