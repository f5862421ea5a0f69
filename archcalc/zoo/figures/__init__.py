"""Published figures: what papers, courses and tools print about the zoo's networks, and how to compute it.

The figures of the entries in `archcalc/zoo/vgg.py` are in `archcalc/zoo/figures/vgg.py`, which is imported when they
are asked for. `archcalc.verdicts` sets each beside the computed value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

from archcalc.analysis import Report, Row, analyze
from archcalc.conventions import convention
from archcalc.extents import prod
from archcalc.working import Worked
from archcalc.zoo.registry import find

Bare: TypeAlias = int | Fraction | tuple[int, ...]
"""What a figure comes to; a tuple is a shape or a list of widths."""

Value: TypeAlias = Bare | Worked
"""What a figure comes to; a worked number also says how."""

Amount: TypeAlias = Callable[[Report], Value]
"""Computes a quantity from the report of the network that a figure is about."""

Count: TypeAlias = Callable[[Report], int]
"""An amount that is a plain count."""

TORCHVISION = "torchvision 0.29, weights"


@dataclass(frozen=True)
class Cause:
    """Why a printed number is wrong: a slip which, computed, gives the printed number."""

    reason: str
    amount: Amount


@dataclass(frozen=True)
class Conflict:
    """Why a printed number must be wrong: the named other numbers, as printed, give archcalc's number instead of it.

    The amount is computed from those numbers alone, without a report.
    """

    against: str
    amount: Callable[[], Value]


@dataclass(frozen=True)
class Figure:
    """One published figure of a zoo entry, as printed.

    `choices` and `input` are those of the network that it is about, `kilo` is what its K stands for, MB being its
    square. In a `whole` number the zeros at the end count as digits, as in a column that is printed to the unit.
    """

    network: str
    quantity: str
    printed: str
    amount: Amount
    source: str
    convention: str
    choices: Mapping[str, Any] = field(default_factory=dict)
    input: tuple[int, ...] | None = None
    kilo: int = 1000
    whole: bool = False
    erratum: Cause | Conflict | None = None


FigureRow: TypeAlias = tuple[str, str, Amount] | tuple[str, str, Amount, Cause | Conflict | None]


def table(network: str, source: str, convention: str, *rows: FigureRow, **shared: Any) -> tuple[Figure, ...]:
    """Figures of one network in one source: rows of quantity, printed, amount and, of an erratum, its explanation."""
    return tuple(
        Figure(network, row[0], row[1], row[2], source, convention, erratum=row[3] if len(row) == 4 else None, **shared)
        for row in rows
    )


def by_layer(quantity: str, count: str, printed: Mapping[str, str]) -> tuple[FigureRow, ...]:
    """Rows for one count of many layers, by layer name; `quantity` says "weights of {}"."""
    return tuple((quantity.format(layer), text, of(layer, count)) for layer, text in printed.items())


def of(layer: str, count: str) -> Amount:
    """A count of one layer, with its arithmetic."""
    return lambda report: report[layer].working[count].number


def total(count: str) -> Count:
    """A count of the whole network."""
    return lambda report: int(getattr(report.total, count))


def of_kind(kind: str, count: str) -> Count:
    """A count of all layers of one kind."""
    return lambda report: sum(getattr(row, count) for row in report if row.kind == kind)


def block(report: Report, name: str) -> tuple[Row, ...]:
    """The layers of a block, by the start of their names; a layer of this name alone is one too."""
    return tuple(row for row in report if row.name == name or row.name.startswith(f"{name}."))


def of_block(name: str, count: str) -> Count:
    """A count of all layers of a block."""
    return lambda report: sum(getattr(row, count) for row in block(report, name))


def by_convention(name: str) -> Count:
    """The operations of the whole network by a convention."""
    return lambda report: sum(map(convention(name).count, report))


def params_by_convention(name: str) -> Count:
    """The parameters of the whole network by a convention."""
    return lambda report: sum(map(convention(name).count_params, report))


def shape_of(layer: str) -> Amount:
    """The shape of a layer's output as height, width, channels."""
    return lambda report: (*report[layer].output[2:], report[layer].output[1])


def elements(row: Row) -> int:
    """Elements of a layer's output, also where it lives in its input's memory."""
    return int(prod(row.output))


def plain(value: Value) -> Bare:
    """The bare value of a worked number."""
    return value.value if isinstance(value, Worked) else value


def figures(module: str) -> tuple[Figure, ...]:
    """The figures of the entries in this module of the zoo."""
    name = f"archcalc.zoo.figures.{module}"
    return tuple(import_module(name).FIGURES) if find_spec(name) else ()


@cache
def report(network: str, input: tuple[int, ...] | None = None, /, **choices: Any) -> Report:
    """The report of a zoo entry, computed once."""
    return analyze(find(network).build(**choices), input)


def keras(printed: Mapping[str, str], **choices: Any) -> tuple[Figure, ...]:
    """Parameters that the documents of Keras state, by entry, for these choices."""
    return tuple(
        figure
        for name, params in printed.items()
        for figure in table(
            name,
            "Keras Applications, documents",
            "keras: mean and variance of batch norms are parameters",
            ("parameters", params, params_by_convention("keras")),
            choices=choices,
        )
    )


def torchvision(printed: Mapping[str, tuple[str, str]], **choices: Any) -> tuple[Figure, ...]:
    """Parameters and MACs that the weights of torchvision state, by entry, for these choices."""
    return tuple(
        figure
        for name, (params, giga) in printed.items()
        for figure in (
            *table(name, TORCHVISION, "num_params", ("parameters", params, total("params")), choices=choices),
            *table(name, TORCHVISION, "_ops, which are MACs", ("MACs", giga, total("macs")), choices=choices),
        )
    )


def widths(*layers: str) -> Amount:
    """Channels of the outputs of these layers."""
    return lambda report: tuple(report[layer].output[1] for layer in layers)
