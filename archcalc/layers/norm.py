"""Normalisation layers, at inference.

With kept statistics a normalisation is one scale and one shift. Otherwise it takes mean and variance of groups of
elements: a first pass sums them, a second one sums their squared deviations, a third scales them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, differ, exact_div, prod
from archcalc.layers.base import (
    AXES,
    IMAGES,
    INPUT,
    TOKENS,
    Layer,
    Made,
    Width,
    check_image,
    check_int,
    check_rank,
    elementwise,
    lettered,
)
from archcalc.layers.conv import dense
from archcalc.nest import Axis, Nest, Operand, Window

_STATISTICS = (
    Operand("running_mean", "buffer", (("C",),)),
    Operand("running_var", "buffer", (("C",),)),
    Operand("num_batches_tracked", "buffer", ()),
)


@cache
def _affine(weight: bool, bias: bool, *axes: tuple[str, ...]) -> tuple[Operand, ...]:
    """Scale and shift, indexed alike."""
    return (Operand("weight", "weight", axes),) * weight + (Operand("bias", "bias", axes),) * bias


def _over_data(
    loops: dict[str, Extent],
    axes: tuple[Axis, ...],
    group: tuple[Axis, ...],
    parameters: tuple[Operand, ...],
    *,
    centred: bool = True,
) -> tuple[Nest, ...]:
    """Nests that normalise elements by the statistics of their group, then scale and shift them.

    Mean: an addition an element, a division a group. Deviations: a subtraction an element. Variance: a square and an
    addition an element, and a group's division, addition of eps, root and reciprocal. Result: a product an element.
    """
    x, y = Operand("input", "input", axes), Operand("output", "output", axes)
    one, each = Operand("input", "input", group), Operand("output", "output", group)
    groups = {loop: loops[loop] for axis in group for loop in axis if isinstance(loop, str)}
    mean = (
        Nest(loops, {"add": 1}, (x, each)),
        Nest(groups, {"div": 1}, (one, each)),
        Nest(loops, {"add": 1}, (x, one, y)),
    )
    roles = [operand.role for operand in parameters]
    scaled = {"mul": 1 + roles.count("weight")} | ({"add": 1} if "bias" in roles else {})
    return (mean if centred else ()) + (
        Nest(loops, {"mul": 1, "add": 1}, (x, each)),
        Nest(groups, {"div": 2, "add": 1, "sqrt": 1}, (one, each)),
        Nest(loops, scaled, (x, one, *parameters, y)),
    )


@dataclass(frozen=True, slots=True)
class _ByChannel(Layer):
    """Normalisation by running statistics of each channel where there are any, otherwise by those of the data."""

    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True
    bias: bool = True

    ranks: ClassVar[tuple[int, ...]]
    inferred: ClassVar[dict[str, int]] = {"num_features": 1}

    def __post_init__(self) -> None:
        object.__setattr__(self, "bias", self.bias and self.affine)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """A product and a sum for each element; with statistics of the data also what these cost."""
        (x,) = inputs
        if len(x) - 2 not in self.ranks:
            check_image(x, self.ranks[-1])
        parameters = _affine(self.affine, self.bias, ("C",))
        if self.track_running_stats:
            return (elementwise(x, {"mul": 1, "add": 1}, *parameters, *_STATISTICS, letters=IMAGES),)
        loops = lettered(x, IMAGES)
        return _over_data(loops, dense(*loops), dense(*self._group()), parameters)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, and the mean and the reciprocal deviation of each channel in this batch."""
        width: Width = "parameter" if self.affine or self.track_running_stats else "activation"
        return INPUT, Made("statistics", 2 * inputs[0][1], width)

    def _group(self) -> tuple[str, ...]:
        return ("C",)

    def arguments(self, *inputs: Shape) -> dict[str, Any]:
        """Without `bias` where it goes without saying: PyTorch knows it since 2.15."""
        return _bias_if_missing(Layer.arguments(self, *inputs), self.affine)


def _bias_if_missing(arguments: dict[str, Any], affine: bool) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != "bias" or value != affine}


class BatchNorm1d(_ByChannel):
    """Batch normalisation of vectors or signals: a scale and a shift (Ioffe & Szegedy 2015, algorithm 2).

    What depends on the statistics and on gamma and beta alone is computed once, not for each image, and not counted.
    Without running statistics those of the batch are taken, and counted.

    >>> BatchNorm1d().nests((8, 64))[0].ops
    {'mul': 1, 'add': 1}
    """

    __slots__ = ()

    ranks: ClassVar[tuple[int, ...]] = (0, 1)


class BatchNorm2d(_ByChannel):
    """Batch normalisation at inference: one scale and one shift an element (Ioffe & Szegedy 2015, algorithm 2).

    What depends on the statistics and on gamma and beta alone is computed once, not for each image, and not counted.
    Without running statistics those of the batch are taken, and counted.

    >>> BatchNorm2d().nests((1, 64, 112, 112))[0].iterations
    802816
    """

    __slots__ = ()

    ranks: ClassVar[tuple[int, ...]] = (2,)


class BatchNorm3d(_ByChannel):
    """Batch normalisation of volumes: one scale and one shift an element (Ioffe & Szegedy 2015, algorithm 2).

    What depends on the statistics and on gamma and beta alone is computed once, not for each image, and not counted.
    Without running statistics those of the batch are taken, and counted.

    >>> BatchNorm3d().output((1, 64, 16, 56, 56))
    (1, 64, 16, 56, 56)
    """

    __slots__ = ()

    ranks: ClassVar[tuple[int, ...]] = (3,)


@dataclass(frozen=True, slots=True)
class _InstanceNorm(_ByChannel):
    affine: bool = False
    track_running_stats: bool = False

    def _group(self) -> tuple[str, ...]:
        return ("N", "C")

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, and the statistics of each image's channels; weights and running statistics as often too."""
        repeated = 2 + self.affine + 2 * self.track_running_stats
        width: Width = "parameter" if self.affine else "activation"
        return INPUT, Made("statistics", repeated * prod(inputs[0][:2]), width)


class InstanceNorm1d(_InstanceNorm):
    """Normalisation by mean and variance of each channel of each signal (Ulyanov et al. 2016, equation 3).

    >>> [dict(nest.ops) for nest in InstanceNorm1d().nests((1, 64, 100))][:3]
    [{'add': 1}, {'div': 1}, {'add': 1}]
    """

    __slots__ = ()

    ranks: ClassVar[tuple[int, ...]] = (1,)


class InstanceNorm2d(_InstanceNorm):
    """Normalisation by mean and variance of each channel of each image (Ulyanov et al. 2016, equation 3).

    >>> [dict(nest.ops) for nest in InstanceNorm2d(affine=True).nests((1, 64, 32, 32))][3:]
    [{'mul': 1, 'add': 1}, {'div': 2, 'add': 1, 'sqrt': 1}, {'mul': 2, 'add': 1}]
    """

    __slots__ = ()

    ranks: ClassVar[tuple[int, ...]] = (2,)


class InstanceNorm3d(_InstanceNorm):
    """Normalisation by mean and variance of each channel of each volume (Ulyanov et al. 2016, equation 3).

    >>> InstanceNorm3d().output((1, 64, 16, 32, 32))
    (1, 64, 16, 32, 32)
    """

    __slots__ = ()

    ranks: ClassVar[tuple[int, ...]] = (3,)


@dataclass(frozen=True, slots=True)
class GroupNorm(Layer):
    """Normalisation by mean and variance of groups of channels of each image (Wu & He 2018, equations 1 to 6).

    >>> GroupNorm(32).nests((1, 64, 56, 56))[1].iterations
    32
    """

    num_groups: int
    eps: float = 1e-5
    affine: bool = True
    bias: bool = True

    inferred: ClassVar[dict[str, int]] = {"num_channels": 1}

    def __post_init__(self) -> None:
        check_int("num_groups", self.num_groups)
        object.__setattr__(self, "bias", self.bias and self.affine)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Mean, deviations, variance and scale of each group, then a scale and a shift of each channel."""
        (x,) = inputs
        if len(x) < 2:
            raise ShapeError(f"needs an input of at least 2 axes (N, C, ...), not {len(x)}")
        C, G = x[1], self.num_groups
        if differ(C % G, 0):
            raise ShapeError(f"channels in (={C}) must be divisible by num_groups (={G})")
        (batch, N), _, *places = lettered(x, IMAGES).items()
        loops = {batch: N, "G": G, "C/G": exact_div(C, G), **dict(places)}
        axes = ((batch,), ("G", "C/G"), *dense(*dict(places)))
        return _over_data(loops, axes, dense(batch, "G"), _affine(self.affine, self.bias, ("G", "C/G")))

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, and the mean and the reciprocal deviation of each group."""
        width: Width = "parameter" if self.affine else "activation"
        return INPUT, Made("statistics", 2 * inputs[0][0] * self.num_groups, width)

    def arguments(self, *inputs: Shape) -> dict[str, Any]:
        """Without `bias` where it goes without saying: PyTorch knows it since 2.15."""
        return _bias_if_missing(Layer.arguments(self, *inputs), self.affine)


@dataclass(frozen=True, slots=True)
class _ByPlace(Layer):
    """Normalisation over the last axes, whose lengths are given."""

    normalized_shape: int | tuple[int, ...]

    def __post_init__(self) -> None:
        given = self.normalized_shape
        shape = tuple(given) if isinstance(given, tuple | list) else (given,)
        for extent in shape:
            check_int("normalized_shape", extent)
        if not shape:
            raise SpecError("normalized_shape is empty; it must have at least one axis")
        object.__setattr__(self, "normalized_shape", shape)

    def _nests(self, x: Shape, weight: bool, bias: bool, *, centred: bool) -> tuple[Nest, ...]:
        shape = self.normalized_shape
        assert isinstance(shape, tuple)
        first = len(x) - len(shape)
        if first < 0 or any(map(differ, x[first:], shape)):
            wanted = "×".join(map(str, shape))
            raise ShapeError(f"needs an input whose last axes are normalized_shape (={wanted})")
        loops = lettered(x, TOKENS if len(shape) == 1 else AXES)
        axes = dense(*loops)
        return _over_data(loops, axes, axes[:first], _affine(weight, bias, *axes[first:]), centred=centred)


@dataclass(frozen=True, slots=True)
class LayerNorm(_ByPlace):
    """Normalisation by mean and variance over the last axes (Ba, Kiros & Hinton 2016, equation 3).

    >>> LayerNorm(768).nests((1, 197, 768))[-1].ops
    {'mul': 2, 'add': 1}
    """

    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        _ByPlace.__post_init__(self)
        object.__setattr__(self, "bias", self.bias and self.elementwise_affine)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Mean, deviations, variance and scale over the last axes, then a scale and a shift."""
        return self._nests(inputs[0], self.elementwise_affine, self.bias, centred=True)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, and the mean and the reciprocal deviation of each place."""
        (x,) = inputs
        assert isinstance(self.normalized_shape, tuple)
        width: Width = "parameter" if self.elementwise_affine else "activation"
        return INPUT, Made("statistics", 2 * prod(x[: len(x) - len(self.normalized_shape)]), width)


@dataclass(frozen=True, slots=True)
class RMSNorm(_ByPlace):
    """Division by the root of the mean square over the last axes (Zhang & Sennrich 2019, equation 4).

    >>> [dict(nest.ops) for nest in RMSNorm(4096).nests((1, 128, 4096))]
    [{'mul': 1, 'add': 1}, {'div': 2, 'add': 1, 'sqrt': 1}, {'mul': 2}]
    """

    eps: float | None = None
    elementwise_affine: bool = True

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Mean square and scale over the last axes, then a scale."""
        return self._nests(inputs[0], self.elementwise_affine, False, centred=False)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """The input, the reciprocal root of each place, and, for the weight's gradient, what the weight multiplies.

        PyTorch computes it step by step in float32, but on CUDA.
        """
        (x,) = inputs
        assert isinstance(self.normalized_shape, tuple)
        roots = Made("roots", prod(x[: len(x) - len(self.normalized_shape)]), "single")
        return (INPUT, roots, Made("scaled", prod(x), "single")) if self.elementwise_affine else (INPUT, roots)


@dataclass(frozen=True, slots=True)
class LocalResponseNorm(Layer):
    """x / (k + alpha/size · sum of squares over `size` channels)^beta (Krizhevsky et al. 2012, section 3.3).

    >>> LocalResponseNorm(5).nests((1, 96, 55, 55))[0].iterations
    1452000
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __post_init__(self) -> None:
        check_int("size", self.size)
        if self.beta < 0:
            raise SpecError(f"beta is {self.beta!r}; it must not be negative")

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Squares summed over a window of channels, then scale, shift, power and division for each element."""
        (x,) = inputs
        if len(x) < 3:
            check_rank(x, 4, "N, C, H, W")
        channels = Window("C", "n", 1, 1, self.size // 2, (self.size - 1) // 2)
        loops = lettered(x, IMAGES)
        batch, _, *places = loops
        squares = Nest(
            {batch: x[0], "C": x[1], **{letter: loops[letter] for letter in places}, "n": self.size},
            {"mul": 1, "add": 1},
            (
                Operand("input", "input", (*dense(batch), channels, *dense(*places))),
                Operand("output", "output", dense(batch, "C", *places)),
            ),
        )
        return squares, elementwise(x, {"mul": 1, "add": 1, "pow": 1, "div": 1}, letters=IMAGES)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...]:
        """PyTorch computes it step by step: the input, its squares between zero channels, the sum, its power."""
        (x,) = inputs
        return INPUT, Made("squares", prod((x[0], x[1] + self.size - 1, *x[2:]))), Made("sum and power", 2 * prod(x))
