"""What holds for the shapes seen only: operations known as they were recorded, and those that there is no rule for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError
from archcalc.extents import Shape, same
from archcalc.layers.base import Layer, Made, elementwise
from archcalc.layers.operation.compute import Ops, _Operation
from archcalc.nest import Nest

_MOVED = {
    *("clone", "copy", "_to_copy", "roll", "flip", "rot90", "repeat", "tril", "triu", "cat", "im2col"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
}
"""Operations on recorded data whose backward needs none of it."""


@dataclass(frozen=True, slots=True)
class Recorded(_Operation):
    """An operation that moves data, known only as it was seen: the shapes that came in and the shape that went out."""

    given: tuple[Shape, ...] = ()
    shape: Shape = ()
    view: bool = False
    copied: int = -1
    """Index of the input whose shape the output has whatever it is; -1 where the output's size is baked in."""

    local: ClassVar[bool] = False

    @property
    def in_place(self) -> bool:
        """Whether it is a view."""
        return self.view

    def keeps(self, *inputs: Shape) -> tuple[str, ...] | None:
        """Nothing where it is a view or a copy."""
        return () if self.view or self.op in _MOVED else None

    def output(self, *inputs: Shape) -> Shape:
        """The shape seen. Raises ShapeError for other inputs than those seen."""
        if self.copied >= 0:
            return inputs[self.copied]
        same_as_seen(self.op, inputs, self.given)
        return self.shape


@dataclass(frozen=True, slots=True)
class Scattered(Recorded):
    """Each element of one input, by default the last, is taken together with the output's element that an index says.

    >>> Scattered("index_add", copied=0, ops=(("add", 1),)).nests((8, 64), (20,), (20, 64))[0].iterations
    1280
    """

    ops: Ops = ()
    source: int = -1

    def keeps(self, *inputs: Shape) -> None:
        """It is not stated."""

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One visit of every element that is put somewhere; the output that it makes."""
        return elementwise(inputs[self.source], dict(self.ops)), elementwise(self.output(*inputs), {})


@dataclass(frozen=True, slots=True)
class Bags(Recorded):
    """Rows of a table, looked up by L ids and taken together bag by bag; each is multiplied where ids are weighted.

    >>> shapes = (1000, 64), (20,), (2,)
    >>> Bags("embedding_bag", shapes, (2, 64), ops=(("add", 1),)).nests(*shapes)[0].iterations
    1280
    """

    ops: Ops = ()
    finish: Ops = ()

    def keeps(self, *inputs: Shape) -> None:
        """It is not stated."""

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """One visit of every number of the row of every id; the output, of a mean with a division."""
        table, ids = inputs[:2]
        return elementwise((*ids, table[-1]), dict(self.ops)), elementwise(self.output(*inputs), dict(self.finish))


class Uncounted(Recorded):
    """An operation there is no rule for."""

    __slots__ = ()

    counted: ClassVar[bool] = False

    def keeps(self, *inputs: Shape) -> None:
        """It is not known."""


@dataclass(frozen=True, slots=True)
class Baked(Layer):
    """A layer whose output size was computed from the input's while it was traced, and holds for that size only.

    Of the first axis, the batch, there may be more.
    """

    layer: Layer
    given: tuple[Shape, ...]

    @property
    def kind(self) -> str:
        """The layer's kind."""
        return self.layer.kind

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The layer's nests. Raises ShapeError for inputs of other sizes than those seen."""
        same_as_seen(self.kind, tuple(x[1:] for x in inputs), tuple(x[1:] for x in self.given))
        return self.layer.nests(*inputs)

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """As the layer."""
        return self.layer.keeps(*inputs)


def same_as_seen(op: str, inputs: tuple[Shape, ...], seen: tuple[Shape, ...]) -> None:
    """Raise ShapeError where an operation gets other shapes than those it was traced on."""
    for x, given in zip(inputs, seen, strict=True):
        if len(x) != len(given) or not all(map(same, x, given)):
            raise ShapeError(f"the size of {op} is baked in: it was traced on {'×'.join(map(str, given))} only")
