"""The loop nest: the loops of a layer and how its tensors are indexed by them; every count is read off it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, TypeAlias

from archcalc.extents import Extent, Shape, ceil_div, minimum, prod

Role: TypeAlias = Literal["input", "weight", "bias", "buffer", "output"]


class Window(NamedTuple):
    """An input axis indexed by an output loop and a tap loop: out·stride + tap·dilation - before."""

    out: str
    tap: str
    stride: Extent = 1
    dilation: Extent = 1
    before: Extent = 0
    after: Extent = 0
    ceil: bool = False

    def span(self, taps: Extent) -> Extent:
        """Input positions from the first of `taps` taps to the last (Dumoulin & Visin 2016, section 5.1)."""
        return taps if self.dilation == 1 else self.reach(taps) + 1

    def reach(self, taps: Extent) -> Extent:
        """Steps from the first of `taps` taps to the last."""
        return taps - 1 if self.dilation == 1 else self.dilation * (taps - 1)

    def padding(self) -> Extent:
        """Positions added on both sides together."""
        return 2 * self.before if self.before == self.after else self.before + self.after

    def outputs(self, size: Extent, taps: Extent) -> Extent:
        """Windows that fit on an axis of `size` positions (Dumoulin & Visin 2016, relationship 6).

        With `ceil` a last, partial window is kept if it starts inside the input or its left padding (PyTorch's rule).

        >>> Window("P", "R", stride=4).outputs(227, 11)
        55
        """
        slack = size + self.padding() - self.span(taps)
        if self.ceil:
            return minimum(ceil_div(slack, self.stride) + 1, ceil_div(size + self.before, self.stride))
        return slack // self.stride + 1


class Scatter(NamedTuple):
    """An output axis that a window adds onto instead of reading from; `out` is then the loop over the input.

    `letter` names the axis's length, `extra` positions are added at its end (PyTorch's output padding).
    """

    letter: str
    window: Window
    extra: Extent = 0

    def size(self, inputs: Extent, taps: Extent) -> Extent:
        """Positions between the paddings that windows reach (Dumoulin & Visin 2016, relationship 14).

        >>> Scatter("P", Window("H", "R", stride=2, before=1, after=1)).size(4, 3)
        7
        """
        window = self.window
        return (inputs - 1) * window.stride + window.span(taps) - window.padding() + self.extra


class Bins(NamedTuple):
    """An axis cut into `bins` that may overlap: bin i holds positions ⌊i·size/bins⌋ to ⌈(i+1)·size/bins⌉ - 1."""

    loop: str
    size: Extent
    bins: int

    def taps(self) -> Extent:
        """Positions in all bins together (PyTorch's adaptive pooling rule), those that two share twice.

        >>> Bins("T", 5, 3).taps()
        7
        """
        if type(self.size) is int:
            return self.size + self.bins - math.gcd(self.size, self.bins)
        sizes = (ceil_div((i + 1) * self.size, self.bins) - i * self.size // self.bins for i in range(self.bins))
        return sum(sizes)


Axis: TypeAlias = tuple[str, ...] | Window | Scatter | Bins
"""A dense axis names the loops it is made of, slowest first; an input axis may be a Window or Bins, an output axis a
Scatter or Bins."""


class Operand(NamedTuple):
    """A tensor of the nest: its name in the module's `state_dict` (or input, output), its role, its axes."""

    name: str
    role: Role
    axes: tuple[Axis, ...]


class Nest(NamedTuple):
    """Loops around one body; `ops` says what one iteration of the body costs.

    >>> nest = Nest({"N": 1, "K": 10, "C": 4}, {"mac": 1}, (
    ...     Operand("input", "input", (("N",), ("C",))),
    ...     Operand("weight", "weight", (("K",), ("C",))),
    ...     Operand("output", "output", (("N",), ("K",)))))
    >>> nest.iterations, nest.output
    (40, (1, 10))
    """

    loops: Mapping[str, Extent]
    ops: Mapping[str, int]
    operands: tuple[Operand, ...]

    @property
    def iterations(self) -> Extent:
        """Times the body runs: the product of all loops."""
        return math.prod(self.loops.values())

    @property
    def output(self) -> Shape:
        """Shape of the tensor the nest writes."""
        return self.shape(self.operands[-1])

    def shape(self, operand: Operand) -> Shape:
        """Shape of an operand that has no window."""
        return tuple([self.extent(axis) for axis in operand.axes])

    def extent(self, axis: Axis) -> Extent:
        """Length of a dense axis (the product of its loops) or of one that is added onto; number of bins."""
        if type(axis) is tuple:
            if len(axis) == 1:
                return self.loops[axis[0]]
            return prod([self.loops[loop] for loop in axis])  # type: ignore[index]
        if isinstance(axis, Bins):
            return axis.bins
        assert isinstance(axis, Scatter)
        return axis.size(self.loops[axis.window.out], self.loops[axis.window.tap])


class Ledger(dict[str, Extent]):
    """What a layer costs by kind of operation (`mac`, `bias_add`, `add`, `mul`, `div`, `cmp`, `exp`, ...), never mixed.

    >>> ledger = Ledger({"mac": 10})
    >>> ledger.add({"mac": 5, "cmp": 2})
    >>> ledger
    {'mac': 15, 'cmp': 2}
    """

    def add(self, other: Mapping[str, Extent]) -> None:
        """Enter the amounts of another ledger too."""
        for op, amount in other.items():
            self[op] = self[op] + amount if op in self else amount


def ledger(nests: tuple[Nest, ...]) -> Ledger:
    """Operations of all nests together."""
    result = Ledger()
    for nest in nests:
        iterations = math.prod(nest.loops.values())
        for op, times in nest.ops.items():
            amount = iterations if times == 1 else times * iterations
            result[op] = result[op] + amount if op in result else amount
    return result


def sizes(nests: tuple[Nest, ...], but: Collection[str] = ()) -> dict[Role, Extent]:
    """Elements of weights, biases and buffers of all nests together, but for operands of these names."""
    result: dict[Role, Extent] = {"weight": 0, "bias": 0, "buffer": 0}
    for nest in nests:
        for name, role, axes in nest.operands:
            if role in result and name not in but:
                elements: Extent = 1
                for axis in axes:
                    elements = elements * nest.extent(axis)
                result[role] = result[role] + elements
    return result
