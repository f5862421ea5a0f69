"""Layers that stretch, shrink or rearrange the grid of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, differ, exact_div, prod, surely
from archcalc.layers.base import IMAGES, Ints, Layer, axis_of, check_int, elementwise, lettered
from archcalc.layers.conv import PLACES
from archcalc.nest import Axis, Nest, Operand

_MODES: dict[str, tuple[tuple[int, ...], int]] = {
    "nearest": ((3, 4, 5), 1),
    "nearest-exact": ((3, 4, 5), 1),
    "linear": ((3,), 2),
    "bilinear": ((4,), 4),
    "bicubic": ((4,), 16),
    "trilinear": ((5,), 8),
}
"""For each mode the ranks of input it takes, and how many inputs an output is made of."""


@dataclass(frozen=True, slots=True)
class _Resized(Layer):
    size: Ints | None = None
    scale_factor: float | tuple[float, ...] | None = None

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if (self.size is None) == (self.scale_factor is None):
            raise SpecError(f"size is {self.size!r} and scale_factor {self.scale_factor!r}; give one of them")
        for name in ("size", "scale_factor"):
            value: Any = getattr(self, name)
            values = tuple(value) if isinstance(value, tuple | list) else (value,)
            allowed = (int,) if name == "size" else (int, float)
            if value is not None and (not values or any(type(v) not in allowed or v <= 0 for v in values)):
                number = "whole number" if name == "size" else "number"
                raise SpecError(f"{name} is {value!r}; it must be a {number} above 0 or one for each spatial axis")
            object.__setattr__(self, name, values if isinstance(value, tuple | list) else value)

    def _resized(self, x: Shape, mode: str) -> Nest:
        """Every output as the sum of the inputs around it, each times a weight that its place alone decides."""
        ranks, taps = _MODES[mode]
        if len(x) not in ranks:
            wanted = " or ".join(f"{rank} axes ({', '.join(IMAGES[rank])})" for rank in ranks)
            raise ShapeError(f"mode {mode!r} needs an input of {wanted}, not {len(x)}")
        rank = len(x) - 2
        name = "scale_factor" if self.size is None else "size"
        given = getattr(self, name)
        each: Shape = given if isinstance(given, tuple) else (given,) * rank
        if len(each) != rank:
            raise ShapeError(f"{name} has {len(each)} numbers for {rank} spatial axes")
        if self.size is None:
            each = tuple(map(scaled, x[2:], each))
        for extent, size in zip(each, x[2:], strict=True):
            if surely(extent < 1):
                raise ShapeError(f"an axis of {size} shrinks to nothing")
        ops = {"mul": taps, "add": taps - 1} if taps > 1 else {}
        letters = {len(x): ("N", "C", *PLACES[-rank:])}
        return elementwise((*x[:2], *each), ops, operands=taps, letters=letters)


def scaled(extent: Extent, factor: float) -> Extent:
    """⌊extent·factor⌋: of an int as torch rounds it, otherwise with the factor as the fraction it stands for.

    >>> scaled(7, 1.5)
    10
    """
    if type(extent) is int:
        return math.floor(extent * factor)
    from fractions import Fraction

    fraction = Fraction(factor).limit_denominator(1_000_000)
    product = extent * fraction.numerator
    return product if fraction.denominator == 1 else product // fraction.denominator


@dataclass(frozen=True, slots=True)
class Upsample(_Resized):
    """The input at another size (`torch.nn.Upsample`).

    Each output is a sum of 2 inputs (linear), 4 (bilinear), 8 (trilinear) or 16 (bicubic) with weights that are
    computed once for each place and not counted: as many multiplications, one addition fewer. Nearest copies.

    >>> Upsample(scale_factor=2, mode="bilinear").output((1, 64, 28, 28))
    (1, 64, 56, 56)
    """

    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None

    def __post_init__(self) -> None:
        _Resized.__post_init__(self)
        if self.mode not in _MODES:
            raise SpecError(f"mode is {self.mode!r}; it must be one of {', '.join(_MODES)}")
        if self.align_corners is not None and self.mode.startswith("nearest"):
            raise SpecError(f"align_corners is {self.align_corners!r}; mode {self.mode!r} has no such choice")
        if self.recompute_scale_factor and self.size is not None:
            raise SpecError("recompute_scale_factor needs a scale_factor, not a size")

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The sum for each element of the output."""
        return (self._resized(inputs[0], self.mode),)


class UpsamplingNearest2d(_Resized):
    """Upsample with mode "nearest" on images (`torch.nn.UpsamplingNearest2d`)."""

    __slots__ = ()

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """A copy for each element of the output."""
        return (self._resized(inputs[0], "nearest"),)


class UpsamplingBilinear2d(_Resized):
    """Upsample with mode "bilinear" and aligned corners (`torch.nn.UpsamplingBilinear2d`)."""

    __slots__ = ()

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The sum for each element of the output."""
        return (self._resized(inputs[0], "bilinear"),)


@dataclass(frozen=True, slots=True)
class PixelShuffle(Layer):
    """Channels as blocks of r by r pixels: (N, C·r·r, H, W) to (N, C, H·r, W·r) (Shi et al. 2016, equation 4).

    >>> PixelShuffle(2).output((1, 64, 28, 28))
    (1, 16, 56, 56)
    """

    upscale_factor: int

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("upscale_factor", self.upscale_factor)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The pixels in their new order, at no cost."""
        (x,) = inputs
        r = self.upscale_factor
        outer, (C, H, W) = _image(x)
        if differ(C % (r * r), 0):
            raise ShapeError(f"channels (={C}) must be divisible by upscale_factor² (={r * r})")
        loops = {**outer, "K": exact_div(C, r * r), "r": r, "s": r, "H": H, "W": W}
        return (_moved(loops, outer, (("K", "r", "s"), ("H",), ("W",)), (("K",), ("H", "r"), ("W", "s"))),)


@dataclass(frozen=True, slots=True)
class PixelUnshuffle(Layer):
    """Blocks of r by r pixels as channels: (N, C, H·r, W·r) to (N, C·r·r, H, W) (`torch.nn.PixelUnshuffle`).

    >>> PixelUnshuffle(2).output((1, 16, 56, 56))
    (1, 64, 28, 28)
    """

    downscale_factor: int

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("downscale_factor", self.downscale_factor)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The pixels in their new order, at no cost."""
        (x,) = inputs
        r = self.downscale_factor
        outer, (C, H, W) = _image(x)
        for axis, size in (("height", H), ("width", W)):
            if differ(size % r, 0):
                raise ShapeError(f"{axis} (={size}) must be divisible by downscale_factor (={r})")
        loops = {**outer, "C": C, "r": r, "s": r, "P": exact_div(H, r), "Q": exact_div(W, r)}
        return (_moved(loops, outer, (("C",), ("P", "r"), ("Q", "s")), (("C", "r", "s"), ("P",), ("Q",))),)


def _image(x: Shape) -> tuple[dict[str, Extent], Shape]:
    """The loops over all axes but the last three, and these. Raises ShapeError."""
    if len(x) < 3:
        raise ShapeError(f"needs an input of 3 axes or more (…, C, H, W), not {len(x)}")
    outer = x[:-3]
    return ({"N": outer[0]} if len(outer) == 1 else {f"D{i}": size for i, size in enumerate(outer)}), x[-3:]


def _moved(
    loops: dict[str, Extent], outer: dict[str, Extent], before: tuple[Axis, ...], after: tuple[Axis, ...]
) -> Nest:
    """A nest that only moves data: every loop writes one element to its place."""
    dense: tuple[Axis, ...] = tuple((letter,) for letter in outer)
    return Nest(loops, {}, (Operand("input", "input", dense + before), Operand("output", "output", dense + after)))


@dataclass(frozen=True, slots=True)
class ChannelShuffle(Layer):
    """Channels of G groups dealt out in turn: G·K becomes K·G (Zhang et al. 2017, figure 1; `torch.nn.ChannelShuffle`).

    >>> ChannelShuffle(2).output((1, 64, 28, 28))
    (1, 64, 28, 28)
    """

    groups: int

    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("groups", self.groups)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The channels in their new order, at no cost."""
        (x,) = inputs
        if len(x) < 3:
            raise ShapeError(f"needs an input of 3 axes or more (N, C, …), not {len(x)}")
        N, C = x[:2]
        if differ(C % self.groups, 0):
            raise ShapeError(f"channels (={C}) must be divisible by groups (={self.groups})")
        places = dict(list(lettered(x, IMAGES).items())[2:])
        loops = {"N": N, "G": self.groups, "C/G": exact_div(C, self.groups), **places}
        inner: tuple[Axis, ...] = tuple((letter,) for letter in places)
        return (_moved(loops, {"N": N}, (("G", "C/G"), *inner), (("C/G", "G"), *inner)),)


@dataclass(frozen=True, slots=True)
class Unflatten(Layer):
    """One axis as several; one of their extents may be -1, which is what is left (`torch.nn.Unflatten`).

    >>> Unflatten(1, (512, 7, 7)).output((1, 25088))
    (1, 512, 7, 7)
    """

    dim: int
    unflattened_size: tuple[int, ...]

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_int("dim", self.dim, None)
        sizes = self.unflattened_size
        whole = isinstance(sizes, tuple | list) and all(type(size) is int for size in sizes) and len(sizes) > 0
        if not whole or any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise SpecError(
                f"unflattened_size is {sizes!r}; it must be whole numbers of at least 1, one of which may be -1"
            )
        object.__setattr__(self, "unflattened_size", tuple(sizes))

    @property
    def in_place(self) -> bool:
        """The same memory under another shape."""
        return True

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The elements in their order, at no cost."""
        (x,) = inputs
        dim = axis_of("dim", self.dim, x)
        known = prod(size for size in self.unflattened_size if size != -1)
        rest = exact_div(x[dim], known)
        open_ = -1 in self.unflattened_size
        if differ(x[dim] % known, 0) if open_ else differ(x[dim], known):
            raise ShapeError(f"axis {dim} (={x[dim]}) cannot be cut into {self.unflattened_size}")
        sizes = [rest if size == -1 else size for size in self.unflattened_size]
        letters = [f"D{i}" for i in range(len(x))]
        parts = tuple(f"{letters[dim]}{chr(97 + i)}" for i in range(len(sizes)))
        loops = dict(zip((*letters[:dim], *parts, *letters[dim + 1 :]), (*x[:dim], *sizes, *x[dim + 1 :]), strict=True))
        left, right = (tuple((letter,) for letter in side) for side in (letters[:dim], letters[dim + 1 :]))
        return (_moved(loops, {}, (*left, parts, *right), (*left, *((part,) for part in parts), *right)),)
