"""Receptive fields: the windows of all layers folded over the graph (Araujo, Norris & Sim, Distill 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from archcalc.extents import Extent, Shape, differ, minimum
from archcalc.nest import Axis, Bins, Nest, Scatter, Window


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


def fold(
    fields: Sequence[Fields], inputs: Sequence[Shape], output: Shape, nests: Sequence[Nest], *, local: bool = True
) -> Fields:
    """The fields of a layer's output from those of its inputs: branches joined, then each nest's windows applied.

    A vector made of an image sees all of it; other operations that are not local lose the place, as does an axis that
    is summed. What a normalisation sees through its mean and variance is left out, as Araujo et al. do.
    """
    whole = len(output) == 2 < len(inputs[0])
    if not (local or whole):
        return ()
    seeing = [known for known in fields if known]
    if not seeing:
        return ()
    result = seeing[0] if len(seeing) == 1 else tuple(_joined(axis) for axis in zip(*seeing, strict=False))
    for nest in nests:
        axes, written = nest.operands[0].axes, nest.operands[-1].axes
        for i, axis in enumerate(axes[2:]):
            target = axis if axes is written or len(written) < i + 3 else written[i + 2]
            if type(axis) is not tuple or axis != target:
                result = (*result[:i], _step(result[i], axis, target, nest), *result[i + 1 :])
    if whole:
        result = tuple(
            None if field is None else field.whole(extent) for field, extent in zip(result, inputs[0][2:], strict=False)
        )
    return result


def still(given: Shape, output: Shape, nests: Sequence[Nest]) -> bool:
    """Whether every output sees what the input in its place sees, as where every element is worked on alone."""
    return len(given) == len(output) and all(
        nest.operands[0].axes == nest.operands[-1].axes and all(type(axis) is tuple for axis in nest.operands[0].axes)
        for nest in nests
    )


def _step(field: Field | None, axis: Axis, written: Axis, nest: Nest) -> Field | None:
    if field is None:
        return None
    if isinstance(written, Scatter):
        return _scattered(field, written.window, nest.loops[written.window.tap])
    if type(axis) is tuple:
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


def _scattered(field: Field, window: Window, taps: Extent) -> Field | None:
    """The field after a window turned round: with a stride outputs do not step evenly, without it is a window."""
    if window.stride != 1:
        return None
    return field.through(window._replace(before=window.reach(taps) - window.before), taps)


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
