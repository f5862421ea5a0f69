"""Explanations: the arithmetic behind every number of a report, written by the rules that computed it."""

from __future__ import annotations

from collections.abc import Sequence

from archcalc import working
from archcalc.analysis import Report, Row
from archcalc.extents import Extent, Shape, differ, prod
from archcalc.layers.base import AXES
from archcalc.nest import Role, Window
from archcalc.receptive import Field, Fields
from archcalc.working import Equation, Worked, leaf


def explain(report: Report, name: str) -> dict[str, Equation]:
    """How each number of a layer comes about, by column name; numbers that are 0 have nothing to explain.

    >>> from archcalc import analyze, zoo
    >>> print(explain(analyze(zoo.vgg19()), "conv1_2")["weights"].text())
    (3·3·64)·64 = 36,864
    """
    row = report[name]
    sources = [worked_output(report, source) for source in row.node.inputs]
    nests = [working.lettered(nest, () if i else sources[0]) for i, nest in enumerate(row.nests)]
    found = _windows(row, [report[source].fields for source in row.node.inputs])
    if row.activations != 0:
        found["activations"] = working.output(nests[-1]) if nests else _elements(worked_output(report, name))
    roles: tuple[tuple[str, Role], ...] = (("weights", "weight"), ("biases", "bias"), ("buffers", "buffer"))
    for column, role in roles:
        _put(found, column, [working.size(nest, role) for nest in nests])
    _put(found, "params", [found[column] for column in ("weights", "biases") if column in found])
    operations = working.operations(nests)
    if "mac" in operations:
        found["macs"] = operations.pop("mac")
    return {column: Equation(number) for column, number in (found | operations).items()}


def _put(found: dict[str, Worked], column: str, parts: Sequence[Worked]) -> None:
    """Enter the sum of the parts that are not 0, if there are any."""
    nonzero = [part for part in parts if differ(part.value, 0)]
    if nonzero:
        found[column] = sum(nonzero[1:], start=nonzero[0])


def worked_output(report: Report, name: str) -> Shape:
    """A layer's output shape in worked numbers: letters, or the product that a flatten makes."""
    row = report[name]
    if row.nests or not row.node.inputs:
        return lettered(row.output)
    sources = [worked_output(report, source) for source in row.node.inputs]
    return row.node.layer.output(*sources)


def lettered(shape: Shape) -> Shape:
    """A shape whose extents carry the letters of their axes."""
    letters = AXES.get(len(shape)) or tuple(f"D{i}" for i in range(len(shape)))
    return tuple(leaf(letter, extent) for letter, extent in zip(letters, shape, strict=True))


def _elements(shape: Sequence[Extent]) -> Worked:
    return working.worked(prod(working.channels_last(list(shape), 1)))


def _windows(row: Row, fields: Sequence[Fields]) -> dict[str, Worked]:
    """How output height and width and the receptive field come about, for layers that look through windows."""
    found: dict[str, Worked] = {}
    for nest in row.nests:
        for i, axis in enumerate(nest.operands[0].axes[2:]):
            if isinstance(axis, Window):
                size, taps = leaf("HW"[i], row.inputs[0][i + 2]), leaf(axis.tap, nest.loops[axis.tap])
                window = axis._replace(
                    stride=leaf("stride", axis.stride),
                    dilation=leaf("dilation", axis.dilation),
                    before=leaf("padding", axis.before),
                    after=leaf("padding", axis.after),
                )
                found[("height", "width")[i]] = window.outputs(size, taps)
                field = fields[0][i]
                if field is not None:
                    seen = Field(leaf("r", field.size), leaf("jump", field.jump), field.first)
                    found[("receptive_field", "receptive_field_width")[i]] = seen.through(window, taps).size
    return found
