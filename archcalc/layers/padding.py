"""Padding: windows of one tap that reach past the ends of the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, surely
from archcalc.layers.base import IMAGES, INPUT, Ints, Layer, ints, lettered
from archcalc.layers.conv import PLACES, TAPS
from archcalc.nest import Nest, Operand, Window


@dataclass(frozen=True, slots=True)
class _Padding(Layer):
    padding: Ints
    """Positions added before and after the last axis, then before and after the axis before it, as in torch."""

    rank: ClassVar[int]
    kept: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        wanted = 2 * self.rank
        values = (self.padding,) * wanted if type(self.padding) is int else self.padding
        if not isinstance(values, tuple | list) or len(values) != wanted or any(type(v) is not int for v in values):
            raise SpecError(f"padding is {self.padding!r}; it must be a whole number or {wanted} of them")
        object.__setattr__(self, "padding", tuple(values))

    def _most(self, size: Extent) -> Extent | None:
        """The most positions that can be added on one side of an axis of this size; None for any number."""
        return None

    def nests(self, *inputs: Shape) -> tuple[Nest, ...]:
        """Windows of one tap, at no cost."""
        (x,) = inputs
        if not self._takes(len(x)):
            axes = ", ".join(IMAGES[self.rank + 2])
            raise ShapeError(f"needs an input of {self.rank + 2} axes ({axes}), not {len(x)}")
        outer = dict(list(lettered(x, IMAGES).items())[: len(x) - self.rank])
        windows = tuple(self._window(axis, x[axis - self.rank]) for axis in range(self.rank))
        sizes = {w.out: x[axis - self.rank] + w.padding() for axis, w in enumerate(windows)}
        loops = {**outer, **sizes, **dict.fromkeys((window.tap for window in windows), 1)}
        dense = tuple((letter,) for letter in outer)
        image = Operand("input", "input", (*dense, *windows))
        return (Nest(loops, {}, (image, Operand("output", "output", (*dense, *((w.out,) for w in windows))))),)

    def _takes(self, axes: int) -> bool:
        return axes in (self.rank + 1, self.rank + 2)

    def _window(self, axis: int, size: Extent) -> Window:
        """How the outputs along a spatial axis look at its inputs. Raises ShapeError."""
        before, after = ints(self.padding)[2 * (self.rank - 1 - axis) :][:2]
        most = self._most(size)
        if most is not None and surely(max(before, after) > most):
            raise ShapeError(f"padding of {max(before, after)} on an axis of {size} must be at most {most}")
        if surely(size + before + after < 1):
            raise ShapeError(f"padding of {before} and {after} leaves nothing of an axis of {size}")
        return Window(PLACES[axis - self.rank], TAPS[axis - self.rank], 1, 1, before, after)


@dataclass(frozen=True, slots=True)
class _ConstantPad(_Padding):
    value: float

    def _takes(self, axes: int) -> bool:
        return axes >= self.rank


class ConstantPad1d(_ConstantPad):
    """One value before and after a sequence (`torch.nn.ConstantPad1d`)."""

    __slots__ = ()
    rank = 1


class ConstantPad2d(_ConstantPad):
    """One value around an image (`torch.nn.ConstantPad2d`)."""

    __slots__ = ()
    rank = 2


class ConstantPad3d(_ConstantPad):
    """One value around a volume (`torch.nn.ConstantPad3d`)."""

    __slots__ = ()
    rank = 3


class _ZeroPad(_Padding):
    __slots__ = ()

    def _takes(self, axes: int) -> bool:
        return axes >= self.rank


class ZeroPad1d(_ZeroPad):
    """Zeros before and after a sequence (`torch.nn.ZeroPad1d`)."""

    __slots__ = ()
    rank = 1


class ZeroPad2d(_ZeroPad):
    """Zeros around an image (`torch.nn.ZeroPad2d`).

    >>> ZeroPad2d((0, 1, 0, 1)).output((1, 3, 224, 224))
    (1, 3, 225, 225)
    """

    __slots__ = ()
    rank = 2


class ZeroPad3d(_ZeroPad):
    """Zeros around a volume (`torch.nn.ZeroPad3d`)."""

    __slots__ = ()
    rank = 3


class _ReflectionPad(_Padding):
    __slots__ = ()

    kept: ClassVar[tuple[str, ...]] = (INPUT,)

    def _most(self, size: Extent) -> Extent:
        return size - 1


class ReflectionPad1d(_ReflectionPad):
    """A sequence mirrored at its first and last position (`torch.nn.ReflectionPad1d`)."""

    __slots__ = ()
    rank = 1


class ReflectionPad2d(_ReflectionPad):
    """An image mirrored at its border (`torch.nn.ReflectionPad2d`)."""

    __slots__ = ()
    rank = 2


class ReflectionPad3d(_ReflectionPad):
    """A volume mirrored at its border (`torch.nn.ReflectionPad3d`)."""

    __slots__ = ()
    rank = 3


class _ReplicationPad(_Padding):
    __slots__ = ()

    kept: ClassVar[tuple[str, ...]] = (INPUT,)


class ReplicationPad1d(_ReplicationPad):
    """The first and last position of a sequence, repeated (`torch.nn.ReplicationPad1d`)."""

    __slots__ = ()
    rank = 1


class ReplicationPad2d(_ReplicationPad):
    """The border of an image, repeated (`torch.nn.ReplicationPad2d`)."""

    __slots__ = ()
    rank = 2


class ReplicationPad3d(_ReplicationPad):
    """The border of a volume, repeated (`torch.nn.ReplicationPad3d`)."""

    __slots__ = ()
    rank = 3


class _CircularPad(_Padding):
    __slots__ = ()

    def _most(self, size: Extent) -> Extent:
        return size


class CircularPad1d(_CircularPad):
    """A sequence continued from its other end (`torch.nn.CircularPad1d`)."""

    __slots__ = ()
    rank = 1


class CircularPad2d(_CircularPad):
    """An image continued from its other side (`torch.nn.CircularPad2d`)."""

    __slots__ = ()
    rank = 2


class CircularPad3d(_CircularPad):
    """A volume continued from its other side (`torch.nn.CircularPad3d`)."""

    __slots__ = ()
    rank = 3
