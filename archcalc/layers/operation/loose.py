"""Layers without what is usually theirs, and tensors without a layer: as modules in the wild have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError
from archcalc.extents import Shape, same
from archcalc.layers.base import ANY, Layer, Made
from archcalc.nest import Nest, Operand, Role


@dataclass(frozen=True, slots=True)
class Functional(Layer):
    """A layer whose weights flow in from elsewhere, as in torch.nn.functional: its costs without its parameters."""

    layer: Layer

    inputs: ClassVar[int | None] = ANY

    @property
    def kind(self) -> str:
        """The layer's kind."""
        return self.layer.kind

    @property
    def in_place(self) -> bool:
        """As the layer."""
        return self.layer.in_place

    @property
    def trains_in_place(self) -> bool:
        """As the layer."""
        return self.layer.trains_in_place

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """As the layer, its weights among the inputs."""
        return self.layer.keeps(inputs[0])

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The layer's nests, its parameters as inputs."""
        nests = self.layer.nests(inputs[0])
        weights = [nest.shape(operand) for nest in nests for operand in nest.operands if operand.role == "weight"]
        if weights and (len(weights[0]) != len(inputs[1]) or not all(map(same, weights[0], inputs[1]))):
            raise ShapeError(f"its weight is {inputs[1]} but would have to be {weights[0]}")
        return tuple(nest._replace(operands=tuple(_flowing(operand) for operand in nest.operands)) for nest in nests)

    def output(self, *inputs: Shape) -> Shape:
        """The layer's output."""
        return self.layer.output(inputs[0])


@dataclass(frozen=True, slots=True)
class Unbatched(Layer):
    """A layer of images on one image, without the axis of the batch.

    >>> from archcalc.layers import MaxPool2d
    >>> Unbatched(MaxPool2d(2)).output((64, 8, 8))
    (64, 4, 4)
    """

    layer: Layer

    local: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The layer's kind."""
        return self.layer.kind

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """As the layer."""
        return self.layer.keeps((1, *inputs[0]))

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """The layer's, without the loop over the batch."""
        return tuple(map(_without_batch, self.layer.nests((1, *inputs[0]))))


@dataclass(frozen=True, slots=True)
class Parameter(Layer):
    """A tensor that a module holds outside of its layers: a bare parameter, a buffer."""

    shape: tuple[int, ...]
    role: Role = "weight"

    inputs: ClassVar[int | None] = 0
    kept: ClassVar[tuple[str, ...]] = ()

    @property
    def kind(self) -> str:
        """Parameter or Buffer."""
        return "Buffer" if self.role == "buffer" else "Parameter"

    @property
    def in_place(self) -> bool:
        """It is there already."""
        return True

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """No work; the loops are the axes."""
        return (_idle("tensor", self.role, self.shape),)


@dataclass(frozen=True, slots=True)
class Constant(Layer):
    """A tensor that is made in passing and holds no parameters."""

    shape: tuple[int, ...]

    inputs: ClassVar[int | None] = 0
    kept: ClassVar[tuple[str, ...]] = ()

    def output(self, *inputs: Shape) -> Shape:
        """Its shape."""
        return self.shape


@dataclass(frozen=True, slots=True)
class Unused(Layer):
    """The parameters and buffers of a module that did not run: name, role and shape of each."""

    module: str
    tensors: tuple[tuple[str, Role, tuple[int, ...]], ...]

    inputs: ClassVar[int | None] = 0

    @property
    def kind(self) -> str:
        """The module's class, marked."""
        return f"{self.module}, unused"

    @property
    def in_place(self) -> bool:
        """Nothing is written."""
        return True

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """No work: one nest without operations a tensor."""
        idle = (_idle(*tensor) for tensor in self.tensors)
        return tuple(nest._replace(operands=(nest.operands[0], Operand("output", "output", ()))) for nest in idle)


def _idle(name: str, role: Role, shape: tuple[int, ...]) -> Nest:
    """A nest that does nothing but hold a tensor, which it puts out."""
    letters = tuple(f"D{i}" for i in range(len(shape)))
    axes = tuple((letter,) for letter in letters)
    operands = (Operand(name, role, axes), Operand("output", "output", axes))
    return Nest(dict(zip(letters, shape, strict=True)), {}, operands)


def _without_batch(nest: Nest) -> Nest:
    operands = tuple(
        operand._replace(axes=tuple(axis for axis in operand.axes if axis != ("N",))) for operand in nest.operands
    )
    return nest._replace(
        loops={letter: size for letter, size in nest.loops.items() if letter != "N"}, operands=operands
    )


def _flowing(operand: Operand) -> Operand:
    return operand if operand.role == "output" else operand._replace(role="input")
