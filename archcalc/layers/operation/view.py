"""Operations that move no data or pad it: other axes, parts, slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from archcalc.errors import ShapeError, SpecError
from archcalc.extents import Extent, Shape, differ, minimum, prod, same, surely
from archcalc.layers.operation.compute import _Operation


class _View(_Operation):
    __slots__ = ()

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    @property
    def in_place(self) -> bool:
        """The same memory."""
        return True


@dataclass(frozen=True, slots=True)
class Reshape(_View):
    """The same elements under other axes: runs of input axes merged, or split into sizes that are baked in.

    `groups` pairs runs of input axes with the output sizes they become. Raises ShapeError where a run that is split
    has another number of elements than was seen.

    >>> Reshape("view", (((0,), (1,)), ((1, 2, 3), (25088,)))).output((8, 512, 7, 7))
    (8, 25088)
    """

    groups: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The input's axes merged and split."""
        x = inputs[0]
        sizes: list[Extent] = []
        for axes, into in self.groups:
            whole = prod(x[axis] for axis in (*axes[1:], *axes[:1]))
            if len(into) != 1 and not same(whole, prod(into)):
                raise ShapeError(
                    f"the size of {self.op} is baked in: {whole} cannot be {'×'.join(map(str, into)) or 1}"
                )
            sizes += [whole] if len(into) == 1 else into
        return tuple(sizes)


@dataclass(frozen=True, slots=True)
class Permute(_View):
    """The axes in another order.

    >>> Permute("permute", (0, 2, 3, 1)).output((1, 96, 56, 56))
    (1, 56, 56, 96)
    """

    dims: tuple[int, ...] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The extents in the order of `dims`."""
        return tuple(inputs[0][dim] for dim in self.dims)


@dataclass(frozen=True, slots=True)
class Slice(_View):
    """Every step-th position of an axis from start to before stop, counted from the end where they are negative.

    >>> Slice("slice", 2, stop=None, step=2).output((1, 96, 7, 7))
    (1, 96, 4, 7)
    """

    dim: int = 0
    start: int = 0
    stop: int | None = None
    step: int = 1

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape, one axis shorter in length."""
        (x,) = inputs
        dim = self.dim % len(x)
        whole = x[dim]
        start = minimum(self.start, whole) if self.start >= 0 else whole + self.start
        stop = whole if self.stop is None else minimum(self.stop, whole) if self.stop >= 0 else whole + self.stop
        return (*x[:dim], (stop - start + self.step - 1) // self.step, *x[dim + 1 :])


@dataclass(frozen=True, slots=True)
class Select(_View):
    """One position of an axis, which is gone then.

    >>> Select("select", 1).output((1, 197, 768))
    (1, 768)
    """

    dim: int = 0

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape without the axis."""
        dim = self.dim % len(inputs[0])
        return (*inputs[0][:dim], *inputs[0][dim + 1 :])


@dataclass(frozen=True, slots=True)
class Part(_View):
    """A part of a tensor whose size along some axes is given; None keeps the input's.

    >>> Part("split", (None, 58, None, None)).output((1, 116, 28, 28))
    (1, 58, 28, 28)
    """

    sizes: tuple[int | None, ...] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The given sizes. Raises ShapeError where the input has fewer."""
        x = inputs[0]
        if any(size is not None and surely(extent < size) for extent, size in zip(x, self.sizes, strict=True)):
            wanted = "×".join("any" if size is None else str(size) for size in self.sizes)
            raise ShapeError(f"{self.op} takes {wanted}, which is not in it")
        return tuple(extent if size is None else size for extent, size in zip(x, self.sizes, strict=True))


@dataclass(frozen=True, slots=True)
class Expand(_View):
    """Axes of one position stretched to sizes that are given, and further axes in front; None keeps the input's.

    >>> Expand("expand", (None, 2, None)).output((8, 1, 64))
    (8, 2, 64)
    """

    sizes: tuple[int | None, ...] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The given sizes. Raises ShapeError where an axis to be stretched has more than one position."""
        new = len(self.sizes) - len(inputs[0])
        x = (*self.sizes[:new], *inputs[0])
        for extent, size in zip(x[new:], self.sizes[new:], strict=True):
            if size is not None and not same(extent, 1):
                raise ShapeError(f"the size of {self.op} is baked in: {extent} cannot be stretched to {size}")
        return tuple(extent if size is None else size for extent, size in zip(x, self.sizes, strict=True))


@dataclass(frozen=True, slots=True)
class Stack(_Operation):
    """Tensors of one shape side by side along a new axis.

    >>> Stack("stack", 1).output((8, 64), (8, 64))
    (8, 2, 64)
    """

    dim: int = 0

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The inputs' shape with the new axis. Raises ShapeError where shapes differ."""
        first = inputs[0]
        if any(len(x) != len(first) or any(map(differ, x, first)) for x in inputs[1:]):
            raise ShapeError("tensors that are stacked must have the same shape")
        return (*first[: self.dim], len(inputs), *first[self.dim :])


@dataclass(frozen=True, slots=True)
class Pad(_Operation):
    """Positions added to axes, or taken off where they are negative: how many altogether for each axis.

    >>> Pad("constant_pad_nd", (0, 0, 1, 1)).output((1, 3, 224, 224))
    (1, 3, 225, 225)
    """

    added: tuple[int, ...] = ()

    local: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()

    def output(self, *inputs: Shape) -> Shape:
        """The input's shape with what is added."""
        return tuple(extent + more for extent, more in zip(inputs[0], self.added, strict=True))


def regrouped(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """How the axes of a view relate to those of the tensor: the shortest runs with equal numbers of elements.

    Raises SpecError where the numbers of elements differ, or where an axis of one element between others could have
    been merged with either neighbour.

    >>> regrouped((2, 512, 7, 7), (2, 25088))
    (((0,), (2,)), ((1, 2, 3), (25088,)))
    """
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        axes, sizes = [i] if i < len(before) else [], [after[j]] if j < len(after) else []
        i, j = i + len(axes), j + len(sizes)
        have, want = prod(before[axis] for axis in axes), prod(sizes)
        while have != want:
            if have < want and i < len(before):
                have, axes, i = have * before[i], [*axes, i], i + 1
            elif want < have and j < len(after):
                want, sizes, j = want * after[j], [*sizes, after[j]], j + 1
            else:
                raise SpecError(f"a view of {before} cannot be {after}")
        if groups and not (axes and sizes):  # trailing axes of one element belong to the run before them
            axes, sizes = [*groups[-1][0], *axes], [*groups.pop()[1], *sizes]
        groups.append((tuple(axes), tuple(sizes)))
    for merged, _ in groups:
        if len(merged) > 1 and any(before[axis] == 1 and 0 < axis < len(before) - 1 for axis in merged):
            if all(before[axis] == 1 for axis in range(merged[1], len(before))):
                continue
            raise SpecError(f"a view of {before} as {after} can be read in several ways")
    return tuple(groups)
