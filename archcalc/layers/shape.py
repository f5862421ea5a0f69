"""Layers that join, cut or relabel tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError
from archcalc.extents import Extent, Shape, differ, prod
from archcalc.layers.base import Ints, Layer, axis_of, check_int, check_rank, elementwise, fit, ints, set_ints
from archcalc.nest import Nest, Operand, Window


@dataclass(frozen=True, slots=True)
class Input(Layer):
    """What flows into a network: a tensor of a given shape, batch first."""

    shape: tuple[Extent, ...]

    inputs: ClassVar[int | None] = 0
    kept: ClassVar[tuple[str, ...]] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The shape given."""
        return self.shape


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """Axes start_dim to end_dim as one, by default all but the batch (`torch.nn.Flatten`).

    >>> Flatten().output((1, 512, 7, 7))
    (1, 25088)
    >>> Flatten(2).output((1, 768, 14, 14))
    (1, 768, 196)
    """

    start_dim: int = 1
    end_dim: int = -1

    worked: ClassVar[bool] = True
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("start_dim", self.start_dim, None)
        check_int("end_dim", self.end_dim, None)

    @property
    def in_place(self) -> bool:
        """The same memory under another shape."""
        return True

    def output(self, *inputs: Shape) -> Shape:
        """The product of the flattened axes in their place, channels last as it is written by hand."""
        x = inputs[0]
        if len(x) < 2 and self == Flatten():
            x = (*x, 1)
        first, last = axis_of("start_dim", self.start_dim, x), axis_of("end_dim", self.end_dim, x)
        if first > last:
            raise ShapeError(f"start_dim (={self.start_dim}) must not come after end_dim (={self.end_dim})")
        merged = x[first : last + 1]
        if first <= 1 <= last:
            merged = (*x[first:1], *x[2 : last + 1], x[1])
        return (*x[:first], prod(merged), *x[last + 1 :])


@dataclass(frozen=True, slots=True)
class Concat(Layer):
    """Tensors joined along an axis (`torch.cat`).

    >>> Concat().output((1, 128, 32, 32), (1, 192, 32, 32))
    (1, 320, 32, 32)
    """

    dim: int = 1

    inputs: ClassVar[int | None] = None
    worked: ClassVar[bool] = True
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("dim", self.dim, None)

    def output(self, *inputs: Shape) -> Shape:
        """The inputs' shape, their extents along `dim` added. Raises ShapeError where the other axes differ."""
        first = inputs[0]
        if any(len(x) != len(first) for x in inputs) or not -len(first) <= self.dim < len(first):
            raise ShapeError(f"inputs to join along axis {self.dim} must all have that axis and the same rank")
        dim = self.dim % len(first)
        for axis, extent in enumerate(first):
            if axis != dim and any(differ(x[axis], extent) for x in inputs[1:]):
                raise ShapeError(f"inputs to join along axis {dim} must agree on axis {axis}")
        return (*first[:dim], sum((x[dim] for x in inputs[1:]), start=first[dim]), *first[dim + 1 :])


@dataclass(frozen=True, slots=True)
class Add(Layer):
    """Elementwise sum of tensors of one shape, as at the end of a residual block (He et al. 2015, equation 1).

    >>> Add().nests((1, 64, 56, 56), (1, 64, 56, 56))[0].ops
    {'add': 1}
    """

    inplace: bool = False

    inputs: ClassVar[int | None] = None
    kept: ClassVar[tuple[str, ...]] = ()

    @property
    def in_place(self) -> bool:
        """Whether the first input is overwritten."""
        return self.inplace

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One addition for each element and each input after the first."""
        first = inputs[0]
        for x in inputs[1:]:
            if len(x) != len(first) or any(map(differ, first, x)):
                raise ShapeError("inputs to add must have the same shape")
        return (elementwise(first, {"add": len(inputs) - 1}, operands=len(inputs)),)


@dataclass(frozen=True, slots=True)
class Subsample(Layer):
    """Every stride-th row and column, x[:, :, ::stride, ::stride] (option A, He et al. 2015, section 3.3).

    >>> Subsample(2).output((1, 64, 7, 7))
    (1, 64, 4, 4)
    """

    stride: Ints

    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        set_ints(self, "stride", 2, 1)

    @property
    def in_place(self) -> bool:
        """A view of the input."""
        return True

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Windows of one tap, at no cost."""
        (x,) = inputs
        check_rank(x, 4, "N, C, H, W")
        N, C, H, W = x
        rows, columns = (
            Window(out, tap, stride) for out, tap, stride in zip("PQ", "RS", ints(self.stride), strict=True)
        )
        loops = {"N": N, "C": C, "P": fit(rows, H, 1), "Q": fit(columns, W, 1), "R": 1, "S": 1}
        image = Operand("input", "input", (("N",), ("C",), rows, columns))
        return (Nest(loops, {}, (image, Operand("output", "output", (("N",), ("C",), ("P",), ("Q",))))),)


@dataclass(frozen=True, slots=True)
class PadChannels(Layer):
    """Channels of zeros after the input's own (option A, He et al. 2015, section 3.3).

    >>> PadChannels(64).output((1, 64, 28, 28))
    (1, 128, 28, 28)
    """

    channels: int

    worked: ClassVar[bool] = True
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("channels", self.channels)

    def output(self, *inputs: Shape) -> Shape:
        """(N, C + channels, H, W)."""
        (x,) = inputs
        check_rank(x, 4, "N, C, H, W")
        return (x[0], x[1] + self.channels, *x[2:])
