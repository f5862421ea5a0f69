"""How the nests of convolutions, pools and normalisations in one to three dimensions are run, literally."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from archcalc.nest import Nest, Window
from tests.interpreter import Index, Ops, Program, execute, largest, mean_of_bins, mean_of_windows, multiply

Parameters = Mapping[str, Tensor]


def convolve(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Parameters, ops: Ops) -> Tensor:
    """Padding that is no zeros is put around the input, as torch does."""
    if layer.padding_mode == "zeros":
        return multiply(layer, nests, x, p, ops)
    image, *others = nests[0].operands
    windows = [axis for axis in image.axes if isinstance(axis, Window)]
    around = [n for window in reversed(windows) for n in (window.before, window.after)]
    padded = functional.pad(x[0], around, mode=layer.padding_mode)
    axes = tuple(axis._replace(before=0, after=0) if isinstance(axis, Window) else axis for axis in image.axes)
    inside = nests[0]._replace(operands=(image._replace(axes=axes), *others))
    return multiply(layer, (inside, *nests[1:]), [padded], p, ops)


def twice(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Parameters, ops: Ops) -> Tensor:
    """Bilinear: x₁ᵀ·A first, then its product with x₂."""
    half = execute(nests[0], x[:1], p, lambda _, total, x, w: ops.mac(total, x, w), ops)
    output = execute(nests[1], [half, x[1]], p, lambda _, total, x, y: ops.mac(total, x, y), ops)
    for nest in nests[2:]:
        output = execute(nest, [output], p, lambda _, total, x, b: ops.bias_add(x, b), ops)
    return output


def largest_of_bins(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Parameters, ops: Ops) -> Tensor:
    return execute(nests[0], x, p, lambda _, top, x: ops.cmp(top, x), ops, start=-math.inf)


def norm_of_windows(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Parameters, ops: Ops) -> Tensor:
    """torch scales the sum of a last, partial window to that of a whole one; the factor is not counted."""
    if math.isinf(layer.norm_type):
        magnitudes = execute(nests[0], x, p, lambda _, __, x: ops.cmp(x, -x), ops)
        sign = 1 if layer.norm_type > 0 else -1
        lost = -math.inf
        top = execute(nests[1], [sign * magnitudes], p, lambda _, t, x: ops.cmp(t, x), ops, start=lost, outside=lost)
        return sign * top

    def whole(index: Index) -> float:
        factor = 1.0
        for size, taps, stride, i in zip(x[0].shape[2:], layer.kernel_size, layer.stride, index[2:], strict=True):
            factor *= taps / (min(i * stride + taps, size) - i * stride)
        return factor

    def add_power(_: Index, total: float, x: float) -> float:
        return ops.add(total, ops.pow(x, layer.norm_type))

    total = execute(nests[0], x, p, add_power, ops)
    return execute(nests[1], [total], p, lambda i, _, x: ops.pow(x * whole(i), 1 / layer.norm_type), ops)


def normalise(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Parameters, ops: Ops) -> Tensor:
    """Running statistics: factors made of them and of the parameters are not counted."""
    if len(nests) > 1:
        return normalise_data(layer, nests, x, p, ops)
    (nest,) = nests
    names = [operand.name for operand in nest.operands[1:-1]]

    def body(_: Index, __: float, x: float, *values: float) -> float:
        held = dict(zip(names, values, strict=True))
        scale = held.get("weight", 1.0) / math.sqrt(held["running_var"] + layer.eps)
        return ops.add(ops.mul(x, scale), held.get("bias", 0.0) - held["running_mean"] * scale)

    return execute(nest, x, p, body, ops)


def normalise_data(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Parameters, ops: Ops) -> Tensor:
    """Mean, deviations, mean square, reciprocal root; product, scale and shift."""
    *mean, squares, root, scale = nests
    elements = math.prod(squares.loops.values()) / math.prod(root.loops.values())
    (centred,) = x
    if mean:
        total = execute(mean[0], x, p, lambda _, total, x: ops.add(total, x), ops)
        average = execute(mean[1], [total], p, lambda _, __, x: ops.div(x, elements), ops)
        centred = execute(mean[2], [centred, average], p, lambda _, __, x, m: ops.add(x, -m), ops)
    total = execute(squares, [centred], p, lambda _, total, x: ops.add(total, ops.mul(x, x)), ops)
    eps = 2.0**-52 if layer.eps is None else layer.eps

    def reciprocal(_: Index, __: float, total: float) -> float:
        return ops.div(1.0, ops.sqrt(ops.add(ops.div(total, elements), eps)))

    names = [operand.name for operand in scale.operands[2:-1]]

    def body(_: Index, __: float, x: float, factor: float, *values: float) -> float:
        held = dict(zip(names, values, strict=True))
        y = ops.mul(x, factor)
        y = ops.mul(y, held["weight"]) if "weight" in held else y
        return ops.add(y, held["bias"]) if "bias" in held else y

    return execute(scale, [centred, execute(root, [total], p, reciprocal, ops)], p, body, ops)


def local_response(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Parameters, ops: Ops) -> Tensor:
    squares = execute(nests[0], x, p, lambda _, total, x: ops.add(total, ops.mul(x, x)), ops)

    def body(index: Index, _: float, x: float) -> float:
        scaled = ops.add(layer.k, ops.mul(layer.alpha / layer.size, float(squares[index])))
        return ops.div(x, ops.pow(scaled, layer.beta))

    return execute(nests[1], x, p, body, ops)


_FAMILIES: dict[str, Program] = {
    "Conv": convolve,
    "ConvTranspose": multiply,
    "MaxPool": largest,
    "AvgPool": mean_of_windows,
    "LPPool": norm_of_windows,
    "AdaptiveAvgPool": mean_of_bins,
    "AdaptiveMaxPool": largest_of_bins,
    "BatchNorm": normalise,
    "InstanceNorm": normalise,
}
PROGRAMS: dict[str, Program] = {f"{name}{rank}d": run for name, run in _FAMILIES.items() for rank in (1, 2, 3)} | {
    "Linear": multiply,
    "Bilinear": twice,
    "GroupNorm": normalise_data,
    "LayerNorm": normalise_data,
    "RMSNorm": normalise_data,
    "LocalResponseNorm": local_response,
}
"""How the nests of each kind are run."""
