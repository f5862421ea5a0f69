"""Pooling: windows that are compared, averaged or summed; channels stay apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, prod
from archcalc.layers.base import (
    IMAGES,
    INPUT,
    Ints,
    Layer,
    Made,
    check_image,
    check_int,
    elementwise,
    fit,
    ints,
    set_ints,
)
from archcalc.layers.conv import PLACES, SPACE, TAPS, dense
from archcalc.nest import Axis, Bins, Nest, Operand, Window

Sizes: TypeAlias = int | tuple[int | None, ...]
"""Sizes of an output; None keeps the input's."""

_BINS = "TUV"


def _windows(
    x: Shape,
    ops: dict[str, int],
    kernel: Ints,
    stride: Ints | None,
    padding: Ints | None = None,
    dilation: Ints | None = None,
    *,
    ceil: bool,
) -> Nest:
    """Every tap of every window. Raises ShapeError."""
    taps = ints(kernel)
    rank = len(taps)
    check_image(x, rank)
    windows, letters, operands = _look(ints(stride or kernel), padding or (0,) * rank, dilation or (1,) * rank, ceil)
    extents = (*x[:2], *map(fit, windows, x[2:], taps), *taps)
    return Nest(dict(zip(letters, extents, strict=True)), ops, operands)


@lru_cache(1024)
def _look(
    stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...], ceil: bool
) -> tuple[tuple[Window, ...], tuple[str, ...], tuple[Operand, ...]]:
    """A window for each spatial axis, letters of all loops, operands."""
    rank = len(stride)
    places, taps = PLACES[-rank:], TAPS[-rank:]
    windows = tuple(map(Window, places, taps, stride, dilation, padding, padding, (ceil,) * rank))
    image = Operand("input", "input", (("N",), ("C",), *windows))
    return windows, ("N", "C", *places, *taps), (image, Operand("output", "output", dense("N", "C", *places)))


def _each(nest: Nest, ops: dict[str, int]) -> Nest:
    """A visit of every output of a nest."""
    return elementwise(nest.output, ops, letters=IMAGES)


def _indices(layer: Layer, x: Shape) -> tuple[str | Made, ...]:
    """What the largest values of windows are found again by: the input, and where in it each was."""
    return INPUT, Made("indices", prod(layer.output(x)), "index")


@dataclass(frozen=True, slots=True)
class _Pool(Layer):
    kernel_size: Ints
    stride: Ints | None = None
    padding: Ints = 0

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        set_ints(self, "kernel_size", self.rank, 1)
        set_ints(self, "stride", self.rank, 1)
        set_ints(self, "padding", self.rank, 0)
        for taps, padding in zip(ints(self.kernel_size), ints(self.padding), strict=True):
            if 2 * padding > taps:
                raise SpecError(f"padding (={padding}) must be at most half of kernel_size (={taps})")


@dataclass(frozen=True, slots=True)
class _MaxPool(_Pool):
    dilation: Ints = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        _Pool.__post_init__(self)
        set_ints(self, "dilation", self.rank, 1)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Comparisons of every tap with the largest so far."""
        (x,) = inputs
        window = self.kernel_size, self.stride, self.padding, self.dilation
        return (_windows(x, {"cmp": 1}, *window, ceil=self.ceil_mode),)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, and the index of each largest value."""
        return _indices(self, inputs[0])


class MaxPool1d(_MaxPool):
    """Largest value of each window: one comparison for each tap, padding included (`torch.nn.MaxPool1d`).

    >>> MaxPool1d(3, stride=2).output((1, 96, 55))
    (1, 96, 27)
    """

    __slots__ = ()

    rank: ClassVar[int] = 1


class MaxPool2d(_MaxPool):
    """Largest value of each window: one comparison for each tap, padding included (`torch.nn.MaxPool2d`).

    >>> MaxPool2d(3, stride=2).output((1, 96, 55, 55))
    (1, 96, 27, 27)
    """

    __slots__ = ()

    rank: ClassVar[int] = 2


class MaxPool3d(_MaxPool):
    """Largest value of each window: one comparison for each tap, padding included (`torch.nn.MaxPool3d`).

    >>> MaxPool3d((1, 2, 2)).output((1, 64, 16, 112, 112))
    (1, 64, 16, 56, 56)
    """

    __slots__ = ()

    rank: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class _AvgPool(_Pool):
    ceil_mode: bool = False
    count_include_pad: bool = True

    kept: ClassVar[tuple[str, ...]] = (INPUT,)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Sum of every window, then its division."""
        (x,) = inputs
        total = _windows(x, {"add": 1}, self.kernel_size, self.stride, self.padding, ceil=self.ceil_mode)
        return total, _each(total, {"div": 1})


@dataclass(frozen=True, slots=True)
class _AvgPoolBy(_AvgPool):
    divisor_override: int | None = None

    def __post_init__(self) -> None:
        _Pool.__post_init__(self)
        if self.divisor_override is not None:
            check_int("divisor_override", self.divisor_override, None)
            if self.divisor_override == 0:
                raise SpecError("divisor_override is 0; sums cannot be divided by it")


class AvgPool1d(_AvgPool):
    """Mean of each window: one addition for each tap, one division for each output (`torch.nn.AvgPool1d`).

    >>> AvgPool1d(2).output((1, 6, 28))
    (1, 6, 14)
    """

    __slots__ = ()

    rank: ClassVar[int] = 1


class AvgPool2d(_AvgPoolBy):
    """Mean of each window: one addition for each tap, one division for each output (`torch.nn.AvgPool2d`).

    >>> AvgPool2d(2).output((1, 6, 28, 28))
    (1, 6, 14, 14)
    """

    __slots__ = ()

    rank: ClassVar[int] = 2


class AvgPool3d(_AvgPoolBy):
    """Mean of each window: one addition for each tap, one division for each output (`torch.nn.AvgPool3d`).

    >>> AvgPool3d((2, 7, 7)).output((1, 1024, 8, 7, 7))
    (1, 1024, 4, 1, 1)
    """

    __slots__ = ()

    rank: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class _LPPool(Layer):
    norm_type: float
    kernel_size: Ints
    stride: Ints | None = None
    ceil_mode: bool = False

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        if not isinstance(self.norm_type, int | float) or self.norm_type == 0:
            raise SpecError(f"norm_type is {self.norm_type!r}; it must be a number other than 0")
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        set_ints(self, "kernel_size", self.rank, 1)
        set_ints(self, "stride", self.rank, 1)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """A power and an addition for each tap and the root of every sum; for ∞ the largest of all magnitudes."""
        (x,) = inputs
        window = self.kernel_size, self.stride
        if math.isinf(self.norm_type):
            magnitudes = elementwise(x, {"cmp": 1}, letters=IMAGES)
            return magnitudes, _windows(x, {"cmp": 1}, *window, ceil=self.ceil_mode)
        powers = _windows(x, {"pow": 1, "add": 1}, *window, ceil=self.ceil_mode)
        return powers, _each(powers, {"pow": 1})

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input and its powers; the mean of each window, its sign, its magnitude and the sum. For ∞ as MaxPool."""
        (x,) = inputs
        powers = Made("powers", prod(x))
        if math.isinf(self.norm_type):
            return powers, *_indices(self, x)
        return INPUT, powers, Made("sums", 4 * prod(self.output(x)))


class LPPool1d(_LPPool):
    """(Sum of x^p over a window)^(1/p): a power and an addition for each tap, a root for each (`torch.nn.LPPool1d`).

    >>> LPPool1d(2, 3, stride=2).output((1, 96, 55))
    (1, 96, 27)
    """

    __slots__ = ()

    rank: ClassVar[int] = 1

    def arguments(self, *inputs: Shape) -> dict[str, Any]:
        """With plain numbers for kernel and stride: PyTorch multiplies with them."""
        windows = {"kernel_size": ints(self.kernel_size)[0], "stride": ints(self.stride or 1)[0]}
        return Layer.arguments(self, *inputs) | windows


class LPPool2d(_LPPool):
    """(Sum of x^p over a window)^(1/p): a power and an addition for each tap, a root for each (`torch.nn.LPPool2d`).

    >>> LPPool2d(2, 3, stride=2).output((1, 96, 55, 55))
    (1, 96, 27, 27)
    """

    __slots__ = ()

    rank: ClassVar[int] = 2


class LPPool3d(_LPPool):
    """(Sum of x^p over a window)^(1/p): a power and an addition for each tap, a root for each (`torch.nn.LPPool3d`).

    >>> LPPool3d(2, 2).output((1, 96, 8, 56, 56))
    (1, 96, 4, 28, 28)
    """

    __slots__ = ()

    rank: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class _FractionalMaxPool(Layer):
    """Largest value of windows at random places; the output's size is given, or its ratio to the input's."""

    kernel_size: Ints
    output_size: Ints | None = None
    output_ratio: float | tuple[float, ...] | None = None

    rank: ClassVar[int]
    local: ClassVar[bool] = False

    def __post_init__(self) -> None:
        set_ints(self, "kernel_size", self.rank, 1)
        if (self.output_size is None) == (self.output_ratio is None):
            raise SpecError("one of output_size and output_ratio must be given")
        if self.output_size is not None:
            set_ints(self, "output_size", self.rank, 1)
            return
        given = self.output_ratio
        ratios = tuple(given) if isinstance(given, tuple | list) else (given,) * self.rank
        if len(ratios) != self.rank or not all(isinstance(one, int | float) and 0 < one < 1 for one in ratios):
            raise SpecError(f"output_ratio is {given!r}; it must be a number between 0 and 1 or {self.rank} of them")
        object.__setattr__(self, "output_ratio", ratios)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Comparisons of every tap with the largest so far. Raises ShapeError for a ratio of what is no number."""
        (x,) = inputs
        check_image(x, self.rank)
        sizes = ints(self.output_size) if self.output_size is not None else self._scaled(x)
        places = PLACES[-self.rank :]
        letters = ("N", "C", *places, *TAPS[-self.rank :])
        loops = dict(zip(letters, (*x[:2], *sizes, *ints(self.kernel_size)), strict=True))
        return (Nest(loops, {"cmp": 1}, (Operand("output", "output", dense("N", "C", *places)),)),)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, and the index of each largest value."""
        return _indices(self, inputs[0])

    def _scaled(self, x: Shape) -> tuple[int, ...]:
        assert isinstance(self.output_ratio, tuple)
        if any(type(extent) is not int for extent in x[2:]):
            raise ShapeError("output_ratio needs an image whose sides are whole numbers")
        return tuple(int(extent * ratio) for extent, ratio in zip(x[2:], self.output_ratio, strict=True))


class FractionalMaxPool2d(_FractionalMaxPool):
    """Largest value of windows at random places: one comparison for each tap (Graham 2014).

    As `torch.nn.FractionalMaxPool2d`.

    >>> FractionalMaxPool2d(2, output_ratio=0.5).output((1, 64, 9, 9))
    (1, 64, 4, 4)
    """

    __slots__ = ()

    rank: ClassVar[int] = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """Largest value of windows at random places in volumes (`torch.nn.FractionalMaxPool3d`).

    >>> FractionalMaxPool3d(2, output_size=3).output((1, 4, 9, 9, 9))
    (1, 4, 3, 3, 3)
    """

    __slots__ = ()

    rank: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class _AdaptivePool(Layer):
    output_size: Sizes

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        sizes = self.output_size
        if self.rank == 1 or not isinstance(sizes, tuple | list) or None not in sizes:
            set_ints(self, "output_size", self.rank, 1)
            return
        if len(sizes) != self.rank:
            raise SpecError(f"output_size is {sizes!r}; it must be {self.rank} whole numbers or None")
        for size in sizes:
            if size is not None:
                check_int("output_size", size)
        object.__setattr__(self, "output_size", tuple(sizes))

    def _bins(self, x: Shape, op: str) -> Nest:
        """Every position of every bin. Raises ShapeError."""
        check_image(x, self.rank)
        assert isinstance(self.output_size, tuple)
        loops: dict[str, Extent] = {"N": x[0], "C": x[1]}
        axes: list[Axis] = [("N",), ("C",)]
        letters = zip(SPACE[-self.rank :], _BINS, strict=False)
        for (kept, cut), size, bins in zip(letters, x[2:], self.output_size, strict=True):
            if bins is None:
                loops[kept] = size
                axes.append((kept,))
            else:
                axis = Bins(cut, size, bins)
                loops[cut] = axis.taps()
                axes.append(axis)
        return Nest(loops, {op: 1}, tuple(Operand(role, role, tuple(axes)) for role in ("input", "output")))


@dataclass(frozen=True, slots=True)
class _AdaptiveAvgPool(_AdaptivePool):
    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Sum of every bin, then its division."""
        total = self._bins(inputs[0], "add")
        return total, _each(total, {"div": 1})

    def keeps(self, *inputs: Shape) -> tuple[str, ...]:
        """The input, for its size; nothing where one bin takes all, which PyTorch computes as a mean."""
        return () if self.output_size == (1,) * self.rank else (INPUT,)


@dataclass(frozen=True, slots=True)
class _AdaptiveMaxPool(_AdaptivePool):
    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Comparisons of every position of a bin with the largest so far."""
        return (self._bins(inputs[0], "cmp"),)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, and the index of each largest value."""
        return _indices(self, inputs[0])


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Mean over a given number of bins, whatever the input's size (`torch.nn.AdaptiveAvgPool1d`).

    >>> AdaptiveAvgPool1d(1).output((1, 512, 7))
    (1, 512, 1)
    """

    __slots__ = ()

    rank: ClassVar[int] = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean over a grid of bins of a given size, whatever the input's (`torch.nn.AdaptiveAvgPool2d`).

    >>> AdaptiveAvgPool2d(1).output((1, 512, 7, 7))
    (1, 512, 1, 1)
    """

    __slots__ = ()

    rank: ClassVar[int] = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Mean over a grid of bins of a given size, whatever the input's (`torch.nn.AdaptiveAvgPool3d`).

    >>> AdaptiveAvgPool3d((None, 1, 1)).output((1, 512, 4, 7, 7))
    (1, 512, 4, 1, 1)
    """

    __slots__ = ()

    rank: ClassVar[int] = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Largest value of each of a given number of bins (`torch.nn.AdaptiveMaxPool1d`).

    >>> AdaptiveMaxPool1d(1).output((1, 512, 7))
    (1, 512, 1)
    """

    __slots__ = ()

    rank: ClassVar[int] = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Largest value of each bin of a grid of a given size (`torch.nn.AdaptiveMaxPool2d`).

    >>> AdaptiveMaxPool2d(1).output((1, 512, 7, 7))
    (1, 512, 1, 1)
    """

    __slots__ = ()

    rank: ClassVar[int] = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Largest value of each bin of a grid of a given size (`torch.nn.AdaptiveMaxPool3d`).

    >>> AdaptiveMaxPool3d((None, 1, 1)).output((1, 512, 4, 7, 7))
    (1, 512, 4, 1, 1)
    """

    __slots__ = ()

    rank: ClassVar[int] = 3
