"""A literal interpreter of loop nests: every loop runs, every index is computed, every operation is tallied.

It knows nothing of convolutions: a nest says which element of which tensor each iteration touches, and a body of a line
or two says what is done with them. What comes out must be torch's output, and the tally must be the layer's ledger.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from archcalc.extents import Shape
from archcalc.layers import AvgPool2d, BatchNorm2d, Layer, LocalResponseNorm, MaxPool2d, Softmax
from archcalc.nest import Axis, Bins, Nest, Operand, Scatter, Window

Index = tuple[int, ...]
Body = Callable[..., float]


class Ops(Counter[str]):
    """Arithmetic that counts itself."""

    iterations = 0

    def _tally(self, op: str, value: float) -> float:
        self[op] += 1
        return value

    def mac(self, total: float, a: float, b: float) -> float:
        return self._tally("mac", total + a * b)

    def bias_add(self, a: float, b: float) -> float:
        return self._tally("bias_add", a + b)

    def add(self, a: float, b: float) -> float:
        return self._tally("add", a + b)

    def mul(self, a: float, b: float) -> float:
        return self._tally("mul", a * b)

    def div(self, a: float, b: float) -> float:
        return self._tally("div", a / b)

    def cmp(self, a: float, b: float) -> float:
        return self._tally("cmp", b if b > a else a)

    def exp(self, a: float) -> float:
        return self._tally("exp", math.exp(a))

    def sqrt(self, a: float) -> float:
        return self._tally("sqrt", math.sqrt(a))

    def pow(self, a: float, b: float) -> float:
        return self._tally("pow", a**b)


def execute(
    nest: Nest,
    inputs: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    body: Body,
    ops: Ops,
    *,
    start: float = 0.0,
    outside: float = 0.0,
) -> Tensor:
    """Run a nest: `body(index of the output, its value so far, values of the other operands...)` gives its new value.

    The output's elements are `start` at first; a window's tap that lies outside the input reads `outside`, and what is
    added onto a place outside the output is lost.
    """
    *sources, target = nest.operands
    images = iter(inputs)
    read_inputs = sum(operand.role == "input" for operand in sources)
    assert read_inputs <= len(inputs), "the nest reads more inputs than there are"
    assert read_inputs >= len(inputs), "the nest reads fewer inputs than there are"
    tensors = [next(images) if operand.role == "input" else parameters[operand.name] for operand in sources]
    reads = [_reader(nest, operand, tensor, outside) for operand, tensor in zip(sources, tensors, strict=True)]
    output: dict[Index, float | None] = dict.fromkeys(itertools.product(*map(range, nest.output)))
    before, runs = Counter(ops), 0
    for counters in itertools.product(*map(range, nest.loops.values())):
        env = dict(zip(nest.loops, counters, strict=True))
        index = tuple(_position(nest, axis, env) for axis in target.axes)
        total = output.get(index)
        value = body(index, start if total is None else total, *(read(env) for read in reads))
        if index in output:
            output[index] = value
        runs += 1
    ops.iterations += runs
    assert runs == nest.iterations
    stated = Counter({op: times * runs for op, times in nest.ops.items() if times * runs})
    assert ops - before == stated, "the bodies do not do what the nest says"
    if any(isinstance(axis, Scatter) for axis in target.axes):  # it has gaps
        output = {index: start if value is None else value for index, value in output.items()}
    assert None not in output.values(), "an element of the output is never written"
    return torch.tensor(list(output.values()), dtype=torch.float64).reshape(nest.output)


def _reader(nest: Nest, operand: Operand, tensor: Tensor, outside: float) -> Callable[[dict[str, int]], float]:
    sizes, values = tuple(tensor.shape), tensor.reshape(-1).tolist()
    assert len(sizes) == len(operand.axes), f"{operand.name} has {len(sizes)} axes, not {len(operand.axes)}"
    for axis, size in zip(operand.axes, sizes, strict=True):
        assert isinstance(axis, Window) or _length(nest, axis) == size, f"{operand.name}: {axis} is not {size} long"

    def read(env: dict[str, int]) -> float:
        offset = 0
        for axis, size in zip(operand.axes, sizes, strict=True):
            if isinstance(axis, Window):
                position = env[axis.out] * axis.stride + env[axis.tap] * axis.dilation - axis.before
                if not 0 <= position < size:
                    return outside
            else:
                position = _positions(axis)[env[axis.loop]][1] if isinstance(axis, Bins) else _dense(nest, axis, env)
            offset = offset * size + position
        return float(values[offset])

    return read


def _length(nest: Nest, axis: Axis) -> int:
    if isinstance(axis, Bins):
        return int(axis.size)
    return math.prod(nest.loops[loop] for loop in axis if isinstance(loop, str))


def _position(nest: Nest, axis: Axis, env: dict[str, int]) -> int:
    """Where on an axis of the output an iteration writes."""
    if isinstance(axis, Scatter):
        window = axis.window
        return int(env[window.out] * window.stride + env[window.tap] * window.dilation - window.before)
    return _bin(axis, env) if isinstance(axis, Bins) else _dense(nest, axis, env)


def _dense(nest: Nest, axis: Axis, env: dict[str, int]) -> int:
    position = 0
    for loop in axis:
        assert isinstance(loop, str)
        position = position * nest.loops[loop] + env[loop]
    return position


def _bin(axis: Bins, env: dict[str, int]) -> int:
    return _positions(axis)[env[axis.loop]][0]


def _positions(bins: Bins) -> list[tuple[int, int]]:
    """(bin, position) for every tap of all bins."""
    return [
        (i, position)
        for i in range(bins.bins)
        for position in range(math.floor(i * bins.size / bins.bins), math.ceil((i + 1) * bins.size / bins.bins))
    ]


# The bodies: what one iteration of each kind's nests does

Program = Callable[[Any, tuple[Nest, ...], Sequence[Tensor], Mapping[str, Tensor], Ops], Tensor]


def multiply(layer: Layer, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    """Conv2d and Linear."""
    output = execute(nests[0], x, p, lambda _, total, x, w: ops.mac(total, x, w), ops)
    for nest in nests[1:]:
        output = execute(nest, [output], p, lambda _, total, x, b: ops.bias_add(x, b), ops)
    return output


def largest(
    layer: MaxPool2d, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops
) -> Tensor:
    (nest,) = nests
    return execute(nest, x, p, lambda _, top, x: ops.cmp(top, x), ops, start=-math.inf, outside=-math.inf)


def mean_of_windows(
    layer: AvgPool2d, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops
) -> Tensor:
    """Padding counts where the layer says so; what a partial last window has beyond the padding never does."""
    kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
    assert isinstance(kernel, tuple)
    assert isinstance(stride, tuple)
    assert isinstance(padding, tuple)

    def taps(axis: int, i: int) -> int:
        size = x[0].shape[axis + 2]
        margin = padding[axis] if layer.count_include_pad else 0
        first = i * stride[axis] - padding[axis]
        return sum(-margin <= position < size + margin for position in range(first, first + kernel[axis]))

    def elements(index: Index) -> int:
        given = getattr(layer, "divisor_override", None)
        return given or math.prod(taps(axis, i) for axis, i in enumerate(index[2:]))

    total = execute(nests[0], x, p, lambda _, total, x: ops.add(total, x), ops)
    return execute(nests[1], [total], p, lambda i, _, x: ops.div(x, elements(i)), ops)


def mean_of_bins(
    layer: Layer, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops
) -> Tensor:
    axes = nests[0].operands[0].axes[2:]

    def taps(axis: Axis, i: int) -> int:
        return sum(bin == i for bin, _ in _positions(axis)) if isinstance(axis, Bins) else 1

    total = execute(nests[0], x, p, lambda _, total, x: ops.add(total, x), ops)
    return execute(nests[1], [total], p, lambda i, _, x: ops.div(x, math.prod(map(taps, axes, i[2:]))), ops)


def normalise(
    layer: BatchNorm2d, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops
) -> Tensor:
    """One multiplication by gamma/sqrt(variance + eps), one addition of beta - mean·that; neither factor is counted."""
    (nest,) = nests

    def body(index: Index, _: float, x: float, *parameters: float) -> float:
        gamma, beta = parameters[:2] if layer.affine else (1.0, 0.0)
        mean, variance, _batches = parameters[2 * layer.affine :]
        scale = gamma / math.sqrt(variance + layer.eps)
        return ops.add(ops.mul(x, scale), beta - mean * scale)

    return execute(nest, x, p, body, ops)


def local_response(
    layer: LocalResponseNorm, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops
) -> Tensor:
    squares = execute(nests[0], x, p, lambda _, total, x: ops.add(total, ops.mul(x, x)), ops)

    def body(index: Index, _: float, x: float) -> float:
        scaled = ops.add(layer.k, ops.mul(layer.alpha / layer.size, float(squares[index])))
        return ops.div(x, ops.pow(scaled, layer.beta))

    return execute(nests[1], x, p, body, ops)


def softmax(layer: Softmax, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    """Largest value and sum are kept for each line along `dim`."""
    assert layer.dim is not None
    dim = layer.dim % x[0].ndim
    top: dict[Index, float] = {}
    total: dict[Index, float] = {}

    def line(index: Index) -> Index:
        return (*index[:dim], *index[dim + 1 :])

    def compare(index: Index, _: float, x: float) -> float:
        top[line(index)] = ops.cmp(top.get(line(index), -math.inf), x)
        return x

    def exponentiate(index: Index, _: float, x: float) -> float:
        value = ops.exp(ops.add(x, -top[line(index)]))
        total[line(index)] = ops.add(total.get(line(index), 0.0), value)
        return value

    values = execute(nests[0], x, p, compare, ops)
    values = execute(nests[1], [values], p, exponentiate, ops)
    return execute(nests[2], [values], p, lambda index, _, x: ops.div(x, total[line(index)]), ops)


def rectify(layer: Layer, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    return execute(nests[0], x, p, lambda _, zero, x: ops.cmp(zero, x), ops)


def add(layer: Layer, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    return execute(nests[0], x, p, lambda _, zero, *x: list(itertools.accumulate(x, ops.add))[-1], ops)


def copy(layer: Layer, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    return execute(nests[0], x, p, lambda _, zero, x: x, ops)


PROGRAMS: dict[str, Program] = {
    "Conv2d": multiply,
    "Linear": multiply,
    "MaxPool2d": largest,
    "AvgPool2d": mean_of_windows,
    "AdaptiveAvgPool2d": mean_of_bins,
    "BatchNorm2d": normalise,
    "LocalResponseNorm": local_response,
    "Softmax": softmax,
    "ReLU": rectify,
    "Add": add,
    "Subsample": copy,
}
"""How the nests of each kind that has nests are run."""


# torch's side


def module(layer: Layer, shapes: Sequence[Shape]) -> torch.nn.Module | None:
    """torch's module of the layer's kind, in double precision and at inference; None where torch has none."""
    kind = getattr(torch.nn, layer.kind, None)
    return None if kind is None else kind(**layer.arguments(*shapes)).double().eval()


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda layer, *x: torch.stack(x).sum(0),
    "Concat": lambda layer, *x: torch.cat(x, layer.dim),
    "Subsample": lambda layer, x: x[:, :, :: layer.stride[0], :: layer.stride[1]],
    "PadChannels": lambda layer, x: torch.nn.functional.pad(x, (0, 0, 0, 0, 0, layer.channels)),
    "Input": lambda layer: torch.zeros(layer.shape),
}
"""What torch computes for the kinds that it has no module for."""

MOVED = frozenset({"Input", "Dropout", "Flatten", "Concat", "PadChannels"})
"""Kinds that only move data, have no nest and state a shape rule instead."""


def run_torch(layer: Layer, inputs: Sequence[Tensor], reference: torch.nn.Module | None) -> Tensor:
    """What torch computes; the inputs are left alone."""
    with torch.no_grad():
        copies = [x.clone() for x in inputs]
        return reference(*copies) if reference is not None else FUNCTIONS[layer.kind](layer, *copies)


def integers(shape: Shape, random: torch.Generator, *, least: int = -9, step: int = 1) -> Tensor:
    """Whole numbers as doubles, so that sums and products of them are exact."""
    return (torch.randint(least, 10, shape, generator=random) * step).double()


def set_parameters(reference: torch.nn.Module, random: torch.Generator) -> dict[str, Tensor]:
    """Give a module parameters with which its arithmetic is exact, and return its state."""
    state = reference.state_dict()
    for name, value in state.items():
        if name == "running_var":  # variance + eps is 1, 4 or 16: its root and the root's reciprocal are exact
            assert isinstance(reference, torch.nn.BatchNorm2d)
            value.copy_(4.0 ** torch.randint(0, 3, value.shape, generator=random) - reference.eps)
        elif value.is_floating_point():
            value.copy_(integers(tuple(value.shape), random))
    return state


def missing_proofs(kinds: Mapping[str, type[Layer]]) -> set[str]:
    """Kinds whose nests cannot be run here and that are not known to move data only."""
    return {name for name in kinds if not name.startswith("_")} - PROGRAMS.keys() - MOVED
