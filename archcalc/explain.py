"""Explanations: the arithmetic behind every number of a report, written by the rules that computed it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from archcalc import units, working
from archcalc.analysis import Report, Row
from archcalc.columns import header, is_zero
from archcalc.extents import Extent, Shape, prod
from archcalc.layers.base import AXES
from archcalc.nest import Role, Scatter, Window
from archcalc.receptive import Field, Fields
from archcalc.table import Cell, Column, Table
from archcalc.working import Equation, Worked, leaf


class Working(dict[str, Equation]):
    """The equations of a layer by column name; as text, a line each in numbers and in letters."""

    def __str__(self) -> str:
        width = max((len(header(name)) for name in self), default=0) + 2
        return "\n".join(f"{header(name):<{width}}{one.text()}    [{one.letters()}]" for name, one in self.items())


def explain(report: Report, name: str) -> Working:
    """How each number of a layer comes about, by column name; numbers that are 0 have nothing to explain.

    Raises UnknownNameError.

    >>> from archcalc import analyze, zoo
    >>> print(explain(analyze(zoo.vgg19()), "conv1_2")["weights"].text())
    (3·3·64)·64 = 36,864
    """
    return report[name].working


def explained(row: Row) -> Working:
    """The working of a row."""
    sources = [worked_output(source) for source in row.sources]
    nests = [working.lettered(nest, () if i or not sources else sources[0]) for i, nest in enumerate(row.nests)]
    found = _windows(row, [source.fields for source in row.sources])
    if not is_zero(row.activations):
        found["activations"] = working.output(nests[-1]) if nests else _elements(worked_output(row))
    roles: tuple[tuple[str, Role], ...] = (("weights", "weight"), ("biases", "bias"), ("buffers", "buffer"))
    elsewhere = {held.name for held in row.node.held if held.counted_by}
    for column, role in roles:
        _put(found, column, [working.size(nest, role, elsewhere) for nest in nests])
    _put(found, "params", [found[column] for column in ("weights", "biases") if column in found])
    operations = working.operations(nests)
    if "mac" in operations:
        found["macs"] = operations.pop("mac")
    return Working({column: Equation(number) for column, number in (found | operations).items()})


def _put(found: dict[str, Worked], column: str, parts: Sequence[Worked]) -> None:
    """Enter the sum of the parts that are not 0, if there are any."""
    nonzero = [part for part in parts if not is_zero(part.value)]
    if nonzero:
        found[column] = sum(nonzero[1:], start=nonzero[0])


def worked_output(row: Row) -> Shape:
    """A layer's output shape in worked numbers: letters, or the product that a flatten makes."""
    if row.nests or not row.sources or not row.node.layer.worked:
        return lettered(row.output)
    if len(row.sources) == 1:
        return row.node.layer.output(worked_output(row.sources[0]))
    return row.node.layer.output(*(lettered(source.output, str(i)) for i, source in enumerate(row.sources, start=1)))


def lettered(shape: Shape, branch: str = "") -> Shape:
    """A shape whose extents carry the letters of their axes, numbered by branch where there are several."""
    letters = AXES.get(len(shape)) or tuple(f"D{i}" for i in range(len(shape)))
    named = (letter + branch if letter == "C" else letter for letter in letters)
    return tuple(leaf(letter, extent) for letter, extent in zip(named, shape, strict=True))


def _elements(shape: Sequence[Extent]) -> Worked:
    letters = AXES.get(len(shape), ())
    channel = letters.index("C") if "C" in letters else len(shape) - 1
    return working.worked(prod(working.channels_last(list(shape), channel)))


def _windows(row: Row, fields: Sequence[Fields]) -> dict[str, Worked]:
    """How output sizes and the receptive field come about, for layers that look through windows."""
    sizes: dict[str, Worked] = {}
    seen: dict[str, Worked] = {}
    for nest in row.nests:
        places = zip(nest.operands[0].axes[2:], nest.operands[-1].axes[2:], strict=False)
        for i, (axis, written) in enumerate(places, start=5 - len(nest.operands[0].axes)):
            window = written.window if isinstance(written, Scatter) else axis
            if not isinstance(window, Window):
                continue
            letter, name = "DHW"[i], ("depth", "height", "width")[i]
            size, taps = leaf(letter, row.inputs[0][i - 3]), leaf(window.tap, nest.loops[window.tap])
            even = window.before == window.after
            window = window._replace(
                stride=leaf("stride", window.stride),
                dilation=leaf("dilation", window.dilation),
                before=leaf("padding" if even else "padding_before", window.before),
                after=leaf("padding" if even else "padding_after", window.after),
            )
            if isinstance(written, Scatter):
                extra = leaf("output_padding", written.extra)
                sizes[name] = written._replace(window=window, extra=extra).size(size, taps)
                continue
            sizes[name] = window.outputs(size, taps)
            field = fields[0][i - 3] if fields[0] else None
            if field is not None:
                before = Field(leaf("r", field.size), leaf("jump", field.jump), field.first)
                seen[f"receptive field {letter}"] = before.through(window, taps).size
    if seen and len(seen) == len(row.inputs[0]) - 2 and len({number.value for number in seen.values()}) == 1:
        seen = {"receptive_field": next(iter(seen.values()))}
    return sizes | seen


LETTERS = {
    "N": "batch",
    "C": "channels in",
    "L": "places",
    "M": "rows of a matrix",
    "D": "depth",
    "H": "height",
    "W": "width",
    "K": "channels out",
    "O": "output depth",
    "P": "output height",
    "Q": "output width",
    "T": "kernel depth, or rows of all bins together",
    "U": "columns of all bins together",
    "R": "kernel height",
    "S": "kernel width",
    "G": "groups",
    "n": "channels in a window",
    "r": "receptive field of what flows in",
    "jump": "its step",
}
"""What the letters in explanations stand for."""


def legend(shown: Iterable[Section]) -> str:
    """What the letters stand for that these calculations are written with."""
    used = {
        word for section in shown for one in section.equations.values() for word in re.findall(r"\w+", one.letters())
    }
    used |= {word.rstrip("0123456789") for word in used}
    return "; ".join(f"{letter} {meaning}" for letter, meaning in LETTERS.items() if letter in used)


@dataclass(frozen=True)
class Section:
    """The calculations of one layer, or the sums over all."""

    name: str
    title: str
    equations: dict[str, Equation]

    def labelled(self) -> list[tuple[str, Equation]]:
        """Equations under the headers that tables give their columns."""
        return [(header(name), equation) for name, equation in self.equations.items()]


def sections(report: Report, layer: str | None = None) -> list[Section]:
    """The calculations of every layer and the sums, or those of one layer. Raises UnknownNameError."""
    rows = report.rows if layer is None else (report[layer],)
    found = []
    for row in rows:
        given = f"{' and '.join(map(units.shape, row.inputs))} → " if row.inputs else ""
        title = f"{row.name} ({row.kind}): {given}{units.shape(row.output)}"
        found.append(Section(row.name, title, explain(report, row.name)))
    if layer is None:
        found.append(Section("total", "total, at least" if report.uncounted else "total", _sums(report)))
    return [section for section in found if section.equations]


def explanation(report: Report, layer: str | None = None) -> str:
    """The calculations as plain text, in numbers and in letters. Raises UnknownNameError."""
    lines = [report.title]
    shown_sections = sections(report, layer)
    for section in shown_sections:
        lines += ["", section.title]
        width = max(len(name) for name, _ in section.labelled()) + 2
        for name, equation in section.labelled():
            shown, letters = equation.text(), equation.letters()
            lines.append(f"  {name:<{width}}{shown}" + (f"    [{letters}]" if section.name != "total" else ""))
    return "\n".join([*lines, "", legend(shown_sections), ""])


def explanation_table(report: Report, layer: str | None = None) -> Table:
    """The calculations as a table, one line a number. Raises UnknownNameError."""
    rows: list[tuple[Cell, ...]] = []
    shown = sections(report, layer)
    for section in shown:
        for name, equation in section.labelled():
            rows.append((section.name, name, equation, Letters(equation) if section.name != "total" else None))
    columns = (
        Column("layer", "left"),
        *(Column(header, "left") for header in ("quantity", "in numbers", "in letters")),
    )
    return Table(report.title, columns, tuple(rows), notes=(legend(shown),))


@dataclass(frozen=True)
class Letters:
    """An equation in letters, as a cell of a table."""

    equation: Equation

    def text(self) -> str:
        """Plain text."""
        return self.equation.letters()

    def latex(self) -> str:
        """LaTeX."""
        return self.equation.latex_letters()


def _sums(report: Report) -> dict[str, Equation]:
    """Every total as the sum of the rows that are not 0."""
    sums = {}
    for column in ("activations", "weights", "biases", "params", "buffers", "macs"):
        amounts = [getattr(row, column) for row in report.rows]
        terms = [working.summand(amount) for amount in amounts if not is_zero(amount)]
        if terms:
            sums[column] = Equation(sum(terms[1:], start=terms[0]))
    return sums
