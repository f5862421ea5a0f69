"""Receptive fields: the windows of all layers folded over the graph (Araujo, Norris & Sim, Distill 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from archcalc.extents import Extent, Shape, differ, minimum
from archcalc.nest import Axis, Bins, Nest, Window


class Field(NamedTuple):
    """What the outputs along one axis see of the input, in input pixels.

    Output i sees `size` pixels from `first + i·jump` on; pixels before 0 or past the end are padding.
    """

    size: Extent = 1
    jump: Extent = 1
    first: Extent = 0

    def through(self, window: Window, taps: Extent) -> Field:
        """The field after a window: r + (R - 1)·jump, jump·stride (Araujo et al., equations 1 and 2).

        >>> Field().through(Window("P", "R", stride=2), 3).through(Window("P", "R"), 3)
        Field(size=7, jump=2, first=0)
        """
        return Field(
            self.size + window.reach(taps) * self.jump,
            self.jump * window.stride,
            self.first - window.before * self.jump,
        )

    def whole(self, extent: Extent) -> Field:
        """The field of something that sees a whole axis of this extent."""
        return Field(self.size + (extent - 1) * self.jump, self.jump * extent, self.first)


Fields = tuple[Field | None, ...]
"""One field for each spatial axis of an image, None where outputs do not step evenly; a vector keeps those of the
image it came from; nothing for inputs that are no images."""


def of_input(shape: Shape) -> Fields:
    """Every pixel of an input image sees itself."""
    return (Field(),) * (len(shape) - 2)


def fold(fields: Sequence[Fields], inputs: Sequence[Shape], output: Shape, nests: Sequence[Nest]) -> Fields:
    """The fields of a layer's output from those of its inputs: branches joined, then each nest's windows applied."""
    result = fields[0] if len(fields) == 1 else tuple(_joined(axis) for axis in zip(*fields, strict=False))
    for nest in nests:
        for i, axis in enumerate(nest.operands[0].axes[2:]):
            if type(axis) is not tuple:
                result = (*result[:i], _step(result[i], axis, nest), *result[i + 1 :])
    if len(output) == 2 < len(inputs[0]):
        result = tuple(
            None if field is None else field.whole(extent) for field, extent in zip(result, inputs[0][2:], strict=False)
        )
    return result


def _step(field: Field | None, axis: Axis, nest: Nest) -> Field | None:
    if field is None:
        return None
    if isinstance(axis, Window):
        return field.through(axis, nest.loops[axis.tap])
    assert isinstance(axis, Bins)
    if axis.bins == 1:
        return field.whole(axis.size)
    if type(axis.size) is not int or axis.size % axis.bins:
        return None
    taps = axis.size // axis.bins
    return field.through(Window(axis.loop, axis.loop, stride=taps), taps)


def _joined(fields: Sequence[Field | None]) -> Field | None:
    """The field of outputs that see what all branches see; None where the branches do not step alike."""
    known = [field for field in fields if field is not None]
    first = known[0] if known else None
    if first is None or len(known) < len(fields) or any(differ(field.jump, first.jump) for field in known):
        return None
    start, end = first.first, first.first + first.size
    for field in known[1:]:
        start = minimum(start, field.first)
        end = -minimum(-end, -(field.first + field.size))
    return Field(end - start, first.jump, start)
