"""Recurrent layers and their cells: matrix products of every step's input and state, then the gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from archcalc.errors import SpecError
from archcalc.extents import Extent, Shape, ceil_div, prod
from archcalc.layers.base import ANY, INPUT, OUTPUT, Layer, Made, check_int, check_probability, check_rank
from archcalc.nest import Axis, Nest, Operand

_GATES: Mapping[str, int] = {"RNN": 1, "LSTM": 4, "GRU": 3}

_OPS: Mapping[str, Mapping[str, int]] = {
    "tanh": {"add": 1, "tanh": 1},
    "relu": {"add": 1, "cmp": 1},
    "LSTM": {"add": 8, "exp": 3, "div": 3, "tanh": 2, "mul": 3},
    "GRU": {"add": 7, "exp": 2, "div": 2, "tanh": 1, "mul": 3},
}
"""What one step costs for each hidden unit once the two products are there; each σ(z) is 1 / (1 + exp(-z))."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """One layer in one direction: the nests of all its steps; `axes` are the sequence's, without the features."""

    kind: str
    axes: Mapping[str, Extent]
    inputs: Extent
    hidden_size: int
    bias: bool
    nonlinearity: str = "tanh"
    proj_size: int = 0
    suffix: str = ""

    def nests(self) -> Iterator[Nest]:
        """Products with the input and with the state, each with its biases; gates; the state's projection."""
        gates, state = _GATES[self.kind], self.proj_size or self.hidden_size
        rows = {"gates": gates, "K": self.hidden_size} if gates > 1 else {"K": self.hidden_size}
        for name, width in (("ih", self.inputs), ("hh", state)):
            yield self._product(f"weight_{name}", rows, width)
            if self.bias:
                yield self._biased(f"bias_{name}", rows)
        # Both products' share of each gate, and the state (GRU) or the cell (LSTM).
        terms = 2 * gates + (self.kind != "RNN")
        yield Nest(
            {**self.axes, "K": self.hidden_size},
            dict(_OPS[self.nonlinearity if self.kind == "RNN" else self.kind]),
            (self._read(("K",)),) * terms + (self._written(("K",)),),
        )
        if self.proj_size:
            yield self._product("weight_hr", {"K": self.proj_size}, self.hidden_size)

    def _product(self, name: str, rows: Mapping[str, int], width: Extent) -> Nest:
        weight = Operand(name + self.suffix, "weight", (tuple(rows), ("C",)))
        loops = {**self.axes, **rows, "C": width}
        return Nest(loops, {"mac": 1}, (self._read(("C",)), weight, self._written(tuple(rows))))

    def _biased(self, name: str, rows: Mapping[str, int]) -> Nest:
        bias = Operand(name + self.suffix, "bias", (tuple(rows),))
        return Nest({**self.axes, **rows}, {"bias_add": 1}, (self._read(tuple(rows)), bias, self._written(tuple(rows))))

    def _read(self, features: Axis) -> Operand:
        return Operand("input", "input", (*((letter,) for letter in self.axes), features))

    def _written(self, features: Axis) -> Operand:
        return Operand("output", "output", (*((letter,) for letter in self.axes), features))


@dataclass(frozen=True, slots=True)
class _Recurrent(Layer):
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False

    inputs: ClassVar[int | None] = ANY
    inferred: ClassVar[dict[str, int]] = {"input_size": -1}
    local: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_int("hidden_size", self.hidden_size)
        check_int("num_layers", self.num_layers)
        check_probability("dropout", self.dropout)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """For every layer those of each direction, then the directions side by side; the initial state is given.

        An input of two axes is one sequence, or the steps of a packed batch.
        """
        x = inputs[0]
        letters = "L" if len(x) == 2 else "NL" if self.batch_first else "LN"
        check_rank(x, len(letters) + 1, ", ".join((*letters, "C")))
        axes = dict(zip(letters, x[:-1], strict=True))
        proj_size, directions = getattr(self, "proj_size", 0), 1 + self.bidirectional
        nonlinearity = getattr(self, "nonlinearity", "")
        width, state = x[-1], proj_size or self.hidden_size
        nests: list[Nest] = []
        for index in range(self.num_layers):
            for direction in ("", "_reverse")[:directions]:
                suffix = f"_l{index}{direction}"
                cell = _Cell(self.kind, axes, width, self.hidden_size, self.bias, nonlinearity, proj_size, suffix)
                nests += cell.nests()
            if self.bidirectional:
                nests.append(_side_by_side(axes, state))
            width = directions * state
        return tuple(nests)

    def _sequences(self, inputs: tuple[Shape, ...]) -> tuple[Extent, Extent] | None:
        """Sequences and steps; None for a packed batch, whose sequences are of unlike length."""
        x = inputs[0]
        if len(x) == 2:
            packed = len(inputs) > 1 and len(inputs[1]) == 1
            return None if packed else (1, x[0])
        return (x[0], x[1]) if self.batch_first else (x[1], x[0])

    def _sequence(self, inputs: tuple[Shape, ...]) -> str | Made | None:
        """What flows in, or the copy of it where PyTorch reorders the axes; None where states flow in with it then."""
        N, L = self._sequences(inputs) or (1, 1)
        if not self.batch_first or N == 1 or L == 1:
            return INPUT
        return Made("sequence", prod(inputs[0])) if len(inputs) == 1 else None

    def _dropped(self, between: Extent) -> Extent:
        """Elements of the masks of the dropouts between layers."""
        return 0 if not self.dropout else self.num_layers - 1 if self.dropout == 1 else between

    def _kept(self, inputs: tuple[Shape, ...], first: int, each: int) -> tuple[str | Made, ...] | None:
        """What flows in and between layers, and for each unit of each direction `first` numbers, `each` at every step.

        Not stated for packed batches, and where PyTorch reorders a sequence that comes with a state.
        """
        sequences, sequence = self._sequences(inputs), self._sequence(inputs)
        if sequences is None or sequence is None:
            return None
        N, L = sequences
        directions, unit = 1 + self.bidirectional, N * self.hidden_size
        between = (self.num_layers - 1) * directions * L * unit
        steps = Made("steps", self.num_layers * directions * unit * (first + each * L))
        if isinstance(sequence, Made):  # each direction makes a copy
            sequence = sequence._replace(elements=directions * sequence.elements)
        return sequence, steps, Made("between layers", between + self._dropped(between))


def _side_by_side(axes: Mapping[str, Extent], state: int) -> Nest:
    """The states of both directions as one, which only moves data."""
    outer: tuple[Axis, ...] = tuple((letter,) for letter in axes)
    states = Operand("input", "input", (("directions",), *outer, ("K",)))
    joined = Operand("output", "output", (*outer, ("directions", "K")))
    return Nest({**axes, "directions": 2, "K": state}, {}, (states, joined))


@dataclass(frozen=True, slots=True)
class RNN(_Recurrent):
    """h' = tanh(W_ih·x + b_ih + W_hh·h + b_hh), or max(0, …), at every step (Elman 1990; `torch.nn.RNN`).

    >>> RNN(20).nests((5, 1, 10))[0].iterations
    1000
    """

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        _Recurrent.__post_init__(self)
        _check_nonlinearity(self.nonlinearity)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """The sequence and every state, as PyTorch computes it on the CPU."""
        return self._kept(inputs, int(len(inputs) == 1), 1)


@dataclass(frozen=True, slots=True)
class LSTM(_Recurrent):
    """Four gates and a cell at every step (Hochreiter & Schmidhuber 1997; Gers et al. 2000; `torch.nn.LSTM`).

    With (i, f, g, o) = W_ih·x + b_ih + W_hh·h + b_hh:
    c' = σ(f)·c + σ(i)·tanh(g), h' = σ(o)·tanh(c'), projected to W_hr·h' where there is a proj_size.

    >>> LSTM(20).output((5, 1, 10))
    (5, 1, 20)
    """

    proj_size: int = 0

    def __post_init__(self) -> None:
        _Recurrent.__post_init__(self)
        check_int("proj_size", self.proj_size, 0)
        if self.proj_size >= self.hidden_size:
            raise SpecError(f"proj_size (={self.proj_size}) must be less than hidden_size (={self.hidden_size})")

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """The sequence, states, outputs and oneDNN's workspaces, as on the CPU in float32.

        Without biases also copies of the weights. Not stated with a projection, which oneDNN does not compute, and
        where RNN and GRU do not state it.
        """
        sequences, sequence = self._sequences(inputs), self._sequence(inputs)
        if self.proj_size or sequences is None or sequence is None:
            return None
        (N, L), H, directions = sequences, self.hidden_size, 1 + self.bidirectional
        cells = self.num_layers * directions
        states = 2 * cells * N * H * (1 if len(inputs) > 1 else 2)  # the last ones, and the zeros at the beginning
        one = L * N * H
        between = (self.num_layers - 1) * directions * one
        outputs = cells * one if self.bidirectional else between  # those of the last layer are the output otherwise
        joined = between if self.bidirectional or self.dropout else 0
        widths = [inputs[0][-1], *[directions * H] * (self.num_layers - 1)]
        workspaces = directions * sum(_workspace(L, N, width, H) for width in widths)
        copies = 0 if self.bias else 4 * H * directions * sum(width + H for width in widths)
        made = (
            Made("states", states, "single"),
            Made("outputs", outputs, "single"),
            Made("between layers", joined + self._dropped(between), "single"),
            Made("workspaces", workspaces // 4, "single"),
            Made("copies of the weights", copies, "single"),
        )
        return (sequence, *(() if self.bidirectional else (OUTPUT,)), *made)


class GRU(_Recurrent):
    """Two gates and a candidate at every step (Cho et al. 2014; `torch.nn.GRU`).

    With (r, z, n) = W_ih·x + b_ih and (r̂, ẑ, n̂) = W_hh·h + b_hh:
    h' = (1 - σ(z + ẑ))·tanh(n + σ(r + r̂)·n̂) + σ(z + ẑ)·h.

    >>> GRU(20, bidirectional=True).output((5, 1, 10))
    (5, 1, 40)
    """

    __slots__ = ()

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """The sequence and, of each step, the state before, r, z, n̂ twice, n and h - n, as on the CPU."""
        return self._kept(inputs, -int(len(inputs) > 1), 7)


@dataclass(frozen=True, slots=True)
class _RecurrentCell(Layer):
    hidden_size: int
    bias: bool = True

    inputs: ClassVar[int | None] = ANY
    inferred: ClassVar[dict[str, int]] = {"input_size": -1}

    def __post_init__(self) -> None:
        check_int("hidden_size", self.hidden_size)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Those of one step, for a batch or without one; the state is given."""
        x = inputs[0]
        if len(x) != 1:
            check_rank(x, 2, "N, C")
        kind, nonlinearity = self.kind.removesuffix("Cell"), getattr(self, "nonlinearity", "")
        return tuple(
            _Cell(kind, dict(zip("N", x[:-1], strict=False)), x[-1], self.hidden_size, self.bias, nonlinearity).nests()
        )

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """What flows in, the state where none is given, and what each unit's gates compute, as on the CPU."""
        numbers = {"RNNCell": 1, "LSTMCell": 5, "GRUCell": 6}[self.kind] + (len(inputs) == 1)
        return INPUT, Made("step", inputs[0][0] * self.hidden_size * numbers)


@dataclass(frozen=True, slots=True)
class RNNCell(_RecurrentCell):
    """One step of an RNN; the output is its state (`torch.nn.RNNCell`)."""

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        _RecurrentCell.__post_init__(self)
        _check_nonlinearity(self.nonlinearity)


class LSTMCell(_RecurrentCell):
    """One step of an LSTM; the output is its state, without the cell (`torch.nn.LSTMCell`).

    >>> LSTMCell(20).output((3, 10))
    (3, 20)
    """

    __slots__ = ()


class GRUCell(_RecurrentCell):
    """One step of a GRU; the output is its state (`torch.nn.GRUCell`)."""

    __slots__ = ()


def _workspace(L: Extent, N: Extent, inputs: Extent, hidden: int) -> Extent:
    """Bytes that oneDNN's LSTM hands from forward to backward, for one layer in one direction.

    Gates and states of all steps, before the first too, each from a page of 4096 bytes on; rows are whole cache lines,
    and one more where they would be a multiple of 256 numbers (oneDNN, src/cpu/rnn/rnn_utils.cpp, set_conf).

    >>> _workspace(1, 1, 1, 1)
    28672
    """

    def row(numbers: Extent) -> Extent:
        lines = ceil_div(numbers, 16)
        return 16 * (lines + 1 if lines % 16 == 0 else lines)

    def pages(numbers: Extent) -> Extent:
        return 4096 * ceil_div(4 * numbers, 4096)

    steps = 2 * (L + 1) * N
    states = 3 * pages(steps * row(max(inputs, hidden))) + 2 * pages(steps * hidden)
    return pages(L * N * row(4 * hidden)) + pages(L * N * row(hidden)) + states


def _check_nonlinearity(value: object) -> None:
    if value not in ("tanh", "relu"):
        raise SpecError(f"nonlinearity is {value!r}; it must be 'tanh' or 'relu'")
