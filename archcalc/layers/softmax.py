"""Softmax: exponentials that are made to sum to one along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError
from archcalc.extents import Shape
from archcalc.layers.base import OUTPUT, Layer, axis_of, check_int, elementwise
from archcalc.nest import Nest

_LARGEST = {"cmp": 1}
_EXPONENTIALS = {"add": 2, "exp": 1}


@dataclass(frozen=True, slots=True)
class _Softmax(Layer):
    """The largest value; subtraction, exponential and sum; division. Each visits every element."""

    dim: int | None = 1

    kept: ClassVar[tuple[str, ...]] = (OUTPUT,)

    def __post_init__(self) -> None:
        if self.dim is not None:
            check_int("dim", self.dim, None)

    def _axis(self, x: Shape) -> int:
        """The axis summed over; where none is given torch takes 0 on inputs of 0, 1 or 3 axes and otherwise 1."""
        dim = (0 if len(x) in (0, 1, 3) else 1) if self.dim is None else self.dim
        return axis_of("dim", dim, x)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The largest value; subtraction, exponential and sum; division. Each visits every element."""
        (x,) = inputs
        self._axis(x)
        return tuple(elementwise(x, dict(ops)) for ops in (_LARGEST, _EXPONENTIALS, {"div": 1}))


class Softmax(_Softmax):
    """exp(x - max) / sum of exp(x - max) along `dim` (`torch.nn.Softmax`).

    >>> [dict(nest.ops) for nest in Softmax(1).nests((1, 10))]
    [{'cmp': 1}, {'add': 2, 'exp': 1}, {'div': 1}]
    """

    __slots__ = ()


class Softmin(_Softmax):
    """exp(min - x) / sum of exp(min - x) along `dim` (`torch.nn.Softmin`)."""

    __slots__ = ()


class Softmax2d(Layer):
    """Softmax over the channels of an image (`torch.nn.Softmax2d`)."""

    __slots__ = ()

    kept: ClassVar[tuple[str, ...]] = (OUTPUT,)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Those of Softmax over the channels."""
        if len(inputs[0]) not in (3, 4):
            raise ShapeError(f"needs an input of 3 axes (C, H, W) or 4 (N, C, H, W), not {len(inputs[0])}")
        return Softmax(-3).nests(*inputs)


class LogSoftmax(_Softmax):
    """x - max - log(sum of exp(x - max)) along `dim` (`torch.nn.LogSoftmax`).

    >>> [(nest.iterations, dict(nest.ops)) for nest in LogSoftmax(1).nests((1, 10))][1:]
    [(10, {'add': 2, 'exp': 1}), (1, {'log': 1}), (10, {'add': 1})]
    """

    __slots__ = ()

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The largest value; subtraction, exponential and sum; one logarithm for each sum; subtraction."""
        (x,) = inputs
        dim = self._axis(x)
        sums = (*x[:dim], 1, *x[dim + 1 :])
        steps = ((x, _LARGEST), (x, _EXPONENTIALS), (sums, {"log": 1}), (x, {"add": 1}))
        return tuple(elementwise(shape, dict(ops)) for shape, ops in steps)
