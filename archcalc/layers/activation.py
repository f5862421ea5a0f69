"""Activation functions and dropout."""

from __future__ import annotations

from dataclasses import dataclass

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Shape
from archcalc.layers.base import Layer, check_int, elementwise
from archcalc.nest import Nest


@dataclass(frozen=True, slots=True)
class ReLU(Layer):
    """max(x, 0): one comparison for each element (`torch.nn.ReLU`).

    >>> ReLU().nests((1, 64, 8, 8))[0].iterations
    4096
    """

    inplace: bool = False

    @property
    def in_place(self) -> bool:
        """Whether the input is overwritten."""
        return self.inplace

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One comparison for each element."""
        return (elementwise(inputs[0], {"cmp": 1}),)


@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """Dropout at inference: the input itself, at no cost (`torch.nn.Dropout`)."""

    p: float = 0.5
    inplace: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.p, int | float) or not 0 <= self.p <= 1:
            raise SpecError(f"p is {self.p!r}; a probability lies between 0 and 1")

    @property
    def in_place(self) -> bool:
        """At inference the output is the input."""
        return True

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape."""
        return inputs[0]


@dataclass(frozen=True, slots=True)
class Softmax(Layer):
    """exp(x - max) / sum of exp(x - max) along `dim` (`torch.nn.Softmax`).

    >>> [dict(nest.ops) for nest in Softmax(1).nests((1, 10))]
    [{'cmp': 1}, {'add': 2, 'exp': 1}, {'div': 1}]
    """

    dim: int = 1

    def __post_init__(self) -> None:
        check_int("dim", self.dim, None)

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The largest value; subtraction, exponential and sum; division. Each visits every element."""
        (x,) = inputs
        if not -len(x) <= self.dim < len(x):
            raise ShapeError(f"dim (={self.dim}) is not an axis of an input of {len(x)} axes")
        return tuple(elementwise(x, ops) for ops in ({"cmp": 1}, {"add": 2, "exp": 1}, {"div": 1}))
