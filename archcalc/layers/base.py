"""What every layer kind shares: its registry, its shape rule, how its fields are normalised and checked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, surely, tidy
from archcalc.nest import Nest, Operand, Window

Ints: TypeAlias = int | tuple[int, ...]
"""One whole number for all spatial axes, or one for each; layers keep one for each."""

KINDS: dict[str, type[Layer]] = {}
"""Every layer kind by name; defining a subclass of Layer adds it."""


ANY = -1
"""As a number of inputs: whatever there is."""


INPUT, FACTORS, OUTPUT = "input", "factors", "output"
"""What backward reads again: all inputs; each input that is multiplied with something trained; the output."""

Width: TypeAlias = Literal["activation", "parameter", "single", "index"]


class Made(NamedTuple):
    """A tensor that forward makes for backward: what it is, its elements, and which numbers it holds.

    They are as wide as the activations, as the parameters, float32 whatever those are, or indices of 8 bytes.
    """

    name: str
    elements: Extent
    width: Width = "activation"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer kind: a frozen dataclass whose fields are PyTorch's attribute names.

    A kind that computes states its loop nests; output shape, weights and costs are read off them, the last nest
    writing the output. A kind that only moves data states `output` instead.
    """

    inputs: ClassVar[int | None] = 1
    """How many tensors flow in; None for two or more, ANY for any number."""

    inferred: ClassVar[dict[str, int]] = {}
    """PyTorch constructor arguments that are read off an axis of the input, such as {"in_channels": 1}."""

    local: ClassVar[bool] = True
    """Whether outputs lie where their inputs lie, but for the windows that the nests state; False loses the place."""

    worked: ClassVar[bool] = False
    """Whether `output` can be read on worked numbers, so that products it makes stay written out."""

    counted: ClassVar[bool] = True
    """False for an operation there is no rule for."""

    kept: ClassVar[tuple[str | Made, ...] | None] = None
    """What training keeps for backward, of INPUT, FACTORS and OUTPUT; None where nothing is stated."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # `slots=True` makes the dataclass decorator create the class a second time; the second one is the real one, as
        # in a notebook whose cell is run again.
        known = KINDS.get(cls.__name__)
        if known is not None and known.__module__ != cls.__module__:
            raise SpecError(f"there is already a layer kind called {cls.__name__}, in {known.__module__}")
        if not cls.__name__.startswith("_"):
            KINDS[cls.__name__] = cls

    @property
    def kind(self) -> str:
        """Name of the kind, that of PyTorch's module."""
        return type(self).__name__

    @property
    def in_place(self) -> bool:
        """Whether the output lives in the memory of the input, so that no new activations are written."""
        return False

    @property
    def trains_in_place(self) -> bool:
        """`in_place` while training."""
        return self.in_place

    def keeps(self, *inputs: Shape) -> tuple[str | Made, ...] | None:
        """What PyTorch keeps for backward on inputs of these shapes, parameters aside; None where it is not known."""
        return self.kept

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Loop nests on inputs of these shapes, in the order they run. Raises ShapeError."""
        return ()

    def output(self, *inputs: Shape) -> Shape:
        """Shape of the output. Raises ShapeError."""
        return self.nests(*inputs)[-1].output

    def arguments(self, *inputs: Shape) -> dict[str, Any]:
        """Arguments that construct PyTorch's module of this kind for inputs of these shapes."""
        arguments = {name: inputs[0][axis] for name, axis in self.inferred.items()}
        return arguments | {field.name: getattr(self, field.name) for field in fields(self)}


def set_ints(layer: Layer, name: str, rank: int, least: int) -> None:
    """Store a field as one whole number for each of `rank` axes, each at least `least`. Raises SpecError."""
    value = getattr(layer, name)
    if type(value) is int and value >= least:
        object.__setattr__(layer, name, (value,) * rank)
        return
    values = tuple(value) if isinstance(value, tuple | list) else ()
    if len(values) != rank or any(type(v) is not int or v < least for v in values):
        wanted = "a whole number" if rank == 1 else f"a whole number or {rank} of them"
        raise SpecError(f"{name} is {value!r}; it must be {wanted}, at least {least}")
    object.__setattr__(layer, name, values)


def check_int(name: str, value: object, least: int | None = 1) -> None:
    """Raise SpecError unless the value is a whole number, of at least `least` where that is given."""
    if type(value) is not int or (least is not None and value < least):
        wanted = "a whole number" if least is None else f"a whole number of at least {least}"
        raise SpecError(f"{name} is {value!r}; it must be {wanted}")


def check_probability(name: str, value: object) -> None:
    """Raise SpecError unless the value is a number from 0 to 1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SpecError(f"{name} is {value!r}; a probability lies between 0 and 1")


def check_rank(shape: Shape, rank: int, axes: str) -> None:
    """Raise ShapeError unless the shape has `rank` axes."""
    if len(shape) != rank:
        raise ShapeError(f"needs an input of {rank} axes ({axes}), not {len(shape)}")


def axis_of(name: str, dim: int, shape: Shape) -> int:
    """The axis that a field names, counted from the front. Raises ShapeError where the shape has none such.

    >>> axis_of("dim", -1, (1, 3, 224, 224))
    3
    """
    if not -len(shape) <= dim < len(shape):
        raise ShapeError(f"{name} (={dim}) is not an axis of an input of {len(shape)} axes")
    return dim % len(shape)


def check_image(shape: Shape, rank: int) -> None:
    """Raise ShapeError unless the shape is that of a batch of images of `rank` spatial axes."""
    if len(shape) != rank + 2:
        check_rank(shape, rank + 2, ", ".join(IMAGES[rank + 2]))


def ints(value: Ints) -> tuple[int, ...]:
    """A field that `set_ints` has normalised, as the tuple it is."""
    return value if isinstance(value, tuple) else (value,)


def fit(window: Window, size: Extent, taps: int) -> Extent:
    """Number of windows on an axis of `size` positions. Raises ShapeError where not even one fits."""
    outputs = window.outputs(size, taps)
    fits = outputs >= 1
    if fits is not True and surely(outputs < 1):
        axis = {"O": "depth", "P": "height"}.get(window.out, "width")
        raise ShapeError(
            f"a kernel that spans {window.span(taps)} is larger than the padded input {axis} "
            f"{size} + {window.before} + {window.after} = {size + window.padding()}"
        )
    return outputs if type(outputs) is int else tidy(outputs)


AXES = {1: ("N",), 2: ("N", "C"), 3: ("N", "L", "C"), 4: ("N", "C", "H", "W"), 5: ("N", "C", "D", "H", "W")}
"""Letters of a tensor's axes by rank."""

IMAGES = AXES | {3: ("N", "C", "W")}
"""Letters of the axes of vectors, signals, images and volumes by rank: channels come second."""

TOKENS = AXES | {1: ("C",), 4: ("N", "H", "W", "C"), 5: ("N", "D", "H", "W", "C")}
"""Letters of the axes of vectors, and of vectors at places, by rank: channels come last."""


def lettered(shape: Shape, letters: dict[int, tuple[str, ...]] = AXES) -> dict[str, Extent]:
    """Loops over every element of a tensor, lettered by its rank."""
    names = letters.get(len(shape)) or [f"D{i}" for i in range(len(shape))]
    return dict(zip(names, shape, strict=True))


def elementwise(
    shape: Shape,
    ops: dict[str, int],
    *parameters: Operand,
    operands: int = 1,
    letters: dict[int, tuple[str, ...]] = AXES,
) -> Nest:
    """A nest that visits every element once; parameters may be indexed by its loops, which are lettered as given."""
    loops = lettered(shape, letters)
    image, output = _everywhere(tuple(loops))
    return Nest(loops, ops, (*((image,) * operands), *parameters, output))


@cache
def _everywhere(letters: tuple[str, ...]) -> tuple[Operand, Operand]:
    axes = tuple((letter,) for letter in letters)
    return Operand("input", "input", axes), Operand("output", "output", axes)
