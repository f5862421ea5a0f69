"""Pooling: windows that are compared or averaged; channels stay apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archcalc.errors import SpecError
from archcalc.extents import Shape
from archcalc.layers.base import Ints, Layer, check_rank, elementwise, fit, ints, set_ints
from archcalc.nest import Bins, Nest, Operand, Window

_OUTPUT = Operand("output", "output", (("N",), ("C",), ("P",), ("Q",)))


@dataclass(frozen=True, slots=True)
class _Pool2d(Layer):
    kernel_size: Ints
    stride: Ints | None = None
    padding: Ints = 0

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        set_ints(self, "kernel_size", 2, 1)
        set_ints(self, "stride", 2, 1)
        set_ints(self, "padding", 2, 0)
        for taps, padding in zip(ints(self.kernel_size), ints(self.padding), strict=True):
            if 2 * padding > taps:
                raise SpecError(f"padding (={padding}) must be at most half of kernel_size (={taps})")

    def _windows(self, x: Shape, ops: dict[str, int], dilation: Ints, *, ceil: bool) -> Nest:
        check_rank(x, 4, "N, C, H, W")
        N, C, H, W = x
        (R, S), (p, q), (d, e) = ints(self.kernel_size), ints(self.padding), ints(dilation)
        s, t = ints(self.stride or 1)
        rows, columns = Window("P", "R", s, d, p, p, ceil), Window("Q", "S", t, e, q, q, ceil)
        loops = {"N": N, "C": C, "P": fit(rows, H, R), "Q": fit(columns, W, S), "R": R, "S": S}
        return Nest(loops, ops, (Operand("input", "input", (("N",), ("C",), rows, columns)), _OUTPUT))


@dataclass(frozen=True, slots=True)
class MaxPool2d(_Pool2d):
    """Largest value of each window: one comparison for each tap, padding included (`torch.nn.MaxPool2d`).

    >>> MaxPool2d(3, stride=2).output((1, 96, 55, 55))
    (1, 96, 27, 27)
    """

    dilation: Ints = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        _Pool2d.__post_init__(self)
        set_ints(self, "dilation", 2, 1)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Comparisons of every tap with the largest so far."""
        return (self._windows(inputs[0], {"cmp": 1}, self.dilation, ceil=self.ceil_mode),)


@dataclass(frozen=True, slots=True)
class AvgPool2d(_Pool2d):
    """Mean of each window: one addition for each tap, one division for each output (`torch.nn.AvgPool2d`).

    >>> AvgPool2d(2).output((1, 6, 28, 28))
    (1, 6, 14, 14)
    """

    ceil_mode: bool = False
    count_include_pad: bool = True

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Sum of every window, then its division."""
        total = self._windows(inputs[0], {"add": 1}, (1, 1), ceil=self.ceil_mode)
        return total, elementwise(total.output, {"div": 1})


@dataclass(frozen=True, slots=True)
class AdaptiveAvgPool2d(Layer):
    """Mean over a grid of bins of a given size, whatever the input's (`torch.nn.AdaptiveAvgPool2d`).

    >>> AdaptiveAvgPool2d(1).output((1, 512, 7, 7))
    (1, 512, 1, 1)
    """

    output_size: Ints

    def __post_init__(self) -> None:
        set_ints(self, "output_size", 2, 1)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Sum of every bin, then its division."""
        (x,) = inputs
        check_rank(x, 4, "N, C, H, W")
        N, C, H, W = x
        P, Q = ints(self.output_size)
        rows, columns = Bins("T", H, P), Bins("U", W, Q)
        axes: tuple[Any, ...] = (("N",), ("C",), rows, columns)
        loops = {"N": N, "C": C, "T": rows.taps(), "U": columns.taps()}
        total = Nest(loops, {"add": 1}, (Operand("input", "input", axes), Operand("output", "output", axes)))
        return total, elementwise(total.output, {"div": 1})
