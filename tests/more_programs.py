"""How the nests of activations, recurrent layers, embeddings, resampling and padding are run, literally."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from archcalc import layers as kinds
from archcalc.layers import KINDS
from archcalc.nest import Nest
from tests.interpreter import Index, Ops, Program, copy, execute, softmax


class MoreOps(Ops):
    """Arithmetic that counts itself, with the functions that activations need."""

    def log(self, a: float) -> float:
        return self._tally("log", math.log(a))

    def tanh(self, a: float) -> float:
        return self._tally("tanh", math.tanh(a))

    def erf(self, a: float) -> float:
        return self._tally("erf", math.erf(a))

    def above(self, a: float, b: float) -> bool:
        self["cmp"] += 1
        return a > b

    def least(self, a: float, b: float) -> float:
        return -self.cmp(-a, -b)

    def sigmoid(self, a: float) -> float:
        return self.div(1.0, self.add(1.0, self.exp(-a)))


# Activations: the formulas of the docstrings


def _elu(o: MoreOps, x: float, alpha: float, inside: float) -> tuple[bool, float]:
    return o.above(x, 0), o.mul(alpha, o.add(o.exp(inside), -1))


def _gelu(a: Any, o: MoreOps, x: float) -> float:
    if a.approximate == "none":
        return o.mul(o.mul(0.5, x), o.add(1, o.erf(o.mul(x, math.sqrt(0.5)))))
    cube = o.mul(o.mul(o.mul(0.044715, x), x), x)
    return o.mul(o.mul(0.5, x), o.add(1, o.tanh(o.mul(math.sqrt(2 / math.pi), o.add(x, cube)))))


def _elus(a: Any, o: MoreOps, x: float) -> float:
    positive, other = _elu(o, x, a.alpha, o.div(x, a.alpha) if isinstance(a, kinds.CELU) else x)
    return x if positive else other


def _selu(a: Any, o: MoreOps, x: float) -> float:
    positive, other = _elu(o, x, 1.6732632423543772848170429916717, x)
    return o.mul(1.0507009873554804934193349852946, x if positive else other)


def _softplus(a: Any, o: MoreOps, x: float) -> float:
    scaled = o.mul(a.beta, x)
    smooth = o.div(o.log(o.add(1, o.exp(scaled))), a.beta)
    return x if o.above(scaled, a.threshold) else smooth


def _leaky(a: Any, o: MoreOps, x: float, slope: float) -> float:
    other = o.mul(slope, x)
    return x if o.above(x, 0) else other


def _hardshrink(a: Any, o: MoreOps, x: float) -> float:
    above, below = o.above(x, a.lambd), o.above(-a.lambd, x)
    return x if above or below else 0.0


def _softshrink(a: Any, o: MoreOps, x: float) -> float:
    (above, less), (below, more) = (o.above(x, a.lambd), o.add(x, -a.lambd)), (o.above(-a.lambd, x), o.add(x, a.lambd))
    return less if above else more if below else 0.0


def _relu6(o: MoreOps, x: float) -> float:
    return o.least(o.cmp(x, 0), 6)


FORMULAS: dict[str, Callable[..., float]] = {
    "ReLU": lambda a, o, x: o.cmp(x, 0),
    "ReLU6": lambda a, o, x: _relu6(o, x),
    "Hardtanh": lambda a, o, x: o.least(o.cmp(x, a.min_val), a.max_val),
    "LeakyReLU": lambda a, o, x: _leaky(a, o, x, a.negative_slope),
    "PReLU": _leaky,
    "RReLU": lambda a, o, x: _leaky(a, o, x, (a.lower + a.upper) / 2),
    "Threshold": lambda a, o, x: x if o.above(x, a.threshold) else a.value,
    "ELU": _elus,
    "CELU": _elus,
    "SELU": _selu,
    "GELU": _gelu,
    "SiLU": lambda a, o, x: o.div(x, o.add(1, o.exp(-x))),
    "Mish": lambda a, o, x: o.mul(x, o.tanh(o.log(o.add(1, o.exp(x))))),
    "Sigmoid": lambda a, o, x: o.sigmoid(x),
    "LogSigmoid": lambda a, o, x: -o.log(o.add(1, o.exp(-x))),
    "Tanh": lambda a, o, x: o.tanh(x),
    "Tanhshrink": lambda a, o, x: o.add(x, -o.tanh(x)),
    "Hardsigmoid": lambda a, o, x: o.div(_relu6(o, o.add(x, 3)), 6),
    "Hardswish": lambda a, o, x: o.div(o.mul(x, _relu6(o, o.add(x, 3))), 6),
    "Hardshrink": _hardshrink,
    "Softshrink": _softshrink,
    "Softplus": _softplus,
    "Softsign": lambda a, o, x: o.div(x, o.add(1, o.cmp(x, -x))),
    "GLU": lambda a, o, x, y: o.div(x, o.add(1, o.exp(-y))),
}
"""What each activation does to one element."""


def activate(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    formula, (nest,) = FORMULAS[layer.kind], nests
    values = x[0].chunk(2, layer.dim) if isinstance(layer, kinds.GLU) else x
    return execute(nest, values, p, lambda _, __, *element: formula(layer, ops, *element), ops)


def softmin(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    dim = {"Softmax2d": -3}.get(layer.kind) or layer.dim
    dim = (0 if x[0].ndim in (1, 3) else 1) if dim is None else dim
    return softmax(kinds.Softmax(dim), nests, [-x[0] if isinstance(layer, kinds.Softmin) else x[0]], p, ops)


def log_softmax(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Any) -> Tensor:
    dim = layer.dim % x[0].ndim
    top: dict[Index, float] = {}
    total: dict[Index, float] = {}

    def line(index: Index) -> Index:
        return (*index[:dim], 0, *index[dim + 1 :])

    def compare(index: Index, _: float, x: float) -> float:
        top[line(index)] = ops.cmp(top.get(line(index), -math.inf), x)
        return x

    def shift(index: Index, _: float, x: float) -> float:
        shifted: float = ops.add(x, -top[line(index)])
        total[line(index)] = ops.add(total.get(line(index), 0.0), ops.exp(shifted))
        return shifted

    values = execute(nests[1], [execute(nests[0], x, p, compare, ops)], p, shift, ops)
    sums = torch.zeros(nests[2].output)
    logs = execute(nests[2], [sums], p, lambda index, _, __: ops.log(total[index]), ops)
    return execute(nests[3], [values], p, lambda index, _, x: ops.add(x, -float(logs[line(index)])), ops)


# Recurrent layers: every nest runs once for every step, on that step's part of the sequence


def _rnn(layer: Any, o: Any, cell: dict[Index, float], index: Index, x: float, h: float) -> float:
    total: float = o.add(x, h)
    return float(o.tanh(total) if layer.nonlinearity == "tanh" else o.cmp(total, 0.0))


def _lstm(layer: Any, o: Any, cell: dict[Index, float], index: Index, *terms: float) -> float:
    i, f, g, k = (o.add(x, h) for x, h in zip(terms[:4], terms[4:8], strict=True))
    cell[index] = o.add(o.mul(o.sigmoid(f), terms[8]), o.mul(o.sigmoid(i), o.tanh(g)))
    return float(o.mul(o.sigmoid(k), o.tanh(cell[index])))


def _gru(layer: Any, o: Any, cell: dict[Index, float], index: Index, *terms: float) -> float:
    (r, z, n), (hr, hz, hn), h = terms[:3], terms[3:6], terms[6]
    reset, update = o.sigmoid(o.add(r, hr)), o.sigmoid(o.add(z, hz))
    new = o.tanh(o.add(n, o.mul(reset, hn)))
    return float(o.add(o.mul(o.add(1, -update), new), o.mul(update, h)))


_STEPS: dict[str, Callable[..., float]] = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}


class Recurrence:
    """One layer in one direction, run step by step."""

    def __init__(self, layer: Any, nests: Sequence[Nest], p: Mapping[str, Tensor], ops: Ops):
        self.layer, self.nests, self.p, self.ops = layer, nests, p, ops
        self.kind = layer.kind.removesuffix("Cell")
        self.gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[self.kind]

    def _linear(self, nests: Sequence[Nest], x: Tensor) -> Tensor:
        result = execute(nests[0], [x], self.p, lambda _, total, x, w: self.ops.mac(total, x, w), self.ops)
        for nest in nests[1:]:
            result = execute(nest, [result], self.p, lambda _, __, x, b: self.ops.bias_add(x, b), self.ops)
        return result

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """State and cell after one step; the nests' loop over steps is cut down to this one."""
        nests = [
            nest._replace(loops={**nest.loops, "L": 1} if "L" in nest.loops else nest.loops) for nest in self.nests
        ]
        half = 1 + self.layer.bias
        terms = [*self._linear(nests[:half], x).chunk(self.gates, -1)]
        terms += self._linear(nests[half : 2 * half], h).chunk(self.gates, -1)
        terms += {"RNN": [], "LSTM": [c], "GRU": [h]}[self.kind]
        cell: dict[Index, float] = {}
        step = _STEPS[self.kind]

        def body(index: Index, _: float, *values: float) -> float:
            return step(self.layer, self.ops, cell, index, *values)

        state = execute(nests[2 * half], terms, self.p, body, self.ops)
        if cell:
            c = torch.tensor(list(cell.values()), dtype=torch.float64).reshape(state.shape)
        return (self._linear(nests[2 * half + 1 :], state) if nests[2 * half + 1 :] else state), c


def recur(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    sequence, time = x[0], 1 if layer.batch_first else 0
    projected = getattr(layer, "proj_size", 0)
    queue = iter(nests)
    for _ in range(layer.num_layers):
        directions = []
        for backwards in range(1 + layer.bidirectional):
            run = Recurrence(layer, list(itertools.islice(queue, 3 + 2 * layer.bias + bool(projected))), p, ops)
            steps = torch.split(sequence, 1, time)
            like = (*steps[0].shape[:2],)
            h = torch.zeros((*like, projected or layer.hidden_size), dtype=torch.float64)
            c = torch.zeros((*like, layer.hidden_size), dtype=torch.float64)
            states = []
            for step in reversed(steps) if backwards else steps:
                h, c = run.step(step, h, c)
                states.append(h)
            directions.append(torch.cat(states[::-1] if backwards else states, time))
        sequence = directions[0]
        if layer.bidirectional:
            sequence = execute(next(queue), [torch.stack(directions)], p, lambda _, __, x: x, ops)
    assert not list(queue)
    return sequence


def recur_once(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    zeros = torch.zeros((x[0].shape[0], layer.hidden_size), dtype=torch.float64)
    return Recurrence(layer, nests, p, ops).step(x[0], zeros, zeros)[0]


# Embeddings: a row is chosen by comparing its number, which stands in the table's hundreds


def look_up(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    table = p["weight"]
    numbered = table.abs() + 100 * torch.arange(len(table)).unsqueeze(1)

    def choose(_: Index, so_far: float, id_: float, entry: float) -> float:
        return entry if entry // 100 == id_ else so_far

    rows = execute(nests[0], x, {"weight": numbered}, choose, ops) % 100
    reduce = {"sum": ops.add, "mean": ops.add, "max": ops.cmp}.get(getattr(layer, "mode", ""))
    if reduce is None:
        return rows
    result = execute(nests[1], [rows], p, lambda _, a, b: reduce(a, b), ops)
    for nest in nests[2:]:
        result = execute(nest, [result], p, lambda _, __, x: ops.div(x, rows.shape[1]), ops)
    return result


# Resampling: the taps of every output, gathered by torch one axis at a time, and their weights


def _taps(size: int, outs: int, scale: float | None, mode: str, corners: bool) -> list[list[tuple[int, float]]]:
    """For every output along an axis its taps (position, weight)."""
    taps = []
    for i in range(outs):
        ratio = (
            (size - 1) / (outs - 1) if corners and outs > 1 else 0.0 if corners else 1 / scale if scale else size / outs
        )
        at = i * ratio if corners else (i + 0.5) * ratio - 0.5
        if mode != "bicubic":
            at = max(at, 0.0)
        low = math.floor(at)
        t = at - low
        if mode == "bicubic":
            a = -0.75
            near = [((a + 2) * s - (a + 3)) * s * s + 1 for s in (t, 1 - t)]
            far = [((a * s - 5 * a) * s + 8 * a) * s - 4 * a for s in (1 + t, 2 - t)]
            weights = [(low - 1, far[0]), (low, near[0]), (low + 1, near[1]), (low + 2, far[1])]
        else:
            weights = [(low, 1 - t), (low + 1, t)]
        taps.append([(min(max(position, 0), size - 1), weight) for position, weight in weights])
    return taps


def resize(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    (nest,), (image,) = nests, x
    mode = getattr(layer, "mode", "bilinear" if "Bilinear" in layer.kind else "nearest")
    if mode.startswith("nearest"):
        return execute(nest, [functional.interpolate(image, nest.output[2:], mode=mode)], p, lambda _, __, x: x, ops)
    corners = bool(getattr(layer, "align_corners", True))
    scales = layer.scale_factor if isinstance(layer.scale_factor, tuple) else (layer.scale_factor,) * (image.ndim - 2)
    used = [None if getattr(layer, "recompute_scale_factor", None) else scale for scale in scales]
    sizes = zip(image.shape[2:], nest.output[2:], used, strict=True)
    axes = [_taps(size, outs, scale, mode, corners) for size, outs, scale in sizes]
    per_axis = 4 if mode == "bicubic" else 2
    choices = list(itertools.product(range(per_axis), repeat=len(axes)))
    gathered = []
    for choice in choices:
        grid = image
        for axis, (taps, tap) in enumerate(zip(axes, choice, strict=True), start=2):
            grid = grid.index_select(axis, torch.tensor([tap_[tap][0] for tap_ in taps]))
        gathered.append(grid)

    def body(index: Index, _: float, *values: float) -> float:
        weights = [math.prod(taps[i][tap][1] for taps, i, tap in zip(axes, index[2:], c, strict=True)) for c in choices]
        terms = [ops.mul(weight, value) for weight, value in zip(weights, values, strict=True)]
        return list(itertools.accumulate(terms, ops.add))[-1]

    return execute(nest, gathered, p, body, ops)


def pad(layer: Any, nests: tuple[Nest, ...], x: Sequence[Tensor], p: Mapping[str, Tensor], ops: Ops) -> Tensor:
    """What lies outside is the constant, and not a number where it is made of the input."""
    outside = 0.0 if "Zero" in layer.kind else layer.value if "Constant" in layer.kind else math.nan
    return execute(nests[0], x, p, lambda _, __, x: x, ops, outside=outside)


PROGRAMS: dict[str, Program] = (
    dict.fromkeys(FORMULAS, activate)
    | dict.fromkeys(("Softmax", "Softmin", "Softmax2d"), softmin)
    | {"LogSoftmax": log_softmax}
    | dict.fromkeys(("RNN", "LSTM", "GRU"), recur)
    | dict.fromkeys(("RNNCell", "LSTMCell", "GRUCell"), recur_once)
    | dict.fromkeys(("Embedding", "EmbeddingBag"), look_up)
    | dict.fromkeys(("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"), resize)
    | dict.fromkeys(("PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Unflatten"), copy)
    | {name: pad for name in KINDS if name[:-2].endswith("Pad")}
)
"""How the nests of each kind are run."""
