"""Receptive fields: the windows of all layers folded over the graph (Araujo, Norris & Sim, Distill 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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

    def binned(self, bins: Bins) -> Field | None:
        """The field of bins of an axis; None for uneven ones."""
        if bins.bins == 1:
            return self.whole(bins.size)
        if type(bins.size) is not int or bins.size % bins.bins:
            return None
        taps = bins.size // bins.bins
        return self.through(Window(bins.loop, bins.loop, stride=taps), taps)

    def scattered(self, scatter: Scatter, taps: Extent) -> Field | None:
        """The field after a window turned round: with a stride outputs do not step evenly, without it is a window."""
        window = scatter.window
        if window.stride != 1:
            return None
        return self.through(window._replace(before=window.reach(taps) - window.before), taps)

    def joined(self, others: Sequence[Field]) -> Field | None:
        """The field of outputs that see what all branches see; None where the branches do not step alike."""
        if any(differ(other.jump, self.jump) for other in others):
            return None
        start, end = self.first, self.first + self.size
        for other in others:
            start = minimum(start, other.first)
            end = -minimum(-end, -(other.first + other.size))
        return Field(end - start, self.jump, start)


Fields = tuple[Field | None, ...]
"""One field for each spatial axis of an image, None where outputs do not step evenly or their place is lost; a vector
keeps those of the image it came from; nothing for what sees no image."""


def of_input(shape: Shape) -> Fields:
    """Every pixel of an input image sees itself."""
    return (Field(),) * (len(shape) - 2)


def fold(
    fields: Sequence[tuple[Any, ...]],
    inputs: Sequence[Shape],
    output: Shape,
    nests: Sequence[Nest],
    *,
    local: bool = True,
) -> tuple[Any, ...]:
    """The fields of a layer's output from those of its inputs: branches joined, then each nest's windows applied.

    A vector made of an image sees all of it; other operations that are not local lose the place, as does an axis that
    is summed. What a normalisation sees through its mean and variance is left out, as Araujo et al. do. Fields are
    `Field`s or whatever else goes through windows as they do, such as `archcalc.fields.Seen`.
    """
    seeing = [known for known in fields if known]
    if not seeing:
        return ()
    whole = len(output) == 2 < len(inputs[0])
    if not (local or whole):
        return (None,) * max(len(output) - 2, 1)
    result = seeing[0] if len(seeing) == 1 else tuple(_joined(axis) for axis in zip(*seeing, strict=False))
    if not nests and not whole and _moved(inputs, output):
        return (None,) * max(len(output) - 2, 1)
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


def _moved(inputs: Sequence[Shape], output: Shape) -> bool:
    """Whether what only moves data gives it other places: an image relabelled, or images joined side by side."""
    return any(len(x) != len(output) or any(map(differ, x[2:], output[2:])) for x in inputs)


def _step(field: Any, axis: Axis, written: Axis, nest: Nest) -> Any:
    if field is None:
        return None
    if isinstance(written, Scatter):
        return field.scattered(written, nest.loops[written.window.tap])
    if isinstance(axis, Window):
        return field.through(axis, nest.loops[axis.tap])
    return field.binned(axis) if isinstance(axis, Bins) else None


def _joined(fields: Sequence[Any]) -> Any:
    """The field of outputs that see what all branches see; None where that of one is unknown."""
    first, *others = fields
    return None if first is None or None in others else first.joined(others)
